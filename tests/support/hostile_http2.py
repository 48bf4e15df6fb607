"""Hostile and broken HTTP/2, as a table: what a client sends after its preface, and what it deserves.

Each row: a sentence, the bytes, and the outcome. `Goaway(code)`: the connection ends with that code. `Rst(stream,
code)`: that stream ends, the connection lives and serves another request. `Status(stream, status)`: answered by the
codec itself. `Served(n)`: harmless, n requests reach the handler. Blocks are made here of plain literals, so that
the codec under test has no part in its own examination.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from weft.l7proxy.core.stream import Reset

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIO = 1, 4, 8, 32
P, C, F, S, Z, X, Y = (
    Reset.PROTOCOL_ERROR,
    Reset.COMPRESSION_ERROR,
    Reset.FLOW_CONTROL_ERROR,
    Reset.STREAM_CLOSED,
    Reset.FRAME_SIZE_ERROR,
    Reset.REFUSED_STREAM,
    Reset.ENHANCE_YOUR_CALM,
)


@dataclass(frozen=True)
class Goaway:
    code: Reset


@dataclass(frozen=True)
class Rst:
    stream: int
    code: Reset


@dataclass(frozen=True)
class Status:
    stream: int
    status: int


@dataclass(frozen=True)
class Served:
    count: int


Outcome = Goaway | Rst | Status | Served
Field = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def number(value: int, bits: int, flags: int = 0) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([flags | value])
    out, value = [flags | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def literal(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    return bytes([kind]) + number(len(name), 7) + name + number(len(value), 7) + value


def block(fields: Iterable[Field]) -> bytes:
    return b"".join(literal(*field) for field in fields)


GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.test")]
POST: list[Field] = [(b":method", b"POST"), *GET[1:]]
SET = frame(SETTINGS, 0, 0)


def get(stream: int = 1, *more: Field, end: bool = True, fields: list[Field] = GET) -> bytes:
    return frame(HEADERS, END_HEADERS | end, stream, block([*fields, *more]))


def post(stream: int = 1, *more: Field) -> bytes:
    return get(stream, *more, end=False, fields=POST)


def changed(name: bytes, value: bytes | None, fields: list[Field] = GET) -> list[Field]:
    """The fields, with one of them another, or gone."""
    return [(n, v if n != name else value) for n, v in fields if n != name or value is not None]  # type: ignore[misc]


def data(stream: int, payload: bytes = b"", end: bool = True, flags: int = 0) -> bytes:
    return frame(DATA, flags | end, stream, payload)


def setting(which: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HL", which, value))


def word(value: int) -> bytes:
    return struct.pack(">L", value)


def raw_block(payload: bytes, stream: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, payload)


def many(count: int, one: bytes) -> bytes:
    return one * count


def resets(count: int) -> bytes:
    return b"".join(post(s) + frame(RST, 0, s, word(8)) for s in range(1, 2 * count, 2))


def _with(*more: Field) -> bytes:
    return get(1, *more)


def _fields(*fields: Field) -> bytes:
    return get(1, fields=list(fields))


ENORMOUS = b"x" * 70_000
FLOOD = 1000

PREFACES: dict[str, tuple[bytes, Outcome]] = {  # these are the very first bytes
    "HTTP/1.1 instead of the preface": (b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n" + b" " * 24, Goaway(P)),
    "a preface with one letter wrong": (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n" + SET, Goaway(P)),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 30, Goaway(P)),
    "the preface twice": (PREFACE + PREFACE + SET, Goaway(Z)),
    "a first frame that is no SETTINGS: PING": (PREFACE + frame(PING, 0, 0, b"12345678"), Goaway(P)),
    "a first frame that is no SETTINGS: HEADERS": (PREFACE + get(), Goaway(P)),
    "a first frame that is no SETTINGS: DATA": (PREFACE + data(1, b"x"), Goaway(P)),
    "a first frame that is an acknowledgement": (PREFACE + frame(SETTINGS, 1, 0), Goaway(P)),
    "a first frame of an unknown type": (PREFACE + frame(0x20, 0, 0), Goaway(P)),
}

FRAMES: dict[str, tuple[bytes, Outcome]] = {
    "DATA on stream 0": (data(0, b"x"), Goaway(P)),
    "HEADERS on stream 0": (get(0), Goaway(P)),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, b"\0\0\0\1\0"), Goaway(P)),
    "RST_STREAM on stream 0": (frame(RST, 0, 0, word(8)), Goaway(P)),
    "CONTINUATION on stream 0": (frame(CONTINUATION, 4, 0, b""), Goaway(P)),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), Goaway(P)),
    "PING on a stream": (frame(PING, 0, 1, b"12345678"), Goaway(P)),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), Goaway(P)),
    "PUSH_PROMISE from a client": (post() + frame(PUSH, 4, 1, word(2) + block(GET)), Goaway(P)),
    "a frame larger than we take": (post() + frame(DATA, 0, 1, b"x" * 16385), Goaway(Z)),
    "a frame that says 16 MiB": (post() + b"\xff\xff\xff\0\0\0\0\0\1", Goaway(Z)),
    "an unknown type larger than we take": (b"\x01\x00\x00\x99\0\0\0\0\0" + b"x" * 65536, Goaway(Z)),
    "an unknown type is ignored": (frame(0x99, 0xFF, 1, b"xyz") + get(), Served(1)),
    "unknown flags are ignored": (frame(HEADERS, 5 | 0x82, 1, block(GET)), Served(1)),
    "the reserved bit of a stream is ignored": (frame(HEADERS, 5, 1 | 1 << 31, block(GET)), Served(1)),
    "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, b"12345"), Goaway(Z)),
    "an acknowledgement with a payload": (frame(SETTINGS, 1, 0, b"123456"), Goaway(Z)),
    "ENABLE_PUSH of 2": (setting(2, 2), Goaway(P)),
    "a window of 2^31 by SETTINGS": (setting(4, 1 << 31), Goaway(F)),
    "MAX_FRAME_SIZE below 16384": (setting(5, 16383), Goaway(P)),
    "MAX_FRAME_SIZE of 2^24": (setting(5, 1 << 24), Goaway(P)),
    "an unknown setting is ignored": (setting(0xABCD, 7) + get(), Served(1)),
    "a header table of 4 GiB is not used": (setting(1, (1 << 32) - 1) + get() + get(3), Served(2)),
    "a header table of nothing": (setting(1, 0) + get() + get(3), Served(2)),
    "PING of 7 bytes": (frame(PING, 0, 0, b"1234567"), Goaway(Z)),
    "PING of 9 bytes": (frame(PING, 0, 0, b"123456789"), Goaway(Z)),
    "an answer to a PING that nobody sent": (frame(PING, 1, 0, b"12345678") + get(), Served(1)),
    "RST_STREAM of 3 bytes": (post() + frame(RST, 0, 1, b"\0\0\0"), Goaway(Z)),
    "RST_STREAM of an idle stream": (frame(RST, 0, 1, word(8)), Goaway(P)),
    "RST_STREAM with an unknown code": (post() + frame(RST, 0, 1, word(0xFFFF)) + get(3), Served(2)),
    "RST_STREAM of a closed stream": (get() + frame(RST, 0, 1, word(8)) + get(3), Served(2)),
    "PRIORITY of 4 bytes": (get() + frame(PRIORITY, 0, 1, b"1234"), Rst(1, Z)),
    "PRIORITY on itself": (post() + frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), Rst(1, P)),
    "PRIORITY of an idle stream": (frame(PRIORITY, 0, 9, b"\0\0\0\0\0") + get(), Served(1)),
    "GOAWAY of 7 bytes": (frame(GOAWAY, 0, 0, b"1234567"), Goaway(Z)),
    "WINDOW_UPDATE of 3 bytes": (frame(UPDATE, 0, 0, b"123"), Goaway(Z)),
    "WINDOW_UPDATE of 0 for the connection": (frame(UPDATE, 0, 0, word(0)), Goaway(P)),
    "WINDOW_UPDATE of 0 for a stream": (post() + frame(UPDATE, 0, 1, word(0)), Rst(1, P)),
    "WINDOW_UPDATE of an idle stream": (frame(UPDATE, 0, 1, word(1)), Goaway(P)),
    "the connection's window over 2^31-1": (frame(UPDATE, 0, 0, word((1 << 31) - 1)), Goaway(F)),
    "a stream's window over 2^31-1": (post() + frame(UPDATE, 0, 1, word((1 << 31) - 1)), Rst(1, F)),
    "a stream's window over 2^31-1 by SETTINGS": (
        post() + frame(UPDATE, 0, 1, word((1 << 31) - 65536)) + setting(4, 65536),
        Goaway(F),
    ),
    "WINDOW_UPDATE of a closed stream": (get() + frame(UPDATE, 0, 1, word(1)) + get(3), Served(2)),
    "HEADERS that depend on themselves": (
        frame(HEADERS, 5 | PRIO, 1, b"\0\0\0\1\0" + block(GET)),
        Goaway(P),
    ),
    "HEADERS with half a priority": (frame(HEADERS, 5 | PRIO, 1, b"\0\0\0"), Goaway(Z)),
    "HEADERS with a priority": (frame(HEADERS, 5 | PRIO, 1, b"\0\0\0\0\5" + block(GET)), Served(1)),
    "padding longer than DATA": (post() + data(1, b"\x05abc", flags=PADDED), Goaway(P)),
    "padding as long as DATA": (post() + data(1, b"\x04abc", flags=PADDED), Goaway(P)),
    "padded DATA of no bytes": (post() + data(1, b"", flags=PADDED), Goaway(P)),
    "padding longer than HEADERS": (frame(HEADERS, 5 | PADDED, 1, b"\xff" + block(GET)[:100]), Goaway(P)),
    "DATA of padding alone": (post() + data(1, b"\x03\0\0\0", flags=PADDED), Served(1)),
    "padded HEADERS": (frame(HEADERS, 5 | PADDED, 1, b"\x03" + block(GET) + b"\0\0\0"), Served(1)),
}

HALF = frame(HEADERS, END_STREAM, 1, block(GET)[:20])
REST = frame(CONTINUATION, END_HEADERS, 1, block(GET)[20:])

STREAMS: dict[str, tuple[bytes, Outcome]] = {
    "a stream of even number": (get(2), Goaway(P)),
    "a lower stream than before": (get(5) + get(3), Goaway(P)),
    "DATA on an idle stream": (data(1, b"x"), Goaway(P)),
    "DATA after the end": (post() + data(1, b"x") + data(1, b"y"), Goaway(S)),
    "HEADERS after the end": (get() + get(), Goaway(S)),
    "DATA after the client's own reset": (post() + frame(RST, 0, 1, word(8)) + data(1, b"x"), Rst(1, S)),
    "HEADERS after the client's own reset": (post() + frame(RST, 0, 1, word(8)) + get(1), Rst(1, S)),
    "DATA on its way when we reset": (get(1, (b"te", b"x")) + data(1, b"x") + get(3), Served(1)),
    "trailers on their way when we reset": (get(1, (b"te", b"x"), end=False) + get(1) + get(3), Served(1)),
    "a second head that does not end": (post() + get(1, end=False, fields=[(b"x", b"y")]), Rst(1, P)),
    "trailers with a pseudo header": (post() + get(1, fields=[(b":path", b"/")]), Rst(1, P)),
    "trailers in upper case": (post() + get(1, fields=[(b"X-Sum", b"1")]), Rst(1, P)),
    "trailers with transfer-encoding": (post() + get(1, fields=[(b"transfer-encoding", b"chunked")]), Rst(1, P)),
    "a head split over CONTINUATION": (HALF + REST, Served(1)),
    "CONTINUATION of nothing": (frame(CONTINUATION, 4, 1, b""), Goaway(P)),
    "CONTINUATION after a whole head": (post() + frame(CONTINUATION, 4, 1, b""), Goaway(P)),
    "CONTINUATION of another stream": (HALF + frame(CONTINUATION, 4, 3, block(GET)[20:]), Goaway(P)),
    "DATA within a head": (HALF + data(1, b"x"), Goaway(P)),
    "PING within a head": (HALF + frame(PING, 0, 0, b"12345678"), Goaway(P)),
    "SETTINGS within a head": (HALF + SET, Goaway(P)),
    "another head within a head": (HALF + get(3), Goaway(P)),
    "an unknown type within a head": (HALF + frame(0x99, 0, 0), Goaway(P)),
    "more streams than allowed": (b"".join(post(s) for s in range(1, 203, 2)), Rst(201, X)),
}

MESSAGES: dict[str, tuple[bytes, Outcome]] = {
    "a name in upper case": (_with((b"X-Test", b"1")), Rst(1, P)),
    "an empty name": (_with((b"", b"1")), Rst(1, P)),
    "a space in a name": (_with((b"x y", b"1")), Rst(1, P)),
    "a colon within a name": (_with((b"x:y", b"1")), Rst(1, P)),
    "a name that ends in CR LF": (_with((b"x\r\n", b"1")), Rst(1, P)),
    "a name with NUL": (_with((b"x\0", b"1")), Rst(1, P)),
    "a name above ASCII": (_with((b"x\xff", b"1")), Rst(1, P)),
    "a value with CR LF and another header": (_with((b"x", b"1\r\ntransfer-encoding: chunked")), Rst(1, P)),
    "a value with LF": (_with((b"x", b"1\n2")), Rst(1, P)),
    "a value with CR": (_with((b"x", b"1\r2")), Rst(1, P)),
    "a value with NUL": (_with((b"x", b"1\x002")), Rst(1, P)),
    "a value with DEL": (_with((b"x", b"1\x7f2")), Rst(1, P)),
    "a value with ESC": (_with((b"x", b"\x1b[31m")), Rst(1, P)),
    "a value that begins with a space": (_with((b"x", b" 1")), Rst(1, P)),
    "a value that ends with a space": (_with((b"x", b"1 ")), Rst(1, P)),
    "a value that begins with a tab": (_with((b"x", b"\t1")), Rst(1, P)),
    "a value that ends with a tab": (_with((b"x", b"1\t"), (b"y", b"2")), Rst(1, P)),
    "a value above ASCII passes": (_with((b"x", "é".encode())), Served(1)),
    "an empty value passes": (_with((b"x", b"")), Served(1)),
    "a tab within a value passes": (_with((b"x", b"1\t2")), Served(1)),
    "connection": (_with((b"connection", b"close")), Rst(1, P)),
    "keep-alive": (_with((b"keep-alive", b"timeout=5")), Rst(1, P)),
    "proxy-connection": (_with((b"proxy-connection", b"close")), Rst(1, P)),
    "transfer-encoding": (_with((b"transfer-encoding", b"chunked")), Rst(1, P)),
    "upgrade": (_with((b"upgrade", b"websocket")), Rst(1, P)),
    "te: gzip": (_with((b"te", b"gzip")), Rst(1, P)),
    "te: trailers, gzip": (_with((b"te", b"trailers, gzip")), Rst(1, P)),
    "te: trailers passes": (_with((b"te", b"trailers")), Served(1)),
    "no fields at all": (raw_block(b""), Rst(1, P)),
    "no method": (_fields(*changed(b":method", None)), Rst(1, P)),
    "no path": (_fields(*changed(b":path", None)), Rst(1, P)),
    "no scheme": (_fields(*changed(b":scheme", None)), Rst(1, P)),
    "no authority and no host": (_fields(*changed(b":authority", None)), Rst(1, P)),
    "host in place of authority": (_fields(*changed(b":authority", None), (b"host", b"a.test")), Served(1)),
    "two methods": (_fields((b":method", b"GET"), *GET), Rst(1, P)),
    "two paths": (_fields((b":path", b"/x"), *GET), Rst(1, P)),
    "two schemes": (_fields((b":scheme", b"http"), *GET), Rst(1, P)),
    "two authorities": (_fields((b":authority", b"a.test"), *GET), Rst(1, P)),
    "a pseudo header that does not exist": (_fields(*GET, (b":test", b"x")), Rst(1, P)),
    "a response's pseudo header": (_fields(*GET, (b":status", b"200")), Rst(1, P)),
    "a pseudo header after a header": (_fields(*GET[:3], (b"x", b"y"), GET[3]), Rst(1, P)),
    "a pseudo header after host": (_fields(*GET[:3], (b"host", b"a.test"), GET[3]), Rst(1, P)),
    "an empty path": (_fields(*changed(b":path", b"")), Rst(1, P)),
    "a path without slash": (_fields(*changed(b":path", b"index.html")), Rst(1, P)),
    "a path in absolute form": (_fields(*changed(b":path", b"http://b.test/")), Rst(1, P)),
    "a path with a space": (_fields(*changed(b":path", b"/a HTTP/1.1")), Rst(1, P)),
    "a path with CR LF": (_fields(*changed(b":path", b"/a HTTP/1.1\r\nx: y")), Rst(1, P)),
    "a path with a fragment": (_fields(*changed(b":path", b"/a#b")), Rst(1, P)),
    "a path with NUL": (_fields(*changed(b":path", b"/a\0b")), Rst(1, P)),
    "* for GET": (_fields(*changed(b":path", b"*")), Rst(1, P)),
    "* for OPTIONS": (_fields(*changed(b":method", b"OPTIONS", changed(b":path", b"*"))), Served(1)),
    "an empty method": (_fields(*changed(b":method", b"")), Rst(1, P)),
    "a method with a space": (_fields(*changed(b":method", b"GET /x")), Rst(1, P)),
    "a method with CR LF": (_fields(*changed(b":method", b"GET\r\n")), Rst(1, P)),
    "a scheme with a colon": (_fields(*changed(b":scheme", b"http://b.test/?")), Rst(1, P)),
    "an empty scheme": (_fields(*changed(b":scheme", b"")), Rst(1, P)),
    "an empty authority": (_fields(*changed(b":authority", b"")), Rst(1, P)),
    "an authority with user info": (_fields(*changed(b":authority", b"u@a.test")), Rst(1, P)),
    "an authority with a path": (_fields(*changed(b":authority", b"a.test/x")), Rst(1, P)),
    "an authority with a space": (_fields(*changed(b":authority", b"a.test b")), Rst(1, P)),
    "an authority with CR LF": (_fields(*changed(b":authority", b"a.test\r\nx: y")), Rst(1, P)),
    "a host that differs": (_with((b"host", b"b.test")), Rst(1, P)),
    "a host that agrees": (_with((b"host", b"a.test")), Served(1)),
    "two hosts": (_fields(*GET[:3], (b"host", b"a.test"), (b"host", b"b.test")), Rst(1, P)),
    "content-length that is no number": (post(1, (b"content-length", b"1x")), Rst(1, P)),
    "content-length with a sign": (post(1, (b"content-length", b"+1")), Rst(1, P)),
    "content-length of nothing": (post(1, (b"content-length", b"")), Rst(1, P)),
    "a list of content-lengths": (post(1, (b"content-length", b"1, 1")), Rst(1, P)),
    "two content-lengths": (post(1, (b"content-length", b"1"), (b"content-length", b"2")), Rst(1, P)),
    "content-length of 30 digits": (post(1, (b"content-length", b"9" * 30)), Rst(1, P)),
    "content-length and no body": (get(1, (b"content-length", b"1")), Rst(1, P)),
    "more DATA than content-length": (post(1, (b"content-length", b"1")) + data(1, b"xy"), Rst(1, P)),
    "more DATA than content-length, and no end": (
        post(1, (b"content-length", b"1")) + data(1, b"xy", end=False),
        Rst(1, P),
    ),
    "less DATA than content-length": (post(1, (b"content-length", b"3")) + data(1, b"xy"), Rst(1, P)),
    "less DATA than content-length, then trailers": (
        post(1, (b"content-length", b"3")) + data(1, b"xy", end=False) + get(1, fields=[(b"x", b"y")]),
        Rst(1, P),
    ),
    "CONNECT": (_fields((b":method", b"CONNECT"), (b":authority", b"a.test:443")), Status(1, 501)),
    "CONNECT with a path": (_fields(*changed(b":method", b"CONNECT")), Rst(1, P)),
    "extended CONNECT, which was not offered": (
        _fields(*changed(b":method", b"CONNECT"), (b":protocol", b"websocket")),
        Rst(1, P),
    ),
    "200 headers": (_with(*[(b"x-%d" % i, b"y") for i in range(200)]), Status(1, 431)),
}

HPACK: dict[str, tuple[bytes, Outcome]] = {
    "index 0": (raw_block(b"\x80"), Goaway(C)),
    "an index that nothing has": (raw_block(b"\xbe"), Goaway(C)),
    "an index of 4 GiB": (raw_block(b"\xff\xff\xff\xff\xff\x0f"), Goaway(C)),
    "an integer without end": (raw_block(b"\xff" + b"\x80" * 100), Goaway(C)),
    "an integer cut off": (raw_block(b"\xff\x80"), Goaway(C)),
    "a name's index that nothing has": (raw_block(b"\x7f\x20\x01x"), Goaway(C)),
    "a string longer than the block": (raw_block(b"\x00\x7f\x00"), Goaway(C)),
    "a string of 2^40": (raw_block(b"\x00\x7f\xff\xff\xff\xff\xff\x1f"), Goaway(C)),
    "a block that ends after a name": (raw_block(b"\x00\x01x"), Goaway(C)),
    "Huffman with EOS": (raw_block(b"\x00\x84\xff\xff\xff\xff\x01x"), Goaway(C)),
    "Huffman with 8 bits of padding": (raw_block(b"\x00\x82\xff\xff\x01x"), Goaway(C)),
    "Huffman padded with zeros": (raw_block(b"\x00\x01x\x81\x18"), Goaway(C)),
    "a table larger than announced": (raw_block(number(4097, 5, 0x20) + block(GET)), Goaway(C)),
    "a table of 2^30": (raw_block(b"\x3f\xff\xff\xff\xff\x03" + block(GET)), Goaway(C)),
    "a table update after a field": (raw_block(block(GET) + b"\x20"), Goaway(C)),
    "three table updates": (raw_block(b"\x20\x20\x20" + block(GET)), Goaway(C)),
    "two table updates": (raw_block(b"\x20\x3f\xe1\x1f" + block(GET)), Served(1)),
    "an entry larger than the table": (
        raw_block(literal(b"x", b"y" * 5000, 0x40) + b"\xbe"),
        Goaway(C),
    ),
    "a bad block in trailers": (post() + raw_block(b"\x80"), Goaway(C)),
    "a bad block for a refused stream": (
        b"".join(post(s) for s in range(1, 201, 2)) + raw_block(b"\x80", 201),
        Goaway(C),
    ),
    "a bomb: 4 KB from one byte, 10,000 times": (
        frame(HEADERS, END_STREAM, 1, literal(b"x", b"y" * 4000, 0x40) + b"\xbe" * 10000)
        + frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 100),
        Status(1, 431),
    ),
}

FLOODS: dict[str, tuple[bytes, Outcome]] = {
    "rapid reset": (resets(FLOOD), Goaway(Y)),
    "resets that we are made to send": (
        b"".join(post(s) + frame(UPDATE, 0, s, word(0)) for s in range(1, 2 * FLOOD, 2)),
        Goaway(Y),
    ),
    "malformed heads": (b"".join(get(s, (b"te", b"x")) for s in range(1, 2 * FLOOD, 2)), Goaway(Y)),
    "CONNECT again and again": (
        b"".join(get(s, fields=[(b":method", b"CONNECT"), GET[3]]) for s in range(1, 2 * FLOOD, 2)),
        Goaway(Y),
    ),
    "SETTINGS": (many(FLOOD, SET), Goaway(Y)),
    "SETTINGS that move all windows": (many(FLOOD, setting(4, 1) + setting(4, 65535)), Goaway(Y)),
    "PING": (many(FLOOD, frame(PING, 0, 0, b"12345678")), Goaway(Y)),
    "answers to PINGs": (many(FLOOD, frame(PING, 1, 0, b"12345678")), Goaway(Y)),
    "GOAWAY": (post() + many(FLOOD, frame(GOAWAY, 0, 0, b"\0" * 8)), Goaway(Y)),
    "empty DATA": (post() + many(FLOOD, data(1, b"", end=False)), Goaway(Y)),
    "DATA of padding alone, again and again": (post() + many(FLOOD, data(1, b"\0", False, PADDED)), Goaway(Y)),
    "empty CONTINUATION": (HALF + many(FLOOD, frame(CONTINUATION, 0, 1)), Goaway(Y)),
    "CONTINUATION without end": (HALF + many(10, frame(CONTINUATION, 0, 1, b"x" * 16000)), Goaway(Y)),
    "a head of 70 KB": (
        frame(HEADERS, 1, 1, block(GET)[:10])
        + b"".join(frame(CONTINUATION, 0, 1, ENORMOUS[i : i + 16000]) for i in range(0, 70000, 16000)),
        Goaway(Y),
    ),
    "WINDOW_UPDATE by one": (post() + many(20 * FLOOD, frame(UPDATE, 0, 1, word(1))), Goaway(Y)),
    "WINDOW_UPDATE of closed streams": (get() + many(20 * FLOOD, frame(UPDATE, 0, 1, word(1))), Goaway(Y)),
    "PRIORITY": (many(20 * FLOOD, frame(PRIORITY, 0, 7, b"\0\0\0\0\0")), Goaway(Y)),
    "frames of no known type": (many(20 * FLOOD, frame(0x77, 0, 0)), Goaway(Y)),
}

CASES = {**FRAMES, **STREAMS, **MESSAGES, **HPACK, **FLOODS}
