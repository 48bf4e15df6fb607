"""Heads, chunks and trailers as bytes. What frames a message is written here and by nobody else.

Rule: `length` decides the framing; fields that frame or belong to a hop are dropped whoever put them there; and
nothing that could end a line early leaves (CR, LF, NUL: `Unsafe`), whether it came by HTTP/2, from a route's header
operations or from a defect. The check is one count over the finished bytes.
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
_LINES = {code: b"HTTP/1.1 %d %b" % (code, reason) for code, reason in _REASONS.items()}
_VISIBLE = bytes(range(0x21, 0x7F))
_WANT_LENGTH = frozenset((b"POST", b"PUT", b"PATCH"))
WHOLE = 32 << 10  # a chunk up to this is copied into one write with its size; beyond, copying costs more


class Unsafe(Exception):
    """A field that must not be written: its bytes would be read as more than one."""


def _block(lines: list[bytes]) -> bytes:
    lines.append(b"")
    lines.append(b"")
    block = b"\r\n".join(lines)
    ends = len(lines) - 1
    if block.count(b"\n") != ends or block.count(b"\r") != ends or b"\0" in block:
        raise Unsafe
    return block


def request_head(request: Request, end: bool) -> tuple[bytes, int]:
    """The head, and how the body is to be written."""
    method, path = request.method, request.path
    line = b"%b %b HTTP/1.1" % (method, path)
    if not method or not path or (line + request.authority).translate(None, _VISIBLE) != b"  ":
        raise Unsafe
    lines = [line, b"host: " + request.authority]
    mode = NONE
    if request.upgrade:
        lines += (b"connection: upgrade", b"upgrade: " + request.upgrade)
    elif not end:
        if request.length < 0:
            lines.append(b"transfer-encoding: chunked")
            mode = CHUNKED
        else:
            lines.append(b"content-length: %d" % request.length)
            mode = FIXED
    elif method in _WANT_LENGTH:
        lines.append(b"content-length: 0")
    lines += [b": ".join(field) for field in request.headers if field[0] not in _OURS]
    return _block(lines), mode


def response_head(response: Response, request: Request, end: bool, close: bool) -> tuple[bytes, int]:
    """The head, and how the body is to be written: CLOSE where only the connection's end can end it."""
    status = response.status
    reason = response.reason
    if reason and _REASONS.get(status) != reason:
        lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    else:
        lines = [_LINES.get(status) or b"HTTP/1.1 %d " % status]
    mode = _framing(lines, response, request, end)
    if mode == RAW:
        lines += (b"connection: upgrade", b"upgrade: " + request.upgrade)
    elif close or mode == CLOSE:
        lines.append(b"connection: close")
    elif request.version == "1.0":
        lines.append(b"connection: keep-alive")
    lines += [b": ".join(field) for field in response.headers if field[0] not in _OURS]
    return _block(lines), mode


def _framing(lines: list[bytes], response: Response, request: Request, end: bool) -> int:
    status = response.status
    if status == 101:
        return RAW
    if status < 200 or status == 204:
        return NONE
    if request.method == b"HEAD" or status == 304:
        _told_length(lines, response)
        return NONE
    if end or response.length >= 0:
        lines.append(b"content-length: %d" % (0 if end else response.length))
        return FIXED
    if request.version == "1.0":
        return CLOSE
    lines.append(b"transfer-encoding: chunked")
    return CHUNKED


def _told_length(lines: list[bytes], response: Response) -> None:
    """No body follows, but the length that one would have had is told."""
    for name, value in response.headers:
        if name == b"content-length" and value.isdigit():
            lines.append(b"content-length: " + value)
            return
    if response.length > 0:
        lines.append(b"content-length: %d" % response.length)


def informational_head(response: Response) -> bytes:
    lines = [_LINES.get(response.status) or b"HTTP/1.1 %d " % response.status]
    lines += [b": ".join(field) for field in response.headers if field[0] not in _OURS]
    return _block(lines)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers | None) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return _block([b"0"] + [b": ".join(field) for field in trailers if field[0] not in _OURS])


def refusal(status: int) -> bytes:
    """What a client gets whose request could not be read. It has no body: nobody knows what it asked for."""
    return b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % (status, _REASONS[status])
