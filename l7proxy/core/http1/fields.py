"""What request and response heads have in common: the field lines, and the names that belong to the connection.

In: a whole head that llhttp has accepted. Out: the end-to-end fields, lower case, and apart from them those
that speak of framing or of this hop. Rule: llhttp judges the syntax (tokens, colons, control bytes, folding);
this module only splits what was judged, so both see the same lines.
"""

from __future__ import annotations

import re
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade

from weft.l7proxy.core.http1.known import Heads
from weft.l7proxy.core.stream import Headers

# Taken apart from the rest: they frame the message or belong to the hop. Of them `content-length` and `expect` are
# end-to-end too, and stay.
SPECIAL = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Two of these are two readings of one message: also when they are equal, which RFC 9110 (8.6) would let pass.
_ONCE = frozenset((b"content-length", b"host", b"http2-settings", b"transfer-encoding"))
# `Connection: host` would have us drop what routing and policy rest on.
_NOT_NAMED = frozenset(
    (
        b"content-length",
        b"host",
        b"transfer-encoding",
        b"x-forwarded-client-cert",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    )
)
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
DIGITS = 18  # of a length: no counter of anybody overflows


#: Lines that came more than once, but those of `SPECIAL`. llhttp has found them good, as part of a whole head.
_fields: Heads[tuple[bytes, bytes]] = Heads()


class Malformed(Exception):
    """`status`: what a client is answered; of a response it means nothing. `detail`: for the record."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Absent:
    """Tells httptools that nobody listens: llhttp then only validates, at a third of the price."""

    on_url = on_status = on_header = on_body = None
    on_message_begin = on_headers_complete = on_message_complete = None
    on_chunk_header = on_chunk_complete = None


NOBODY = Absent()


def validate(parser: Any, head: bytes) -> None:
    """Feeds a head, whole, to a fresh parser of httptools. HttpParserError says what is wrong with it."""
    try:
        parser.feed_data(head)
    except HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(head):
            raise HttpParserError("the head ends elsewhere") from None


def split(head: bytes, start: int, most: int) -> tuple[Headers, dict[bytes, bytes]]:
    """`start`: the first field line. `most`: how many there may be. Fields of the hop come joined by commas."""
    headers: Headers = []
    special: dict[bytes, bytes] = {}
    if start >= len(head) - 2:
        return headers, special
    lines = head[start:-4].split(b"\r\n")
    if len(lines) > most:
        raise Malformed(431, f"more than {most} header fields")
    for line in lines:
        field = _fields.get(line)
        if field is None:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name in SPECIAL:
                _note(special, headers, name, value.strip())
                continue
            field = (name, value.strip())
            if _fields.worth(line):
                _fields.keep(line, field)
        headers.append(field)
    return headers, special


def _note(special: dict[bytes, bytes], headers: Headers, name: bytes, value: bytes) -> None:
    if name == b"content-length" or name == b"expect":
        headers.append((name, value))
    if name in special:
        if name in _ONCE:
            raise Malformed(400, f"{name.decode()} given twice")
        value = special[name] + b", " + value
    special[name] = value


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma list, lower case. Empty ones say nothing (RFC 9110, 5.6.1)."""
    return [part for part in (part.strip() for part in value.lower().split(b",")) if part]


def unhop(headers: Headers, special: dict[bytes, bytes], named: list[bytes]) -> None:
    """Takes out what `Connection` names, in place. `te: trailers` stays: it is said of the whole way."""
    for name in named:
        if TOKEN(name) is None or name in _NOT_NAMED:
            raise Malformed(400, "Connection names what is not the connection's")
    if not SPECIAL.issuperset(named):
        headers[:] = [field for field in headers if field[0] not in named]
    if b"te" in special and b"trailers" in tokens(special[b"te"]):
        headers.append((b"te", b"trailers"))


def length(special: dict[bytes, bytes]) -> int:
    """The Content-Length, -1 if there is none."""
    value = special.get(b"content-length")
    if value is None:
        return -1
    if not value.isdigit() or len(value) > DIGITS:
        raise Malformed(400, "a content-length that is no number")
    return int(value)
