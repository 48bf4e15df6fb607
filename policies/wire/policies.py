"""Policies with their selectors resolved <-> protobuf: a part of `convert`, by the same rule."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network

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
from weft.policies.snapshot import PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec
from weft.policies.wire.pb import control_pb2 as pb


def to_ref(ref: ObjectRef) -> pb.ObjectRef:
    return pb.ObjectRef(kind=ref.kind, namespace=ref.namespace, name=ref.name)


def from_ref(message: pb.ObjectRef) -> ObjectRef:
    return ObjectRef(message.kind, message.namespace, message.name)


def policy_message(item: PolicyItem) -> pb.Policy:
    specs = [_spec(item.ref, spec) for spec in item.specs]
    return pb.Policy(ref=to_ref(item.ref), revision=item.revision, labels=item.labels, specs=specs)


def policy_item(m: pb.Policy) -> PolicyItem:
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
