"""Access log lines: Istio's default text, a format of Envoy's command operators, or JSON of such formats.

A format is taken apart once; a line is then one call for each piece. What a client sent is written so that it
cannot end the line or the quotes that it stands in: quotes, backslashes and control characters become `\\xNN`.
An operator that is not known writes "-", and `unknown` names it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from weft.l7proxy.core.record import Entry

DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)

Piece = Callable[[Entry], str]
_OPERATOR = re.compile(r"%([A-Z_0-9]+)(?:\(([^)]*)\))?(?::(\d+))?%|%%")
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f-\x9f]')


def escaped(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _safe(value: bytes | str) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return escaped(text) if _UNSAFE.search(text) else text


class Line:
    """A compiled text format."""

    def __init__(self, text: str = "") -> None:
        self.unknown: list[str] = []
        self._pieces = [self._piece(part) for part in _parts(text or DEFAULT)]

    def render(self, entry: Entry) -> str:
        return "".join([piece(entry) for piece in self._pieces])

    def _piece(self, part: re.Match[str] | str) -> Piece:
        if isinstance(part, str):
            return lambda entry: part
        name, argument, length = part[1], part[2] or "", part[3]
        piece = _header(name, argument) or _OPERATORS.get(name) or _time(name, argument)
        if piece is None:
            self.unknown.append(f"%{name}%")
            return lambda entry: "-"
        if length is None:
            return piece
        most, whole = int(length), piece
        return lambda entry: whole(entry)[:most]


class JsonLine:
    """One object a line, each value a text format of its own; a value that is a number alone is written as one."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields = [(label, Line(text)) for label, text in fields]

    @property
    def unknown(self) -> list[str]:
        return [name for _, line in self._fields for name in line.unknown]

    def render(self, entry: Entry) -> str:
        values = {label: _typed(line.render(entry)) for label, line in self._fields}
        return json.dumps(values, separators=(",", ":")) + "\n"


def _typed(text: str) -> str | int | None:
    if text == "-":
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


def _parts(text: str) -> Iterable[re.Match[str] | str]:
    at = 0
    for match in _OPERATOR.finditer(text):
        if match.start() > at:
            yield text[at : match.start()]
        yield "%" if match[0] == "%%" else match
        at = match.end()
    if at < len(text):
        yield text[at:]


# the operators


def _header(kind: str, argument: str) -> Piece | None:
    """REQ(NAME?OTHER): the first that is there."""
    if kind not in ("REQ", "RESP"):
        return None
    names = [name.strip().lower().encode() for name in argument.split("?")]
    request = kind == "REQ"

    def piece(entry: Entry) -> str:
        for name in names:
            value = _pseudo(entry, name) if name.startswith(b":") else None
            for header, given in entry.headers if request else entry.response_headers:
                if header == name:
                    value = given
                    break
            if value:
                return _safe(value)
        return "-"

    return piece


def _pseudo(entry: Entry, name: bytes) -> bytes:
    return {
        b":method": entry.method,
        b":path": entry.path,
        b":authority": entry.authority,
        b":scheme": entry.scheme,
        b":status": str(entry.status).encode(),
    }.get(name, b"")


def _time(name: str, argument: str) -> Piece | None:
    """START_TIME, with strftime's letters in brackets; by itself ISO 8601 with milliseconds."""
    if name != "START_TIME":
        return None
    if argument:
        return lambda entry: datetime.fromtimestamp(entry.started_wall, UTC).strftime(argument)
    return lambda entry: iso(entry.started_wall)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _address(ip: str, port: int) -> str:
    if not ip:
        return "-"
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _upstream_host(entry: Entry) -> str:
    return _address(entry.endpoint.ip, entry.endpoint.port) if entry.endpoint is not None else "-"


def _client(entry: Entry) -> str:
    return entry.client.ip if entry.client is not None else ""


_OPERATORS: dict[str, Piece] = {
    "PROTOCOL": lambda e: "-" if e.protocol == "TCP" else e.protocol,
    "RESPONSE_CODE": lambda e: str(e.status),
    "RESPONSE_FLAGS": lambda e: e.flags or "-",
    "RESPONSE_CODE_DETAILS": lambda e: e.details.replace(" ", "_") or "-",
    "CONNECTION_TERMINATION_DETAILS": lambda e: "-",
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda e: _safe(e.failure) or "-",
    "BYTES_RECEIVED": lambda e: str(e.request_bytes),
    "BYTES_SENT": lambda e: str(e.response_bytes),
    "DURATION": lambda e: str(int((e.ended - e.started) * 1000)),
    "RESPONSE_DURATION": lambda e: "-" if e.upstream_time is None else str(int(e.upstream_time * 1000)),
    "UPSTREAM_HOST": _upstream_host,
    "UPSTREAM_CLUSTER": lambda e: e.cluster or "-",
    "UPSTREAM_LOCAL_ADDRESS": lambda e: _address(*e.upstream_local) if e.upstream_local else "-",
    "DOWNSTREAM_LOCAL_ADDRESS": lambda e: _address(e.destination_ip, e.destination_port),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda e: e.destination_ip or "-",
    "DOWNSTREAM_LOCAL_PORT": lambda e: str(e.destination_port),
    "DOWNSTREAM_REMOTE_ADDRESS": lambda e: _address(_client(e), e.source_port),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda e: _client(e) or "-",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda e: _address(_client(e), e.source_port),
    "REQUESTED_SERVER_NAME": lambda e: "-",
    "ROUTE_NAME": lambda e: _safe(e.route).replace(" ", "_") or "default",
    "GRPC_STATUS_NUMBER": lambda e: "-" if e.grpc_status is None else str(e.grpc_status),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda e: str(e.tries),
}
