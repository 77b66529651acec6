#!/usr/bin/env bash
# Checks the root file system of the image: nothing that builds, nothing writable where it should not be.
#   check_root.sh ROOT
set -euo pipefail
root=$1

fail() { echo "FAILED: $*" >&2; exit 1; }

for program in gcc g++ cc c++ cpp ld as make cmake ninja nvcc protoc python3 curl wget git; do
  found=$(find "$root"/usr/bin "$root"/usr/local -name "$program" -o -name "$program-[0-9]*" | head -n 1)
  [ -z "$found" ] || fail "the image holds $found"
done
found=$(find "$root/usr/include" "$root/usr/lib" -name '*.h' -o -name '*.a' | head -n 1)
[ -z "$found" ] || fail "the image holds $found, which only compilers need"
[ -z "$(ls "$root/var/lib/apt/lists")" ] || fail "the image holds lists of packages"
[ ! -e "$root/src" ] || fail "the image holds the source"

for program in moelightd moelight; do
  file=$root/usr/local/bin/$program
  [ "$(stat -c '%u:%g' "$file")" = 0:0 ] || fail "$program belongs to $(stat -c '%u:%g' "$file")"
  [ -z "$(find "$file" -perm /022)" ] || fail "$program can be written by its user"
  ! chroot "$root" ldd "/usr/local/bin/$program" | grep 'not found' || fail "$program lacks a library"
done
# `find` fails at folders that the user may not even read.
writable=$(chroot --userspec=10001:10001 "$root" find / -xdev \( -path /proc -o -path /sys -o -path /dev \
  -o -path /data -o -path /tmp -o -path /var/tmp -o -path /run/lock \) -prune -o \
  -writable ! -type l -print 2>/dev/null | head -n 3 || true)
[ -z "$writable" ] || fail "the user of the image can write $writable"
[ "$(stat -c '%u:%a' "$root/data")" = 10001:750 ] || fail "/data is $(stat -c '%u:%a' "$root/data")"
echo "no build tools, no headers, nothing writable but /data and /tmp"
