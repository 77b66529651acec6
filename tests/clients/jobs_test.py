"""A batch job from a foreign client: create, append, seal, watch, read, cancel, delete."""

import grpc

from daemon import DaemonTest, main

SERVICE = "/moelight.v1.BatchJobService/"


class JobsTest(DaemonTest):

    def create(self, **fields):
        from moelight.v1 import batch_job_pb2 as pb
        request = pb.CreateBatchJobRequest(**fields)
        return self.unary(SERVICE + "CreateBatchJob", request, pb.CreateBatchJobResponse).job

    def append(self, messages):
        from moelight.v1 import batch_job_pb2 as pb
        return self.client_stream(SERVICE + "AppendBatchRequests", messages,
                                  pb.AppendBatchRequestsResponse)

    def get(self, job_id):
        from moelight.v1 import batch_job_pb2 as pb
        return self.unary(SERVICE + "GetBatchJob", pb.GetBatchJobRequest(job_id=job_id),
                          pb.GetBatchJobResponse).job

    def chat_row(self, custom_id, text):
        from moelight.v1 import batch_job_pb2 as pb
        row = pb.BatchRequest(custom_id=custom_id)
        row.prompt.chat.messages.add(role="user", content=text)
        return row

    def test_life_of_a_job(self):
        from moelight.v1 import batch_job_pb2 as pb
        request = pb.CreateBatchJobRequest(request_id="python-1")
        request.job.display_name = "from Python"
        request.job.default_sampling.temperature = 0
        request.job.default_sampling.max_tokens = 16
        job = self.unary(SERVICE + "CreateBatchJob", request, pb.CreateBatchJobResponse).job
        self.assertEqual(job.state, pb.BatchJob.STATE_ACCEPTING)

        rows = [self.chat_row("row-%d" % i, "What is %d plus 2?" % i) for i in range(10)]
        rows[3] = pb.BatchRequest(custom_id="row-3")  # no prompt
        messages = [pb.AppendBatchRequestsRequest(job_id=job.job_id, requests=rows[:5]),
                    pb.AppendBatchRequestsRequest(first_row=5, requests=rows[5:])]
        response = self.append(messages)
        self.assertEqual(response.num_rows, 10)
        self.assertEqual([row.custom_id for row in response.refused_rows], ["row-3"])

        seal = pb.SealBatchJobRequest(job_id=job.job_id, expected_rows=10)
        self.unary(SERVICE + "SealBatchJob", seal, pb.SealBatchJobResponse)
        states = [update.job.state for update in
                  self.server_stream(SERVICE + "WatchBatchJob",
                                     pb.WatchBatchJobRequest(job_id=job.job_id),
                                     pb.WatchBatchJobResponse)]
        self.assertEqual(states[-1], pb.BatchJob.STATE_SUCCEEDED)

        results = {}
        read = pb.ReadBatchResultsRequest(job_id=job.job_id, follow=True)
        for page in self.server_stream(SERVICE + "ReadBatchResults", read,
                                       pb.ReadBatchResultsResponse):
            for result in page.results:
                self.assertNotIn(result.row, results)
                results[result.row] = result
        self.assertEqual(set(results), set(range(10)))
        self.assertEqual(results[3].error.code, grpc.StatusCode.INVALID_ARGUMENT.value[0])
        for row in set(range(10)) - {3}:
            self.assertGreater(results[row].usage.completion_tokens, 0)
        ended = self.get(job.job_id)
        self.assertEqual((ended.num_succeeded, ended.num_failed), (9, 1))

        self.unary(SERVICE + "DeleteBatchJob", pb.DeleteBatchJobRequest(job_id=job.job_id),
                   pb.DeleteBatchJobResponse)
        self.assert_code(grpc.StatusCode.NOT_FOUND, self.get, job.job_id)

    def test_append_resumes_from_what_is_stored(self):
        from moelight.v1 import batch_job_pb2 as pb
        job = self.create()
        rows = [self.chat_row(str(i), "x") for i in range(4)]
        self.append([pb.AppendBatchRequestsRequest(job_id=job.job_id, requests=rows[:3])])
        self.assertEqual(self.get(job.job_id).num_rows, 3)
        response = self.append(
            [pb.AppendBatchRequestsRequest(job_id=job.job_id, first_row=2, requests=rows[2:])])
        self.assertEqual(response.num_rows, 4)
        gap = [pb.AppendBatchRequestsRequest(job_id=job.job_id, first_row=9, requests=rows[:1])]
        self.assert_code(grpc.StatusCode.OUT_OF_RANGE, self.append, gap)

    def test_cancelled_job_ends(self):
        from moelight.v1 import batch_job_pb2 as pb
        job = self.create()
        self.append([pb.AppendBatchRequestsRequest(job_id=job.job_id,
                                                   requests=[self.chat_row("a", "x")])])
        self.unary(SERVICE + "CancelBatchJob", pb.CancelBatchJobRequest(job_id=job.job_id),
                   pb.CancelBatchJobResponse)
        *_, last = self.server_stream(SERVICE + "WatchBatchJob",
                                      pb.WatchBatchJobRequest(job_id=job.job_id),
                                      pb.WatchBatchJobResponse)
        self.assertEqual(last.job.state, pb.BatchJob.STATE_CANCELLED)


if __name__ == "__main__":
    main()
