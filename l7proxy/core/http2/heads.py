"""Header blocks as requests, responses and trailers (RFC 9113, 8): whatever is malformed is refused here.

What is accepted can be written as HTTP/1.1 without a second reading: names are lower case tokens, values hold no
control characters, framing headers are gone, there is one authority, one `cookie` and at most one content-length.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from weft.l7proxy.core.http2.hpack import Sensitive
from weft.l7proxy.core.named import Named
from weft.l7proxy.core.stream import Headers


class Malformed(Exception):
    """8.1.1: a stream error of type PROTOCOL_ERROR."""


class RequestHead(NamedTuple):
    """Everything of a Request, kept so that the same block needs no second look. `headers` is copied by whoever
    makes a Request. `length` -1: not said. `named`: None for what is answered at once."""

    method: bytes
    path: bytes
    authority: bytes
    headers: Headers
    scheme: bytes
    length: int
    expect: bool
    patient: bool  # gRPC: it may keep silent for as long as it likes
    named: Named | None = None


class ResponseHead(NamedTuple):
    status: int
    headers: Headers
    length: int
    named: dict[bytes, bytes]


_PLAIN, _PSEUDO, _FRAMING, _TE, _HOST, _LENGTH, _COOKIE, _DROPPED, _NOTED = range(9)
_CONNECTION = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
_KNOWN = dict.fromkeys((b":method", b":path", b":authority", b":scheme", b":status", b":protocol"), _PSEUDO)
_KNOWN |= dict.fromkeys(_CONNECTION, _FRAMING)
_KNOWN |= {b"te": _TE, b"host": _HOST, b"content-length": _LENGTH, b"cookie": _COOKIE, b"http2-settings": _DROPPED}
_KNOWN |= {b"expect": _NOTED, b"content-type": _NOTED}
_REMEMBERED: Final = 2048  # names, and pseudo headers, of all connections together
_SHORT: Final = 128  # bytes: longer ones are looked at each time, so that nobody fills our memory with them
_names: dict[bytes, int] = dict(_KNOWN)

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_PATH = re.compile(rb"/[^\x00-\x20\x7f#]*|\*").fullmatch
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*").fullmatch
_AUTHORITY = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:%\[\]]+").fullmatch
_STATUS_CODE = re.compile(rb"[1-5][0-9][0-9]").fullmatch
_FORMS: Final = {
    b":method": _METHOD,
    b":path": _PATH,
    b":scheme": _SCHEME,
    b":authority": _AUTHORITY,
    b":status": _STATUS_CODE,
}
_proven: set[tuple[bytes, bytes]] = set()
_DIGITS = re.compile(rb"[0-9]{1,18}").fullmatch
_CONTROL: Final = bytes(set(range(32)) - {9}) + b"\x7f"


def _learn(name: bytes) -> int:
    if not _TOKEN(name):
        raise Malformed("a name that is none, or not in lower case")
    if len(_names) >= _REMEMBERED:
        _names.clear()
        _names.update(_KNOWN)
    if len(name) <= _SHORT:
        _names[name] = _PLAIN
    return _PLAIN


def _prove(field: tuple[bytes, bytes]) -> None:
    """A pseudo header's own form. Those seen lately are known by heart: paths and authorities come again."""
    name, value = field
    right = _FORMS.get(name)
    if right is None or not right(value):
        raise Malformed(f"{name.decode()} is none")
    if len(_proven) >= _REMEMBERED:
        _proven.clear()
    if len(value) <= _SHORT:
        _proven.add(field)


def check_values(fields: Headers) -> None:
    """8.2.1, and no control characters at all: all values at once, for a loop over them costs more than all
    else."""
    joined = b"\0".join([value for _, value in fields])
    if len(joined.translate(None, _CONTROL)) != len(joined) - len(fields) + 1:
        raise Malformed("control characters in a value")
    if b" " in joined and (b"\0 " in joined or b" \0" in joined or joined[:1] == b" " or joined[-1:] == b" "):
        raise Malformed("a space around a value")
    if b"\t" in joined and (b"\0\t" in joined or b"\t\0" in joined or joined[:1] == b"\t" or joined[-1:] == b"\t"):
        raise Malformed("a tab around a value")


def is_plain(name: bytes) -> bool:
    """Its value means nothing to the codec."""
    return name not in _KNOWN


def _length(value: bytes, before: int) -> int:
    if not _DIGITS(value):
        raise Malformed("content-length is no number")
    if before not in (-1, int(value)):
        raise Malformed("two content-lengths")
    return int(value)


class _Sorted:
    """What one pass over the fields finds."""

    __slots__ = ("cookies", "expect", "headers", "host", "length", "patient", "pseudo")

    def __init__(self, fields: Headers) -> None:
        self.headers: Headers = []
        self.pseudo: dict[bytes, bytes] = {}
        self.host: bytes | None = None
        self.length = -1
        self.expect = self.patient = False
        self.cookies: Headers = []
        append, names = self.headers.append, _names
        for field in fields:
            name = field[0]
            kind = names.get(name)
            if kind is None:
                kind = _learn(name)
            if not kind:
                append(field)
            elif kind == _PSEUDO:
                if field not in _proven:
                    _prove(field)
                if self.headers or self.host is not None or name in self.pseudo:
                    raise Malformed("a pseudo header twice, or after the others")
                self.pseudo[name] = field[1]
            else:
                self._special(kind, field)
        if fields:
            check_values(fields)

    def _special(self, kind: int, field: tuple[bytes, bytes]) -> None:
        name, value = field
        if kind == _NOTED:
            if name == b"expect":
                self.expect = value.lower() == b"100-continue"
            else:
                self.patient = value.startswith(b"application/grpc")
        elif kind == _COOKIE:
            self.cookies.append(field)
            if len(self.cookies) > 1:
                return
        elif kind == _LENGTH:
            before, self.length = self.length, _length(value, self.length)
            if before >= 0:
                return
        elif kind == _HOST:
            if self.host not in (None, value):
                raise Malformed("two hosts")
            self.host = value
            return
        elif kind == _DROPPED:
            return
        elif kind == _FRAMING or value != b"trailers":
            raise Malformed("a header of HTTP/1.1's connections")
        self.headers.append(field)

    def join_cookies(self) -> None:
        """8.2.3: crumbs are one header outside of HTTP/2. Never indexed, if one of them was."""
        if len(self.cookies) < 2:
            return
        joined = (b"cookie", b"; ".join([value for _, value in self.cookies]))
        secret = Sensitive in map(type, self.cookies)
        place = next(i for i, field in enumerate(self.headers) if field is self.cookies[0])
        self.headers[place] = Sensitive(joined) if secret else joined


def request_head(fields: Headers) -> RequestHead:
    found = _Sorted(fields)
    pseudo, host = found.pseudo, found.host
    get = pseudo.get
    method, path, scheme, authority = get(b":method"), get(b":path"), get(b":scheme"), get(b":authority")
    if method is None or b":status" in pseudo:
        raise Malformed("no method, or a response's status")
    if method == b"CONNECT":
        if path is not None or scheme is not None:
            raise Malformed("CONNECT has neither path nor scheme")
        path = scheme = b""
    elif path is None or scheme is None or (path == b"*" and method != b"OPTIONS"):
        raise Malformed("no path, or no scheme")
    if authority is None:
        if host is None or not _AUTHORITY(host):
            raise Malformed("no authority, or one that is none")
        authority = host
    elif host is not None and host != authority:
        raise Malformed("authority and host differ")
    found.join_cookies()
    named, headers = Named(found.headers), found.headers
    return RequestHead(method, path, authority, headers, scheme, found.length, found.expect, found.patient, named)


def response_head(fields: Headers) -> ResponseHead:
    found = _Sorted(fields)
    status = found.pseudo.get(b":status")
    if status is None or len(found.pseudo) > 1:
        raise Malformed("no status, or a pseudo header that no response has")
    if status == b"101":
        raise Malformed("101 is not for HTTP/2")
    if found.host is not None:
        found.headers.append((b"host", found.host))
    return ResponseHead(int(status), found.headers, found.length, dict(found.headers))


def trailers(fields: Headers) -> Headers:
    """Without content-length and host, which some HTTP/1.1 reader might take for framing."""
    found = _Sorted(fields)
    if found.pseudo:
        raise Malformed("a pseudo header in trailers")
    return [field for field in found.headers if field[0] != b"content-length"]


_STATUS: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}


def response_fields(status: int, headers: Headers) -> Headers:
    return [_STATUS[status], *headers]
