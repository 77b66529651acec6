"""Starts moelightd for a test, and calls it through generic channels with stubs made by protoc."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TIMEOUT_S = 60  # sanitizer builds on a busy machine are slow


def make_stubs(protoc):
    """Compiles every .proto into a temporary folder and puts that on the import path."""
    folder = tempfile.mkdtemp(prefix="moelight-stubs-")
    proto = os.path.join(ROOT, "proto")
    files = ["google/rpc/status.proto", "google/rpc/error_details.proto"]
    files += ["moelight/v1/%s.proto" % name
              for name in ("types", "batch_job", "inference", "admin")]
    subprocess.run([protoc, "-I", proto, "-I", HERE, "--python_out", folder, *files,
                    "health.proto", "reflection.proto"], cwd=proto, check=True)
    sys.path.insert(0, folder)
    return folder


class Daemon:
    """A running moelightd with its own store on free ports."""

    def __init__(self, binary, settings=()):
        self.folder = tempfile.mkdtemp(prefix="moelight-clients-")
        self.lines = []
        overrides = ["server.listen=127.0.0.1:0", "server.admin_listen=127.0.0.1:0",
                     "metrics.listen=127.0.0.1:0", "log.format=json",
                     "store.path=" + os.path.join(self.folder, "store"), *settings]
        command = [binary, "serve", "--config", os.path.join(ROOT, "config.yaml")]
        for override in overrides:
            command += ["--set", override]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read_log)
        self.reader.start()
        listening = self.wait_for("listening")
        self.metrics_port = listening["metrics_port"]
        self.address = "127.0.0.1:%d" % listening["port"]
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.address = "127.0.0.1:%d" % listening["port"]
        self.admin_address = "127.0.0.1:%d" % listening["admin_port"]
        self.channel = grpc.insecure_channel(self.address, options=unlimited)
        self.admin_channel = grpc.insecure_channel(self.admin_address, options=unlimited)

    def _read_log(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_for(self, event):
        """The first log line with this event."""
        def find():
            for line in self.lines:
                if line is None:
                    raise AssertionError("moelightd ended:\n" + "".join(self.lines[:-1]))
                if line.startswith("{") and json.loads(line)["event"] == event:
                    return json.loads(line)
            return None
        with self.changed:
            if not self.changed.wait_for(find, TIMEOUT_S):
                raise AssertionError("no line says %s:\n%s" % (event, "".join(self.lines)))
            return find()

    def stop(self, sent=signal.SIGTERM):
        """Exit code and seconds it took."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(sent)
        code = self.process.wait(TIMEOUT_S)
        seconds = time.monotonic() - start
        self.reader.join()
        self.process.stderr.close()
        self.channel.close()
        self.admin_channel.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code, seconds


class DaemonTest(unittest.TestCase):
    """Tests that share one daemon with a loaded model."""

    binary = None
    daemon = None

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(cls.binary)
        cls.daemon.wait_for("ready")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    def unary(self, method, request, response_type):
        is_admin = method.startswith("/moelight.v1.AdminService/")
        channel = self.daemon.admin_channel if is_admin else self.daemon.channel
        call = channel.unary_unary(
            method, request_serializer=serialize, response_deserializer=response_type.FromString)
        return call(request, timeout=TIMEOUT_S)

    def server_stream(self, method, request, response_type):
        call = self.daemon.channel.unary_stream(
            method, request_serializer=serialize, response_deserializer=response_type.FromString)
        return call(request, timeout=TIMEOUT_S)

    def client_stream(self, method, requests, response_type):
        call = self.daemon.channel.stream_unary(
            method, request_serializer=serialize, response_deserializer=response_type.FromString)
        return call(iter(requests), timeout=TIMEOUT_S)

    def assert_code(self, code, function, *arguments):
        """Calls and expects an error, which is returned."""
        with self.assertRaises(grpc.RpcError) as caught:
            result = function(*arguments)
            if hasattr(result, "__iter__"):
                list(result)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception


def serialize(request):
    """Messages as they are; bytes go past the checks of the generated code."""
    return request if isinstance(request, bytes) else request.SerializeToString()


def details(error):
    """The google.rpc.Status of a failed call."""
    from google.rpc import status_pb2
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    raise AssertionError("no grpc-status-details-bin")


def main():
    """Reads the two arguments, makes the stubs and runs the tests of the calling file."""
    if len(sys.argv) < 3:
        sys.exit("usage: %s MOELIGHTD PROTOC [unittest arguments]" % sys.argv[0])
    DaemonTest.binary = os.path.abspath(sys.argv[1])
    folder = make_stubs(sys.argv[2])
    try:
        program = unittest.main(argv=[sys.argv[0], "-v", *sys.argv[3:]], exit=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not program.result.wasSuccessful())
