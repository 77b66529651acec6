"""A batch job from a foreign client: create, append, seal, watch, read, cancel, delete."""

import time

import grpc

from daemon import Daemon, DaemonTest, main

SERVICE = "/moelight.v1.BatchJobService/"


class JobsTestCase(DaemonTest):
    """Calls that the tests below have in common."""

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

    def sealed_job(self, num_rows, max_tokens, **job):
        """A job of `num_rows` equal rows with answers of `max_tokens`, as the seal answers it."""
        from moelight.v1 import batch_job_pb2 as pb
        job["default_sampling"] = dict(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        made = self.create(job=job)
        rows = [self.chat_row(str(i), "What is 2 plus 2?") for i in range(num_rows)]
        self.append([pb.AppendBatchRequestsRequest(job_id=made.job_id, requests=rows)])
        return self.unary(SERVICE + "SealBatchJob", pb.SealBatchJobRequest(job_id=made.job_id),
                          pb.SealBatchJobResponse).job

    def watch(self, job_id):
        """Follows the job to its end."""
        from moelight.v1 import batch_job_pb2 as pb
        *_, last = self.server_stream(SERVICE + "WatchBatchJob",
                                      pb.WatchBatchJobRequest(job_id=job_id),
                                      pb.WatchBatchJobResponse)
        return last.job


class JobsTest(JobsTestCase):

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
        self.assertEqual(self.watch(job.job_id).state, pb.BatchJob.STATE_CANCELLED)

    def test_client_and_priority_are_checked_and_kept(self):
        job = self.create(job=dict(client="alice", priority=-100))
        self.assertEqual((job.client, job.priority), ("alice", -100))
        for field, bad in (("client", "x" * 65), ("priority", 101)):
            error = self.assert_code(grpc.StatusCode.INVALID_ARGUMENT,
                                     lambda: self.create(job={field: bad}))
            self.assertTrue(error.details().startswith("job.%s: " % field), error.details())

    def test_rows_of_an_expired_job_end_at_once(self):
        from moelight.v1 import batch_job_pb2 as pb
        expiry = int(time.time()) + 3  # long enough to seal the job, far too short to do it
        job = self.sealed_job(400, 1000, expire_time=dict(seconds=expiry, nanos=0))
        ended = self.watch(job.job_id)
        self.assertEqual(ended.state, pb.BatchJob.STATE_EXPIRED)
        self.assertLess(ended.end_time.ToSeconds(), expiry + 3)
        self.assertEqual(ended.num_succeeded + ended.num_cancelled, 400)


class FairnessTest(JobsTestCase):
    """With places for few rows, so that who gets them decides."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(cls.binary, ["engine.max_running_sequences=4",
                                         "server.limits.rows_in_flight=12",
                                         "server.client_weights=alice=1, bob=2"])
        cls.daemon.wait_for("ready")

    def test_a_small_job_does_not_wait_for_another_clients_large_one(self):
        from moelight.v1 import batch_job_pb2 as pb
        large = self.sealed_job(600, 100, client="alice").job_id
        small = self.sealed_job(8, 16, client="bob").job_id
        self.assertEqual(self.watch(small).state, pb.BatchJob.STATE_SUCCEEDED)
        self.assertLess(self.get(large).num_succeeded, 300)
        urgent = self.sealed_job(8, 16, client="alice", priority=1).job_id
        self.assertEqual(self.watch(urgent).state, pb.BatchJob.STATE_SUCCEEDED)
        self.assertLess(self.get(large).num_succeeded, 500)
        self.unary(SERVICE + "CancelBatchJob", pb.CancelBatchJobRequest(job_id=large),
                   pb.CancelBatchJobResponse)
        self.assertEqual(self.watch(large).state, pb.BatchJob.STATE_CANCELLED)


if __name__ == "__main__":
    main()
