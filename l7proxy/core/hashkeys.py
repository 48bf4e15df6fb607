"""The key of a request for consistent hashing: a header, a cookie, the client's address, a query parameter.

A value that is missing gives no key: the endpoint is then chosen at random. Of a cookie that is missing but has a
ttl, one is made, and the key is that of the cookie, so the next request meets the same endpoint.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from weft.l7proxy.core.hashring import hashed
from weft.l7proxy.core.stream import Headers, Peer, Request
from weft.policies.mesh.model import HashKey


class KeyMaker:
    """One for each balancer. `of` gives (key or None, Set-Cookie value or b"")."""

    __slots__ = ("_cookie", "_header", "_query", "_setting")

    def __init__(self, setting: HashKey) -> None:
        self._setting = setting
        self._header = setting.header.lower().encode()
        self._cookie, self._query = setting.cookie.encode(), setting.query.encode()

    def of(self, request: Request, peer: Peer) -> tuple[int | None, bytes]:
        if self._header:
            return self._of_header(request), b""
        if self._cookie:
            return self._of_cookie(request, peer)
        if self._setting.source_ip:
            return hashed(peer.source[0].encode()), b""
        value = _parameter(request.path, self._query) if self._query else None
        return (hashed(value) if value is not None else None), b""

    def _of_header(self, request: Request) -> int | None:
        """`host` is the authority. Several values count as one list, in any order (Envoy sorts them too)."""
        if self._header in (b"host", b":authority"):
            values = [request.authority]
        else:
            values = sorted(value for name, value in request.headers if name == self._header)
        return hashed(b",".join(values)) if values else None

    def _of_cookie(self, request: Request, peer: Peer) -> tuple[int | None, bytes]:
        value = cookie(request.headers, self._cookie)
        if value:
            return hashed(value), b""
        ttl = self._setting.cookie_ttl
        if ttl is None:
            return None, b""
        made = b"%016x" % hashed(f"{peer.source}{peer.destination}{peer.id}".encode())
        return hashed(made), self._set_cookie(made, ttl)

    def _set_cookie(self, value: bytes, ttl: float) -> bytes:
        age = b"; Max-Age=%d" % ttl if ttl else b""
        path = b"; Path=" + self._setting.cookie_path.encode() if self._setting.cookie_path else b""
        return self._cookie + b'="' + value + b'"' + age + path + b"; HttpOnly"


def cookie(headers: Headers, wanted: bytes) -> bytes:
    """The first of this name, without its quotes; b"": none."""
    for name, value in headers:
        if name != b"cookie":
            continue
        for crumb in value.split(b";"):
            key, _, found = crumb.strip().partition(b"=")
            if key == wanted:
                return found.strip(b'"')
    return b""


def _parameter(path: bytes, wanted: bytes) -> bytes | None:
    for part in path.partition(b"?")[2].partition(b"#")[0].split(b"&"):
        name, _, value = part.partition(b"=")
        if name == wanted or (b"%" in name and unquote_to_bytes(name) == wanted):
            return value
    return None
