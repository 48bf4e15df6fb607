"""Snapshot updates <-> protobuf, without loss: `from_update(to_update(x)) == x` for every update.

The cluster part travels as bytes inside the update, so that the operator encodes it once (`encode_cluster`) and
hands the same bytes to every node. Sets are written sorted: equal snapshots are equal bytes.
What is not a well-formed update raises `google.protobuf.message.DecodeError` or ValueError; the receiver keeps
what it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_network

from weft.policies.delta import ClusterDelta, NodeDelta, Update
from weft.policies.labels import Labels
from weft.policies.model import (
    L7,
    Action,
    CidrPeer,
    Direction,
    HeaderMatch,
    HttpRule,
    ObjectRef,
    Origin,
    PortSpec,
    Protocol,
    Tier,
)
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    EndpointItem,
    IdentityItem,
    NamedPort,
    NodeItem,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
)
from weft.policies.wire.pb import control_pb2 as pb


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
        nodes=[pb.Node(name=n.name, addresses=n.addresses, pod_cidrs=n.pod_cidrs) for n in delta.nodes.values()],
        nodes_gone=sorted(delta.nodes_gone),
        services=map(_service, delta.services.values()),
        services_gone=sorted(delta.services_gone),
        policies=map(_policy, delta.policies.values()),
        policies_gone=map(to_ref, sorted(delta.policies_gone)),
    )
    return message.SerializeToString(deterministic=True)


def decode_cluster(data: bytes) -> ClusterDelta:
    message = pb.ClusterDelta.FromString(data)
    return ClusterDelta(
        identities={i.id: IdentityItem(i.id, Labels.parse(i.labels)) for i in message.identities},
        identities_gone=frozenset(message.identities_gone),
        addresses={a.ip: _address_of(a) for a in message.addresses},
        addresses_gone=frozenset(message.addresses_gone),
        nodes={n.name: NodeItem(n.name, tuple(n.addresses), tuple(n.pod_cidrs)) for n in message.nodes},
        nodes_gone=frozenset(message.nodes_gone),
        services={item.key: item for item in map(_service_of, message.services)},
        services_gone=frozenset(message.services_gone),
        policies={item.ref: item for item in map(_policy_of, message.policies)},
        policies_gone=frozenset(map(from_ref, message.policies_gone)),
    )


def to_ref(ref: ObjectRef) -> pb.ObjectRef:
    return pb.ObjectRef(kind=ref.kind, namespace=ref.namespace, name=ref.name)


def from_ref(message: pb.ObjectRef) -> ObjectRef:
    return ObjectRef(message.kind, message.namespace, message.name)


# addresses and endpoints


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
    )


def _service_port(item: ServicePortItem) -> pb.ServicePort:
    return pb.ServicePort(
        name=item.name,
        protocol=item.protocol,
        port=item.port,
        node_port=item.node_port,
        app_protocol=item.app_protocol,
        backends=[pb.Backend(ip=b.ip, port=b.port, node=b.node, pod=b.pod) for b in item.backends],
    )


def _service_of(m: pb.Service) -> ServiceItem:
    ports = tuple(map(_service_port_of, m.ports))
    return ServiceItem(m.namespace, m.name, m.type, tuple(m.cluster_ips), ports, m.headless)


def _service_port_of(m: pb.ServicePort) -> ServicePortItem:
    backends = tuple(BackendItem(b.ip, b.port, b.node, b.pod) for b in m.backends)
    return ServicePortItem(m.name, Protocol(m.protocol), m.port, m.node_port, m.app_protocol, backends)


# policies


def _policy(item: PolicyItem) -> pb.Policy:
    specs = [_spec(item.ref, spec) for spec in item.specs]
    return pb.Policy(ref=to_ref(item.ref), revision=item.revision, labels=item.labels, specs=specs)


def _policy_of(m: pb.Policy) -> PolicyItem:
    ref = from_ref(m.ref)
    return PolicyItem(ref, m.revision, tuple(m.labels), tuple(_spec_of(ref, spec) for spec in m.specs))


def _spec(ref: ObjectRef, spec: ResolvedSpec) -> pb.Spec:
    return pb.Spec(
        subjects=_sorted(spec.subjects),
        default_deny_ingress=spec.default_deny_ingress,
        default_deny_egress=spec.default_deny_egress,
        rules=[_rule(ref, rule) for rule in spec.rules],
        log=spec.log,
    )


def _spec_of(ref: ObjectRef, m: pb.Spec) -> ResolvedSpec:
    return ResolvedSpec(
        frozenset(m.subjects),
        m.default_deny_ingress,
        m.default_deny_egress,
        tuple(_rule_of(ref, rule) for rule in m.rules),
        m.log,
    )


def _rule(ref: ObjectRef, rule: ResolvedRule) -> pb.Rule:
    if rule.origin.ref != ref:
        raise ValueError(f"a rule of {rule.origin.ref} cannot travel inside {ref}")
    return pb.Rule(
        path=rule.origin.path,
        direction=rule.direction,
        action=rule.action,
        peers=_peers(rule.peers),
        all_ports=rule.ports is None,
        ports=map(_port, rule.ports or ()),
        l7=None if rule.l7 is None else pb.L7(http=map(_http, rule.l7.http)),
        tier=rule.tier,
        priority=rule.priority,
    )


def _rule_of(ref: ObjectRef, m: pb.Rule) -> ResolvedRule:
    return ResolvedRule(
        origin=Origin(ref, m.path),
        direction=Direction(m.direction),
        action=Action(m.action),
        peers=_peers_of(m.peers),
        ports=None if m.all_ports else tuple(map(_port_of, m.ports)),
        l7=L7(tuple(map(_http_of, m.l7.http))) if m.HasField("l7") else None,
        tier=Tier(m.tier),
        priority=m.priority,
    )


def _peers(peers: ResolvedPeers) -> pb.Peers:
    return pb.Peers(
        any=peers.any,
        identities=_sorted(peers.identities),
        cidrs=map(_cidr, peers.cidrs),
        world_ipv4=peers.world_ipv4,
        world_ipv6=peers.world_ipv6,
    )


def _peers_of(m: pb.Peers) -> ResolvedPeers:
    cidrs = tuple(map(_cidr_of, m.cidrs))
    return ResolvedPeers(m.any, frozenset(m.identities), cidrs, m.world_ipv4, m.world_ipv6)


@lru_cache(maxsize=16)
def _sorted(numbers: frozenset[int]) -> tuple[int, ...]:
    """Many policies share one large set ("cluster"); one update sorts it once."""
    return tuple(sorted(numbers))


def _cidr(peer: CidrPeer) -> pb.Cidr:
    return pb.Cidr(cidr=str(peer.cidr), excepts=map(str, peer.excepts), includes_pods=peer.includes_pods)


def _cidr_of(m: pb.Cidr) -> CidrPeer:
    return CidrPeer(ip_network(m.cidr), tuple(map(ip_network, m.excepts)), m.includes_pods)


def _port(port: PortSpec) -> pb.Port:
    return pb.Port(protocol=port.protocol, port=port.port, end_port=port.end_port, name=port.name)


def _port_of(m: pb.Port) -> PortSpec:
    return PortSpec(Protocol(m.protocol), m.port, m.end_port, m.name)


def _http(rule: HttpRule) -> pb.HttpRule:
    headers = map(_header, rule.headers)
    return pb.HttpRule(
        path=rule.path, method=rule.method, host=rule.host, headers=headers, spec_path=rule.spec_path
    )


def _http_of(m: pb.HttpRule) -> HttpRule:
    return HttpRule(m.path, m.method, m.host, tuple(map(_header_of, m.headers)), m.spec_path)


def _header(match: HeaderMatch) -> pb.HeaderMatch:
    namespace, name = match.secret or ("", "")
    return pb.HeaderMatch(
        name=match.name,
        value=match.value,
        mismatch=match.mismatch,
        secret_namespace=namespace,
        secret_name=name,
    )


def _header_of(m: pb.HeaderMatch) -> HeaderMatch:
    secret = (m.secret_namespace, m.secret_name) if m.secret_name else None
    return HeaderMatch(m.name, m.value if m.HasField("value") else None, m.mismatch, secret)
