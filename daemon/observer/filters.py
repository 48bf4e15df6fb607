"""FlowFilters compiled to one function. Hubble's meaning: a filter matches when all of its fields do, a field when
one of its values does; the flow passes when no filter is on the whitelist or one of them matches, and none on the
blacklist does.

Here the command line's `--input-file` and the server meet, so this needs no gRPC. What cannot be compiled raises
ValueError with the field's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from weft.daemon.observer import matchers
from weft.daemon.observer.matchers import Match
from weft.daemon.observer.names import MessageType
from weft.policies.wire.pb import flow_pb2 as pb

#: Filters of one request, and values of one field: what people write fits, what would keep a server busy does not.
MAX_FILTERS: Final = 256
MAX_VALUES: Final = 1024


def compiled(whitelist: Sequence[pb.FlowFilter], blacklist: Sequence[pb.FlowFilter]) -> Match:
    if len(whitelist) + len(blacklist) > MAX_FILTERS:
        raise ValueError(f"{len(whitelist) + len(blacklist)} filters, at most {MAX_FILTERS}")
    allow, deny = [one(f) for f in whitelist], [one(f) for f in blacklist]
    if not allow and not deny:
        return lambda flow: True
    if not deny:
        return lambda flow: any(match(flow) for match in allow)
    return lambda flow: (not allow or any(match(flow) for match in allow)) and not any(m(flow) for m in deny)


def event_types(whitelist: Sequence[pb.FlowFilter]) -> frozenset[int] | None:
    """Types of which a flow has to be to pass; None: of any. It spares decoding what cannot match."""
    types = [wanted.type for one_of in whitelist for wanted in one_of.event_type]
    if not whitelist or 0 in types or not all(one_of.event_type for one_of in whitelist):
        return None
    return frozenset(types)


def one(wanted: pb.FlowFilter) -> Match:
    """Without any field: every flow."""
    parts: list[Match] = []
    for field, value in wanted.ListFields():
        if field.name not in FIELDS:
            raise ValueError(f"filter field {field.name} is not supported")
        if isinstance(value, Sequence) and len(value) > MAX_VALUES:
            raise ValueError(f"filter field {field.name} has {len(value)} values, at most {MAX_VALUES}")
        if field.name.startswith("http_"):
            _require_l7(field.name, wanted.event_type)
        try:
            parts.append(FIELDS[field.name](value))
        except ValueError as error:
            raise ValueError(f"invalid {field.name} filter: {error}") from None
    if len(parts) == 1:
        return parts[0]
    return lambda flow: all(part(flow) for part in parts)


def _require_l7(field: str, types: Sequence[pb.EventTypeFilter]) -> None:
    if types and all(wanted.type != MessageType.L7 for wanted in types):
        raise ValueError(f"filtering by {field} requires the event type filter to only match 'l7' events")


#: Every field of FlowFilter (a test holds them against each other).
FIELDS: Final[dict[str, Callable[[Any], Match]]] = {
    "uuid": matchers.member(lambda flow: flow.uuid),
    "source_ip": matchers.addresses(lambda flow: flow.IP.source),
    "source_ip_xlated": matchers.addresses(lambda flow: flow.IP.source_xlated),
    "source_pod": matchers.named(lambda flow: (flow.source.namespace, flow.source.pod_name)),
    "source_fqdn": matchers.fqdn(lambda flow: flow.source_names),
    "source_label": matchers.labelled(lambda flow: flow.source.labels),
    "source_service": matchers.named(lambda flow: (flow.source_service.namespace, flow.source_service.name)),
    "source_workload": matchers.workloads(lambda flow: flow.source.workloads),
    "source_cluster_name": matchers.clusters(lambda flow: flow.source.cluster_name),
    "source_port": matchers.ports(lambda l4: l4.source_port),
    "source_identity": matchers.member(lambda flow: flow.source.identity),
    "destination_ip": matchers.addresses(lambda flow: flow.IP.destination),
    "destination_pod": matchers.named(lambda flow: (flow.destination.namespace, flow.destination.pod_name)),
    "destination_fqdn": matchers.fqdn(lambda flow: flow.destination_names),
    "destination_label": matchers.labelled(lambda flow: flow.destination.labels),
    "destination_service": matchers.named(
        lambda flow: (flow.destination_service.namespace, flow.destination_service.name)
    ),
    "destination_workload": matchers.workloads(lambda flow: flow.destination.workloads),
    "destination_cluster_name": matchers.clusters(lambda flow: flow.destination.cluster_name),
    "destination_port": matchers.ports(lambda l4: l4.destination_port),
    "destination_identity": matchers.member(lambda flow: flow.destination.identity),
    "traffic_direction": matchers.member(lambda flow: flow.traffic_direction),
    "verdict": matchers.member(lambda flow: flow.verdict),
    "drop_reason_desc": matchers.dropped,
    "interface": matchers.interfaces,
    "event_type": matchers.event_types,
    "protocol": matchers.protocols,
    "reply": matchers.reply,
    "encrypted": matchers.member(lambda flow: flow.IP.encrypted),
    "ip_version": matchers.member(lambda flow: flow.IP.ipVersion),
    "tcp_flags": matchers.tcp_flags,
    "node_name": matchers.nodes,
    "node_labels": matchers.labelled(lambda flow: flow.node_labels),
    "trace_id": matchers.member(lambda flow: flow.trace_context.parent.trace_id),
    "ip_trace_id": matchers.member(lambda flow: flow.ip_trace_id.trace_id),
    "dns_query": matchers.searched(matchers.dns_query),
    "http_status_code": matchers.http_statuses,
    "http_method": matchers.http_methods,
    "http_path": matchers.searched(matchers.http_path),
    "http_url": matchers.searched(matchers.http_url),
    "http_header": matchers.http_headers,
    "experimental": matchers.experimental,
}
