# The image of moelightd with the command line client.
#
#   docker build -t moelight .                                    one NVIDIA GPU, any of the last seven years
#   docker build -t moelight:cpu --build-arg BUILD_BASE=debian:12 --build-arg RUNTIME_BASE=debian:12-slim \
#       --build-arg CUDA=OFF .                                    no GPU
#   docker run --gpus all --ulimit memlock=-1 --read-only -v moelight:/data -p 127.0.0.1:50051:50051 moelight
#
# deploy/README.md says how to run it for good; tests/image builds and tries it.
ARG BUILD_BASE=docker.io/nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG RUNTIME_BASE=docker.io/nvidia/cuda:13.0.1-runtime-ubuntu24.04

# --- Build -------------------------------------------------------------------------------------
FROM ${BUILD_BASE} AS build
WORKDIR /src

# Packages first: they change rarely, and the layer is kept.
COPY deploy/install_packages.sh deploy/
RUN deploy/install_packages.sh build

COPY CMakeLists.txt CMakePresets.json LICENSE ./
COPY proto proto
COPY engine engine
COPY server server
COPY client client
# ON, or OFF for an image without the CUDA backend.
ARG CUDA=ON
# Turing to Blackwell. PTX of the newest is added for GPUs that come after it.
ARG CUDA_ARCHITECTURES="75;80;86;89;90;100;120"
# Compilers at once; 0: one for each core. One takes up to 1.5 GiB of memory.
ARG JOBS=0
RUN cmake --preset release -DMOELIGHT_TESTS=OFF -DMOELIGHT_CUDA="${CUDA}" \
        -DMOELIGHT_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES}" \
    && cmake --build --preset release --target moelightd moelight \
        -j "$([ "${JOBS}" -gt 0 ] && echo "${JOBS}" || nproc)" \
    && mkdir /out \
    && install -s -t /out build/release/bin/moelightd build/release/bin/moelight

# The packages that the two programs load libraries from, by name, for the next stage.
COPY deploy/docker/runtime_packages.sh deploy/docker/
RUN deploy/docker/runtime_packages.sh /out/moelightd /out/moelight >/out/packages

# --- Run ---------------------------------------------------------------------------------------
FROM ${RUNTIME_BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="moelight" \
      org.opencontainers.image.description="Batch inference server for Mixture-of-Experts models larger than the GPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /out/packages /usr/share/doc/moelight/packages
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get update -qq \
    && xargs -a /usr/share/doc/moelight/packages apt-get install -y -qq --no-install-recommends >/dev/null \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log \
    # The only folder that is written at run time, so the root may be read-only.
    && groupadd --gid 10001 moelight \
    && useradd --uid 10001 --gid moelight --no-create-home --home-dir /data --shell /usr/sbin/nologin moelight \
    && install -d -o moelight -g moelight -m 0750 /data \
    && install -d /models

COPY --from=build /out/moelightd /out/moelight /usr/local/bin/
COPY LICENSE /usr/share/doc/moelight/
COPY deploy/docker/config.yaml /etc/moelight/config.yaml
COPY deploy/demo/model /opt/moelight/demo/model
COPY deploy/demo/requests.jsonl /opt/moelight/demo/
COPY deploy/hardware /opt/moelight/hardware

# Kernels that the driver compiles for a GPU newer than this image are kept beside the jobs.
ENV CUDA_CACHE_PATH=/data/cuda-cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# "live": the process answers. A model that is still being loaded is no reason for a restart; whether it
# takes work is `moelight health --service ready`. Asked of the listener for administration, whose
# health wants neither a key nor a certificate.
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s --retries=3 \
    CMD ["moelight", "--timeout", "5", "health", "--service", "live"]
ENTRYPOINT ["moelightd"]
CMD ["serve", "--config", "/etc/moelight/config.yaml"]
