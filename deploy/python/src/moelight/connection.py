"""The channel to the daemon, and calls that are tried again."""

from __future__ import annotations

import ipaddress
import random
import time
from typing import Any, Callable, Iterator, List, Optional, Tuple, TypeVar

import grpc

from . import errors
from .v1 import batch_job_pb2_grpc, inference_pb2_grpc

T = TypeVar("T")

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_CALL_TIMEOUT_S = 60.0
# Of one message: a result has no limit of its own but what the model can generate.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 2000), ("grpc.keepalive_time_ms", 60000)]


class Retries:
    """Whether a call that failed is tried again: on UNAVAILABLE, for so long per outage.

    The waits grow, with some chance in them, so that many clients do not come back in step.
    """

    def __init__(self, outage_s: float) -> None:
        self._outage_s = outage_s
        self.note_progress()

    def note_progress(self) -> None:
        """The server did something useful: the next failure begins a new outage."""
        self._began: Optional[float] = None
        self._wait_s = _FIRST_WAIT_S

    def wait_or_raise(self, error: grpc.RpcError) -> None:
        failure = errors.from_rpc(error)
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        left_s = self._began + self._outage_s - now
        if not isinstance(failure, errors.Unavailable) or left_s <= 0:
            raise failure from None
        time.sleep(min(left_s, random.uniform(self._wait_s / 2, self._wait_s)))
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)


class Connection:
    """Stubs that share one channel; errors are MoelightError."""

    def __init__(self, address: str, *, tls_ca: Optional[str], client_cert: Optional[str],
                 client_key: Optional[str], api_key: Optional[str], insecure: bool,
                 outage_s: float) -> None:
        if (client_cert is None) != (client_key is None):
            raise ValueError("client_cert and client_key belong together")
        is_tls = tls_ca is not None or client_cert is not None
        if api_key is not None and not is_tls and not insecure and not is_loopback(address):
            raise ValueError("an API key would be sent to %s in plain text: set tls_ca, or "
                             "insecure=True if the way there is safe" % address)
        self.outage_s = outage_s
        self._metadata: List[Tuple[str, str]] = []
        if api_key is not None:
            self._metadata.append(("authorization", "Bearer " + api_key))
        if is_tls:
            credentials = grpc.ssl_channel_credentials(_read(tls_ca), _read(client_key),
                                                       _read(client_cert))
            self.channel = grpc.secure_channel(address, credentials, _OPTIONS)
        else:
            self.channel = grpc.insecure_channel(address, _OPTIONS)
        # What grpcio-tools generates for services has no types.
        stub: Any = batch_job_pb2_grpc.BatchJobServiceStub
        self.jobs: Any = stub(self.channel)
        stub = inference_pb2_grpc.InferenceServiceStub
        self.inference: Any = stub(self.channel)

    def call(self, method: Callable[..., T], request: Any) -> T:
        """A call that may be repeated without harm."""
        retries = Retries(self.outage_s)
        while True:
            try:
                return method(request, timeout=_CALL_TIMEOUT_S, metadata=self._metadata)
            except grpc.RpcError as error:
                retries.wait_or_raise(error)

    def stream(self, method: Callable[..., Any], next_request: Callable[[], Any]) -> Iterator[Any]:
        """Messages of a stream; after a break, those of a new one for `next_request()`."""
        retries = Retries(self.outage_s)
        while True:
            call = method(next_request(), metadata=self._metadata)
            try:
                for message in call:
                    retries.note_progress()
                    yield message
                return
            except grpc.RpcError as error:
                retries.wait_or_raise(error)
            finally:
                call.cancel()  # whoever iterates may have lost interest

    def open(self, method: Callable[..., Any], request: Any) -> Any:
        """A stream as it is."""
        return method(request, metadata=self._metadata)


def is_loopback(address: str) -> bool:
    """Whether only this machine can be meant."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Optional[str]) -> Optional[bytes]:
    if file is None:
        return None
    with open(file, "rb") as stream:
        return stream.read()
