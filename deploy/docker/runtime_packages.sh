#!/usr/bin/env bash
# Prints the installed Debian or Ubuntu packages that the given programs load shared libraries from,
# one a line. The final image installs exactly these: their names differ between the distributions,
# and a list by hand would be wrong after the next dependency.
#   runtime_packages.sh PROGRAM...
set -euo pipefail

libraries() { ldd "$@" | awk '$2 == "=>" { print $3 }' | sort -u; }

if ldd "$@" | grep 'not found' >&2; then
  echo "$0: a library is missing" >&2
  exit 1
fi
for library in $(libraries "$@"); do
  file=$(readlink -f "$library")
  # dpkg may know a file by its path before /lib became a link to /usr/lib.
  owner=$(dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "${file#/usr}" 2>/dev/null) ||
    { echo "$0: no package owns $library" >&2; exit 1; }
  echo "${owner%%:*}"
done | sort -u
