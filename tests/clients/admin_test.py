"""AdminService and /metrics from a foreign client."""

import json
import subprocess
import shutil
import urllib.request

import grpc

from daemon import DaemonTest, main

SERVICE = "/moelight.v1.AdminService/"


class AdminTest(DaemonTest):

    def test_server_info(self):
        from moelight.v1 import admin_pb2 as pb
        info = self.unary(SERVICE + "GetServerInfo", pb.GetServerInfoRequest(),
                          pb.GetServerInfoResponse)
        self.assertTrue(info.version)
        self.assertEqual(info.model.architecture, "MixtralForCausalLM")
        self.assertEqual(info.model.vocab_size, 1024)
        self.assertIn("engine:", info.effective_config_yaml)
        self.assertIn("server.limits.rows_per_job", {limit.key for limit in info.limits})
        self.assertTrue(info.backend)

    def test_plan(self):
        from moelight.v1 import admin_pb2 as pb
        plan = self.unary(SERVICE + "GetPlan", pb.GetPlanRequest(), pb.GetPlanResponse)
        self.assertEqual(plan.schedule, "serial")
        self.assertGreater(plan.num_kv_pages, 0)
        self.assertIn("weights", {use.tag for use in plan.memory})

    def test_a_trace_is_json(self):
        from moelight.v1 import admin_pb2 as pb
        self.assert_code(grpc.StatusCode.INVALID_ARGUMENT, self.unary, SERVICE + "StartTrace",
                         pb.StartTraceRequest(num_steps=1001), pb.StartTraceResponse)
        self.unary(SERVICE + "StartTrace", pb.StartTraceRequest(num_steps=4),
                   pb.StartTraceResponse)
        trace = json.loads(self.unary(SERVICE + "StopTrace", pb.StopTraceRequest(),
                                      pb.StopTraceResponse).trace_json)
        self.assertIn("traceEvents", trace)
        self.assert_code(grpc.StatusCode.FAILED_PRECONDITION, self.unary, SERVICE + "StopTrace",
                         pb.StopTraceRequest(), pb.StopTraceResponse)

    def test_metrics_are_served_and_pass_promtool(self):
        url = "http://127.0.0.1:%d/metrics" % self.daemon.metrics_port
        with urllib.request.urlopen(url) as response:
            text = response.read().decode()
        self.assertIn("moelight_model_info{", text)
        self.assertIn('moelight_jobs{state="running"}', text)
        if shutil.which("promtool") is None:
            self.skipTest("promtool is missing")
        own = "".join(line + "\n" for line in text.splitlines() if "exposer_" not in line)
        check = subprocess.run(["promtool", "check", "metrics"], input=own, text=True,
                               capture_output=True, check=False)
        self.assertEqual((check.returncode, check.stdout + check.stderr), (0, ""))


if __name__ == "__main__":
    main()
