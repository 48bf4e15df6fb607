"""For a flow that nothing allows: the rule that came closest, and the field it failed.

Closest is the allow whose peers, protocol and ports fit best, peers first: "it allows you, but another port" tells
more than "it allows that port, but somebody else".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from weft.policies import wording
from weft.policies.l4 import Field, Packet, failed_field, peer_matches, port_matches, protocol_matches
from weft.policies.model import Action, Direction, Origin
from weft.policies.snapshot import ResolvedRule, ResolvedSpec
from weft.policies.world import World


@dataclass(frozen=True, slots=True)
class Miss:
    """`failed`: peer, protocol or port, or an HTTP field. `detail`: what the rule wants there."""

    rule: Origin
    failed: str
    detail: str


def nearest_miss(specs: Iterable[ResolvedSpec], packet: Packet, who: str, world: World) -> Miss | None:
    """None: no rule of the direction allows anything."""
    rules = [
        rule
        for spec in specs
        for rule in spec.rules
        if rule.direction is packet.direction and rule.action is Action.ALLOW and failed_field(rule, packet)
    ]
    if not rules:
        return None
    best = max(rules, key=lambda rule: _closeness(rule, packet))
    failed = failed_field(best, packet)
    assert failed is not None
    return Miss(best.origin, failed.value, _detail(best, failed, packet, who, world))


def _closeness(rule: ResolvedRule, packet: Packet) -> tuple[int, bool, bool]:
    """A rule about addresses is never nearly about a workload, nor one about workloads about an address."""
    peer = peer_matches(rule.peers, packet.peer)
    protocol = rule.ports is None or any(protocol_matches(port, packet.protocol) for port in rule.ports)
    port = rule.ports is None or any(port_matches(port, packet) for port in rule.ports)
    akin = peer or bool(rule.peers.cidrs if packet.peer.address is not None else rule.peers.identities)
    return peer + protocol + port + akin, peer, akin


def _detail(rule: ResolvedRule, failed: Field, packet: Packet, who: str, world: World) -> str:
    if failed is Field.PEER:
        word = "from" if packet.direction is Direction.INGRESS else "to"
        return f"it allows {word} {wording.peers(rule.peers, world)}, not {who}"
    allowed = f"it allows {wording.ports(rule.ports)}, not {wording.l4(packet.protocol, packet.port)}"
    names = dict.fromkeys(port.name for port in rule.ports or () if port.name)
    return "; ".join([allowed, *(_named(name, packet, who) for name in names)])


def _named(name: str, packet: Packet, who: str) -> str:
    """What a port's name stands for where it counts: at the subject, or at the peer (P3)."""
    ingress = packet.direction is Direction.INGRESS
    known = packet.subject_ports if ingress else packet.peer.ports
    numbers = [wording.l4(port.protocol, port.port) for port in known if port.name.lower() == name.lower()]
    owner = "the workload itself" if ingress else who
    return f"{name} is {wording.some(numbers)} of {owner}" if numbers else f"{owner} has no port named {name}"
