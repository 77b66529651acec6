"""A real Prometheus with the configuration of deploy/prometheus, scraping every second."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from dashboards import PROMETHEUS, read

TIMEOUT_S = 60
SHIPPED_TARGET = "moelightd:9464"
SHIPPED_INTERVAL = "15s"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(what, condition):
    """The condition's first value that is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("waited %d s in vain: %s" % (TIMEOUT_S, what))


class Prometheus:

    def __init__(self, targets):
        self.folder = tempfile.mkdtemp(prefix="moelight-prometheus-")
        shutil.copy(os.path.join(PROMETHEUS, "alerts.yml"), self.folder)
        config = read("deploy", "prometheus", "prometheus.yml")
        for shipped, here in ((SHIPPED_TARGET, ", ".join(targets)), (SHIPPED_INTERVAL, "1s")):
            if shipped not in config:
                raise AssertionError("prometheus.yml does not say " + shipped)
            config = config.replace(shipped, here)
        path = os.path.join(self.folder, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        self.address = "127.0.0.1:%d" % free_port()
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file=" + path, "--web.listen-address=" + self.address,
                 "--storage.tsdb.path=" + os.path.join(self.folder, "data")],
                stdout=log, stderr=subprocess.STDOUT)
        self.start_time = time.time()
        wait_until("Prometheus is ready", self._is_ready)

    def _is_ready(self):
        if self.process.poll() is not None:
            with open(self.log_path, encoding="utf-8") as log:
                raise AssertionError("prometheus ended:\n" + log.read())
        try:
            with urllib.request.urlopen("http://%s/-/ready" % self.address, timeout=TIMEOUT_S):
                return True
        except urllib.error.URLError:
            return False

    def get(self, path, **parameters):
        """`data` of an answer of the HTTP API."""
        url = "http://%s/api/v1/%s?%s" % (self.address, path, urllib.parse.urlencode(parameters))
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError("%s: %s" % (parameters, error.read().decode())) from error

    def query(self, expression):
        """Label sets and values at this moment."""
        return [(sample["metric"], float(sample["value"][1]))
                for sample in self.get("query", query=expression)["result"]]

    def history(self, expression):
        """Values since the start, of all series together, second by second."""
        series = self.get("query_range", query=expression, start=self.start_time, end=time.time(),
                          step=1)["result"]
        return [float(value) for one in series for _, value in one["values"]]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(TIMEOUT_S)
        shutil.rmtree(self.folder, ignore_errors=True)
