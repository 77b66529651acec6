#!/usr/bin/env bash
# The whole product in one command, on a fresh Debian 12 machine without a GPU: installs what is
# missing, builds, starts the daemon on the demo model, runs a batch job through it, prints answers
# and metrics, stops the daemon.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=$root/build/release/bin
server=${MOELIGHT_DEMO_LISTEN:-127.0.0.1:50051}
admin=${MOELIGHT_DEMO_ADMIN_LISTEN:-127.0.0.1:50052}
metrics=${MOELIGHT_DEMO_METRICS:-127.0.0.1:9464}

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "Installing packages that are missing"
deploy/install_packages.sh build

step "Building (first time: a few minutes)"
# Tests stay as they were configured; a fresh tree builds without them.
[ -f build/release/CMakeCache.txt ] || cmake --preset release -DMOELIGHT_TESTS=OFF >/dev/null
cmake --build --preset release --target moelightd moelight

work=$(mktemp -d)
daemon=
stop_daemon() {
  [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null && wait "$daemon" || true
  daemon=
}
trap 'stop_daemon; rm -rf "$work"' EXIT

step "Starting moelightd on $server"
"$bin/moelightd" serve --config config.yaml --set server.listen="$server" \
  --set server.admin_listen="$admin" --set metrics.listen="$metrics" --set store.path="$work/store" 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do
  if "$bin/moelight" --admin-server "$admin" info >"$work/info" 2>/dev/null; then break; fi
  kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
cat "$work/info"

step "Submitting $(wc -l <deploy/demo/requests.jsonl) chat requests as one job"
"$bin/moelight" --server "$server" submit deploy/demo/requests.jsonl --wait -o "$work/answers.jsonl"

step "Some answers"
"$root/deploy/demo/print_answers.sh" deploy/demo/requests.jsonl "$work/answers.jsonl" 12

step "Some metrics (http://$metrics/metrics)"
curl -s "http://$metrics/metrics" |
  grep -E '^moelight_(jobs|queue_depth|requests_finished_total|prompt_tokens_total|generated_tokens_total|lane_busy_seconds_total|kv_cache_usage_ratio|store_commit_seconds_count)' || true

step "Stopping the daemon"
stop_daemon
echo "done"
