"""Snapshot updates <-> protobuf, without loss: `from_update(to_update(x)) == x` for every update.

The cluster part travels as bytes inside the update, so that the operator encodes it once (`encode_cluster`) and
hands the same bytes to every node. Sets are written sorted: equal snapshots are equal bytes.
What is not a well-formed update raises `google.protobuf.message.DecodeError` or ValueError; the receiver keeps
what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weft.policies.delta import ClusterDelta, NodeDelta, Update
from weft.policies.labels import Labels
from weft.policies.mesh.model import Model
from weft.policies.model import Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    EndpointItem,
    IdentityItem,
    NamedPort,
    NodeItem,
    ServiceItem,
    ServicePortItem,
)
from weft.policies.wire import mesh
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.policies import from_ref, policy_item, policy_message, to_ref

__all__ = ["decode_cluster", "encode_cluster", "from_ref", "from_update", "to_ref", "to_update"]


def to_update(update: Update, cluster: bytes | None = None) -> pb.Update:
    """`cluster`: the bytes of `encode_cluster(update.cluster)` if they exist already."""
    return pb.Update(
        revision=update.revision,
        epoch=update.epoch,
        full=update.full,
        cluster=encode_cluster(update.cluster) if cluster is None else cluster,
        node=_node_delta(update.node),
    )


def from_update(message: pb.Update) -> Update:
    return Update(
        message.revision,
        message.epoch,
        message.full,
        decode_cluster(message.cluster),
        NodeDelta(
            {item.key: item for item in map(_endpoint_of, message.node.endpoints)},
            frozenset(message.node.endpoints_gone),
        ),
    )


def encode_cluster(delta: ClusterDelta) -> bytes:
    message = pb.ClusterDelta(
        identities=[pb.Identity(id=i.id, labels=i.labels.strings()) for i in delta.identities.values()],
        identities_gone=sorted(delta.identities_gone),
        addresses=map(_address, delta.addresses.values()),
        addresses_gone=sorted(delta.addresses_gone),
        nodes=map(_node, delta.nodes.values()),
        nodes_gone=sorted(delta.nodes_gone),
        services=map(_service, delta.services.values()),
        services_gone=sorted(delta.services_gone),
        policies=map(policy_message, delta.policies.values()),
        policies_gone=map(to_ref, sorted(delta.policies_gone)),
        routing=_items(delta.routing),
        routing_gone=sorted(delta.routing_gone),
        telemetry=_items(delta.telemetry),
        telemetry_gone=sorted(delta.telemetry_gone),
        settings=_items(delta.settings),
        settings_gone=sorted(delta.settings_gone),
    )
    return message.SerializeToString(deterministic=True)


def decode_cluster(data: bytes) -> ClusterDelta:
    message = pb.ClusterDelta.FromString(data)
    return ClusterDelta(
        identities={i.id: IdentityItem(i.id, Labels.parse(i.labels)) for i in message.identities},
        identities_gone=frozenset(message.identities_gone),
        addresses={a.ip: _address_of(a) for a in message.addresses},
        addresses_gone=frozenset(message.addresses_gone),
        nodes={n.name: _node_of(n) for n in message.nodes},
        nodes_gone=frozenset(message.nodes_gone),
        services={item.key: item for item in map(_service_of, message.services)},
        services_gone=frozenset(message.services_gone),
        policies={item.ref: item for item in map(policy_item, message.policies)},
        policies_gone=frozenset(map(from_ref, message.policies_gone)),
        routing={item.key: mesh.routing(item.value) for item in message.routing},
        routing_gone=frozenset(message.routing_gone),
        telemetry={item.key: mesh.telemetry(item.value) for item in message.telemetry},
        telemetry_gone=frozenset(message.telemetry_gone),
        settings={item.key: mesh.settings(item.value) for item in message.settings},
        settings_gone=frozenset(message.settings_gone),
    )


def _items(values: Mapping[str, Model]) -> Iterable[pb.Item]:
    return (pb.Item(key=key, value=mesh.encode(value)) for key, value in values.items())


# addresses, nodes and endpoints


def _node(item: NodeItem) -> pb.Node:
    return pb.Node(name=item.name, addresses=item.addresses, pod_cidrs=item.pod_cidrs, locality=item.locality)


def _node_of(m: pb.Node) -> NodeItem:
    return NodeItem(m.name, tuple(m.addresses), tuple(m.pod_cidrs), m.locality)


def _named_ports(ports: Iterable[NamedPort]) -> list[pb.NamedPort]:
    return [pb.NamedPort(name=p.name, protocol=p.protocol, port=p.port) for p in ports]


def _named_ports_of(messages: Iterable[pb.NamedPort]) -> tuple[NamedPort, ...]:
    return tuple(NamedPort(m.name, Protocol(m.protocol), m.port) for m in messages)


def _address(item: AddressItem) -> pb.Address:
    return pb.Address(
        ip=item.ip,
        identity=item.identity,
        node=item.node,
        pod=item.pod,
        named_ports=_named_ports(item.named_ports),
        workload_kind=item.workload_kind,
        workload_name=item.workload_name,
    )


def _address_of(m: pb.Address) -> AddressItem:
    ports = _named_ports_of(m.named_ports)
    return AddressItem(m.ip, m.identity, m.node, m.pod, ports, m.workload_kind, m.workload_name)


def _node_delta(delta: NodeDelta) -> pb.NodeDelta:
    return pb.NodeDelta(
        endpoints=map(_endpoint, delta.endpoints.values()), endpoints_gone=sorted(delta.endpoints_gone)
    )


def _endpoint(item: EndpointItem) -> pb.Endpoint:
    return pb.Endpoint(
        namespace=item.namespace,
        name=item.name,
        ips=item.ips,
        identity=item.identity,
        named_ports=_named_ports(item.named_ports),
        workload_kind=item.workload_kind,
        workload_name=item.workload_name,
    )


def _endpoint_of(m: pb.Endpoint) -> EndpointItem:
    ports = _named_ports_of(m.named_ports)
    return EndpointItem(m.namespace, m.name, tuple(m.ips), m.identity, ports, m.workload_kind, m.workload_name)


# services


def _service(item: ServiceItem) -> pb.Service:
    return pb.Service(
        namespace=item.namespace,
        name=item.name,
        type=item.type,
        cluster_ips=item.cluster_ips,
        headless=item.headless,
        ports=map(_service_port, item.ports),
        prefer=item.prefer,
    )


def _service_port(item: ServicePortItem) -> pb.ServicePort:
    return pb.ServicePort(
        name=item.name,
        protocol=item.protocol,
        port=item.port,
        node_port=item.node_port,
        app_protocol=item.app_protocol,
        backends=map(_backend, item.backends),
    )


def _backend(item: BackendItem) -> pb.Backend:
    weight = None if item.weight == 1 else item.weight
    return pb.Backend(
        ip=item.ip,
        port=item.port,
        node=item.node,
        pod=item.pod,
        labels=dict(item.labels),
        locality=item.locality,
        weight=weight,
    )


def _backend_of(m: pb.Backend) -> BackendItem:
    weight = m.weight if m.HasField("weight") else 1
    return BackendItem(m.ip, m.port, m.node, m.pod, tuple(sorted(m.labels.items())), m.locality, weight)


def _service_of(m: pb.Service) -> ServiceItem:
    ports = tuple(map(_service_port_of, m.ports))
    return ServiceItem(m.namespace, m.name, m.type, tuple(m.cluster_ips), ports, m.headless, m.prefer)


def _service_port_of(m: pb.ServicePort) -> ServicePortItem:
    backends = tuple(map(_backend_of, m.backends))
    return ServicePortItem(m.name, Protocol(m.protocol), m.port, m.node_port, m.app_protocol, backends)
