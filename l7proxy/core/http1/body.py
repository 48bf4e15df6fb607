"""How a body ends: after so many bytes, with the last chunk, or with the connection.

In: what was read, from the body's first byte on. Out: `(piece, rest)`; `rest` is None until the body has ended
and then what follows it. Rule: chunked is read as RFC 9112 (7.1) has it and no laxer (no bare LF, no spaces, 15
hex digits at most), and pieces of one read are joined, so that a stranger's tiny chunks do not become tiny
writes. Length bodies pass as the very bytes that were read.
"""

from __future__ import annotations

import re
from typing import Protocol

from httptools import HttpParserError, HttpRequestParser

from weft.l7proxy.core.http1.fields import NOBODY, SPECIAL, Malformed, split, validate
from weft.l7proxy.core.stream import Headers

# name, name=token, name="quoted": RFC 9112, 7.1.1. No space around ";" and "=": it is a known way to differ.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*\""
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:;%b(?:=(?:%b|%b))?)*)" % (_TOKEN, _TOKEN, _QUOTED)).fullmatch
_SIZE_MOST = 1024  # of a size line with its extensions; llhttp and nginx have no bound, Go 4096
_EXTENSIONS_MOST = 8 << 10  # of a whole body: extensions carry nothing that is forwarded
_TRAILERS_MOST = 8 << 10
# A trailer that frames, routes or authorises would be read by some before and by others after it was judged.
_NO_TRAILERS = SPECIAL | {b"authorization", b"cookie", b"set-cookie", b"trailer", b"content-encoding"}

SIZE, DATA, AFTER, TRAILERS = range(4)


class Body(Protocol):
    trailers: Headers | None

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]: ...
    def brings(self, data: bytes) -> bool:
        """Whether the first `feed`, of this, gives a piece or the end: a head need not be written before it."""


class Fixed:
    __slots__ = ("left", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.trailers: Headers | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        left, size = self.left, len(data)
        if size < left:
            self.left = left - size
            return data, None
        self.left = 0
        return data[:left], data[left:]

    def brings(self, data: bytes) -> bool:
        return data != b""


class UntilClose:
    """A response without a length: its end is the connection's."""

    __slots__ = ("trailers",)

    def __init__(self) -> None:
        self.trailers: Headers | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return data, None

    def brings(self, data: bytes) -> bool:
        return data != b""


class Chunked:
    __slots__ = ("_extensions", "_left", "_partial", "_state", "trailers")

    def __init__(self) -> None:
        self.trailers: Headers | None = None
        self._state, self._left, self._extensions = SIZE, 0, 0
        self._partial = b""  # of a line, never of data

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        if self._partial:
            data, self._partial = self._partial + data, b""
        pieces: list[bytes] = []
        at: int | None = 0
        end = len(data)
        while at is not None and (at < end):
            if self._state == DATA:
                stop = min(at + self._left, end)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
                if not self._left:
                    self._state = AFTER
            elif self._state == TRAILERS:
                after = self._trailers(data, at)
                if after is None:
                    break
                return _join(pieces), data[after:]
            else:
                at = self._size(data, at) if self._state == SIZE else self._after(data, at)
        return _join(pieces), None

    def brings(self, data: bytes) -> bool:
        size = data.find(b"\r\n")
        return 0 < size < len(data) - 2 and (data[:1] != b"0" or data.endswith(b"\r\n\r\n"))

    def _after(self, data: bytes, at: int) -> int | None:
        """The CRLF behind a chunk's data."""
        if not data.startswith(b"\r\n", at):
            if data[at:] == b"\r":
                self._partial = b"\r"
                return None
            raise Malformed(400, "a chunk is longer than it says")
        self._state = SIZE
        return at + 2

    def _size(self, data: bytes, at: int) -> int | None:
        stop = data.find(b"\r\n", at, at + _SIZE_MOST + 2)
        if stop < 0:
            if len(data) - at > _SIZE_MOST or b"\n" in data[at:]:
                raise Malformed(400, "no end of a chunk's size")
            self._partial = data[at:]
            return None
        line = _SIZE_LINE(data, at, stop)
        if line is None:
            raise Malformed(400, "a chunk's size is no number")
        digits, extensions = line.groups()
        self._extensions += len(extensions)
        if self._extensions > _EXTENSIONS_MOST:
            raise Malformed(400, "too many chunk extensions")
        self._left = int(digits, 16)
        self._state = DATA if self._left else TRAILERS
        return stop + 2

    def _trailers(self, data: bytes, at: int) -> int | None:
        """Where the body ends, None: not yet."""
        if data.startswith(b"\r\n", at):
            return at + 2
        stop = data.find(b"\r\n\r\n", at, at + _TRAILERS_MOST + 4)
        if stop >= 0:
            self.trailers = _fields(data[at : stop + 4])
            return stop + 4
        if len(data) - at > _TRAILERS_MOST or data.count(b"\n", at) != data.count(b"\r\n", at):
            raise Malformed(400, "no end of the trailers")
        self._partial = data[at:]
        return None


def _join(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _fields(section: bytes) -> Headers:
    """Trailers are judged as a head's fields are: as those of a head that is otherwise beyond doubt."""
    try:
        validate(HttpRequestParser(NOBODY), b"GET / HTTP/1.1\r\n" + section)
    except HttpParserError as wrong:
        raise Malformed(400, f"trailers: {wrong}") from None
    headers, special = split(section, 0, 100)
    if special or any(name in _NO_TRAILERS for name, _ in headers):
        raise Malformed(400, "a trailer that belongs into the head")
    return headers
