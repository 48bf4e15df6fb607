"""Cross-origin requests (F23), as Envoy's filter does it.

A preflight (OPTIONS with Origin and Access-Control-Request-Method) is answered here; the response to any other
request of an allowed origin gets the headers that the browser asks for.
"""

from __future__ import annotations

from weft.l7proxy.core.stream import Headers
from weft.policies.mesh.matching import value_test
from weft.policies.mesh.model import Cors

Head = dict[bytes, bytes]


class CorsPolicy:
    """One rule's policy, compiled."""

    __slots__ = ("_credentials", "_expose", "_forward", "_headers", "_max_age", "_methods", "_origins")

    def __init__(self, cors: Cors) -> None:
        self._origins = [value_test(matcher) for matcher in cors.allow_origins]
        self._methods = ",".join(cors.allow_methods).encode()
        self._headers = ",".join(cors.allow_headers).encode()
        self._expose = ",".join(cors.expose_headers).encode()
        self._max_age = None if cors.max_age is None else b"%d" % cors.max_age
        self._credentials, self._forward = cors.allow_credentials, cors.forward_unmatched

    def origin(self, head: Head) -> bytes:
        """The origin of the request if it is an allowed one, else b""."""
        given = head.get(b"origin", b"")
        return given if given and any(test(given) for test in self._origins) else b""

    def preflight(self, method: bytes, head: Head, origin: bytes) -> Headers | None:
        """The headers of the answer (200, no body); None: it is none of ours and goes on. What may be read of the
        response itself is of no use to a browser here; Envoy says it all the same."""
        asked = head.get(b"access-control-request-method", b"")
        if method != b"OPTIONS" or not head.get(b"origin") or not asked:
            return None
        if not origin:
            return None if self._forward else []
        headers = self._common(origin)
        self._add(headers, b"access-control-allow-methods", self._methods, asked)
        wanted = head.get(b"access-control-request-headers", b"")
        self._add(headers, b"access-control-allow-headers", self._headers, wanted)
        if self._expose:
            headers.append((b"access-control-expose-headers", self._expose))
        if self._max_age is not None:
            headers.append((b"access-control-max-age", self._max_age))
        return headers

    def response(self, origin: bytes) -> Headers:
        """What a response to an allowed origin says besides; it overwrites what the server said of these."""
        headers = self._common(origin)
        if self._expose:
            headers.append((b"access-control-expose-headers", self._expose))
        return headers

    def _common(self, origin: bytes) -> Headers:
        headers = [(b"access-control-allow-origin", origin)]
        if self._credentials:
            headers.append((b"access-control-allow-credentials", b"true"))
        return headers

    @staticmethod
    def _add(headers: Headers, name: bytes, value: bytes, asked: bytes) -> None:
        """`*` allows what is asked for."""
        value = asked if value == b"*" else value
        if value:
            headers.append((name, value))
