"""Questions about flows and their answers as JSON: the contract of `weft policy verdict`, line by line.

A question: `{"id", "from", "to", "port", "protocol", "http": {"method", "path", "host", "headers"}}`. `protocol` is
TCP, UDP, SCTP, ICMPv4 or ICMPv6, TCP if missing; `port` is the destination's, the service's for a Service, the
type for ICMP (missing: echo request). `http` missing or null: no request is judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.policies import wording
from weft.policies.l7 import Request
from weft.policies.model import ObjectRef, Origin, Protocol
from weft.policies.nearest import Miss
from weft.policies.routed import Routed
from weft.policies.sides import Http, Side
from weft.policies.table import TableOverflow
from weft.policies.verdict import Answer, Judge
from weft.policies.world import Unknown

PROTOCOLS = {
    "TCP": Protocol.TCP,
    "UDP": Protocol.UDP,
    "SCTP": Protocol.SCTP,
    "ICMP": Protocol.ICMP,
    "ICMPV4": Protocol.ICMP,
    "ICMPV6": Protocol.ICMPV6,
}
ECHO_REQUEST = {Protocol.ICMP: 8, Protocol.ICMPV6: 128}


class BadQuestion(ValueError):
    """What is wrong with a question, by its field."""


@dataclass(frozen=True, slots=True)
class Question:
    source: str
    to: str
    protocol: Protocol
    port: int
    request: Request | None = None


def question(fields: Mapping[str, Any]) -> Question:
    """Raises BadQuestion."""
    protocol = _protocol(fields.get("protocol"))
    port = _port(fields.get("port"), protocol)
    request = None if fields.get("http") is None else _request(fields["http"], protocol)
    return Question(_text(fields, "from"), _text(fields, "to"), protocol, port, request)


def _text(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise BadQuestion(f"{name}: must be a string" if name in fields else f"{name}: missing")
    return value


def _protocol(value: Any) -> Protocol:
    found = PROTOCOLS.get(value.upper()) if isinstance(value, str) else None
    if value is None:
        return Protocol.TCP
    if found is None:
        raise BadQuestion(f"protocol: {value!r} is none of TCP, UDP, SCTP, ICMPv4, ICMPv6")
    return found


def _port(value: Any, protocol: Protocol) -> int:
    typed = protocol in ECHO_REQUEST
    if value is None and typed:
        return ECHO_REQUEST[protocol]
    if value is None:
        raise BadQuestion("port: missing")
    if isinstance(value, float) and value.is_integer():  # 8e1 is a way to write 80
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    first, last = (0, 255) if typed else (1, 65535)
    if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
        raise BadQuestion(f"port: must be a number from {first} to {last}")
    return value


def _request(value: Any, protocol: Protocol) -> Request:
    if not isinstance(value, dict):
        raise BadQuestion("http: must be an object")
    if protocol is not Protocol.TCP:
        raise BadQuestion("http: needs protocol TCP")
    given = {f"http.{name}": found for name, found in value.items() if found is not None}
    headers = _headers(value.get("headers"))
    host = _text(given, "http.host", ",".join(headers.get("host", ())))
    if host:
        headers.setdefault("host", (host,))
    return Request(_text(given, "http.method", "GET"), _text(given, "http.path", "/"), host, headers)


def _headers(value: Any) -> dict[str, tuple[str, ...]]:
    """An object of name to string or list of strings; names mean the same in any case."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadQuestion("http.headers: must be an object")
    headers: dict[str, tuple[str, ...]] = {}
    for name, given in value.items():
        values = given if isinstance(given, list) else [given]
        if not all(isinstance(one, str) for one in values):
            raise BadQuestion(f"http.headers.{name}: must be a string or a list of strings")
        headers[name.lower()] = headers.get(name.lower(), ()) + tuple(values)
    return headers


def answer_line(judge: Judge, line: str) -> tuple[dict[str, Any], bool]:
    """The answer to one line of a batch, and whether it is one: a bad line answers `{"id", "error"}`."""
    number: Any = None
    try:
        fields = json.loads(line.removeprefix("\ufeff"), parse_constant=_no_constant)
        if not isinstance(fields, dict):
            raise BadQuestion("a line must be a JSON object")
        number = fields.get("id")
        asked = question(fields)
        found = judge.judge(asked.source, asked.to, asked.protocol, asked.port, asked.request)
    except json.JSONDecodeError as error:
        return {"id": None, "error": f"not JSON: {error}"}, False
    except (BadQuestion, Unknown, TableOverflow) as error:
        return {"id": number, "error": str(error)}, False
    except RecursionError:
        return {"id": number, "error": "nested too deeply"}, False
    return {"id": number, **answer_json(found)}, True


def _no_constant(text: str) -> None:
    raise BadQuestion(f"not JSON: {text}")


def answer_json(answer: Answer) -> dict[str, Any]:
    out: dict[str, Any] = {
        "verdict": _verdict(answer.allowed),
        "redirected": answer.redirected,
        "reason": answer.reason,
        "from": answer.source,
        "to": answer.to,
        "port": answer.port,
        "protocol": wording.protocol_name(answer.protocol),
        "egress": side_json(answer.egress),
        "ingress": side_json(answer.ingress),
    }
    if answer.http is not None:
        out["http"] = http_json(answer.http)
    if answer.service:
        out["service"] = answer.service
        out["backends"] = [
            {"to": one.to, "port": one.port, "verdict": _verdict(one.allowed), "reason": one.reason}
            for one in answer.backends
        ]
    if answer.route is not None:
        out["route"] = route_json(answer.route)
    return out


def route_json(routed: Routed) -> dict[str, Any]:
    """`origin` missing: no route is for this client, though the proxy carries it."""
    out: dict[str, Any] = {}
    origin = routed.origin
    if origin is not None:
        out |= {"kind": origin.kind, "namespace": origin.namespace, "name": origin.name, "path": origin.path}
    if routed.answer:
        out["answer"] = routed.status
    out["destinations"] = [
        {
            "host": target.destination.host,
            "subset": target.destination.subset,
            "port": target.destination.port,
            "weight": target.destination.weight,
            "problem": target.why,
        }
        for target in routed.targets
    ]
    return out


def side_json(side: Side | None) -> dict[str, Any]:
    """Empty: the flow never got to that end."""
    if side is None:
        return {}
    out: dict[str, Any] = {
        "verdict": _verdict(side.allowed),
        "judged": side.judged,
        "redirected": side.redirected,
        "match": wording.MATCHES[side.match],
        "reason": side.reason,
        "rules": [origin_json(rule) for rule in side.rules],
        "enforced_by": [ref_json(ref) for ref in side.enforced_by],
    }
    if side.nearest is not None:
        out["nearest"] = miss_json(side.nearest)
    return out


def http_json(http: Http) -> dict[str, Any]:
    out: dict[str, Any] = {
        "verdict": _verdict(http.allowed),
        "judged": http.judged,
        "reason": http.reason,
        "rules": [{**ref_json(rule.ref), "path": path or rule.path} for rule, path in http.rules],
    }
    if http.nearest is not None:
        out["nearest"] = miss_json(http.nearest)
    return out


def miss_json(miss: Miss) -> dict[str, Any]:
    return {**origin_json(miss.rule), "failed": miss.failed, "detail": miss.detail}


def origin_json(origin: Origin) -> dict[str, Any]:
    return {**ref_json(origin.ref), "path": origin.path}


def ref_json(ref: ObjectRef) -> dict[str, Any]:
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _verdict(allowed: bool) -> str:
    return "ALLOWED" if allowed else "DENIED"
