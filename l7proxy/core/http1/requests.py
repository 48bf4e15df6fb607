"""A request's head: bytes in, a Request and what the connection has to know out, or Malformed with a status.

In this order: 1. the request line's shape and version (414, 505, 400); 2. llhttp's judgement of the whole head;
3. framing: one of Content-Length and `Transfer-Encoding: chunked`, or no body; 4. authority and target: exactly one
Host, equal to the target's own authority where it has one; 5. hop-by-hop fields are taken out. A head that comes
again, byte by byte, needs none of it: it is known by heart.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpRequestParser

from weft.l7proxy.core.http1.fields import NOBODY, TOKEN, Malformed, length, split, tokens, unhop, validate
from weft.l7proxy.core.http1.known import Heads
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.named import Named
from weft.l7proxy.core.stream import Request

_AUTHORITY = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::[0-9]{1,5})?"
    rb"|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?"
).fullmatch
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE).fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_HTTP = b"http"
_KNOWN_MOST = 1024
_known: set[bytes] = set()  # authorities that were found valid: few, and each asked for with every request


# The request, whether the client wants the connection kept, HTTP2-Settings of an h2c upgrade or None. A plain
# tuple: a named one costs 0.3 us to make.
Parsed = tuple[Request, bool, bytes | None]


#: Heads and what they say. Of each the request that it made, which no other request shares its list with.
_heads: Heads[tuple[Limits, Request, bool, bytes | None]] = Heads()


def parse(head: bytes, limits: Limits) -> Parsed:
    """`head`: to its empty line, that included."""
    known = _heads.get(head)
    if known is not None and known[0] is limits:
        return _again(known[1]), known[2], known[3]
    parsed = _parse(head, limits)
    if _heads.worth(head):
        request, keep, settings = parsed
        request.named = Named(request.headers)
        request.named.steady = True
        _heads.keep(head, (limits, request, keep, settings))
        return _again(request), keep, settings
    return parsed


def _again(known: Request) -> Request:
    """Whoever gets it may change its headers."""
    request = Request(known.method, known.path, known.authority, known.headers.copy())
    request.scheme, request.version, request.length = known.scheme, known.version, known.length
    request.upgrade, request.expect, request.named = known.upgrade, known.expect, known.named
    return request


def _parse(head: bytes, limits: Limits) -> Parsed:
    stop = head.find(b"\r\n")
    if stop > limits.request_line:
        raise Malformed(414, "request line too long")
    parts = head[:stop].split(b" ")
    if len(parts) != 3:
        raise Malformed(400, "no request line")
    method, target, version = parts
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        raise Malformed(505 if _VERSION(version) else 400, "unknown version")
    if method == b"CONNECT":
        raise Malformed(501, "CONNECT")
    _validate(head, method)
    headers, special = split(head, stop + 2, limits.headers)
    modern = version == b"HTTP/1.1"
    path, authority, scheme = _target(method, target, special.get(b"host"), modern)
    request = Request(method, path, authority, headers)
    if scheme is not _HTTP:
        request.scheme = scheme
    if len(special) == 1 and modern:  # the host: nothing about hop or body, as nearly always
        return request, True, None
    request.length = _size(special, modern)
    if request.length and method == b"TRACE":
        raise Malformed(400, "TRACE with a body")
    if not modern:
        request.version = "1.0"
    return _hop(request, special, modern)


def _validate(head: bytes, method: bytes) -> None:
    try:
        validate(HttpRequestParser(NOBODY), head)
    except HttpParserInvalidMethodError:
        raise Malformed(501 if TOKEN(method) else 400, "unknown method") from None
    except HttpParserError as wrong:
        detail = str(wrong)
        raise Malformed(501 if "nvalid `Transfer-Encoding`" in detail else 400, detail) from None


def _size(special: dict[bytes, bytes], modern: bool) -> int:
    coding = special.get(b"transfer-encoding")
    if coding is None:
        return max(length(special), 0)
    if b"content-length" in special:
        raise Malformed(400, "content-length beside transfer-encoding")
    if not modern:
        raise Malformed(400, "transfer-encoding of HTTP/1.0")
    if coding.lower() != b"chunked":
        raise Malformed(501, "unknown transfer-encoding")
    return -1


def _target(method: bytes, target: bytes, host: bytes | None, modern: bool) -> tuple[bytes, bytes, bytes]:
    """Path, authority and scheme."""
    if host is None:
        if modern:
            raise Malformed(400, "no host")
        host = b""
    elif host not in _known:
        _check(host)
    if target[:1] == b"/" and b"#" not in target:
        return target, host, _HTTP
    if target == b"*" and method == b"OPTIONS":
        return target, host, _HTTP
    return _absolute(method, target, host)


def _absolute(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes, bytes]:
    """RFC 9112 (3.2.2) lets the target win over a Host that differs. Whoever comes behind us may not: refused."""
    matched = _ABSOLUTE(target)
    if matched is None or b"#" in target:
        raise Malformed(400, "bad target")
    scheme, authority, path = matched.groups()
    _check(authority)
    if host and host.lower() != authority.lower():
        raise Malformed(400, "target and host differ")
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path[:1] == b"?":
        path = b"/" + path
    return path, authority, scheme.lower()


def _check(authority: bytes) -> None:
    if _AUTHORITY(authority) is None or len(authority) > 262:  # 255 of a name, and a port
        raise Malformed(400, "bad authority")
    if len(_known) >= _KNOWN_MOST:
        _known.clear()
    _known.add(authority)


def _hop(request: Request, special: dict[bytes, bytes], modern: bool) -> Parsed:
    named = tokens(special[b"connection"]) if b"connection" in special else []
    if named or b"te" in special:
        unhop(request.headers, special, named)
    if b"close" in named:
        keep = False
    else:
        keep = modern or b"keep-alive" in named
    if modern and request.length:
        request.expect = special.get(b"expect", b"").lower() == b"100-continue"
    settings = None
    if modern and b"upgrade" in special and b"upgrade" in named and request.length == 0:
        wanted = tokens(special[b"upgrade"])
        if b"h2c" in wanted and b"http2-settings" in named:
            settings = special.get(b"http2-settings")
        request.upgrade = _upgrade(wanted)
    return request, keep, settings


def _upgrade(wanted: list[bytes]) -> bytes:
    """The first that can be a tunnel. A change to HTTP/2 or TLS is this hop's, and is not handed on."""
    for protocol in wanted:
        name = protocol.partition(b"/")[0]
        if name not in (b"h2c", b"h2", b"tls", b"http") and TOKEN(protocol.replace(b"/", b"", 1)):
            return protocol
    return b""
