#!/usr/bin/env bash
# Builds the CPU image from the Dockerfile without a Docker engine, on a Debian 12 root made from
# nothing, and runs the demo inside of what came out. Needs root, buildah, debootstrap and 6 GB of disk;
# takes about a quarter of an hour on two cores.
#   tests/image/build_image.sh [WORK_FOLDER]     a folder that is given is kept, base root included
#
# Every RUN step is carried out. What a chroot cannot do is left out: limits and namespaces. The root is
# mounted read-only all the same, so a write outside of /data fails as it does under --read-only.
set -euo pipefail
cd "$(dirname "$0")/../.."
mirror=${MOELIGHT_TEST_MIRROR:-http://deb.debian.org/debian}

kept=${1:-}
work=${kept:-$(mktemp -d /var/tmp/moelight-image.XXXXXX)}
mkdir -p "$work"
export BUILDAH_ISOLATION=chroot
buildah=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
base_name=localhost/moelight-test-base
image=localhost/moelight-test
root=$work/mounted
container=

step() { printf '\n== [%4ds] %s\n' "$SECONDS" "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

clean_up() {
  umount -R "$root" 2>/dev/null || true
  if [ -n "$container" ]; then "${buildah[@]}" rm "$container" >/dev/null 2>&1 || true; fi
  if [ -n "$kept" ]; then return; fi
  "${buildah[@]}" rmi --all --force >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT

[ "$(id -u)" -eq 0 ] || fail "must be root, to make a root file system"
deploy/install_packages.sh image

step "a Debian 12 root from nothing"
if [ ! -e "$work/base/etc/debian_version" ]; then
  debootstrap --variant=minbase bookworm "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log" >&2; fail "debootstrap"; }
fi
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" copy -q "$container" "$work/base" / >/dev/null
"${buildah[@]}" commit -q "$container" "$base_name" >/dev/null
"${buildah[@]}" rm "$container" >/dev/null
container=

step "the image, from the Dockerfile"
started=$SECONDS
"${buildah[@]}" bud --format docker --layers=false -t "$image" \
  --build-arg BUILD_BASE="$base_name" --build-arg RUNTIME_BASE="$base_name" --build-arg CUDA=OFF \
  --build-arg REVISION="$(git rev-parse --short HEAD)" . >"$work/build.log" 2>&1 ||
  { tail -n 40 "$work/build.log" >&2; fail "the build; all of it: $work/build.log"; }
built_s=$((SECONDS - started))

step "what is in it"
"${buildah[@]}" inspect --type image "$image" >"$work/inspect.json"
tests/image/check_metadata.py "$work/inspect.json"
container=$("${buildah[@]}" from "$image")
mounted=$("${buildah[@]}" mount "$container")
tests/image/check_root.sh "$mounted"

step "the demo inside, as its user, on a read-only root"
tests/image/run_demo.sh "$mounted" "$root" "$work/data"

printf '\nimage: %s MiB; built in %s s; all took %s s\n' "$(du -sm "$mounted" | cut -f1)" "$built_s" "$SECONDS"
