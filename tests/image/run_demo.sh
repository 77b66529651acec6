#!/usr/bin/env bash
# Runs the demo inside the image's root: the daemon as the image's user and with its configuration, on a
# root that is mounted read-only; a batch job; a clean stop; a second start that still knows the job.
#   run_demo.sh ROOT MOUNT_POINT DATA_FOLDER
set -euo pipefail
image=$1 root=$2 data=$3
daemon=

fail() { echo "FAILED: $*" >&2; exit 1; }
stop_daemon() {
  if [ -n "$daemon" ]; then kill -TERM "$daemon" 2>/dev/null || true; wait "$daemon" || true; fi
  umount -R "$root" 2>/dev/null || true
}
trap stop_daemon EXIT

# The image's user and environment, and nothing of ours. The ports are the test's: 50051 may be taken.
environment=(env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin MOELIGHT_SERVER=127.0.0.1:50951
  MOELIGHT_ADMIN_SERVER=127.0.0.1:50952
  MOELIGHT__SERVER__LISTEN=127.0.0.1:50951 MOELIGHT__METRICS__LISTEN=127.0.0.1:9964
  MOELIGHT__SERVER__ADMIN_LISTEN=127.0.0.1:50952
  chroot --userspec=10001:10001 "$root")
inside() { "${environment[@]}" "$@"; }
serve() {
  # Not through the function: the process id must be the daemon's.
  "${environment[@]}" moelightd serve --config /etc/moelight/config.yaml 2>>"$data/log" &
  daemon=$!
  for _ in $(seq 300); do
    if inside moelight --timeout 5 health --service ready >/dev/null 2>&1; then return; fi
    kill -0 "$daemon" 2>/dev/null || { tail "$data/log" >&2; fail "moelightd ended"; }
    sleep 0.2
  done
  fail "moelightd is not ready after a minute"
}

mkdir -p "$root" "$data/store-volume"
chown 10001:10001 "$data/store-volume"
mount --bind "$image" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --bind "$data/store-volume" "$root/data"
if touch "$root/usr/probe" 2>/dev/null; then fail "the root is writable"; fi

serve
[ "$(stat -c %u "/proc/$daemon")" = 10001 ] || fail "the daemon runs as $(stat -c %u "/proc/$daemon")"
inside moelight info | sed -n 1,4p
requests=/opt/moelight/demo/requests.jsonl
# The answers leave through standard output; the one writable folder is the daemon's.
job=$(inside moelight submit "$requests")
inside moelight watch "$job" >/dev/null 2>&1
inside moelight results "$job" >"$data/answers.jsonl"
num_requests=$(wc -l <"$root$requests")
num_answers=$(grep -c '"status_code":200' "$data/answers.jsonl") || true
[ "$num_answers" -eq "$num_requests" ] || fail "$num_answers answers to $num_requests requests"
deploy/demo/print_answers.sh "$root$requests" "$data/answers.jsonl" 3
inside moelight --timeout 5 health --service live

kill -TERM "$daemon"
wait "$daemon" || fail "moelightd stopped with exit code $?"
serve
inside moelight results "$job" | cmp - "$data/answers.jsonl" || fail "answers changed by a restart"
echo "$num_answers answers, the same after a restart"
