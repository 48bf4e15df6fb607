"""Entries that are over -> the daemon's records, of which it makes flows.

Paths, authorities and header values are a stranger's: cut to what a flow may hold, and of headers only those
that are safe to show (no credentials, no cookies)."""

from __future__ import annotations

from typing import Final

from weft.l7proxy.core.record import Entry
from weft.policies.wire.pb import proxy_pb2 as pb

#: Bytes of a text.
MOST: Final = 2048
SHOWN: Final = frozenset(
    {
        b"user-agent",
        b"x-request-id",
        b"content-type",
        b"content-length",
        b"x-forwarded-for",
        b"traceparent",
        b"accept",
    }
)
_NS = 1_000_000_000


def record(entry: Entry, trace: str = "", *, start: bool = False) -> pb.Record:
    client, endpoint = entry.client, entry.endpoint
    message = pb.Record(
        time_ns=int(entry.started_wall * _NS),
        start=start,
        source_port=entry.source_port,
        destination_ip=entry.destination_ip,
        destination_port=entry.destination_port,
        service=entry.service,
        destination_service=entry.destination,
        egress=client is not None and client.local,
        protocol=entry.protocol,
        grpc=entry.grpc,
        method=_text(entry.method),
        scheme=_text(entry.scheme),
        authority=_text(entry.authority),
        path=_text(entry.path),
        route=entry.route,
        trace_id=trace,
        request_id=_text(entry.request_id),
        id=entry.id,
        tries=entry.tries,
        headers=[pb.Header(name=_text(n), value=_text(v)) for n, v in entry.headers if n in SHOWN],
    )
    if client is not None:
        message.source_ip, message.source_identity = client.ip, client.identity
    if not start:
        _ended(message, entry)
    if endpoint is not None:
        message.upstream_ip, message.upstream_port = endpoint.ip, endpoint.port
        message.destination_identity = endpoint.workload.identity
        message.ingress = endpoint.workload.local
    if entry.upstream_local is not None:
        message.upstream_local_port = entry.upstream_local[1]
    return message


def _ended(message: pb.Record, entry: Entry) -> None:
    message.duration_ns = max(0, int((entry.ended - entry.started) * _NS))
    message.status, message.flags, message.details = entry.status, entry.flags or "-", entry.details[:MOST]
    if entry.upstream_time is not None:
        message.latency_ns = max(0, int(entry.upstream_time * _NS))
    if entry.grpc_status is not None and entry.grpc_status >= 0:
        message.grpc_status = entry.grpc_status
    message.request_bytes, message.response_bytes = entry.request_bytes, entry.response_bytes
    message.verdict = entry.verdict
    message.allowed_by.extend(entry.allowed_by)
    message.denied_by.extend(entry.denied_by)


def _text(value: bytes) -> str:
    return value[:MOST].decode("latin-1")
