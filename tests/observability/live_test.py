"""The real daemon runs jobs under a real Prometheus: every panel shows data, every alert is loaded
and quiet, and /metrics has what server/REFERENCE.md says."""

import math
import os
import re
import sys
import time
import unittest
import urllib.request

import grpc

from dashboards import ROOT, alerts, dashboards, documented_metrics, queries, read
from gpu_double import GpuDouble, families
from prometheus_server import Prometheus, wait_until

sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))
import daemon as clients  # noqa: E402  pylint: disable=wrong-import-position

JOBS = "/moelight.v1.BatchJobService/"

# With a scrape a second: Grafana takes four scrape intervals.
RATE_INTERVAL = "4s"

# For so long jobs run one after another, so that rates have something to rise on.
WORK_SECONDS = 8

PROFILE = os.path.join(ROOT, "deploy", "hardware", "l4.yaml")
PEM = os.path.join(ROOT, "tests", "data", "server")


class LiveTest(clients.DaemonTest):

    @classmethod
    def setUpClass(cls):
        # With a profile of the hardware a CPU has predictions too; with TLS, a certificate.
        cls.daemon = clients.Daemon(cls.binary, [
            "engine.device=cpu", "engine.hardware_profile=" + PROFILE,
            "server.tls.cert=" + os.path.join(PEM, "server.pem"),
            "server.tls.key=" + os.path.join(PEM, "server.key")])
        cls.addClassCleanup(cls.daemon.stop)
        with open(os.path.join(PEM, "ca.pem"), "rb") as roots:
            credentials = grpc.ssl_channel_credentials(roots.read())
        cls.daemon.channel.close()
        cls.daemon.channel = grpc.secure_channel(cls.daemon.address, credentials)
        cls.gpu = GpuDouble()
        cls.addClassCleanup(cls.gpu.stop)
        cls.address = "127.0.0.1:%d" % cls.daemon.metrics_port
        cls.prometheus = Prometheus([cls.address, cls.gpu.address])
        cls.addClassCleanup(cls.prometheus.stop)
        cls.daemon.wait_for("ready")
        wait_until("the first scrape", lambda: cls.prometheus.query("moelight_ready == 1"))
        cls.work()

    @classmethod
    def tearDownClass(cls):
        """What setUpClass started stops by itself, also when it fails."""

    @classmethod
    def work(cls):
        """Jobs, one with a bad row, and calls that fail."""
        test = cls()
        end = time.monotonic() + WORK_SECONDS
        while time.monotonic() < end:
            test.run_job()
            test.fail_calls()
        scraped = "timestamp(moelight_queue_depth) > %f" % time.time()
        wait_until("a scrape after the work", lambda: cls.prometheus.query(scraped))

    def runTest(self):
        """unittest wants it to make the object of work()."""

    @classmethod
    def metrics_of_daemon(cls):
        url = "http://%s/metrics" % cls.address
        with urllib.request.urlopen(url, timeout=clients.TIMEOUT_S) as page:
            return page.read().decode()

    def run_job(self):
        from moelight.v1 import batch_job_pb2 as pb
        request = pb.CreateBatchJobRequest()
        request.job.default_sampling.max_tokens = 64
        job = self.unary(JOBS + "CreateBatchJob", request, pb.CreateBatchJobResponse).job
        rows = [pb.BatchRequest(custom_id=str(i)) for i in range(64)]
        for i, row in enumerate(rows[1:]):
            row.prompt.chat.messages.add(role="user", content="What is %d plus 2?" % i)
        self.client_stream(JOBS + "AppendBatchRequests",
                           [pb.AppendBatchRequestsRequest(job_id=job.job_id, requests=rows)],
                           pb.AppendBatchRequestsResponse)
        self.unary(JOBS + "SealBatchJob", pb.SealBatchJobRequest(job_id=job.job_id),
                   pb.SealBatchJobResponse)
        *_, last = self.server_stream(JOBS + "WatchBatchJob",
                                      pb.WatchBatchJobRequest(job_id=job.job_id),
                                      pb.WatchBatchJobResponse)
        self.assertEqual((last.job.num_succeeded, last.job.num_failed), (63, 1))

    def fail_calls(self):
        from moelight.v1 import batch_job_pb2 as pb
        self.assert_code(grpc.StatusCode.NOT_FOUND, self.unary, JOBS + "GetBatchJob",
                         pb.GetBatchJobRequest(job_id="job-0000000000000000"),
                         pb.GetBatchJobResponse)
        self.assert_code(grpc.StatusCode.UNIMPLEMENTED, self.unary, JOBS + "Dance",
                         pb.GetBatchJobRequest(), pb.GetBatchJobResponse)

    def substituted(self, expression, address):
        for variable, value in (("$instance", address), ("$__rate_interval", RATE_INTERVAL)):
            expression = expression.replace(variable, value)
        self.assertNotIn("$", expression)
        return expression

    def test_every_query_of_every_panel_has_data(self):
        for query in queries():
            address = self.gpu.address if query.is_gpu_only else self.address
            with self.subTest(query.where, expression=query.expression):
                values = self.prometheus.history(self.substituted(query.expression, address))
                self.assertTrue(any(math.isfinite(value) for value in values), values)

    def test_panels_that_need_no_gpu_are_not_marked(self):
        lacking = {query.where: False for query in queries() if query.is_gpu_only}
        for query in queries():
            if query.where in lacking:
                values = self.prometheus.history(self.substituted(query.expression, self.address))
                lacking[query.where] |= not any(math.isfinite(value) for value in values)
        self.assertEqual([where for where in lacking if not lacking[where]], [])

    def test_variables_and_annotations_have_data(self):
        up = self.prometheus.query('up{job="moelight"} == 1')
        instances = {labels["instance"] for labels, _ in up}
        self.assertEqual(instances, {self.address, self.gpu.address})
        for name, dashboard in dashboards().items():
            with self.subTest(name):
                for annotation in dashboard["annotations"]["list"]:
                    self.prometheus.query(self.substituted(annotation["expr"], self.address))
                for variable in dashboard["templating"]["list"]:
                    self.assertEqual(variable["definition"],
                                     'label_values(up{job="moelight"}, instance)')

    def test_work_can_be_seen(self):
        calls = "moelight_rpc_calls_total"
        for expression in (
                'sum(moelight_jobs{state="succeeded"})', "moelight_generated_tokens_total",
                calls + '{method="BatchJobService/GetBatchJob",code="NOT_FOUND"}',
                calls + '{method="other",code="UNIMPLEMENTED"}',
                'moelight_rpc_seconds_count{method="BatchJobService/WatchBatchJob"}',
                "moelight_resident_memory_bytes", "moelight_store_disk_free_bytes",
                "moelight_plan_predicted_step_seconds"):
            with self.subTest(expression):
                (_, value), = self.prometheus.query(expression)
                self.assertGreater(value, 0)

    def test_metrics_are_those_of_the_reference(self):
        documented = documented_metrics()
        shown = dict(re.findall(r"^# TYPE (moelight_\w+) (\w+)$", self.metrics_of_daemon(), re.M))
        self.assertEqual({name: documented.get(name, (None,))[0] for name in shown}, shown)
        may_be_absent = {name for name in documented
                         if re.search(r"\| `%s` .*absent" % name, read("server", "REFERENCE.md"))}
        self.assertLessEqual(set(documented) - set(shown), may_be_absent)

    def test_the_double_shows_what_a_daemon_could(self):
        documented = documented_metrics()
        for name, kind, series in families(1):
            self.assertEqual(documented[name].kind, kind)
            for labels in series:
                self.assertEqual(re.findall(r"(\w+)=", labels), documented[name].labels)

    def test_alerts_are_loaded_and_quiet(self):
        def rules():
            found = [rule for group in self.prometheus.get("rules", type="alert")["groups"]
                     for rule in group["rules"]]
            return found if all(rule["health"] != "unknown" for rule in found) else None
        found = wait_until("an evaluation of every rule", rules)
        self.assertEqual(sorted(rule["name"] for rule in found), sorted(alerts()))
        for rule in found:
            with self.subTest(rule["name"]):
                self.assertEqual(rule["health"], "ok", rule.get("lastError"))
                self.assertFalse([alert for alert in rule["alerts"] if alert["state"] == "firing"])


if __name__ == "__main__":
    clients.main()
