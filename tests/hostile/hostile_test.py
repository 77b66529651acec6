#!/usr/bin/env python3
"""Honest clients keep their throughput while ten attackers go at the shipped HAProxy configuration.

hostile_test.py BIN_FOLDER [SECONDS]       default: 6 seconds of each attack, and as much quiet between

Real moelightd (demo model, CPU), real HAProxy with deploy/haproxy/haproxy.cfg, in which only ports,
addresses and the certificate's path are replaced. Two honest clients hand in jobs one after the other
and wait for the answers; a third connects anew twice a second. Each attack is compared with the quiet
before and after it. A measurement: run by tests/nightly.sh, on a machine that does nothing else.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from attacks import ATTACKS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MIN_THROUGHPUT_RATIO = 0.90
MAX_MEMORY_GROWTH_MIB = 64
WARM_UP_S = 4
# After an attack its connections end, and what waits because of it is worked off.
SETTLE_S = 2
TIMEOUT_S = 60
ROWS_PER_JOB = 500
TOKENS_PER_ROW = 128


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **keywords):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S,
                          **keywords)


def resident_mib(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) / 1024


class Setup:
    """moelightd behind HAProxy, with a certificate of its own, in a temporary folder."""

    def __init__(self, bin_folder, folder):
        self.bin_folder = bin_folder
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.daemon_port, haproxy_metrics_port = free_port(), free_port()
        admin = "127.0.0.1:%d" % free_port()
        self.environment = {**os.environ, "MOELIGHT_ADMIN_SERVER": admin}
        self.make_certificate()
        self.log = open(self.path("log"), "w", encoding="utf-8")
        self.daemon = self.start([
            os.path.join(bin_folder, "moelightd"), "serve",
            "--config", os.path.join(ROOT, "config.yaml"), "--set", "engine.device=cpu",
            "--set", "server.listen=127.0.0.1:%d" % self.daemon_port,
            "--set", "server.admin_listen=" + admin,
            "--set", "metrics.listen=127.0.0.1:%d" % self.metrics_port,
            "--set", "store.path=" + self.path("store")])
        self.write_haproxy_config(haproxy_metrics_port)
        run("haproxy", "-c", "-f", self.path("haproxy.cfg"))
        self.haproxy = self.start(["haproxy", "-db", "-f", self.path("haproxy.cfg")])
        self.wait_until_ready()

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, command):
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def make_certificate(self):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", self.path("key.pem"),
            "-out", self.path("cert.pem"))
        with open(self.path("both.pem"), "w", encoding="utf-8") as both:
            for name in ("cert.pem", "key.pem"):
                with open(self.path(name), encoding="utf-8") as part:
                    both.write(part.read())

    def write_haproxy_config(self, haproxy_metrics_port):
        with open(os.path.join(ROOT, "deploy/haproxy/haproxy.cfg"), encoding="utf-8") as file:
            config = file.read()
        for old, new in (("bind :50443 ", "bind 127.0.0.1:%d " % self.port),
                         ("/etc/haproxy/moelight.pem", self.path("both.pem")),
                         ("moelightd:50051", "127.0.0.1:%d" % self.daemon_port),
                         ("bind :8405", "bind 127.0.0.1:%d" % haproxy_metrics_port)):
            assert config.count(old) == 1, "%r is there %d times" % (old, config.count(old))
            config = config.replace(old, new)
        with open(self.path("haproxy.cfg"), "w", encoding="utf-8") as file:
            file.write(config)

    def client(self, *arguments):
        """Runs the command line client, which calls through HAProxy."""
        return run(os.path.join(self.bin_folder, "moelight"), "--tls-ca", self.path("cert.pem"),
                   "--server", "localhost:%d" % self.port, *arguments, env=self.environment)

    def wait_until_ready(self):
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self.client("--timeout", "1", "health", "--service", "ready")
                self.client("--timeout", "1", "list")
                return
            except subprocess.CalledProcessError:
                self.check_alive()
                assert time.monotonic() < end, "not ready after %d s" % TIMEOUT_S
                time.sleep(0.2)

    def check_alive(self):
        for name, process in (("moelightd", self.daemon), ("haproxy", self.haproxy)):
            assert process.poll() is None, "%s ended with %s" % (name, process.poll())

    def generated_tokens(self):
        url = "http://127.0.0.1:%d/metrics" % self.metrics_port
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as page:
            text = page.read().decode()
        return float(re.search(r"^moelight_generated_tokens_total (\S+)", text, re.M).group(1))

    def stop(self):
        """Exit code of the daemon. HAProxy has no other way to stop at once than a signal's."""
        self.haproxy.terminate()
        self.haproxy.wait(TIMEOUT_S)
        self.daemon.terminate()
        code = self.daemon.wait(TIMEOUT_S)
        self.log.close()
        return code


class HonestClients:
    """Two submit jobs in a closed loop, one lists jobs over a new connection each time."""

    def __init__(self, setup):
        self.setup = setup
        self.stopping = threading.Event()
        self.errors = []
        self.num_jobs = 0
        self.probe_seconds = []
        self.lock = threading.Lock()
        self.write_requests()
        threads = [threading.Thread(target=self.submit, args=(index,)) for index in range(2)]
        self.threads = threads + [threading.Thread(target=self.probe)]
        for thread in self.threads:
            thread.start()

    def write_requests(self):
        with open(self.setup.path("requests.jsonl"), "w", encoding="utf-8") as file:
            for row in range(ROWS_PER_JOB):
                body = {"prompt": "Tell me about number %d." % row, "max_tokens": TOKENS_PER_ROW,
                        "ignore_eos": True, "seed": row}
                file.write(json.dumps({"custom_id": "row-%d" % row, "method": "POST",
                                       "url": "/v1/completions", "body": body}) + "\n")

    def submit_once(self, name):
        """The answers' texts by row."""
        out = self.setup.path(name)
        self.setup.client("submit", self.setup.path("requests.jsonl"), "--wait", "-o", out)
        with open(out, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        return {line["custom_id"]: line["response"]["body"]["choices"][0]["text"]
                for line in lines}

    def submit(self, index):
        while not self.stopping.is_set() and not self.errors:
            try:
                answers = self.submit_once("answers-%d.jsonl" % index)
                assert len(answers) == ROWS_PER_JOB, "%d answers" % len(answers)
                with self.lock:
                    self.num_jobs += 1
            except (subprocess.SubprocessError, AssertionError) as error:
                self.errors.append("a job failed: %s %s" % (error, getattr(error, "stderr", "")))

    def probe(self):
        while not self.stopping.wait(0.5):
            begin = time.monotonic()
            try:
                self.setup.client("--timeout", "10", "list", "--limit", "1")
            except subprocess.SubprocessError as error:
                self.errors.append("a new connection failed: %s" % error)
            with self.lock:
                self.probe_seconds.append(time.monotonic() - begin)

    def worst_probe_seconds(self):
        """Since the last call."""
        with self.lock:
            worst, self.probe_seconds = max(self.probe_seconds, default=0.0), []
        return worst

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


class Measurement:
    """Windows of quiet and of attack, one after the other."""

    def __init__(self, setup, honest, seconds):
        self.setup = setup
        self.honest = honest
        self.seconds = seconds
        self.peak_mib = 0.0

    def tokens_per_s(self):
        begin, tokens = time.monotonic(), self.setup.generated_tokens()
        while time.monotonic() < begin + self.seconds:
            time.sleep(0.1)
            self.setup.check_alive()
            self.peak_mib = max(self.peak_mib, resident_mib(self.setup.daemon.pid))
        return (self.setup.generated_tokens() - tokens) / (time.monotonic() - begin)

    def under(self, attack):
        """Tokens a second under an attack, and what the attackers count."""
        # A second before the window begins and one after it ends: all of it is under attack.
        attackers = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "attacks.py"), attack, str(self.setup.port),
             str(self.seconds + 2)], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        rate = self.tokens_per_s()
        return rate, json.loads(attackers.communicate(timeout=TIMEOUT_S)[0])

    def run(self):
        """The ratios by attack; prints a table."""
        time.sleep(WARM_UP_S)
        before = self.tokens_per_s()
        first_mib = resident_mib(self.setup.daemon.pid)
        self.honest.worst_probe_seconds()
        self.peak_mib = first_mib
        ratios = {}
        print("%-22s %9s %9s %6s  %s" % ("attack", "quiet", "attacked", "ratio", "tokens/s; sent"))
        for attack in ATTACKS:
            attacked, counts = self.under(attack)
            worst = self.honest.worst_probe_seconds()
            time.sleep(SETTLE_S)
            after = self.tokens_per_s()
            quiet = (before + after) / 2
            ratios[attack] = attacked / quiet
            print("%-22s %9.0f %9.0f %6.3f  %s, slowest new connection %.0f ms, HAProxy %.0f MiB" % (
                attack, quiet, attacked, ratios[attack], json.dumps(counts), 1e3 * worst,
                resident_mib(self.setup.haproxy.pid)), flush=True)
            before = after
        print("memory of moelightd: %.1f MiB before, %.1f MiB at most" % (first_mib, self.peak_mib))
        assert self.peak_mib - first_mib <= MAX_MEMORY_GROWTH_MIB, "moelightd's memory grew too much"
        return ratios


def main():
    bin_folder = os.path.abspath(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    folder = tempfile.mkdtemp(prefix="moelight-hostile-")
    setup = Setup(bin_folder, folder)
    honest = HonestClients(setup)
    try:
        first = honest.submit_once("first.jsonl")
        ratios = Measurement(setup, honest, seconds).run()
        honest.stop()
        assert not honest.errors, honest.errors
        assert honest.submit_once("last.jsonl") == first, "answers differ after the attacks"
        setup.check_alive()
    except BaseException:
        with open(setup.path("log"), encoding="utf-8") as log:
            print("".join(log.readlines()[-40:]), file=sys.stderr)
        raise
    finally:
        honest.stop()
        code = setup.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert code == 0, "moelightd stopped with exit code %d" % code
    low = {name: ratio for name, ratio in ratios.items() if ratio < MIN_THROUGHPUT_RATIO}
    assert not low, "less than %.2f of the throughput: %s" % (MIN_THROUGHPUT_RATIO, low)
    print("passed: %d jobs of %d rows" % (honest.num_jobs, ROWS_PER_JOB))


main()
