"""What a connection speaks: as its service port declares, else by the first bytes that the client sends.

In: a port's name and appProtocol; bytes. Out: a `Speech`, or UNSURE: more bytes decide. Nothing here waits, writes,
or believes a length that a stranger sent beyond the bytes that are there.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final


class Speech(enum.Enum):
    HTTP1 = "http1"
    HTTP2 = "http2"
    TLS = "tls"
    TCP = "tcp"
    UNSURE = ""


class Declared(enum.Enum):
    """What a service port says. HTTP: HTTP/1.1 or HTTP/2, as the client likes. NOTHING: by the first bytes."""

    HTTP = "http"
    TLS = "tls"
    TCP = "tcp"
    NOTHING = ""


_DECLARED: Final = {
    "http": Declared.HTTP,
    "http2": Declared.HTTP,
    "h2c": Declared.HTTP,
    "grpc": Declared.HTTP,
    "grpc-web": Declared.HTTP,
    "kubernetes.io/h2c": Declared.HTTP,
    "kubernetes.io/ws": Declared.HTTP,
    "kubernetes.io/wss": Declared.TLS,
    "https": Declared.TLS,
    "tls": Declared.TLS,
    "tcp": Declared.TCP,
    "mongo": Declared.TCP,
    "mysql": Declared.TCP,
    "redis": Declared.TCP,
}


def declared(port_name: str, app_protocol: str) -> Declared:
    """appProtocol decides if it is one we know; else the port's name, `http` or `http-...`."""
    if app_protocol:
        found = _DECLARED.get(app_protocol.lower())
        if found is not None:
            return found
    name = port_name.lower()
    if name.startswith("grpc-web"):
        return Declared.HTTP
    return _DECLARED.get(name.partition("-")[0], Declared.NOTHING)


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: A request line, or a TLS client hello, longer than that is nobody's we know.
MOST: Final = 16 << 10
_LINE: Final = re.compile(rb"(?:\r?\n){0,4}[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [^\r\n]* HTTP/1\.[0-9]\r?\n")
#: What may still become a request line: a method that the codec speaks, or the beginning of one. A client that
#: sends anything else is not kept waiting for the rest of a line that it never meant to send.
_BEGUN: Final = re.compile(rb"(?:\r?\n){0,4}(?:\r|([A-Z-]{1,16})( [^\r\n]*\r?)?)?\Z")
_METHODS: Final = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND"
    b" REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE"
    b" MKCALENDAR LINK UNLINK SOURCE QUERY".split()
)
_BEGINNINGS: Final = frozenset(method[:size] for method in _METHODS for size in range(1, len(method) + 1))


def speech(data: bytes) -> Speech:
    """TLS: a client hello has begun; `server_name` says for whom."""
    if data.startswith(PREFACE):
        return Speech.HTTP2
    if PREFACE.startswith(data):
        return Speech.UNSURE
    if data[0] == 0x16:
        return _tls(data)
    if _LINE.match(data):
        return Speech.HTTP1
    return Speech.UNSURE if len(data) < MOST and _request_begun(data) else Speech.TCP


def _request_begun(data: bytes) -> bool:
    begun = _BEGUN.match(data)
    if begun is None:
        return False
    method, rest = begun.groups()
    return method is None or method in (_METHODS if rest else _BEGINNINGS)


def http_speech(data: bytes) -> Speech:
    """On a port that is declared HTTP: whatever is no HTTP/2 is left to HTTP/1.1, which refuses it in its words."""
    if data.startswith(PREFACE):
        return Speech.HTTP2
    return Speech.UNSURE if PREFACE.startswith(data) else Speech.HTTP1


def _tls(data: bytes) -> Speech:
    if len(data) < 6:
        return Speech.UNSURE if data[1:2] in (b"", b"\x03") else Speech.TCP
    return Speech.TLS if data[1] == 3 and data[5] == 1 else Speech.TCP


@dataclass(frozen=True, slots=True)
class Hello:
    """`complete` False: more bytes may tell. `name`: the server's, lower case; "": none was sent."""

    complete: bool
    name: str = ""
    protocols: tuple[str, ...] = ()


def client_hello(data: bytes) -> Hello:
    """The server's name and the application protocols in a TLS client hello (RFC 8446, 4.1.2; RFC 6066, 3)."""
    body = _handshake(data)
    if body is None:
        return Hello(len(data) >= MOST)
    extensions = dict(_extensions(body))
    return Hello(True, _server_name(extensions.get(0, b"")), _protocols(extensions.get(16, b"")))


def _handshake(data: bytes) -> bytes | None:
    """The hello's body, put together from its records; None: not whole yet."""
    pieces, at = b"", 0
    while at + 5 <= len(data) and data[at] == 0x16:
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        pieces += data[at + 5 : at + 5 + size]
        if at + 5 + size > len(data):
            break
        at += 5 + size
        if size == 0:
            break
    if len(pieces) < 4:
        return None
    size = int.from_bytes(pieces[1:4], "big")
    return pieces[4 : 4 + size] if len(pieces) >= 4 + size else None


def _extensions(body: bytes) -> list[tuple[int, bytes]]:
    """(type, value). Whatever is cut or lies about its length ends the list."""
    at = 34  # version and random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(body[at : at + width], "big")
    end = min(len(body), at + 2 + int.from_bytes(body[at : at + 2], "big"))
    at += 2
    found = []
    while at + 4 <= end:
        kind, size = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if at + 4 + size > end:
            break
        found.append((kind, body[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


_NAME: Final = re.compile(r"[a-z0-9_.-]{1,253}")


def _server_name(value: bytes) -> str:
    if len(value) < 5 or value[2] != 0:
        return ""
    size = int.from_bytes(value[3:5], "big")
    name = value[5 : 5 + size].decode("latin-1").lower().rstrip(".")
    return name if size == len(value) - 5 and _NAME.fullmatch(name) else ""


def _protocols(value: bytes) -> tuple[str, ...]:
    found, at = [], 2
    while at < len(value):
        size = value[at]
        found.append(value[at + 1 : at + 1 + size].decode("latin-1"))
        at += 1 + size
    return tuple(found)
