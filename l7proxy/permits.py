"""What network policy says of a client and an endpoint: `Permit`, remembered until what it rests on changes.

In: the policies of the snapshot, with selectors resolved to identities. The rules are read by `policies.l4`, which
the tables in the kernel are tested against, for the pairs that are met and no others: a node meets few of the pairs
that a cluster has, and a compiled table per endpoint would take megabytes.

1. The client's egress is judged where the client is: on this node, or by its own node before it got here.
2. The endpoint's ingress is judged here for L4 wherever it is, so that an endpoint that would refuse the client is
   no candidate; its limits on requests are this proxy's to judge only if it is on this node.
3. Whoever is no workload judges nothing, and of the two one is a workload of this node: else nobody's policy would
   be asked, and the answer is no. It is so while a new pod's packets are ahead of its address. A workload reaches
   itself.
4. A client with the node's own address is the world, masqueraded: the node itself comes here never (`bpf/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from weft.l7proxy.core.parties import Permit, Workload, same_workload
from weft.policies import identity, l7, wording
from weft.policies.cidr import CidrIdentities, prefixes_of
from weft.policies.l4 import Packet, PeerView, default_deny, judge
from weft.policies.model import Direction, ObjectRef, Protocol
from weft.policies.named import NamedPortIndex
from weft.policies.snapshot import AddressItem, NamedPort, PolicyItem, ResolvedSpec
from weft.policies.table import Verdict

ITSELF = Permit(True, reason="a workload reaches itself")
STRANGERS = Permit(False, reason="neither end is a workload that is known on this node")
#: Pairs of client identity and endpoint that are remembered: some 40 MB if all of them were different.
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Side:
    """One end's judgement. `limits`: where requests are judged. `by`: the objects that decided."""

    verdict: Verdict
    reason: str
    by: tuple[str, ...] = ()
    limits: l7.HttpLimits | None = None


_SideKey = tuple[Direction, int, int, tuple[NamedPort, ...]]


class Permits:
    def __init__(self) -> None:
        self.cidrs = CidrIdentities()
        self._policies: Mapping[ObjectRef, PolicyItem] = {}
        self._addresses: Mapping[str, AddressItem] = {}
        self._named = NamedPortIndex()
        self._selecting: dict[int, list[tuple[PolicyItem, ResolvedSpec]]] = {}
        self._sides: dict[int, dict[_SideKey, Side]] = {}  # by the subject's identity
        self._permits: dict[tuple[int, str, str, int], Permit] = {}
        self.unsettled = False  # by the last update: permits may be others also where no address is

    def update(
        self,
        policies: Mapping[ObjectRef, PolicyItem],
        addresses: Mapping[str, AddressItem],
        refs: Iterable[ObjectRef],
        ips: Iterable[str],
    ) -> bool:
        """`refs`, `ips`: what changed. True: addresses that nobody owns may have got another identity."""
        touched: set[int] = set()
        moved = False
        for ref in refs:
            new = policies.get(ref)
            for item in (self._policies.get(ref), new):
                touched.update(*(spec.subjects for spec in item.specs) if item else ())
            moved |= self.cidrs.hold(ref, prefixes_of(new) if new else ())
        renamed = bool(self._named.update(addresses, ips))
        if renamed:
            self._sides.clear()
        self.unsettled = bool(touched) or moved or renamed
        for subject in touched & self._sides.keys():
            del self._sides[subject]
        for subject in touched & self._selecting.keys():
            del self._selecting[subject]
        self._policies, self._addresses = policies, addresses
        self._permits.clear()
        return moved

    def permit(self, client: Workload, server: Workload, port: int) -> Permit:
        if client.ip == server.ip or (client.namespace and same_workload(client, server)):
            return ITSELF
        key = client.identity, client.node, server.ip, port
        found = self._permits.get(key)
        if found is None:
            if len(self._permits) >= REMEMBERED:
                self._permits.clear()
            found = self._permits[key] = self._judge(client, server, port)
        return found

    def _judge(self, client: Workload, server: Workload, port: int) -> Permit:
        if not (client.namespace and client.local) and not (server.namespace and server.local):
            return STRANGERS
        egress = ingress = None
        if client.namespace and client.local:
            egress = self._side(Direction.EGRESS, client, server, server.identity, port)
        if server.namespace:
            ingress = self._side(Direction.INGRESS, server, client, self._seen(client), port)
        sides = [side for side in (egress, ingress) if side is not None]
        denying = [side for side in sides if side.verdict is Verdict.DENY]
        here = server.local or not server.namespace
        return Permit(
            not denying,
            egress.limits if egress else None,
            ingress.limits if ingress and server.local else None,
            "; ".join(side.reason for side in denying or sides),
            () if denying else _together(sides),
            _together(denying),
            here or ingress is None or ingress.verdict is not Verdict.REDIRECT,
        )

    def _seen(self, client: Workload) -> int:
        """The client's identity, as its packets had it."""
        return self.cidrs.lookup(client.ip) if client.identity == identity.HOST else client.identity

    def _side(self, direction: Direction, subject: Workload, peer: Workload, number: int, port: int) -> Side:
        item = self._addresses.get(subject.ip)
        ports = item.named_ports if item and direction is Direction.INGRESS else ()
        known = self._sides.setdefault(subject.identity, {})
        key = direction, number, port, ports
        if key not in known:
            selecting = self._specs(subject.identity)
            view = self._view(number, peer.ip)
            packet = Packet(direction, subject.identity, view, Protocol.TCP, port, ports)
            known[key] = _side(selecting, packet)
        return known[key]

    def _specs(self, number: int) -> list[tuple[PolicyItem, ResolvedSpec]]:
        """Those that select an identity, in the order of their names, so that equal snapshots answer alike."""
        if number not in self._selecting:
            found = [(p, spec) for p in self._policies.values() for spec in p.specs if number in spec.subjects]
            self._selecting[number] = sorted(found, key=lambda pair: pair[0].ref)
        return self._selecting[number]

    def _view(self, number: int, ip: str) -> PeerView:
        if identity.is_local(number) or number in (identity.WORLD, identity.WORLD_IPV4, identity.WORLD_IPV6):
            return PeerView(address=ip_address(ip))
        ports = [port for by in self._named.by_name.values() for port in by.get(number, ())]
        return PeerView(number, None, tuple(ports))


def _side(selecting: list[tuple[PolicyItem, ResolvedSpec]], packet: Packet) -> Side:
    specs = [spec for _, spec in selecting]
    said = judge(specs, packet)
    direction = wording.direction(packet.direction)
    origins = tuple(dict.fromkeys(rule.origin for rule in said.rules))
    refs = tuple(dict.fromkeys(str(origin.ref) for origin in origins))
    limits = l7.limits_of(specs, packet, said) if said.verdict is Verdict.REDIRECT else None
    if origins:
        word = "denied" if said.verdict is Verdict.DENY else "allowed"
        return Side(said.verdict, f"{direction}: {word} by {wording.origins(origins)}", refs, limits)
    if said.verdict is Verdict.DENY:
        by = dict.fromkeys(str(item.ref) for item, spec in selecting if default_deny(spec, packet.direction))
        return Side(said.verdict, f"{direction}: default deny by {wording.some(list(by))}")
    return Side(
        said.verdict, f"{direction}: no policy restricts it" if not said.explicit else f"{direction}: always"
    )


def _together(sides: Iterable[Side]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ref for side in sides for ref in side.by))
