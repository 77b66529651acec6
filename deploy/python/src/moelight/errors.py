"""What can go wrong, as exceptions that carry what the server says about it."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional, Type

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


class MoelightError(Exception):
    """An error of the server or on the way to it.

    code       grpc.StatusCode
    message    what the server says
    reason     ErrorInfo.reason: a word for programs, for example LIMIT_REACHED; empty if there is
               none
    fields     reason by field path, of a request that is not valid
    limits     configuration keys of the limits that were reached
    retry_s    trying again may help after so many seconds; None: the server does not say so
    """

    def __init__(self, code: grpc.StatusCode, message: str,
                 details: Optional[status_pb2.Status] = None) -> None:
        super().__init__("%s: %s" % (code.name, message))
        self.code = code
        self.message = message
        self.reason = ""
        self.fields: Dict[str, str] = {}
        self.limits: list[str] = []
        self.retry_s: Optional[float] = None
        for any_detail in details.details if details is not None else ():
            self._take(any_detail)

    def _take(self, any_detail: Any) -> None:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        quota = error_details_pb2.QuotaFailure()
        retry = error_details_pb2.RetryInfo()
        if any_detail.Unpack(info):
            self.reason = info.reason
        elif any_detail.Unpack(bad):
            self.fields.update((v.field, v.description) for v in bad.field_violations)
        elif any_detail.Unpack(quota):
            self.limits.extend(v.subject for v in quota.violations)
        elif any_detail.Unpack(retry):
            self.retry_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9


class InvalidRequest(MoelightError):
    """INVALID_ARGUMENT or OUT_OF_RANGE: the request cannot be carried out as it is."""


class NotFound(MoelightError):
    """There is no such job."""


class AlreadyExists(MoelightError):
    """The same id or row was used before, with other content."""


class WrongState(MoelightError):
    """FAILED_PRECONDITION: not in this state of the job or server."""


class LimitReached(MoelightError):
    """RESOURCE_EXHAUSTED: `limits` names the configuration keys."""


class Unauthenticated(MoelightError):
    """The server wants credentials, or others."""


class PermissionDenied(MoelightError):
    """These credentials are good, but not for this."""


class Unavailable(MoelightError):
    """The server cannot be reached, is loading its model or is going away."""


class Cancelled(MoelightError):
    """The call, row or job was cancelled."""


class DeadlineExceeded(MoelightError):
    """It took longer than it was given."""


class RowError(MoelightError):
    """Why one row of a job has no answer."""


_TYPES: Dict[grpc.StatusCode, Type[MoelightError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc(error: grpc.RpcError) -> MoelightError:
    """The exception for a call that failed."""
    call: Any = error  # grpcio's errors are calls as well, which its types do not say
    trailers: Iterable[Any] = call.trailing_metadata() or ()
    details = next((status_pb2.Status.FromString(value) for key, value in trailers
                    if key == _DETAILS_KEY), None)
    code: grpc.StatusCode = call.code()
    return _TYPES.get(code, MoelightError)(code, call.details() or "", details)


def of_row(status: status_pb2.Status) -> RowError:
    """The exception for a row that failed."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return RowError(code, status.message, status)
