"""What the rules say about one packet, read rule by rule: the oracle for `compile` and for the programs.

Written from the specification and from nothing else; slow and plain on purpose. It knows no prefixes, no CIDR
identities, no groups, no order of lookups. Where this file and a table disagree, one of them is a bug.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from weft.policies.identity import DNS, HOST
from weft.policies.model import Action, CidrPeer, Direction, PortSpec, Protocol
from weft.policies.snapshot import NamedPort, ResolvedPeers, ResolvedRule, ResolvedSpec
from weft.policies.table import MatchType, Verdict


@dataclass(frozen=True, slots=True)
class PeerView:
    """The other end. `address` only where nothing in the cluster owns it: then CIDRs and the world can mean it,
    and `identity` cannot; else `identity` decides (C1). `ports`: what its workloads name (egress, P3)."""

    identity: int = 0
    address: IPv4Address | IPv6Address | None = None
    ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Packet:
    """`subject`: the identity of the endpoint that judges, `subject_ports` what it names. `port`: the
    destination's; the type for ICMP and ICMPv6."""

    direction: Direction
    subject: int
    peer: PeerView
    protocol: int
    port: int
    subject_ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """`rules`: those that decided, none for a default or one of Weft's own exceptions. For REDIRECT also the
    plain allows beside the L7 rules. `explicit`: a rule or exception said so, not the default."""

    verdict: Verdict
    match: MatchType
    rules: tuple[ResolvedRule, ...]
    bypass: bool = False
    explicit: bool = True


class Field(enum.Enum):
    """Which part of a rule a packet fails first; the order is how far it came."""

    PEER = "peer"
    PROTOCOL = "protocol"
    PORT = "port"


def judge(specs: Iterable[ResolvedSpec], packet: Packet) -> Judgement:
    selecting = [spec for spec in specs if packet.subject in spec.subjects]
    rules = [rule for spec in selecting for rule in spec.rules if matches(rule, packet)]
    for tier in sorted({rule.tier for rule in rules}):
        said = judge_tier([rule for rule in rules if rule.tier == tier], packet)
        if said is not None:
            return said
    enforced = any(default_deny(spec, packet.direction) for spec in selecting)
    if not enforced:
        return Judgement(Verdict.ALLOW, MatchType.NONE, (), explicit=False)
    if excepted(packet):
        match = MatchType.L3_ONLY if packet.direction is Direction.INGRESS else MatchType.L3_L4
        return Judgement(Verdict.ALLOW, match, ())
    return Judgement(Verdict.DENY, MatchType.NONE, (), explicit=False)


def judge_tier(rules: Sequence[ResolvedRule], packet: Packet) -> Judgement | None:
    """None: the tier passes, or says nothing."""
    for priority in sorted({rule.priority for rule in rules}):
        level = [rule for rule in rules if rule.priority == priority]
        denies = [rule for rule in level if rule.action is Action.DENY]
        allows = [rule for rule in level if rule.action is Action.ALLOW and rule.l7 is None]
        redirects = [rule for rule in level if rule.action is Action.ALLOW and rule.l7 is not None]
        if denies:  # D2: whatever the specificity
            return Judgement(Verdict.DENY, match_type(denies, packet), tuple(denies))
        if redirects:  # L8, L9: still to the proxy beside a plain allow
            match = match_type(redirects, packet)
            return Judgement(Verdict.REDIRECT, match, (*redirects, *allows), bypass=excepted(packet))
        if allows:
            return Judgement(Verdict.ALLOW, match_type(allows, packet), tuple(allows))
        return None  # a pass: on to the next tier
    return None


def default_deny(spec: ResolvedSpec, direction: Direction) -> bool:
    return spec.default_deny_ingress if direction is Direction.INGRESS else spec.default_deny_egress


def excepted(packet: Packet) -> bool:
    """Weft's own exceptions: the node's host to its workloads (E11), workloads to the node's DNS."""
    if packet.direction is Direction.INGRESS:
        return packet.peer.identity == HOST
    return packet.peer.identity == DNS and packet.protocol in (Protocol.UDP, Protocol.TCP) and packet.port == 53


def matches(rule: ResolvedRule, packet: Packet) -> bool:
    return rule.direction is packet.direction and failed_field(rule, packet) is None


def failed_field(rule: ResolvedRule, packet: Packet) -> Field | None:
    """None: the rule matches the packet (S9: peer AND port)."""
    if not peer_matches(rule.peers, packet.peer):
        return Field.PEER
    if rule.ports is None or any(port_matches(port, packet) for port in rule.ports):
        return None
    spoken = any(protocol_matches(port, packet.protocol) for port in rule.ports)
    return Field.PORT if spoken else Field.PROTOCOL


def peer_matches(peers: ResolvedPeers, peer: PeerView) -> bool:
    if peers.any:
        return True
    if peer.address is None:
        return peer.identity in peers.identities
    world = peers.world_ipv4 if peer.address.version == 4 else peers.world_ipv6
    return world or any(cidr_contains(cidr, peer.address) for cidr in peers.cidrs)


def cidr_contains(cidr: CidrPeer, address: IPv4Address | IPv6Address) -> bool:
    return address in cidr.cidr and not any(address in taken for taken in cidr.excepts)


def protocol_matches(port: PortSpec, protocol: int) -> bool:
    if port.protocol is Protocol.ANY:  # beside a port (P1)
        return protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
    return protocol == port.protocol


def port_matches(port: PortSpec, packet: Packet) -> bool:
    return protocol_matches(port, packet.protocol) and any(
        first <= packet.port <= last for first, last in port_ranges(port, packet)
    )


def port_ranges(port: PortSpec, packet: Packet) -> list[tuple[int, int]]:
    """The inclusive ranges a PortSpec stands for, for this packet's protocol."""
    if port.name:  # P3
        named = packet.subject_ports if packet.direction is Direction.INGRESS else packet.peer.ports
        return [
            (n.port, n.port) for n in named if n.name.lower() == port.name.lower() and n.protocol == packet.protocol
        ]
    if port.port == 0 and port.end_port == 0 and port.protocol not in (Protocol.ICMP, Protocol.ICMPV6):
        return [(0, 65535)]
    return [(port.port, max(port.port, port.end_port))]  # P2


def match_type(rules: Sequence[ResolvedRule], packet: Packet) -> MatchType:
    """D4, D8: the longest L4 prefix among the rules that decided, then one that names the peer."""
    _, named, has_port, has_protocol = max((*_specificity(rule, packet),) for rule in rules)
    if has_port:
        return MatchType.L3_L4 if named else MatchType.L4_ONLY
    if has_protocol:
        return MatchType.L3_PROTO if named else MatchType.PROTO_ONLY
    return MatchType.L3_ONLY if named else MatchType.ALL


def _specificity(rule: ResolvedRule, packet: Packet) -> tuple[int, bool, bool, bool]:
    """(bits of the L4 prefix, names the peer, names a port, names a protocol)"""
    bits = -1
    for port in rule.ports or ():
        if protocol_matches(port, packet.protocol):
            for first, last in port_ranges(port, packet):
                if first <= packet.port <= last:
                    bits = max(bits, prefix_bits(first, last, packet.port))
    return bits, not rule.peers.any, bits > 0, bits >= 0


def prefix_bits(first: int, last: int, port: int) -> int:
    """How long the prefix is under which a range holds this port: of the widest aligned block inside it."""
    for bits in range(17):
        size = 1 << (16 - bits)
        start = port // size * size
        if first <= start and start + size - 1 <= last:
            return bits
    raise ValueError(f"port {port} is not in {first}-{last}")
