"""Generate and Tokenize from a foreign client."""

import grpc

from daemon import DaemonTest, main

GENERATE = "/moelight.v1.InferenceService/Generate"
TOKENIZE = "/moelight.v1.InferenceService/Tokenize"


class InferenceTest(DaemonTest):

    def request(self, **sampling):
        from moelight.v1 import inference_pb2 as pb
        request = pb.GenerateRequest()
        request.prompt.chat.messages.add(role="user", content="What is 64 plus 65?")
        for name, value in sampling.items():
            setattr(request.sampling, name, value)
        return request

    def generate(self, request):
        from moelight.v1 import inference_pb2 as pb
        return list(self.server_stream(GENERATE, request, pb.GenerateResponse))

    def test_stream_adds_up_to_the_answer(self):
        events = self.generate(self.request(temperature=0, max_tokens=32, logprobs=2))
        deltas = [event.delta for event in events if event.HasField("delta")]
        finished = events[-1].finished
        self.assertEqual(len(finished.choices), 1)
        choice = finished.choices[0]
        self.assertEqual("".join(delta.text for delta in deltas), choice.text)
        self.assertEqual([token for delta in deltas for token in delta.token_ids],
                         list(choice.token_ids))
        self.assertEqual(len(choice.logprobs), len(choice.token_ids))
        self.assertEqual(finished.usage.completion_tokens, len(choice.token_ids))

    def test_greedy_answers_repeat(self):
        texts = {self.generate(self.request(temperature=0, max_tokens=16))[-1].finished.choices[0]
                 .text for _ in range(3)}
        self.assertEqual(len(texts), 1)

    def test_several_choices_come_on_one_stream(self):
        events = self.generate(self.request(n=3, seed=1, max_tokens=8))
        self.assertEqual(len(events[-1].finished.choices), 3)

    def test_cancel_ends_the_stream(self):
        from moelight.v1 import inference_pb2 as pb
        stream = self.server_stream(GENERATE, self.request(ignore_eos=True), pb.GenerateResponse)
        next(stream)
        stream.cancel()
        with self.assertRaises(grpc.RpcError):
            list(stream)

    def test_tokens_go_in_and_out(self):
        from moelight.v1 import inference_pb2 as pb
        tokenize = pb.TokenizeRequest()
        tokenize.prompt.chat.messages.add(role="user", content="What is 64 plus 65?")
        response = self.unary(TOKENIZE, tokenize, pb.TokenizeResponse)
        self.assertIn("What is 64 plus 65?", response.text)
        self.assertEqual(len(response.tokens), len(response.token_ids))

        by_ids = pb.GenerateRequest()
        by_ids.prompt.token_ids.ids.extend(response.token_ids)
        by_ids.sampling.temperature = 0
        by_ids.sampling.max_tokens = 16
        by_chat = self.request(temperature=0, max_tokens=16)
        self.assertEqual(self.generate(by_ids)[-1].finished, self.generate(by_chat)[-1].finished)


if __name__ == "__main__":
    main()
