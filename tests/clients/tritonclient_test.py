"""The Open Inference Protocol with NVIDIA's tritonclient, made for another server."""

import sys
import threading
import unittest

import pypi

pypi.enter()  # nothing below is there outside of it

import numpy  # noqa: E402
from tritonclient import grpc as triton  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

from daemon import Daemon, TIMEOUT_S  # noqa: E402

MODEL = "model"  # the folder of the demo model


class TritonClientTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(sys.argv[1])
        cls.daemon.wait_for("ready")
        cls.client = triton.InferenceServerClient(cls.daemon.address)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.daemon.stop()

    @staticmethod
    def text_input(*prompts):
        tensor = triton.InferInput("text_input", [len(prompts)], "BYTES")
        tensor.set_data_from_numpy(numpy.array([p.encode() for p in prompts], dtype=object))
        return tensor

    def test_server_and_model_are_ready_and_described(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready(MODEL))
        self.assertEqual(self.client.get_server_metadata().name, "moelight")
        metadata = self.client.get_model_metadata(MODEL)
        self.assertEqual(metadata.name, MODEL)
        self.assertIn(("text_input", "BYTES"), [(t.name, t.datatype) for t in metadata.inputs])
        self.assertIn(("text_output", "BYTES"), [(t.name, t.datatype) for t in metadata.outputs])

    def test_prompts_are_answered_in_order(self):
        prompts = ["What is %d plus 2?" % i for i in range(8)]
        parameters = {"max_tokens": 8, "temperature": 0}
        together = self.client.infer(MODEL, [self.text_input(*prompts)], parameters=parameters,
                                     request_id="seven", client_timeout=TIMEOUT_S)
        self.assertEqual(together.get_response().id, "seven")
        texts = together.as_numpy("text_output")
        self.assertEqual(texts.shape, (8,))
        self.assertGreater(len(set(texts)), 1, "different prompts have different answers")
        counts = together.as_numpy("num_output_tokens")
        self.assertTrue(all(1 <= count <= 8 for count in counts), counts)
        for prompt, text in zip(prompts, texts):
            alone = self.client.infer(MODEL, [self.text_input(prompt)], parameters=parameters,
                                      outputs=[triton.InferRequestedOutput("text_output")])
            self.assertEqual(alone.as_numpy("text_output")[0], text)

    def test_sampling_parameters_of_the_vllm_backend(self):
        sampling = triton.InferInput("sampling_parameters", [1], "BYTES")
        sampling.set_data_from_numpy(numpy.array(
            [b'{"temperature": "0", "max_tokens": "3", "ignore_eos": true}'], dtype=object))
        stream = triton.InferInput("stream", [1], "BOOL")
        stream.set_data_from_numpy(numpy.array([False]))
        result = self.client.infer(MODEL, [self.text_input("Hello"), stream, sampling],
                                   client_timeout=TIMEOUT_S)
        self.assertEqual(list(result.as_numpy("num_output_tokens")), [3])
        self.assertEqual(list(result.as_numpy("finish_reason")), [b"length"])

    def test_errors_have_code_and_reason(self):
        for model, tensor, parameters, code, words in [
                ("none", self.text_input("x"), {}, "NOT_FOUND", 'model "none" is not served'),
                (MODEL, self.text_input("x"), {"max_tokens": -1}, "INVALID_ARGUMENT",
                 "parameters.max_tokens"),
                (MODEL, self.text_input("x", ""), {}, "INVALID_ARGUMENT", '"text_input" is empty'),
                (MODEL, self.text_input(*["x"] * 65), {}, "RESOURCE_EXHAUSTED",
                 "server.limits.infer_rows")]:
            with self.subTest(words), self.assertRaises(InferenceServerException) as caught:
                self.client.infer(model, [tensor], parameters=parameters)
            self.assertEqual(caught.exception.status(), "StatusCode." + code)
            self.assertIn(words, caught.exception.message())

    def test_async_call_can_be_cancelled(self):
        ended = threading.Event()
        outcome = []

        def callback(result, error):
            outcome.append((result, error))
            ended.set()

        call = self.client.async_infer(
            MODEL, [self.text_input("Count")], callback,
            parameters={"ignore_eos": True, "max_tokens": 2000})
        call.cancel()
        self.assertTrue(ended.wait(TIMEOUT_S))
        self.assertIsNone(outcome[0][0])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[3:]])
