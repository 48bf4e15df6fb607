"""Heads, chunks and trailers as bytes. What frames a message is written here and by nobody else.

Rule: `length` decides the framing; fields that frame or belong to a hop are dropped whoever put them there; and
nothing that could end a line early leaves (CR, LF, NUL: `Unsafe`), whether it came by HTTP/2, from a route's header
operations or from a defect. Most fields come again and again: their lines are kept once they have been looked at.
"""

from __future__ import annotations

from http import HTTPStatus

from weft.l7proxy.core.stream import Headers, Request, Response

# How the body is written.
NONE, FIXED, CHUNKED, CLOSE, RAW = range(5)

_OURS = frozenset(
    (
        b"connection",
        b"content-length",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    )
)
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_LINES = {code: b"HTTP/1.1 %d %b\r\n" % (code, reason) for code, reason in _REASONS.items()}
_VISIBLE = bytes(range(0x21, 0x7F))
_WANT_LENGTH = frozenset((b"POST", b"PUT", b"PATCH"))
WHOLE = 32 << 10  # a chunk up to this is copied into one write with its size; beyond, copying costs more


class Unsafe(Exception):
    """A field that must not be written: its bytes would be read as more than one."""


class _Lines(dict[tuple[bytes, bytes], bytes]):
    """A field -> its line, or b"" if it is not to be written. Kept when it comes a second time, and short."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        super().__init__()
        self._marks: set[int] = set()

    def __missing__(self, field: tuple[bytes, bytes]) -> bytes:
        line = b"" if field[0] in _OURS else b"%b: %b\r\n" % field
        if line and (line.count(b"\n") != 1 or line.count(b"\r") != 1 or b"\0" in line):
            raise Unsafe
        if field[0] in _UNIQUE:
            return line
        mark = hash(field)
        if mark in self._marks:
            if len(line) <= _SHORT:
                if len(self) >= _LINES_MOST:
                    self.clear()
                self[field] = line
        else:
            if len(self._marks) >= _MARKS:
                self._marks.clear()
            self._marks.add(mark)
        return line


_UNIQUE = frozenset((b"x-request-id", b"traceparent"))  # they do not come twice
_LINES_MOST, _MARKS, _SHORT = 2048, 8192, 512
_line = _Lines().__getitem__


def _checked(line: bytes) -> bytes:
    """A line of a head that is not one of its fields."""
    if line.count(b"\n") != 1 or line.count(b"\r") != 1 or b"\0" in line:
        raise Unsafe
    return line


def request_head(request: Request, end: bool) -> tuple[bytes, int]:
    """The head, and how the body is to be written."""
    method, mode = request.method, NONE
    first = method, request.path, request.authority
    start = _starts.get(first)
    if start is None:
        start = _start(*first)
    if request.upgrade:
        more = b"connection: upgrade\r\n" + _checked(b"upgrade: %b\r\n" % request.upgrade)
    elif not end:
        if request.length < 0:
            more, mode = b"transfer-encoding: chunked\r\n", CHUNKED
        else:
            more, mode = b"content-length: %d\r\n" % request.length, FIXED
    else:
        more = b"content-length: 0\r\n" if method in _WANT_LENGTH else b""
    return b"".join([start, more, *map(_line, request.headers), b"\r\n"]), mode


def _start(method: bytes, path: bytes, authority: bytes) -> bytes:
    """Request line and host."""
    line = b"%b %b HTTP/1.1" % (method, path)
    if not method or not path or (line + authority).translate(None, _VISIBLE) != b"  ":
        raise Unsafe
    start = b"%b\r\nhost: %b\r\n" % (line, authority)
    if len(start) <= _SHORT:
        if len(_starts) >= _STARTS_MOST:
            _starts.clear()
        _starts[method, path, authority] = start
    return start


_STARTS_MOST = 1024
_starts: dict[tuple[bytes, bytes, bytes], bytes] = {}


def response_head(response: Response, request: Request, end: bool, close: bool) -> tuple[bytes, int]:
    """The head, and how the body is to be written: CLOSE where only the connection's end can end it."""
    status, reason = response.status, response.reason
    if reason and _REASONS.get(status) != reason:
        line = _checked(b"HTTP/1.1 %d %b\r\n" % (status, reason))
    else:
        line = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    framing, mode = _framing(response, request, end)
    if mode == RAW:
        framing = b"connection: upgrade\r\n" + _checked(b"upgrade: %b\r\n" % request.upgrade)
    elif close or mode == CLOSE:
        framing += b"connection: close\r\n"
    elif request.version == "1.0":
        framing += b"connection: keep-alive\r\n"
    return b"".join([line, framing, *map(_line, response.headers), b"\r\n"]), mode


def _framing(response: Response, request: Request, end: bool) -> tuple[bytes, int]:
    status = response.status
    if status == 101:
        return b"", RAW
    if status < 200 or status == 204:
        return b"", NONE
    if request.method == b"HEAD" or status == 304:
        return _told_length(response), NONE
    if end or response.length >= 0:
        return b"content-length: %d\r\n" % (0 if end else response.length), FIXED
    if request.version == "1.0":
        return b"", CLOSE
    return b"transfer-encoding: chunked\r\n", CHUNKED


def _told_length(response: Response) -> bytes:
    """No body follows, but the length that one would have had is told."""
    for name, value in response.headers:
        if name == b"content-length" and value.isdigit():
            return b"content-length: %b\r\n" % value
    return b"content-length: %d\r\n" % response.length if response.length > 0 else b""


def informational_head(response: Response) -> bytes:
    line = _LINES.get(response.status) or b"HTTP/1.1 %d \r\n" % response.status
    return b"".join([line, *map(_line, response.headers), b"\r\n"])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers | None) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"".join([b"0\r\n", *map(_line, trailers), b"\r\n"])


def refusal(status: int) -> bytes:
    """What a client gets whose request could not be read. It has no body: nobody knows what it asked for."""
    return b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % (status, _REASONS[status])
