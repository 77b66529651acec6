#!/usr/bin/env bash
# The long campaigns, for a machine that has the night: many kills, the full suite repeated, the
# benchmarks. tests/run.sh must have passed before.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin

echo "== 50 kills during a 2,000-row job"
MOELIGHT_TEST_KILLS=50 "$bin/e2e_test" --gtest_filter='KillTest.*'

echo "== goldens, 20 repeats of every setting"
MOELIGHT_TEST_REPEATS=20 "$bin/golden_test" --gtest_filter='*Repeats*'

echo "== the suite, 20 times"
ctest --preset release -j "$(nproc)" --repeat until-fail:20

echo "== attackers at the shipped HAProxy configuration"
tests/hostile/hostile_test.py "$bin"

echo "== the image, built from an empty root, and the demo inside (as root)"
if [ "$(id -u)" -eq 0 ]; then tests/image/build_image.sh; else sudo tests/image/build_image.sh; fi

echo "== benchmarks"
for bench in gemm_bench throughput_bench service_bench store_bench; do
  echo "-- $bench"
  "$bin/$bench"
done
