#!/usr/bin/env bash
# Installs the Debian 12 / Ubuntu 24.04 packages that moelight is built with.
#   install_packages.sh build|test|image
# `build` is enough for deploy/demo.sh; `test` adds what tests/run.sh needs, `image` what
# tests/image needs.
set -euo pipefail

build_packages=(
  build-essential cmake ninja-build pkg-config
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev
  libtbb-dev prometheus-cpp-dev libyaml-cpp-dev libsqlite3-dev nlohmann-json3-dev libspdlog-dev
  libpcre2-dev libutf8proc-dev libssl-dev zlib1g-dev ca-certificates curl
)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev clang-format
  python3 python3-grpcio python3-protobuf python3-jinja2 python3-pip python3-yaml prometheus openssl
  haproxy systemd
)
image_packages=(buildah debootstrap git python3)

packages=("${build_packages[@]}")
case "${1:-build}" in
  build) ;;
  test) packages+=("${test_packages[@]}") ;;
  image) packages=("${image_packages[@]}") ;;
  *) echo "usage: $0 build|test|image" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then exit 0; fi

echo "installing: ${missing[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
# Services that a package would start (Prometheus) are not wanted on a build machine.
"${sudo[@]}" env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
