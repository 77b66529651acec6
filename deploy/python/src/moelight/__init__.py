"""Client of moelight: hand in prompts by the thousands, read their answers.

    import moelight

    with moelight.Client("127.0.0.1:50051") as client:
        job = client.submit(["What is 2 plus 2?", "What is 3 plus 3?"], max_tokens=32)
        for result in job.results():
            print(result.row, result.text)
"""

from .client import Client
from .errors import (AlreadyExists, Cancelled, DeadlineExceeded, InvalidRequest, LimitReached,
                     MoelightError, NotFound, PermissionDenied, RowError, Unauthenticated,
                     Unavailable, WrongState)
from .job import Job, JobState, JobStatus
from .results import Answer, Result

__all__ = ["AlreadyExists", "Answer", "Cancelled", "Client", "DeadlineExceeded", "InvalidRequest",
           "Job", "JobState", "JobStatus", "LimitReached", "MoelightError", "NotFound",
           "PermissionDenied", "Result", "RowError", "Unauthenticated", "Unavailable",
           "WrongState"]
