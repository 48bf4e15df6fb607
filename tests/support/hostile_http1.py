"""Bytes of HTTP/1.1 that some implementation, somewhere, reads in another way than the next one: request smuggling,
response splitting, header injection, and what only wastes memory or time.

`REQUESTS`: each is answered `status` and the connection ends; the handler sees `seen` requests (a head whose body
is wrong is seen, and its sink told), never what follows. `RESPONSES`: each fails its request as PROTOCOL; `begun`:
the head had passed, the body was wrong.
"""

from __future__ import annotations

from typing import NamedTuple


class Hostile(NamedTuple):
    name: str
    data: bytes
    status: int = 400
    seen: int = 0


class HostileResponse(NamedTuple):
    name: str
    data: bytes
    begun: bool = False
    method: bytes = b"GET"


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"


def _line(name: str, line: bytes, status: int = 400) -> Hostile:
    return Hostile(f"request line: {name}", line + b"\r\nHost: shop\r\n\r\n", status)


def _field(name: str, fields: bytes, status: int = 400) -> Hostile:
    return Hostile(f"field: {name}", b"GET / HTTP/1.1\r\nHost: shop\r\n" + fields + b"\r\n\r\n", status)


def _framing(name: str, fields: bytes, status: int = 400, body: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> Hostile:
    return Hostile(f"framing: {name}", b"POST / HTTP/1.1\r\nHost: shop\r\n" + fields + b"\r\n\r\n" + body, status)


def _host(name: str, fields: bytes, target: bytes = b"/", status: int = 400) -> Hostile:
    return Hostile(f"authority: {name}", b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n\r\n", status)


_CHUNKED = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(name: str, body: bytes) -> Hostile:
    return Hostile(f"chunk: {name}", _CHUNKED + body, 400, 1)


def _trailer(name: str, fields: bytes, status: int = 400) -> Hostile:
    return Hostile(f"trailer: {name}", _CHUNKED + b"5\r\nhello\r\n0\r\n" + fields + b"\r\n\r\n", status, 1)


_LINES = [
    _line("no version (HTTP/0.9)", b"GET /"),
    _line("HTTP/0.9 said aloud", b"GET / HTTP/0.9", 505),
    _line("version 1.2", b"GET / HTTP/1.2", 505),
    _line("version 2.0", b"GET / HTTP/2.0", 505),
    _line("version 3.0", b"GET / HTTP/3.0", 505),
    _line("version of two digits", b"GET / HTTP/1.10"),
    _line("version without minor", b"GET / HTTP/1"),
    _line("version with plus", b"GET / HTTP/+1.1"),
    _line("version in lower case", b"GET / http/1.1"),
    _line("version of another protocol", b"GET / HTTQ/1.1"),
    _line("RTSP", b"DESCRIBE / RTSP/1.0"),
    _line("ICE", b"SOURCE / ICE/1.0"),
    _line("space behind the version", b"GET / HTTP/1.1 "),
    _line("tab behind the version", b"GET / HTTP/1.1\t"),
    _line("two spaces before the target", b"GET  / HTTP/1.1"),
    _line("two spaces before the version", b"GET /  HTTP/1.1"),
    _line("tabs for spaces", b"GET\t/\tHTTP/1.1"),
    _line("vertical tab for a space", b"GET\x0b/ HTTP/1.1"),
    _line("form feed for a space", b"GET /\x0cHTTP/1.1"),
    _line("space first", b" GET / HTTP/1.1"),
    _line("a space in the target", b"GET /a b HTTP/1.1"),
    _line("a second request line in the target", b"GET / HTTP/1.1 GET /b HTTP/1.1"),
    _line("NUL in the target", b"GET /\0 HTTP/1.1"),
    _line("control byte in the target", b"GET /\x01 HTTP/1.1"),
    _line("tab in the target", b"GET /a\tb HTTP/1.1"),
    _line("DEL in the target", b"GET /\x7f HTTP/1.1"),
    _line("bare CR in the target", b"GET /a\rb HTTP/1.1"),
    _line("bare LF in the target", b"GET /a\nb HTTP/1.1"),
    _line("a byte beyond ASCII in the target", b"GET /\xc3\xa9 HTTP/1.1"),
    _line("a fragment", b"GET /a#b HTTP/1.1"),
    _line("a fragment of an absolute target", b"GET http://shop/a#b HTTP/1.1"),
    _line("relative target", b"GET a HTTP/1.1"),
    _line("empty target", b"GET  HTTP/1.1"),
    _line("query alone", b"GET ?a=b HTTP/1.1"),
    _line("backslash first", b"GET \\a HTTP/1.1"),
    _line("asterisk with GET", b"GET * HTTP/1.1"),
    _line("asterisk with a path", b"OPTIONS */a HTTP/1.1"),
    _line("foreign scheme", b"GET ftp://shop/ HTTP/1.1"),
    _line("file scheme", b"GET file:///etc/passwd HTTP/1.1"),
    _line("javascript scheme", b"GET javascript:alert(1) HTTP/1.1"),
    _line("scheme without slashes", b"GET http:/a HTTP/1.1"),
    _line("scheme without authority", b"GET http:///a HTTP/1.1"),
    _line("authority form with GET", b"GET shop:80 HTTP/1.1"),
    _line("CONNECT", b"CONNECT shop:80 HTTP/1.1", 501),
    _line("CONNECT with a path", b"CONNECT / HTTP/1.1", 501),
    _line("method in lower case", b"get / HTTP/1.1", 501),
    _line("unknown method", b"FROB / HTTP/1.1", 501),
    _line("method with a colon", b"GE:T / HTTP/1.1"),
    _line("method with a NUL", b"GE\0T / HTTP/1.1"),
    _line("method with a byte beyond ASCII", b"G\xcbT / HTTP/1.1"),
    _line("method in brackets", b"(GET) / HTTP/1.1"),
    _line("no method", b"/ HTTP/1.1"),
    _line("a method of 10 kB", b"A" * 10_000 + b" / HTTP/1.1", 501),
    _line("a target of 16 KiB", b"GET /" + b"a" * (16 << 10) + b" HTTP/1.1", 414),
    _line("HTTP/2's preface", b"PRI * HTTP/2.0", 505),
    _line("a byte order mark", b"\xef\xbb\xbfGET / HTTP/1.1"),
    Hostile("request line: ends in LF", b"GET / HTTP/1.1\nHost: shop\r\n\r\n"),
    Hostile("request line: ends in CR", b"GET / HTTP/1.1\rHost: shop\r\n\r\n"),
    Hostile("request line: ends in CR CR LF", b"GET / HTTP/1.1\r\r\nHost: shop\r\n\r\n"),
    Hostile("request line: all in LF", b"GET / HTTP/1.1\nHost: shop\n\n"),
    Hostile("request line: LF CR", b"GET / HTTP/1.1\n\rHost: shop\n\r\n\r"),
    Hostile("request line: a field before it", b"Host: shop\r\nGET / HTTP/1.1\r\n\r\n"),
    Hostile("before it: a NUL", b"\0GET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("before it: an LF", b"\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("before it: a CR", b"\rGET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("before it: CR CR LF", b"\r\r\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("before it: five empty lines", b"\r\n" * 5 + b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("before it: empty lines for ever", b"\r\n" * 5000),
    Hostile("before it: a line of a space", b" \r\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Hostile("no HTTP: a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n"),
    Hostile("no HTTP: a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Hostile("no HTTP: SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    Hostile("no HTTP: zeroes", b"\0" * 4096),
    Hostile("no HTTP: a PROXY header", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
]

_FIELDS = [
    _field("space before the colon", b"X : y"),
    _field("tab before the colon", b"X\t: y"),
    _field("space before the colon of content-length", b"Content-Length : 5"),
    _field("space before the colon of transfer-encoding", b"Transfer-Encoding : chunked"),
    _field("folded with a space", b"X: a\r\n b"),
    _field("folded with a tab", b"X: a\r\n\tb"),
    _field("folded to nothing", b"X: a\r\n "),
    _field("folded transfer-encoding", b"Transfer-Encoding:\r\n chunked"),
    _field("folded content-length", b"Content-Length:\r\n 5"),
    _field("folded first line", b" X: y"),
    _field("no colon", b"X"),
    _field("no name", b": y"),
    _field("a name of a space", b" : y"),
    _field("a space in the name", b"X Y: z"),
    _field("NUL in the name", b"X\0Y: z"),
    _field("NUL before the colon", b"Content-Length\0: 5"),
    _field("control byte in the name", b"X\x01: y"),
    _field("DEL in the name", b"X\x7f: y"),
    _field("a byte beyond ASCII in the name", b"X\xc3\xa9: y"),
    _field("a no-break space in the name", b"Transfer-Encoding\xa0: chunked"),
    _field("brackets in the name", b"X(Y): z"),
    _field("a comma in the name", b"X,Y: z"),
    _field("a semicolon in the name", b"X;Y: z"),
    _field("an equals sign in the name", b"X=Y: z"),
    _field("an at sign in the name", b"X@Y: z"),
    _field("a slash in the name", b"X/Y: z"),
    _field("quotes in the name", b'"X": z'),
    _field("a pseudo header", b":authority: evil"),
    _field("NUL in the value", b"X: a\0b"),
    _field("NUL at the value's end", b"X: a\0"),
    _field("control byte in the value", b"X: a\x01b"),
    _field("backspace in the value", b"X: a\x08b"),
    _field("vertical tab in the value", b"X: a\x0bb"),
    _field("form feed in the value", b"X: a\x0cb"),
    _field("escape in the value", b"X: a\x1bb"),
    _field("DEL in the value", b"X: a\x7fb"),
    _field("bare CR in the value", b"X: a\rY: b"),
    _field("bare CR at the value's end", b"X: a\r"),
    _field("bare LF between fields", b"X: a\nY: b"),
    _field("LF hides a content-length", b"X: a\nContent-Length: 5"),
    _field("LF hides a transfer-encoding", b"X: a\nTransfer-Encoding: chunked"),
    _field("CR hides a transfer-encoding", b"X: a\rTransfer-Encoding: chunked"),
    _field("CR CR LF", b"X: a\r\r\nY: b"),
    _field("LF ends the head", b"X: a\n\nGET /smuggled HTTP/1.1"),
    _field("101 fields", b"\r\n".join(b"X%d: y" % i for i in range(101)), 431),
    _field("10,000 empty fields", b"\r\n".join(b"a:" for _ in range(10_000)), 431),
    _field("a value of 60 KiB", b"X: " + b"y" * (60 << 10), 431),
    _field("a name of 60 KiB", b"X" * (60 << 10) + b": y", 431),
    _field("connection names host", b"Connection: host"),
    _field("connection names content-length", b"Connection: Content-Length\r\nContent-Length: 0"),
    _field("connection names transfer-encoding", b"Connection: transfer-encoding"),
    _field("connection names x-forwarded-for", b"Connection: close, X-Forwarded-For"),
    _field("connection names x-forwarded-client-cert", b"Connection: x-forwarded-client-cert"),
    _field("connection names no token", b"Connection: a b"),
    _field("connection names a pseudo header", b"Connection: :authority"),
    _field("connection in quotes", b'Connection: "close"'),
]

_FRAMINGS = [
    _framing("length and chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
    _framing("chunked and length", b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
    _framing("length 0 and chunked", b"Content-Length: 0\r\nTransfer-Encoding: chunked"),
    _framing("length and identity", b"Content-Length: 5\r\nTransfer-Encoding: identity"),
    _framing("length and an empty transfer-encoding", b"Content-Length: 5\r\nTransfer-Encoding:"),
    _framing("two equal lengths", b"Content-Length: 5\r\nContent-Length: 5"),
    _framing("two lengths", b"Content-Length: 5\r\nContent-Length: 6"),
    _framing("two lengths, one of them 0", b"Content-Length: 0\r\nContent-Length: 5"),
    _framing("two lengths in one", b"Content-Length: 5, 5"),
    _framing("two lengths in one, not equal", b"Content-Length: 5, 6"),
    _framing("lengths of different spelling", b"Content-Length: 5\r\ncontent-LENGTH: 5"),
    _framing("empty length", b"Content-Length:"),
    _framing("length of spaces", b"Content-Length:   "),
    _framing("length with a plus", b"Content-Length: +5"),
    _framing("length with a minus", b"Content-Length: -5"),
    _framing("length minus zero", b"Content-Length: -0"),
    _framing("hexadecimal length", b"Content-Length: 0x5"),
    _framing("length in hexadecimal digits", b"Content-Length: a"),
    _framing("length with a point", b"Content-Length: 5.0"),
    _framing("length with an exponent", b"Content-Length: 5e0"),
    _framing("length with a space inside", b"Content-Length: 1 0"),
    _framing("length with an underscore", b"Content-Length: 1_0"),
    _framing("length in quotes", b'Content-Length: "5"'),
    _framing("length with a semicolon", b"Content-Length: 5;"),
    _framing("length in Arabic digits", "Content-Length: \u0665".encode()),
    _framing("length with a NUL", b"Content-Length: 5\0"),
    _framing("length with a tab inside", b"Content-Length: 5\t6"),
    _framing("length beyond 64 bits", b"Content-Length: 18446744073709551621"),
    _framing("length beyond 63 bits", b"Content-Length: 9223372036854775808"),
    _framing("length of 40 digits", b"Content-Length: " + b"9" * 40),
    _framing("length of 40 digits that are small", b"Content-Length: " + b"0" * 39 + b"5"),
    _framing("identity", b"Transfer-Encoding: identity", 501),
    _framing("gzip", b"Transfer-Encoding: gzip", 501),
    _framing("gzip, then chunked", b"Transfer-Encoding: gzip, chunked", 501),
    _framing("chunked, then identity", b"Transfer-Encoding: chunked, identity", 501),
    _framing("chunked twice in one", b"Transfer-Encoding: chunked, chunked", 501),
    _framing("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    _framing("chunked, then identity, in two", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
    _framing("identity, then chunked, in two", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    _framing("empty transfer-encoding", b"Transfer-Encoding:"),
    _framing("xchunked", b"Transfer-Encoding: xchunked", 501),
    _framing("chunkedx", b"Transfer-Encoding: chunkedx", 501),
    _framing("chunke", b"Transfer-Encoding: chunke", 501),
    _framing("chunked in quotes", b'Transfer-Encoding: "chunked"', 501),
    _framing("chunked with a parameter", b"Transfer-Encoding: chunked;q=1", 501),
    _framing("chunked with a comma", b"Transfer-Encoding: chunked,", 501),
    _framing("a comma with chunked", b"Transfer-Encoding: ,chunked", 501),
    _framing("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _framing("chunked behind a NUL", b"Transfer-Encoding: \0chunked"),
    _framing("chunked before a NUL", b"Transfer-Encoding: chunked\0"),
    _framing("chunked with a long s", "Transfer-Encoding: chun\u212aed".encode(), 501),
    Hostile(
        "framing: chunked of HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    Hostile("framing: TRACE with a length", b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    Hostile(
        "framing: TRACE in chunks", b"TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
]

_HOSTS = [
    _host("none", b"X: y"),
    _host("none, with an absolute target", b"X: y", b"http://shop/"),
    _host("two", b"Host: shop\r\nHost: evil"),
    _host("two equal", b"Host: shop\r\nHost: shop"),
    _host("two of different spelling", b"Host: shop\r\nHOST: evil"),
    _host("empty", b"Host:"),
    _host("a space", b"Host: shop evil"),
    _host("two in one", b"Host: shop, evil"),
    _host("userinfo", b"Host: user@shop"),
    _host("userinfo with password", b"Host: user:secret@shop"),
    _host("a path", b"Host: shop/evil"),
    _host("a query", b"Host: shop?evil"),
    _host("a fragment", b"Host: shop#evil"),
    _host("a scheme", b"Host: http://shop"),
    _host("a backslash", b"Host: shop\\evil"),
    _host("quotes", b'Host: "shop"'),
    _host("angle brackets", b"Host: <shop>"),
    _host("a bar", b"Host: shop|evil"),
    _host("a port of letters", b"Host: shop:http"),
    _host("a port of six digits", b"Host: shop:123456"),
    _host("an empty port", b"Host: shop:"),
    _host("two ports", b"Host: shop:80:81"),
    _host("a port with a plus", b"Host: shop:+80"),
    _host("a port alone", b"Host: :80"),
    _host("brackets not closed", b"Host: [::1"),
    _host("brackets not opened", b"Host: ::1]"),
    _host("an address without brackets", b"Host: ::1"),
    _host("an address with a zone", b"Host: [fe80::1%25eth0]"),
    _host("something behind the brackets", b"Host: [::1]evil"),
    _host("a name in brackets", b"Host: [shop]"),
    _host("a broken escape", b"Host: shop%2"),
    _host("a byte beyond ASCII", b"Host: sh\xc3\xb6p"),
    _host("a NUL", b"Host: shop\0evil"),
    _host("a tab", b"Host: shop\tevil"),
    _host("300 bytes long", b"Host: " + b"a" * 300),
    _host("the target's differs", b"Host: shop", b"http://evil/"),
    _host("the target's port differs", b"Host: shop:80", b"http://shop:81/"),
    _host("the target has userinfo", b"Host: shop", b"http://user@shop/"),
    _host("the target has userinfo, so has host", b"Host: user@shop", b"http://user@shop/"),
    _host("the target has a backslash", b"Host: shop", b"http://shop\\evil/"),
    _host("the target has none", b"Host: shop", b"http://"),
    _host("the target has a port alone", b"Host: shop", b"http://:80/"),
    Hostile("authority: HTTP/1.0 with a bad host", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
    Hostile("authority: HTTP/1.0 with two hosts", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
]

_CHUNKS = [
    _chunk("no size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a space behind", b"5 \r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a space before", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a tab behind", b"5\t\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size of no digits", b"xyz\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a letter behind", b"5g\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with a NUL", b"5\0\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size beyond 63 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size with many zeroes", b"0" * 100 + b"5\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size that ends in LF", b"5\nhello\r\n0\r\n\r\n"),
    _chunk("a size that ends in CR", b"5\rhello\r\n0\r\n\r\n"),
    _chunk("a size that ends in CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n"),
    _chunk("data longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
    _chunk("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n"),
    _chunk("data that end in LF", b"5\r\nhello\n0\r\n\r\n"),
    _chunk("data that end in CR", b"5\r\nhello\r0\r\n\r\n"),
    _chunk("data that end in nothing", b"5\r\nhello0\r\n\r\n"),
    _chunk("data that end in two bytes of anything", b"5\r\nhelloXX0\r\n\r\n"),
    _chunk("a last chunk that ends in LF", b"5\r\nhello\r\n0\n\r\n"),
    _chunk("a body that ends in LF", b"5\r\nhello\r\n0\r\n\nGET /smuggled HTTP/1.1\r\n\r\n"),
    _chunk("a size line of 10 kB", b"5;" + b"a" * 10_000 + b"\r\nhello\r\n0\r\n\r\n"),
    _chunk("a size line without end", b"5;" + b"a" * 100_000),
    _chunk("extensions of many chunks", (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20 + b"0\r\n\r\n"),
    _chunk("an extension without a name", b"5;\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension without a value", b"5;a=\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with a space", b"5; a\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with a space before", b"5 ;a\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with an LF", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with a CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with a NUL", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    _chunk("an extension with a quote not closed", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    _chunk("an extension with an LF in quotes", b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
    _chunk("an extension with a CRLF in quotes", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n'),
    _trailer("content-length", b"Content-Length: 5"),
    _trailer("transfer-encoding", b"Transfer-Encoding: chunked"),
    _trailer("host", b"Host: evil"),
    _trailer("connection", b"Connection: close"),
    _trailer("authorization", b"Authorization: Basic eDp5"),
    _trailer("cookie", b"Cookie: a=b"),
    _trailer("upgrade", b"Upgrade: websocket"),
    _trailer("expect", b"Expect: 100-continue"),
    _trailer("te", b"TE: trailers"),
    _trailer("no colon", b"X"),
    _trailer("no name", b": y"),
    _trailer("a space before the colon", b"X : y"),
    _trailer("folded", b"X: a\r\n b"),
    _trailer("a NUL", b"X: a\0b"),
    _trailer("a bare LF", b"X: a\nY: b"),
    _trailer("a bare CR", b"X: a\rY: b"),
    _trailer("another request", b"GET /smuggled HTTP/1.1\r\nHost: shop"),
    _trailer("101 of them", b"\r\n".join(b"X%d: y" % i for i in range(101)), 431),
    _trailer("without end", b"X: " + b"y" * 100_000),
]

REQUESTS = [*_LINES, *_FIELDS, *_FRAMINGS, *_HOSTS, *_CHUNKS]


def _status(name: str, line: bytes) -> HostileResponse:
    return HostileResponse(f"status line: {name}", line + b"\r\nContent-Length: 0\r\n\r\n")


def _answer(name: str, fields: bytes, body: bytes = b"") -> HostileResponse:
    return HostileResponse(f"head: {name}", b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + body)


def _piece(name: str, body: bytes) -> HostileResponse:
    return HostileResponse(
        f"body: {name}", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, begun=True
    )


RESPONSES = [
    _status("no version", b"200 OK"),
    _status("HTTP/0.9", b"HTTP/0.9 200 OK"),
    _status("HTTP/1.2", b"HTTP/1.2 200 OK"),
    _status("HTTP/2.0", b"HTTP/2.0 200 OK"),
    _status("RTSP", b"RTSP/1.0 200 OK"),
    _status("ICY", b"ICY 200 OK"),
    _status("two digits", b"HTTP/1.1 20 OK"),
    _status("four digits", b"HTTP/1.1 2000 OK"),
    _status("letters", b"HTTP/1.1 abc OK"),
    _status("a sign", b"HTTP/1.1 +20 OK"),
    _status("below 100", b"HTTP/1.1 099 OK"),
    _status("no status", b"HTTP/1.1"),
    _status("two spaces", b"HTTP/1.1  200 OK"),
    _status("a tab", b"HTTP/1.1\t200 OK"),
    _status("space first", b" HTTP/1.1 200 OK"),
    _status("control byte in the reason", b"HTTP/1.1 200 O\x01K"),
    _status("NUL in the reason", b"HTTP/1.1 200 O\0K"),
    _status("CR in the reason", b"HTTP/1.1 200 O\rK"),
    _status("LF in the reason", b"HTTP/1.1 200 O\nK"),
    _status("an empty line first", b"\r\nHTTP/1.1 200 OK"),
    _status("a request", b"GET / HTTP/1.1"),
    HostileResponse("status line: zeroes", b"\0" * 100 + b"\r\n\r\n"),
    HostileResponse("status line: all in LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    _answer("length and chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    _answer("chunked and length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"),
    _answer("two equal lengths", b"Content-Length: 5\r\nContent-Length: 5", b"hello"),
    _answer("two lengths", b"Content-Length: 5\r\nContent-Length: 50", b"hello"),
    _answer("two lengths in one", b"Content-Length: 5, 5", b"hello"),
    _answer("empty length", b"Content-Length:"),
    _answer("length with a sign", b"Content-Length: +5", b"hello"),
    _answer("negative length", b"Content-Length: -5", b"hello"),
    _answer("hexadecimal length", b"Content-Length: 0x5", b"hello"),
    _answer("length beyond 64 bits", b"Content-Length: 18446744073709551621", b"hello"),
    _answer("length of 40 digits", b"Content-Length: " + b"9" * 40, b"hello"),
    _answer("gzip", b"Transfer-Encoding: gzip", b"hello"),
    _answer("gzip, then chunked", b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    _answer("chunked, then identity", b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n"),
    _answer("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    _answer("empty transfer-encoding", b"Transfer-Encoding:", b"hello"),
    _answer("space before the colon", b"Content-Length : 5", b"hello"),
    _answer("folded", b"X: a\r\n Content-Length: 5", b"hello"),
    _answer("no colon", b"Content-Length"),
    _answer("no name", b": y"),
    _answer("NUL in the name", b"X\0: y"),
    _answer("NUL in the value", b"X: a\0b"),
    _answer("control byte in the value", b"X: a\x01b"),
    _answer("CR in the value", b"X: a\rSet-Cookie: evil=1"),
    _answer("LF in the value", b"X: a\nSet-Cookie: evil=1"),
    _answer("LF ends the head", b"X: a\n\nHTTP/1.1 200 OK"),
    _answer("101 fields", b"\r\n".join(b"X%d: y" % i for i in range(101))),
    _answer("60 KiB", b"X: " + b"y" * (60 << 10)),
    _answer("60 KiB in small fields", b"\r\n".join(b"X%d: y" % i for i in range(10_000))),
    _answer("connection names content-length", b"Connection: content-length\r\nContent-Length: 5", b"hello"),
    _answer("connection names no token", b"Connection: a b\r\nContent-Length: 0"),
    HostileResponse("head: chunked of HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    HostileResponse(
        "head: 101 that nobody asked for", b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    ),
    HostileResponse("head: 101 without upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    HostileResponse(
        "head: length and chunked for HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        method=b"HEAD",
    ),
    HostileResponse(
        "head: broken length for HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", method=b"HEAD"
    ),
    HostileResponse("head: broken length of a 304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: -1\r\n\r\n"),
    _piece("no size", b"\r\nhello\r\n0\r\n\r\n"),
    _piece("a size with a space", b"5 \r\nhello\r\n0\r\n\r\n"),
    _piece("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _piece("a size with a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    _piece("a size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _piece("a size that ends in LF", b"5\nhello\r\n0\r\n\r\n"),
    _piece("data longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
    _piece("data that end in LF", b"5\r\nhello\n0\r\n\r\n"),
    _piece("a size line without end", b"5;" + b"a" * 100_000),
    _piece("trailers without end", b"0\r\nX: " + b"y" * 100_000),
    _piece("a trailer that frames", b"0\r\nContent-Length: 5\r\n\r\n"),
    _piece("a trailer that sets a cookie", b"0\r\nSet-Cookie: a=b\r\n\r\n"),
    _piece("a trailer with a NUL", b"0\r\nX: a\0b\r\n\r\n"),
]
