"""deploy/python, installed with pip: every snippet of its README, and what a README cannot show."""

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import pypi

pypi.enter()  # nothing below is there outside of it

import grpc  # noqa: E402
import moelight  # noqa: E402
from moelight import rows  # noqa: E402
from moelight.v1 import batch_job_pb2, inference_pb2  # noqa: E402

from daemon import Daemon, ROOT, TIMEOUT_S  # noqa: E402

BINARY = os.path.abspath(sys.argv[1])
README = os.path.join(ROOT, "deploy", "python", "README.md")
ADDRESS = "127.0.0.1:50051"  # the one in the README
CERTIFICATES = os.path.join(ROOT, "tests", "data", "server")


def snippets(language):
    with open(README, encoding="utf-8") as file:
        return re.findall(r"^```%s\n(.*?)^```$" % language, file.read(), re.M | re.S)


class WithDaemon(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(BINARY)
        cls.daemon.wait_for("ready")
        cls.client = moelight.Client(cls.daemon.address)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.daemon.stop()


class ReadmeTest(WithDaemon):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moelight-readme-")
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copy(os.path.join(ROOT, "deploy", "demo", "requests.jsonl"), self.folder)
        for name in ("ca.pem", "client.pem", "client.key"):
            shutil.copy(os.path.join(CERTIFICATES, name), self.folder)

    def run_python(self, text):
        self.assertIn(ADDRESS, text)
        return subprocess.run([sys.executable, "-c", text.replace(ADDRESS, self.daemon.address)],
                              cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=2 * TIMEOUT_S)

    def test_snippets_run_in_their_order(self):
        blocks = snippets("python")
        self.assertEqual(len(blocks), 7)
        run = self.run_python("\n".join(blocks[:-1]))
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertIn("JobState.SUCCEEDED 100", run.stdout)
        self.assertIn("INVALID_REQUEST {'sampling.temperature':", run.stdout)
        self.assertIn("bad INVALID_REQUEST {'sampling.top_p':", run.stdout)
        self.assertNotIn("failed:", run.stdout)

    def test_plain_grpcio_needs_nothing_of_the_package(self):
        command = snippets("sh")[1].splitlines()[1].replace("python", sys.executable, 1)
        shutil.copytree(os.path.join(ROOT, "proto"), os.path.join(self.folder, "proto"))
        subprocess.run(command, shell=True, cwd=self.folder, check=True)
        # So that the stubs in the working folder come before the installed package.
        open(os.path.join(self.folder, "moelight", "__init__.py"), "w").close()
        check = "import moelight; assert not hasattr(moelight, 'Client'), moelight.__file__\n"
        run = self.run_python(check + snippets("python")[-1])
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertRegex(run.stdout, r"^first .*\d")

    def test_package_is_typed(self):
        folder = os.path.dirname(moelight.__file__)
        for name in ("py.typed", "v1/batch_job_pb2.pyi"):
            self.assertTrue(os.path.exists(os.path.join(folder, name)), name)


class ClientTest(WithDaemon):

    def test_every_row_has_its_answer(self):
        prompts = ["What is %d plus 2?" % i for i in range(40)]
        job = self.client.submit(iter(prompts), max_tokens=8, temperature=0, labels={"a": "b"})
        texts = {result.row: result.text for result in job.results()}
        self.assertEqual(sorted(texts), list(range(40)))
        self.assertEqual(texts[7], self.client.generate(prompts[7], max_tokens=8,
                                                        temperature=0).text)
        pieces = list(self.client.generate(prompts[7], stream=True, max_tokens=8, temperature=0))
        self.assertEqual("".join(pieces), texts[7])
        status = job.wait()
        self.assertEqual(status.num_succeeded, 40)
        self.assertTrue(status.state.is_end)
        self.assertIn(job.job_id, [other.job_id for other in
                                   self.client.jobs(moelight.JobState.SUCCEEDED)])

    def test_text_that_is_no_chat_stands_as_it_is(self):
        ids = self.client.tokenize("Hello", chat=False)
        self.assertLess(len(ids), len(self.client.tokenize("Hello")))
        by_text = self.client.generate("Hello", chat=False, max_tokens=4, temperature=0)
        by_ids = self.client.generate(ids, max_tokens=4, temperature=0)
        self.assertEqual(by_text.text, by_ids.text)
        self.assertEqual(by_text.prompt_tokens, len(ids))

    def test_client_and_priority_reach_the_job(self):
        job = self.client.submit(["x"], client="alice", priority=7, name="n", max_tokens=1)
        proto = self.client._connection.jobs.GetBatchJob(
            batch_job_pb2.GetBatchJobRequest(job_id=job.job_id)).job
        self.assertEqual((proto.client, proto.priority, proto.display_name), ("alice", 7, "n"))

    def test_leaving_a_stream_stops_the_work(self):
        stream = self.client.generate("Count", stream=True, ignore_eos=True, max_tokens=2000)
        next(stream)
        stream.close()
        finished = self.daemon.wait_for("generate")
        self.assertIsNotNone(finished)

    def test_errors_have_classes_and_details(self):
        with self.assertRaises(moelight.NotFound) as caught:
            self.client.job("job-0000000000000000").status()
        self.assertEqual(caught.exception.code, grpc.StatusCode.NOT_FOUND)
        self.assertEqual(caught.exception.reason, "NOT_FOUND")
        with self.assertRaisesRegex(ValueError, "max_token: there is no such"):
            self.client.submit(["x"], max_token=1)
        job = self.client.submit(["x" * (1 << 20)])
        (result,) = job.results()
        self.assertFalse(result.ok)
        with self.assertRaises(moelight.RowError):
            result.text
        self.assertEqual([row for row, _ in job.refused], [0])

    def test_cancelled_rows_say_so(self):
        job = self.client.submit(["Count"] * 400, ignore_eos=True, max_tokens=1900)
        job.cancel()
        self.assertIs(job.wait().state, moelight.JobState.CANCELLED)
        codes = {result.error.code for result in job.results() if not result.ok}
        self.assertEqual(codes, {grpc.StatusCode.CANCELLED})

    def test_server_that_is_not_there_is_unavailable(self):
        with moelight.Client("127.0.0.1:9", outage_s=0.2) as client:
            with self.assertRaises(moelight.Unavailable):
                list(client.jobs())


class RestartTest(unittest.TestCase):

    def test_results_go_on_after_kill_9(self):
        first = Daemon(BINARY)
        first.wait_for("ready")
        job_id, seen = None, []
        with moelight.Client(first.address) as client:
            job = client.submit(["What is %d plus 2?" % i for i in range(600)], max_tokens=160,
                                ignore_eos=True, temperature=0)
            job_id = job.job_id
            results = job.results()
            seen += [next(results).row for _ in range(5)]
            first.process.kill()
            first.process.wait()
            settings = ["server.listen=" + first.address,
                        "store.path=" + os.path.join(first.folder, "store")]
            second = Daemon(BINARY, settings)
            self.addCleanup(second.stop)
            self.addCleanup(first.stop)
            seen += [result.row for result in results]
            status = client.job(job_id).wait()
        self.assertEqual(status.num_succeeded, 600)
        self.assertEqual(sorted(seen), list(range(600)), "each exactly once")


class ConnectionTest(unittest.TestCase):

    def test_key_is_refused_over_a_plain_way(self):
        with self.assertRaisesRegex(ValueError, "plain text"):
            moelight.Client("gpu-box:50051", api_key="secret")
        for address in ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/tmp/s"):
            moelight.Client(address, api_key="secret").close()
        moelight.Client("gpu-box:50051", api_key="secret", insecure=True).close()
        with self.assertRaisesRegex(ValueError, "belong together"):
            moelight.Client("127.0.0.1:1", client_cert="client.pem")

    def test_key_travels_with_every_call(self):
        seen = []

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                seen.append(dict(details.invocation_metadata).get("authorization"))
                return grpc.unary_unary_rpc_method_handler(
                    lambda request, context: inference_pb2.TokenizeResponse(token_ids=[7]),
                    response_serializer=inference_pb2.TokenizeResponse.SerializeToString)

        from concurrent import futures
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with moelight.Client("127.0.0.1:%d" % port, api_key="secret") as client:
            self.assertEqual(client.tokenize("x"), [7])
        server.stop(None)
        self.assertEqual(seen, ["Bearer secret"])

    def test_keys_of_tenants(self):
        folder = tempfile.mkdtemp(prefix="moelight-tenants-")
        self.addCleanup(shutil.rmtree, folder)
        keys = {name: "%s-%s" % (name, "0" * 40) for name in ("alice", "bob")}
        tenants = os.path.join(folder, "tenants.yaml")
        with open(tenants, "w") as file:
            file.write("tenants:\n")
            for name, key in keys.items():
                digest = hashlib.sha256(key.encode()).hexdigest()
                file.write("  - name: %s\n    keys: [\"sha256:%s\"]\n" % (name, digest))
        daemon = Daemon(BINARY, ["server.tenants=" + tenants])
        self.addCleanup(daemon.stop)
        daemon.wait_for("ready")
        with moelight.Client(daemon.address) as client:
            with self.assertRaises(moelight.Unauthenticated):
                client.submit(["x"])
        with moelight.Client(daemon.address, api_key=keys["alice"]) as client:
            job = client.submit(["x"], max_tokens=1)
            self.assertTrue(next(job.results()).ok)
        with moelight.Client(daemon.address, api_key=keys["bob"]) as client:
            self.assertEqual(list(client.jobs()), [])
            with self.assertRaises(moelight.NotFound):
                client.job(job.job_id).status()

    def test_mutual_tls(self):
        files = {name: os.path.join(CERTIFICATES, name)
                 for name in ("server.pem", "server.key", "ca.pem", "client.pem", "client.key")}
        daemon = Daemon(BINARY, ["server.tls.cert=" + files["server.pem"],
                                 "server.tls.key=" + files["server.key"],
                                 "server.tls.client_ca=" + files["ca.pem"]])
        self.addCleanup(daemon.stop)
        with moelight.Client(daemon.address, tls_ca=files["ca.pem"], api_key="secret",
                             client_cert=files["client.pem"],
                             client_key=files["client.key"]) as client:
            self.assertEqual(list(client.jobs()), [])
        with moelight.Client(daemon.address, tls_ca=files["ca.pem"], outage_s=0) as client:
            with self.assertRaises(moelight.Unavailable):
                list(client.jobs())


class RowsTest(unittest.TestCase):

    def test_openai_lines_become_rows(self):
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [
                             {"role": "user", "content": [{"type": "text", "text": "x"},
                                                          {"type": "text", "text": "y"}]}],
                         "max_completion_tokens": 5, "logprobs": True, "top_logprobs": 2,
                         "stop": "end", "logit_bias": {"7": 1.5}, "temperature": None,
                         "tools": [{"type": "function"}]}}
        row = rows.row(line)
        self.assertEqual(row.custom_id, "a")
        self.assertEqual(row.prompt.chat.messages[0].content, "x\ny")
        self.assertEqual(json.loads(row.prompt.chat.tools_json), [{"type": "function"}])
        self.assertEqual((row.sampling.max_tokens, row.sampling.logprobs), (5, 2))
        self.assertEqual(list(row.sampling.stop), ["end"])
        self.assertEqual(dict(row.sampling.logit_bias), {7: 1.5})
        self.assertFalse(row.sampling.HasField("temperature"))
        text = rows.row({"custom_id": "b", "body": {"prompt": "once"}})
        self.assertEqual(text.prompt.text, "once")

    def test_what_cannot_be_a_row_is_refused(self):
        for value, words in [({"prompt": "x"}, "custom_id, url and body"),
                             ({"body": {"messages": []}}, "body.messages"),
                             ({"url": "/v1/embeddings", "body": {}}, "/v1/embeddings"),
                             ({"body": {"prompt": "x", "best_of": 2}}, "body.best_of"),
                             ({"body": {"prompt": "x", "max_tokens": "many"}}, "body.max_tokens"),
                             ([], "a prompt is"), ([1, "x"], "a prompt is")]:
            with self.subTest(words), self.assertRaisesRegex(ValueError, re.escape(words)):
                rows.row(value)


class SourceDistributionTest(unittest.TestCase):

    def test_it_builds_away_from_the_repository(self):
        """The protocol travels along, and stubs come out of it."""
        folder = tempfile.mkdtemp(prefix="moelight-sdist-")
        self.addCleanup(shutil.rmtree, folder)
        source = pypi.copy_of_package(os.path.join(folder, "repository"))
        setup = [sys.executable, "setup.py", "--quiet"]
        subprocess.run([*setup, "sdist", "--dist-dir", folder],
                       cwd=source, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        (archive,) = glob.glob(os.path.join(folder, "*.tar.gz"))
        shutil.unpack_archive(archive, folder)
        unpacked = archive[:-len(".tar.gz")]
        self.assertTrue(os.path.exists(os.path.join(unpacked, "proto/moelight/v1/types.proto")))
        subprocess.run([*setup, "build", "--build-base", os.path.join(folder, "built")],
                       cwd=unpacked, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertTrue(os.path.exists(
            os.path.join(folder, "built/lib/moelight/v1/batch_job_pb2_grpc.py")))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[3:]])
