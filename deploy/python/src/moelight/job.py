"""A job: its state, its results, its end."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Iterator, List, Optional, Tuple

from . import errors, results
from .connection import Connection
from .v1 import batch_job_pb2 as pb


class JobState(enum.Enum):
    """Where a job is in its life."""

    ACCEPTING = pb.BatchJob.STATE_ACCEPTING
    QUEUED = pb.BatchJob.STATE_QUEUED
    RUNNING = pb.BatchJob.STATE_RUNNING
    CANCELLING = pb.BatchJob.STATE_CANCELLING
    SUCCEEDED = pb.BatchJob.STATE_SUCCEEDED
    FAILED = pb.BatchJob.STATE_FAILED
    CANCELLED = pb.BatchJob.STATE_CANCELLED
    EXPIRED = pb.BatchJob.STATE_EXPIRED

    @property
    def is_end(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """State and progress of a job at one moment."""

    job_id: str
    name: str
    state: JobState
    num_rows: int
    num_succeeded: int
    num_failed: int
    num_cancelled: int
    prompt_tokens: int
    generated_tokens: int
    estimated_end: Optional[datetime.datetime]  # None: not known
    deadline_unreachable: bool
    error: Optional[errors.RowError]  # of a job in state FAILED

    @property
    def num_done(self) -> int:
        return self.num_succeeded + self.num_failed + self.num_cancelled


def status_of(job: pb.BatchJob) -> JobStatus:
    end = job.estimated_end_time.ToDatetime(datetime.timezone.utc) \
        if job.HasField("estimated_end_time") else None
    return JobStatus(job.job_id, job.display_name, JobState(job.state), job.num_rows,
                     job.num_succeeded, job.num_failed, job.num_cancelled, job.prompt_tokens,
                     job.generated_tokens, end, job.deadline_unreachable,
                     errors.of_row(job.error) if job.HasField("error") else None)


class Job:
    """A job of the server. Its id is all that is needed to find it again: client.job(job_id)."""

    def __init__(self, connection: Connection, job_id: str,
                 refused: Tuple[Tuple[int, errors.RowError], ...] = ()) -> None:
        self._connection = connection
        self.job_id = job_id
        # Rows that were refused when they were handed in, with the reason, at most 100 per 8 MiB;
        # they are among the results too.
        self.refused: List[Tuple[int, errors.RowError]] = list(refused)

    def __repr__(self) -> str:
        return "Job(%r)" % self.job_id

    def status(self) -> JobStatus:
        request = pb.GetBatchJobRequest(job_id=self.job_id)
        return status_of(self._connection.call(self._connection.jobs.GetBatchJob, request).job)

    def results(self, *, follow: bool = True) -> Iterator[results.Result]:
        """Every result once, in the order in which rows finished.

        Waits for those to come until the job ends; without `follow`, ends after those that are
        there. A broken connection is made again, and the reading goes on after the last result
        that came.
        """
        cursor = 0

        def next_request() -> pb.ReadBatchResultsRequest:
            return pb.ReadBatchResultsRequest(job_id=self.job_id, cursor=cursor, follow=follow)

        for message in self._connection.stream(self._connection.jobs.ReadBatchResults,
                                               next_request):
            cursor = message.next_cursor
            for proto in message.results:
                yield results.result(proto)

    def wait(self, *, progress: bool = False) -> JobStatus:
        """Waits for the job's end and returns it. `progress` draws a bar, which needs tqdm."""
        bar = _Bar() if progress else None
        last: Optional[JobStatus] = None
        try:
            for status in self.watch():
                last = status
                if bar is not None:
                    bar.show(status)
        finally:
            if bar is not None:
                bar.close()
        return last if last is not None else self.status()

    def watch(self) -> Iterator[JobStatus]:
        """The status now and after each change, at most twice a second, until the job ends."""
        request = pb.WatchBatchJobRequest(job_id=self.job_id)
        for message in self._connection.stream(self._connection.jobs.WatchBatchJob,
                                               lambda: request):
            status = status_of(message.job)
            yield status
            if status.state.is_end:
                return

    def cancel(self) -> JobStatus:
        """Stops the job. Rows that are done keep their results."""
        request = pb.CancelBatchJobRequest(job_id=self.job_id)
        return status_of(self._connection.call(self._connection.jobs.CancelBatchJob, request).job)

    def delete(self) -> None:
        """Removes a job that has ended, with its rows and results."""
        self._connection.call(self._connection.jobs.DeleteBatchJob,
                              pb.DeleteBatchJobRequest(job_id=self.job_id))


class _Bar:
    """A bar of tqdm that shows rows, and tokens beside it."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: "
                              "pip install 'moelight[progress]'") from None
        self._bar = tqdm(unit="row")

    def show(self, status: JobStatus) -> None:
        self._bar.total = status.num_rows
        self._bar.set_postfix(tokens=status.generated_tokens, failed=status.num_failed,
                              refresh=False)
        self._bar.update(status.num_done - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
