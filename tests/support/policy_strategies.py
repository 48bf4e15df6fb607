"""Random policies and packets, for whoever compares two readings of them: the tables, the programs, the oracle.

Small numbers on purpose: few identities, ports that touch each other's ranges, prefixes that nest, so that rules
meet. A case is a list of specs, the subject's own named ports, and the peers that packets come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import strategies as st

from weft.policies.cidr import CidrIdentities
from weft.policies.identity import DNS, HOST, KUBE_APISERVER, REMOTE_NODE
from weft.policies.l4 import Packet, PeerView
from weft.policies.model import (
    L7,
    Action,
    CidrPeer,
    Direction,
    HttpRule,
    Network,
    ObjectRef,
    Origin,
    PortSpec,
    Protocol,
    Tier,
)
from weft.policies.prepare import Peers
from weft.policies.snapshot import NamedPort, PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec

SUBJECT, OTHER = 300, 301
WORKLOADS = (300, 301, 302, 303)
NODES = (HOST, REMOTE_NODE, KUBE_APISERVER, DNS)
NAMES = ("http", "metrics", "dns", "nobody-has-it")
PORTS = (0, 1, 53, 79, 80, 81, 443, 444, 8080, 32768, 65535)
ICMP_TYPES = (0, 3, 8, 128)
NETWORKS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.1.2.128/25",
        "192.0.2.0/24", "128.0.0.0/1", "::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::7/128",
    )
)  # fmt: skip
ADDRESSES = tuple(
    ip_address(text)
    for text in (
        "10.0.0.1", "10.1.0.1", "10.1.2.1", "10.1.2.3", "10.1.2.129", "192.0.2.1", "8.8.8.8", "203.0.113.9",
        "2001:db8::1", "2001:db8:1::1", "2001:db8:1::7", "2a00::1",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    items: tuple[PolicyItem, ...]
    subject_ports: tuple[NamedPort, ...]
    peer_ports: dict[int, tuple[NamedPort, ...]]

    @property
    def specs(self) -> list[ResolvedSpec]:
        return [spec for item in self.items for spec in item.specs]

    def peers(self) -> Peers:
        """What a node would know: the prefixes in force, and the peers' named ports."""
        cidrs = CidrIdentities()
        for item in self.items:
            cidrs.hold(item.ref, {p for spec in item.specs for r in spec.rules for p in networks(r)})
        named: dict[str, dict[int, frozenset[NamedPort]]] = {}
        for identity, ports in self.peer_ports.items():
            for port in ports:
                by_identity = named.setdefault(port.name, {})
                by_identity[identity] = by_identity.get(identity, frozenset()) | {port}
        return Peers(cidrs, named)


def networks(rule: ResolvedRule) -> set[Network]:
    return {network for peer in rule.peers.cidrs for network in (peer.cidr, *peer.excepts)}


def inside(cidr: Network, other: Network) -> bool:
    if isinstance(cidr, IPv4Network) and isinstance(other, IPv4Network):
        return other.subnet_of(cidr)
    return isinstance(cidr, IPv6Network) and isinstance(other, IPv6Network) and other.subnet_of(cidr)


@st.composite
def cidr_peers(draw: st.DrawFn) -> CidrPeer:
    cidr = draw(st.sampled_from(NETWORKS))
    narrower = [network for network in NETWORKS if network != cidr and inside(cidr, network)]
    excepts = draw(st.lists(st.sampled_from(narrower), max_size=2, unique=True)) if narrower else []
    return CidrPeer(cidr, tuple(excepts))


ResolvedPeersStrategy = st.one_of(
    st.just(ResolvedPeers(any=True)),
    st.builds(
        ResolvedPeers,
        any=st.just(False),
        identities=st.frozensets(st.sampled_from((*WORKLOADS, *NODES)), max_size=4),
        cidrs=st.lists(cidr_peers(), max_size=2).map(tuple),
        world_ipv4=st.sampled_from((False, False, True)),
        world_ipv6=st.sampled_from((False, False, True)),
    ),
)


@st.composite
def port_specs(draw: st.DrawFn) -> PortSpec:
    protocol = draw(st.sampled_from((Protocol.TCP, Protocol.TCP, *Protocol)))
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        kind = draw(st.sampled_from(ICMP_TYPES))
        return PortSpec(protocol, kind, kind)
    if draw(st.integers(0, 3)) == 0:
        return PortSpec(protocol, name=draw(st.sampled_from(NAMES)))
    first = draw(st.one_of(st.sampled_from(PORTS), st.integers(0, 65535)))
    last = draw(st.one_of(st.just(first), st.sampled_from(PORTS), st.integers(0, 65535)))
    return PortSpec(protocol, first, last)


#: Few ways to say a few things: rules of these meet all the time, which scattered ones seldom do.
CROWDED_PEERS = st.sampled_from(
    (
        ResolvedPeers(any=True),
        ResolvedPeers(identities=frozenset({WORKLOADS[1]})),
        ResolvedPeers(identities=frozenset(WORKLOADS[:2]), world_ipv4=True),
        ResolvedPeers(cidrs=(CidrPeer(NETWORKS[1], (NETWORKS[2],)),)),
    )
)
CROWDED_PORTS = st.sampled_from(
    (
        None,
        (PortSpec(Protocol.TCP, 80, 80),),
        (PortSpec(Protocol.ANY, 80, 81),),
        (PortSpec(Protocol.TCP),),
        (PortSpec(Protocol.TCP, name="http"),),
    )
)


@st.composite
def rules(draw: st.DrawFn, origin: Origin, crowded: bool) -> ResolvedRule:
    action = draw(st.sampled_from((Action.ALLOW, Action.ALLOW, Action.ALLOW, Action.DENY, Action.PASS)))
    lists = st.lists(port_specs(), min_size=1, max_size=3).map(tuple)
    ports = draw(CROWDED_PORTS if crowded else st.one_of(st.none(), lists))
    http = action is Action.ALLOW and ports is not None and draw(st.booleans())
    return ResolvedRule(
        origin,
        draw(st.sampled_from(Direction)),
        action,
        draw(CROWDED_PEERS if crowded else ResolvedPeersStrategy),
        ports,
        L7((HttpRule(path="/public", spec_path=origin.path),)) if http else None,
        draw(st.sampled_from((Tier.NORMAL, Tier.ADMIN) if crowded else tuple(Tier))),
        draw(st.integers(0, 1)),
    )


@st.composite
def policies(draw: st.DrawFn, number: int) -> PolicyItem:
    ref = ObjectRef("CiliumNetworkPolicy", "default", f"policy-{number}")
    count = draw(st.integers(0, 4))
    crowded = draw(st.booleans())
    made = tuple(draw(rules(Origin(ref, f"spec.rule[{at}]"), crowded)) for at in range(count))
    subjects = draw(st.sampled_from((frozenset({SUBJECT}), frozenset({SUBJECT, OTHER}), frozenset({OTHER}))))
    return PolicyItem(ref, 1, (), (ResolvedSpec(subjects, draw(st.booleans()), draw(st.booleans()), made),))


named_ports = st.lists(
    st.builds(
        NamedPort,
        st.sampled_from(("http", *NAMES[:3])),
        st.sampled_from((Protocol.TCP, Protocol.TCP, Protocol.UDP)),
        st.sampled_from((53, 80, 81, 8080)),
    ),
    max_size=3,
    unique=True,
).map(tuple)


@st.composite
def cases(draw: st.DrawFn, max_policies: int = 4) -> Case:
    count = draw(st.integers(0, max_policies))
    items = tuple(draw(policies(number)) for number in range(count))
    peer_ports = {identity: draw(named_ports) for identity in WORKLOADS if draw(st.booleans())}
    return Case(items, draw(named_ports), peer_ports)


def interesting_ports(case: Case) -> list[int]:
    """Every edge of every range in the case, and its neighbours."""
    edges = set(PORTS)
    for spec in case.specs:
        for rule in spec.rules:
            for port in rule.ports or ():
                edges |= {port.port - 1, port.port, port.end_port, port.end_port + 1}
    return sorted(edge for edge in edges if 0 <= edge <= 65535)


@st.composite
def packets(draw: st.DrawFn, case: Case) -> Packet:
    direction = draw(st.sampled_from(Direction))
    if draw(st.booleans()):
        peer = PeerView(address=draw(st.sampled_from(ADDRESSES)))
    else:
        identity = draw(st.sampled_from((*WORKLOADS, *NODES)))
        peer = PeerView(identity, None, case.peer_ports.get(identity, ()))
    protocol = draw(st.sampled_from((Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6)))
    port = draw(st.one_of(st.just(80), st.sampled_from(interesting_ports(case)), st.integers(0, 65535)))
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        port = draw(st.sampled_from(ICMP_TYPES))
    return Packet(direction, SUBJECT, peer, protocol, port, case.subject_ports)
