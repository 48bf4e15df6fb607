"""What a gRPC request asks of a proxy: its deadline, its status, its messages counted."""

from __future__ import annotations

CONTENT_TYPE = b"application/grpc"
UNIMPLEMENTED, UNAVAILABLE, UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED = 12, 14, 2, 4, 7

#: Of a proxy's own answer (Envoy's httpToGrpcStatus); anything else is UNKNOWN.
_FROM_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
#: What a gRPC status would be in HTTP (google.rpc.Code), for outlier detection and aborts of plain requests.
_TO_HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LITERAL = frozenset(range(0x20, 0x7F)) - {0x25}


def is_grpc(content_type: bytes) -> bool:
    """`application/grpc`, `application/grpc+proto`; not grpc-web, which is another protocol."""
    rest = content_type[len(CONTENT_TYPE) :]
    return content_type.startswith(CONTENT_TYPE) and rest[:1] in (b"", b"+", b";")


def from_http(status: int) -> int:
    return _FROM_HTTP.get(status, UNKNOWN)


def to_http(status: int) -> int:
    return _TO_HTTP[status] if 0 <= status < len(_TO_HTTP) else 500


def timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout` header: up to eight digits and a unit. None: it is malformed, and ignored."""
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * unit


def status_of(value: bytes | None) -> int | None:
    """Of a `grpc-status` header; what is no number is UNKNOWN."""
    if value is None:
        return None
    return int(value) if value.isdigit() and len(value) < 10 else UNKNOWN


def message_of(text: bytes) -> bytes:
    """For `grpc-message`: percent-encoded as the protocol asks."""
    if all(byte in _LITERAL for byte in text):
        return text
    return b"".join(bytes((byte,)) if byte in _LITERAL else b"%%%02X" % byte for byte in text)


class MessageCounter:
    """Counts the messages in a stream of bytes that is cut anywhere: each has a flag, four bytes of length, and
    as many bytes. Most pieces are one whole message, and that case is short."""

    __slots__ = ("_head", "_left", "count")

    def __init__(self) -> None:
        self.count = 0
        self._left = 0  # bytes of the current message still to come
        self._head = b""  # of a prefix that was cut

    def feed(self, data: bytes) -> None:
        size = len(data)
        if not self._left and not self._head and size >= 5 and size == 5 + int.from_bytes(data[1:5], "big"):
            self.count += 1
            return
        at = 0
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            missing = 5 - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == 5:
                self.count += 1
                self._left, self._head = int.from_bytes(self._head[1:], "big"), b""
