"""/metrics as a daemon on a GPU shows them, for panels that have no data on a CPU.

Copies run half of the time at 54 GB/s, nine tenths of them beside compute. Names and labels are
held to server/REFERENCE.md by the test.
"""

import http.server
import threading
import time

PROBED = 55e9


def families(seconds):
    """(name, kind, {labels: value}) after so many seconds."""
    return [
        ("moelight_memory_bytes", "gauge",
         {'tier="gpu",tag="weights"': 9e9, 'tier="gpu",tag="kv_cache"': 2e9}),
        ("moelight_transfer_bytes_total", "counter",
         {'direction="h2d"': 27e9 * seconds, 'direction="d2h"': seconds}),
        ("moelight_lane_busy_seconds_total", "counter",
         {'lane="h2d"': seconds / 2, 'lane="d2h"': seconds / 100}),
        ("moelight_transfer_overlapped_seconds_total", "counter", {"": 0.45 * seconds}),
        ("moelight_link_probed_bytes_per_second", "gauge", {"": PROBED}),
    ]


def text(seconds):
    lines = []
    for name, kind, series in families(seconds):
        lines.append("# TYPE %s %s" % (name, kind))
        lines += ["%s{%s} %f" % (name, labels, value) for labels, value in series.items()]
    return "\n".join(lines) + "\n"


class GpuDouble:

    def __init__(self):
        start = time.monotonic()

        class Handler(http.server.BaseHTTPRequestHandler):

            def do_GET(self):  # pylint: disable=invalid-name
                body = text(time.monotonic() - start).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
