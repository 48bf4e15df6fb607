"""Requests that the L7 proxy carried, as Hubble's L7 flows.

In: a `weft.proxy.v1.Record` of a request that is over, and the names of that moment. Out: for each side that the
proxy stood for (EGRESS if the client is on this node, INGRESS if the server is) a request and, if there was one,
its response, with client and server exchanged. As everywhere here, a flow is made when somebody reads it.

A denied request is `http-request DROPPED`, and the 403 that its client got `http-response FORWARDED`, as Hubble has
it. What Hubble has no word for (response flags, gRPC status) stands at the end of the summary, where there is any.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from weft.daemon.observer.directory import Directory, Owner, PolicyName
from weft.daemon.observer.names import MessageType
from weft.policies.wire.pb import flow_pb2 as pb
from weft.policies.wire.pb import proxy_pb2

#: A client chooses it, and it becomes a label.
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_VERDICTS: Final = {"FORWARDED": pb.FORWARDED, "DROPPED": pb.DROPPED, "ERROR": pb.ERROR}


@dataclass(slots=True)
class L7Entry:
    """One flow of the ring, not made yet. `time_ns`: when it came, by which the ring is in order; `at_ns`: when it
    happened. `source`, `destination`: client and server, also for a response."""

    number: int
    time_ns: int
    at_ns: int
    record: proxy_pb2.Record
    response: bool
    egress: bool
    source: Owner | None
    destination: Owner | None
    policies: tuple[PolicyName, ...]

    @property
    def kind(self) -> int:
        return MessageType.L7


def is_http(record: proxy_pb2.Record) -> bool:
    """A whole request: TCP connections are told of by the programs already, and a start is no flow yet."""
    return record.protocol.startswith("HTTP/") and not record.start


def sides(record: proxy_pb2.Record) -> tuple[bool, ...]:
    """Whether egress; a record of neither side (the client of a remote node, a server of no node) is the egress of
    whoever asked."""
    if not record.ingress:
        return (True,)
    return (True, False) if record.egress else (False,)


def entries(record: proxy_pb2.Record, directory: Directory, number: int, arrived_ns: int) -> list[L7Entry]:
    """The flows of a request, numbered from `number` on. ValueError: addresses that are none."""
    client = directory.owner(packed(record.source_ip))
    server = directory.owner(packed(record.upstream_ip or record.destination_ip))
    begun, answered = record.time_ns, record.status != 0
    named = record.denied_by if record.verdict == "DROPPED" else record.allowed_by
    found: list[L7Entry] = []
    for egress in sides(record):
        policies = decisive(named, directory, egress) if named else ()
        found.append(L7Entry(number, arrived_ns, begun, record, False, egress, client, server, policies))
        number += 1
        if answered:
            over = begun + record.duration_ns
            found.append(L7Entry(number, arrived_ns, over, record, True, egress, client, server, policies))
            number += 1
    return found


def decisive(named: Iterable[str], directory: Directory, egress: bool) -> tuple[PolicyName, ...]:
    """The policies that allowed or denied it on this side."""
    return tuple(policy for text in named if (policy := directory.policy(text, egress)) is not None)


@lru_cache(8192)
def packed(address: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        raise ValueError(f"{address!r} is no address") from None


def verdict(entry: L7Entry) -> pb.Verdict:
    """That its client got an answer is true of a denied request, too."""
    said = _VERDICTS.get(entry.record.verdict, pb.VERDICT_UNKNOWN)
    return pb.FORWARDED if entry.response and said == pb.DROPPED else said


def fill(flow: pb.Flow, entry: L7Entry) -> None:
    """All of a flow but who has it and who its ends are."""
    record = entry.record
    flow.time.CopyFrom(Timestamp(seconds=entry.at_ns // 1_000_000_000, nanos=entry.at_ns % 1_000_000_000))
    flow.verdict = verdict(entry)
    flow.Type = pb.L7
    flow.event_type.type = MessageType.L7
    flow.traffic_direction = pb.EGRESS if entry.egress else pb.INGRESS
    flow.is_reply.CopyFrom(BoolValue(value=entry.response))
    flow.reply = entry.response
    _put_addresses(flow, entry)
    _put_http(flow, record, entry.response)
    flow.Summary = summary(record, entry.response)
    if record.trace_id:
        flow.trace_context.parent.trace_id = record.trace_id
    if not entry.response:
        name_policies(flow, entry.egress, entry.record.verdict == "DROPPED", entry.policies)


def _put_addresses(flow: pb.Flow, entry: L7Entry) -> None:
    record = entry.record
    client = (record.source_ip, record.source_port)
    server = (record.upstream_ip or record.destination_ip, record.upstream_port or record.destination_port)
    source, destination = (server, client) if entry.response else (client, server)
    flow.IP.source, flow.IP.destination = source[0], destination[0]
    flow.IP.ipVersion = pb.IPv6 if ":" in source[0] else pb.IPv4
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = source[1], destination[1]
    namespace, _, name = (record.destination_service or record.service).partition("/")
    if name:
        service = flow.source_service if entry.response else flow.destination_service
        service.namespace, service.name = namespace, name


def _put_http(flow: pb.Flow, record: proxy_pb2.Record, response: bool) -> None:
    flow.l7.type = pb.RESPONSE if response else pb.REQUEST
    http = flow.l7.http
    http.method, http.url, http.protocol = record.method, url(record), record.protocol
    if response:
        http.code, flow.l7.latency_ns = record.status, record.duration_ns
        return
    for header in record.headers:
        http.headers.add(key=header.name, value=header.value)


def name_policies(flow: pb.Flow, egress: bool, denied: bool, policies: tuple[PolicyName, ...]) -> None:
    """Of packets' flows, too. `egress`: they judged the source's side."""
    side = "egress" if egress else "ingress"
    field = getattr(flow, f"{side}_{'denied' if denied else 'allowed'}_by")
    for policy in policies:
        field.add(
            name=policy.name,
            namespace=policy.namespace,
            labels=policy.labels,
            revision=policy.revision,
            kind=policy.kind,
        )


def url(record: proxy_pb2.Record) -> str:
    if record.method == "CONNECT":
        return record.authority
    where = record.authority or _host_port(record.destination_ip, record.destination_port)
    return f"{record.scheme or 'http'}://{where}{record.path}"


def _host_port(host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == 80 else f"{host}:{port}"


def summary(record: proxy_pb2.Record, response: bool) -> str:
    if not response:
        return f"{record.protocol} {record.method} {url(record)}{_more(record) if not record.status else ''}"
    taken = record.duration_ns // 1_000_000
    return f"{record.protocol} {record.status} {taken}ms ({record.method} {url(record)}){_more(record)}"


def _more(record: proxy_pb2.Record) -> str:
    words = [record.flags] if record.flags not in ("", "-") else []
    if record.HasField("grpc_status") and record.grpc_status:
        words.append(f"grpc-status {record.grpc_status}")
    return f"; {', '.join(words)}" if words else ""


def method_label(method: str) -> str:
    return method if method in METHODS else "other"
