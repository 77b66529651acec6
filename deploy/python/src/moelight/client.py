"""The client: jobs in, answers out."""

from __future__ import annotations

import datetime
import uuid
from typing import (Any, Dict, Iterable, Iterator, List, Literal, Mapping, Optional, Tuple, Union,
                    overload)

import grpc

from . import errors, results, rows
from .connection import Connection, Retries
from .job import Job, JobState, JobStatus, status_of
from .v1 import batch_job_pb2, inference_pb2

# Small enough for any server.limits.message_bytes that takes such rows at all.
_MESSAGE_BYTES = 48 << 10
# What is kept here until the server has it on disk.
_STREAM_BYTES = 8 << 20


class Client:
    """A connection to moelightd. May be shared by threads.

    tls_ca        PEM file of who signed the server's certificate; sets TLS
    client_cert   PEM file of the client's certificate, for servers that ask for one; sets TLS
    client_key    PEM file of its private key
    api_key       sent with every call; refused without TLS unless the address is loopback or
                  `insecure` is set
    outage_s      a server that cannot be reached is tried again for so long
    """

    def __init__(self, address: str = "127.0.0.1:50051", *, tls_ca: Optional[str] = None,
                 client_cert: Optional[str] = None, client_key: Optional[str] = None,
                 api_key: Optional[str] = None, insecure: bool = False,
                 outage_s: float = 60.0) -> None:
        self._connection = Connection(address, tls_ca=tls_ca, client_cert=client_cert,
                                      client_key=client_key, api_key=api_key, insecure=insecure,
                                      outage_s=outage_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.channel.close()

    # --- Jobs ---

    def submit(self, requests: Iterable[rows.RowLike], *, client: str = "", priority: int = 0,
               name: str = "", labels: Optional[Mapping[str, str]] = None,
               expire_after: Union[None, float, datetime.timedelta] = None, chat: bool = True,
               **sampling: Any) -> Job:
        """Hands in prompts as one job, and returns once all of them are on the server's disk.

        `requests` are texts, lists of messages, lists of token ids or OpenAI Batch lines as dicts,
        also mixed; a generator is read once and never held whole. A text is a user's message, or,
        if `chat` is false, continued as it stands. `sampling` (max_tokens, temperature, ...) holds
        for every row that does not say otherwise. `client` and `priority` decide whose turn it is;
        rows not done after `expire_after` (seconds) end with DEADLINE_EXCEEDED.
        """
        job = batch_job_pb2.BatchJob(display_name=name, client=client, priority=priority,
                                     labels=labels or {},
                                     default_sampling=rows.sampling_params(sampling))
        if expire_after is not None:
            if not isinstance(expire_after, datetime.timedelta):
                expire_after = datetime.timedelta(seconds=expire_after)
            job.expire_time.FromDatetime(datetime.datetime.now(datetime.timezone.utc)
                                         + expire_after)
        connection = self._connection
        create = batch_job_pb2.CreateBatchJobRequest(job=job, request_id=uuid.uuid4().hex)
        job_id = connection.call(connection.jobs.CreateBatchJob, create).job.job_id
        append = _Append(connection, job_id)
        for request in requests:
            append.add(rows.row(request, chat))
        append.flush()
        seal = batch_job_pb2.SealBatchJobRequest(job_id=job_id, expected_rows=append.num_rows)
        connection.call(connection.jobs.SealBatchJob, seal)
        return Job(connection, job_id, tuple(append.refused))

    def job(self, job_id: str) -> Job:
        """A job that was submitted earlier, perhaps by another program. Asks nothing yet."""
        return Job(self._connection, job_id)

    def jobs(self, *states: JobState) -> Iterator[JobStatus]:
        """All jobs, newest first, or those in these states."""
        request = batch_job_pb2.ListBatchJobsRequest(states=[state.value for state in states])
        while True:
            page = self._connection.call(self._connection.jobs.ListBatchJobs, request)
            for job in page.jobs:
                yield status_of(job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # --- One prompt at a time ---

    @overload
    def generate(self, prompt: rows.PromptLike, *, stream: Literal[False] = False,
                 chat: bool = True, **sampling: Any) -> results.Answer: ...

    @overload
    def generate(self, prompt: rows.PromptLike, *, stream: Literal[True], chat: bool = True,
                 **sampling: Any) -> Iterator[str]: ...

    def generate(self, prompt: rows.PromptLike, *, stream: bool = False, chat: bool = True,
                 **sampling: Any) -> Union[results.Answer, Iterator[str]]:
        """Answers one prompt, or with `stream` gives the pieces of the answer as they come.

        Leaving the loop over the pieces stops the work on the server. Not tried again when it
        fails.
        """
        request = inference_pb2.GenerateRequest(prompt=rows.prompt(prompt, chat),
                                                sampling=rows.sampling_params(sampling))
        if stream:
            if request.sampling.n > 1:
                raise ValueError("n: the pieces of %d answers cannot be told apart; leave stream "
                                 "out" % request.sampling.n)
            return self._pieces(request)
        finished = None
        for event in self._events(request):
            if event.HasField("finished"):
                finished = event.finished
        assert finished is not None, "the last message of an answer is its end"
        return results.answer(finished.choices, finished.usage)

    def _pieces(self, request: inference_pb2.GenerateRequest) -> Iterator[str]:
        for event in self._events(request):
            if event.HasField("delta") and event.delta.text:
                yield event.delta.text

    def _events(self, request: inference_pb2.GenerateRequest) -> Iterator[Any]:
        call = self._connection.open(self._connection.inference.Generate, request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise errors.from_rpc(error) from None
        finally:
            call.cancel()

    def tokenize(self, prompt: rows.PromptLike, *, chat: bool = True) -> List[int]:
        """Token ids of a prompt as the model would see it."""
        request = inference_pb2.TokenizeRequest(prompt=rows.prompt(prompt, chat))
        return list(self._connection.call(self._connection.inference.Tokenize, request).token_ids)


class _Append:
    """Rows on their way into a job: kept until the server has acknowledged them."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._job_id = job_id
        self._messages: List[batch_job_pb2.AppendBatchRequestsRequest] = []
        self._message_bytes = 0
        self._bytes = 0
        self._refused: Dict[int, errors.RowError] = {}
        self.num_rows = 0

    @property
    def refused(self) -> List[Tuple[int, errors.RowError]]:
        return sorted(self._refused.items())

    def add(self, row: batch_job_pb2.BatchRequest) -> None:
        size = row.ByteSize() + 8
        if not self._messages or self._message_bytes + size > _MESSAGE_BYTES:
            self._messages.append(batch_job_pb2.AppendBatchRequestsRequest(
                job_id=self._job_id, first_row=self.num_rows))
            self._message_bytes = 0
        self._messages[-1].requests.append(row)
        self._message_bytes += size
        self._bytes += size
        self.num_rows += 1
        if self._bytes >= _STREAM_BYTES:
            self.flush()

    def flush(self) -> None:
        """Returns once the server has every row on disk. Rows it had already are sent again, which
        it recognises."""
        if not self._messages:
            return
        retries = Retries(self._connection.outage_s)
        while True:
            try:
                response = self._connection.open(self._connection.jobs.AppendBatchRequests,
                                                 iter(self._messages))
                break
            except grpc.RpcError as error:
                retries.wait_or_raise(error)
        for refused in response.refused_rows:
            self._refused[refused.row] = errors.of_row(refused.error)
        self._messages = []
        self._bytes = 0
