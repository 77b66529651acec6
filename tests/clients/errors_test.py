"""What a foreign client learns from an error, and that the daemon survives causing it."""

import math
import time

import grpc

from daemon import DaemonTest, details, main

GENERATE = "/moelight.v1.InferenceService/Generate"


class ErrorsTest(DaemonTest):

    def generate(self, request):
        from moelight.v1 import inference_pb2 as pb
        return list(self.server_stream(GENERATE, request, pb.GenerateResponse))

    def text_request(self, text="x"):
        from moelight.v1 import inference_pb2 as pb
        request = pb.GenerateRequest()
        request.prompt.text = text
        request.sampling.max_tokens = 1
        return request

    def hostile_requests(self):
        nan = self.text_request()
        nan.sampling.temperature = math.nan
        stops = self.text_request()
        stops.sampling.stop.extend("stop %d" % i for i in range(10_000))
        token = self.text_request()
        token.prompt.token_ids.ids.append(1 << 30)
        deep = self.text_request()
        deep.prompt.chat.messages.add(role="user", content="x")
        deep.prompt.chat.tools_json = "[" * 1_000_000
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        good = self.text_request("abcd").SerializeToString()
        return {
            "NaN temperature": (nan, invalid),
            "10,000 stop strings": (stops, invalid),
            "token out of range": (token, invalid),
            "deep JSON": (deep, invalid),
            "invalid UTF-8": (good.replace(b"abcd", b"a\xffcd"), invalid),
            "not a message": (b"\xff" * 100, invalid),
            "longer than the context": (self.text_request("a b " * 20_000), invalid),
            "oversize": (self.text_request("x" * (5 << 20)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        }

    def test_hostile_requests_get_typed_errors(self):
        for name, (request, code) in self.hostile_requests().items():
            with self.subTest(name):
                start = time.monotonic()
                self.assert_code(code, self.generate, request)
                self.assertLess(time.monotonic() - start, 1.0)
                self.assertTrue(self.generate(self.text_request()))

    def test_details_name_reason_and_field(self):
        from google.rpc import error_details_pb2
        request = self.text_request()
        request.sampling.top_p = 2
        status = details(self.assert_code(grpc.StatusCode.INVALID_ARGUMENT, self.generate, request))
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        self.assertTrue(any(detail.Unpack(info) for detail in status.details))
        self.assertTrue(any(detail.Unpack(bad_request) for detail in status.details))
        self.assertEqual((info.domain, info.reason), ("moelight", "INVALID_REQUEST"))
        self.assertEqual(bad_request.field_violations[0].field, "sampling.top_p")


if __name__ == "__main__":
    main()
