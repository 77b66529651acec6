"""moelightd as a process: its arguments, its exit codes, how it stops."""

import os
import signal
import subprocess
import tempfile
import unittest

import grpc

from daemon import Daemon, DaemonTest, ROOT, TIMEOUT_S, main, serialize


class ProcessTest(unittest.TestCase):

    def run_daemon(self, *arguments, environment=None):
        return subprocess.run([DaemonTest.binary, *arguments], capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False,
                              env={**os.environ, **(environment or {})})

    def test_version_and_help(self):
        version = self.run_daemon("--version")
        self.assertEqual(version.returncode, 0)
        self.assertTrue(version.stdout.startswith("moelightd "))
        self.assertIn("--check-config", self.run_daemon("--help").stdout)

    def test_wrong_arguments_exit_with_2(self):
        for arguments in (["--confg", "x"], ["dance"], ["probe", "-o"], ["doctor", "--fix"]):
            with self.subTest(arguments):
                result = self.run_daemon(*arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn("moelightd: ", result.stderr)

    def test_check_config(self):
        good = os.path.join(ROOT, "config.yaml")
        self.assertEqual(self.run_daemon("serve", "--config", good, "--check-config").returncode, 0)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("server:\n  listn: x\nengine:\n  device: tpu\n")
            file.flush()
            result = self.run_daemon("--config", file.name, "--check-config")
        self.assertEqual(result.returncode, 2)
        self.assertIn(":2: server.listn: unknown key, did you mean server.listen?", result.stderr)
        self.assertIn(":4: engine.device: ", result.stderr)

    def test_environment_overrides_are_checked(self):
        result = self.run_daemon("--config", os.path.join(ROOT, "config.yaml"), "--check-config",
                                 environment={"MOELIGHT__ENGINE__CPU_THREADS": "many"})
        self.assertEqual(result.returncode, 2)
        self.assertIn("MOELIGHT__ENGINE__CPU_THREADS: engine.cpu_threads: ", result.stderr)

    def test_plan_prints_json(self):
        import json
        result = self.run_daemon("plan", "--json", "--config", os.path.join(ROOT, "config.yaml"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout)["plan"]["schedule"], "serial")

    def test_signals_stop_it_in_good_order(self):
        for sent in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(sent):
                daemon = Daemon(DaemonTest.binary)
                daemon.wait_for("ready")
                code, seconds = daemon.stop(sent)
                self.assertEqual(code, 0)
                self.assertLess(seconds, 5.0)

    def test_drain_stops_it_too(self):
        from moelight.v1 import admin_pb2 as pb
        daemon = Daemon(DaemonTest.binary)
        daemon.wait_for("ready")
        drain = daemon.admin_channel.unary_unary("/moelight.v1.AdminService/Drain",
                                           request_serializer=serialize,
                                           response_deserializer=pb.DrainResponse.FromString)
        drain(pb.DrainRequest(grace_seconds=60), timeout=TIMEOUT_S)
        self.assertEqual(daemon.process.wait(TIMEOUT_S), 0)
        daemon.stop()

    def test_two_daemons_cannot_share_a_port_or_a_store(self):
        daemon = Daemon(DaemonTest.binary)
        daemon.wait_for("ready")
        try:
            listening = daemon.wait_for("listening")
            for setting in ("server.listen=127.0.0.1:%d" % listening["port"],
                            "store.path=" + os.path.join(daemon.folder, "store")):
                with self.subTest(setting), tempfile.TemporaryDirectory() as folder:
                    result = self.run_daemon(
                        "--config", os.path.join(ROOT, "config.yaml"),
                        "--set", "server.listen=127.0.0.1:0", "--set", "server.admin_listen=",
                        "--set", "metrics.listen=",
                        "--set", "store.path=" + folder, "--set", setting)
                    self.assertEqual(result.returncode, 1, result.stderr)
        finally:
            daemon.stop()

    def test_prompts_are_not_logged(self):
        from moelight.v1 import inference_pb2 as pb
        daemon = Daemon(DaemonTest.binary, ["log.level=debug"])
        daemon.wait_for("ready")
        generate = daemon.channel.unary_stream("/moelight.v1.InferenceService/Generate",
                                               request_serializer=serialize,
                                               response_deserializer=pb.GenerateResponse.FromString)
        request = pb.GenerateRequest()
        request.prompt.text = "my secret word"
        request.sampling.max_tokens = 1
        list(generate(request, timeout=TIMEOUT_S))
        request.prompt.chat.messages.add(role="", content="my secret word")
        with self.assertRaises(grpc.RpcError):
            list(generate(request, timeout=TIMEOUT_S))
        daemon.stop()
        self.assertNotIn("secret", "".join(line for line in daemon.lines if line))

    def test_a_made_key_opens_the_door_until_it_is_reloaded_away(self):
        from moelight.v1 import batch_job_pb2 as pb
        def make_key():
            lines = dict(line.split(": ", 1) for line in self.run_daemon("key").stdout.splitlines())
            return lines["key"], lines["hash"]
        key, key_hash = make_key()
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "tenants.yaml")
            def write(name, some_hash):
                with open(file, "w", encoding="utf-8") as stream:
                    stream.write("tenants: [{name: %s, keys: ['%s']}]\n" % (name, some_hash))
            write("alice", key_hash)
            daemon = Daemon(DaemonTest.binary, ["server.tenants=" + file])
            daemon.wait_for("ready")
            try:
                call = daemon.channel.unary_unary(
                    "/moelight.v1.BatchJobService/CreateBatchJob", request_serializer=serialize,
                    response_deserializer=pb.CreateBatchJobResponse.FromString)
                def refused(metadata):
                    with self.assertRaises(grpc.RpcError) as caught:
                        create(metadata)
                    self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
                def create(metadata):
                    return call(pb.CreateBatchJobRequest(), timeout=TIMEOUT_S, metadata=metadata)
                with_key = [("authorization", "Bearer " + key)]
                self.assertEqual(create(with_key).job.client, "alice")
                refused([])
                write("alice", "no hash")
                daemon.process.send_signal(signal.SIGHUP)
                daemon.wait_for("reload_refused")
                self.assertEqual(create(with_key).job.client, "alice")
                write("alice", make_key()[1])
                daemon.process.send_signal(signal.SIGHUP)
                daemon.wait_for("reloaded")
                refused(with_key)
                self.assertNotIn(key, "".join(line for line in daemon.lines if line))
            finally:
                code, seconds = daemon.stop()
            self.assertEqual(code, 0)
            self.assertLess(seconds, 5.0)


if __name__ == "__main__":
    main()
