"""A response's head: bytes in, a Response, how its body ends and whether the connection can be kept out.

A response is read for its request: HEAD has no body whatever the fields say (RFC 9112, 6.3). Rule: one reading, or
Malformed; `status` of that means nothing here, the exchange answers 502. A head that comes again, byte by byte, is
known by heart; what differs from second to second is one field, so most of them do.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpResponseParser

from weft.l7proxy.core.http1.body import Body, Chunked, Fixed, UntilClose
from weft.l7proxy.core.http1.fields import NOBODY, Malformed, length, split, tokens, unhop, validate
from weft.l7proxy.core.http1.known import Heads
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Response

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*))?").fullmatch


# The response, its body's framing (None: there is none), whether the connection can be kept, and the protocol of a
# 101. A plain tuple, for its price.
Parsed = tuple[Response, Body | None, bool, bytes]

_KNOWN_MOST = 256
_known: dict[bytes, tuple[bool, int, bytes]] = {}  # status lines: a handful, and each response begins with one


#: Heads and what they say, for requests other than HEAD.
_heads: Heads[tuple[Limits, Response, bool, bytes]] = Heads()


def parse(head: bytes, method: bytes, limits: Limits) -> Parsed:
    known = _heads.get(head)
    if known is not None and known[0] is limits and method != b"HEAD":
        return _again(known[1]), _framed(known[1].length), known[2], known[3]
    parsed = _parse(head, method, limits)
    response, body, keep, upgrade = parsed
    if type(body) is not UntilClose and method != b"HEAD" and _heads.worth(head):
        response.named = dict(response.headers)
        _heads.keep(head, (limits, response, keep, upgrade))
        return _again(response), body, keep, upgrade
    return parsed


def _again(known: Response) -> Response:
    status, length = known.status, known.length
    response = Response(status, known.headers, length=length, version=known.version, reason=known.reason)
    response.named = known.named
    return response


def _framed(length: int) -> Body | None:
    if length > 0:
        return Fixed(length)
    return Chunked() if length else None


def _parse(head: bytes, method: bytes, limits: Limits) -> Parsed:
    stop = head.find(b"\r\n")
    known = _known.get(head[:stop])
    modern, status, reason = known if known is not None else _status_line(head[:stop])
    try:
        validate(HttpResponseParser(NOBODY), head)
    except HttpParserError as wrong:
        raise Malformed(502, str(wrong)) from None
    headers, special = split(head, stop + 2, limits.headers)
    response = Response(status, headers, reason=reason)
    if not modern:
        response.version = "1.0"
    if status == 200 and len(special) == 1 and modern and method != b"HEAD" and b"content-length" in special:
        response.length = size = length(special)
        return response, Fixed(size) if size else None, True, b""
    named = tokens(special[b"connection"]) if b"connection" in special else []
    if named:
        unhop(headers, special, named)
    keep = b"close" not in named and (modern or b"keep-alive" in named)
    body = _body(response, method, special, modern)
    upgrade = special.get(b"upgrade", b"").lower() if status == 101 and b"upgrade" in named else b""
    return response, body, keep and not isinstance(body, UntilClose), upgrade


def _status_line(line: bytes) -> tuple[bool, int, bytes]:
    matched = _STATUS_LINE(line)
    if matched is None:
        raise Malformed(502, "no status line")
    minor, digits, reason = matched.groups()
    if len(_known) >= _KNOWN_MOST:
        _known.clear()
    known = _known[line] = (minor == b"1", int(digits), reason or b"")
    return known


def _body(response: Response, method: bytes, special: dict[bytes, bytes], modern: bool) -> Body | None:
    status = response.status
    coding = special.get(b"transfer-encoding")
    if coding is not None:
        if b"content-length" in special:
            raise Malformed(502, "content-length beside transfer-encoding")
        if not modern or coding.lower() != b"chunked":
            raise Malformed(502, "unknown transfer-encoding")
    size = length(special)
    if method == b"HEAD" or status < 200 or status == 204 or status == 304:
        response.length = 0
        return None
    if coding is not None:
        return Chunked()
    response.length = size
    if size < 0:
        return UntilClose()
    return Fixed(size) if size else None
