#!/usr/bin/env bash
# Installs what is missing, then runs every test: formatting, the suite in release, and the suite
# again under AddressSanitizer + UBSan and under ThreadSanitizer.
#   tests/run.sh [release|asan|tsan|format]...   default: all
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== [%4ds] %s\n' "$SECONDS" "$*"; }

format() {
  step "formatting (clang-format)"
  find engine server client tests -name '*.h' -o -name '*.cc' | sort |
    xargs clang-format --dry-run --Werror
  echo "formatting is clean"
}

# Builds and runs the suite in one preset; ctest names every test.
suite() {
  step "building preset $1"
  # deploy/demo.sh may have configured the same folder without tests.
  cmake --preset "$1" -DMOELIGHT_TESTS=ON >/dev/null
  cmake --build --preset "$1"
  step "testing preset $1"
  # The whole output goes to a file; what failed, and why, is what people look for here.
  local log="build/$1/ctest.log"
  if ctest --preset "$1" -j "$(nproc)" >"$log" 2>&1; then
    grep -a "tests passed" "$log"
    return
  fi
  awk '/ Test +#/ { shown = /\*\*\*/ } /Start +[0-9]+:/ { next } /tests passed,/ { shown = 1 } shown' \
    "$log" | tail -n 400
  echo "all of it: $log"
  return 1
}

stages=("$@")
[ "${#stages[@]}" -gt 0 ] || stages=(format release asan tsan)
step "packages"
deploy/install_packages.sh test
for stage in "${stages[@]}"; do
  case "$stage" in
    format) format ;;
    release | asan | tsan | dev) suite "$stage" ;;
    *) echo "usage: $0 [release|asan|tsan|dev|format]..." >&2; exit 2 ;;
  esac
done
step "all passed: ${stages[*]}"
