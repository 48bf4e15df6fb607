"""Answers of our own: what Envoy's local replies look like, by what went wrong.

A gRPC request is answered as its protocol asks: status 200, `grpc-status` by Envoy's table, the body as
`grpc-message`. What went wrong in detail is for the record; the client reads no more than Envoy tells it.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate

from weft.l7proxy.core import grpc
from weft.l7proxy.core.stream import Failure, Headers, Response

DENIED_BODY = b"Access denied\r\n"
TIMEOUT_BODY = b"upstream request timeout"
NO_HEALTHY_BODY = b"no healthy upstream"
FAULT_BODY = b"fault filter abort"

#: As Envoy prints them: the order in which its flags stand in a record.
FLAG_ORDER = ("UH", "UT", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "DC", "URX", "UPE", "NC")


@dataclass(frozen=True, slots=True)
class Broken:
    """What becomes of a request when a try fails for good. `words`: Envoy's reset reason."""

    flag: str
    words: str
    status: int = 503


BROKEN: dict[Failure, Broken] = {
    Failure.CONNECT: Broken("UF", "remote connection failure"),
    Failure.CONNECT_TIMEOUT: Broken("UF", "connection timeout"),
    Failure.OVERFLOW: Broken("UO", "overflow"),
    Failure.REFUSED: Broken("UR", "remote refused stream reset"),
    Failure.RESET_BEFORE_REQUEST: Broken("UC", "connection termination"),
    Failure.RESET: Broken("UC", "connection termination"),
    Failure.PROTOCOL: Broken("UPE", "protocol error", 502),
    Failure.LOCAL_CLOSE: Broken("UC", "connection termination"),
}
REMOTE_RESET = Broken("UR", "remote reset")


def broken(failure: Failure, detail: str) -> Broken:
    """RESET is a lost connection (UC), or a stream that the server reset (UR) where the codec says so."""
    if failure is Failure.RESET and detail.startswith("reset by the peer"):
        return REMOTE_RESET
    return BROKEN[failure]


def broken_body(what: Broken, retried: bool) -> bytes:
    again = "retried and the latest " if retried else ""
    return f"upstream connect error or disconnect/reset before headers. {again}reset reason: {what.words}".encode()


def broken_details(what: Broken, started: bool) -> str:
    when = "after" if started else "before"
    return f"upstream_reset_{when}_response_started{{{what.words.replace(' ', '_')}}}"


def local(
    status: int, body: bytes, extra: Headers, wall: float, *, is_grpc: bool, grpc_status: int | None = None
) -> tuple[Response, bytes]:
    """The response and the body to send after it. `grpc_status`: where it is not the table's for `status`."""
    if is_grpc:
        code = grpc.from_http(status) if grpc_status is None else grpc_status
        headers = [(b"content-type", grpc.CONTENT_TYPE), (b"grpc-status", b"%d" % code)]
        if body:
            headers.append((b"grpc-message", grpc.message_of(body)))
        return Response(200, [*headers, *extra, date(wall)], length=0), b""
    headers = [(b"content-length", b"%d" % len(body))] if status >= 200 and status not in (204, 304) else []
    if body and all(name != b"content-type" for name, _ in extra):
        headers.append((b"content-type", b"text/plain"))
    return Response(status, [*headers, *extra, date(wall)], length=len(body)), body


_date: tuple[int, bytes] = (0, b"")


def date(wall: float) -> tuple[bytes, bytes]:
    """An origin server with a clock dates its answers (RFC 9110, 6.6.1). Made once a second."""
    global _date
    second = int(wall)
    if _date[0] != second:
        _date = second, formatdate(second, usegmt=True).encode()
    return (b"date", _date[1])


def flags(given: set[str] | None) -> str:
    return ",".join(sorted(given, key=FLAG_ORDER.index)) if given else ""
