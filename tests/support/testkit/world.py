"""Random policies put in force in the kernel, and packets as the oracle sees them turned into frames.

Every workload and node of `policy_strategies` has an address in each family; strangers have their own. A case
gets an endpoint id nobody had before, so that it meets no connection of the case before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from itertools import count
from random import Random
from typing import Final

import policy_strategies as strategies
from policy_strategies import SUBJECT, Case
from testkit.bpf import Datapath, ipcache_key
from testkit.packets import Layer, frame, icmp, icmp6, ip, sctp, tcp, udp
from weft.bpf import layout, testrun
from weft.bpf.layout import EventType, Reason
from weft.bpf.testrun import Context
from weft.policies.compile import compile_table
from weft.policies.cookies import Cookies
from weft.policies.l4 import Packet, PeerView
from weft.policies.model import Direction, Protocol
from weft.policies.prepare import Peers
from weft.policies.table import Table

IFINDEX: Final = 1
OWN: Final = {4: "172.31.255.1", 6: "fd00:31::ffff"}
PROGRAMS: Final = {Direction.EGRESS: "weft_from_workload", Direction.INGRESS: "weft_to_workload"}
#: The subject's side of a connection when it is a client, or its client's.
CLIENT_PORT: Final = 40_000


def address(identity: int, family: int) -> str:
    return f"172.31.{identity >> 8}.{identity & 255}" if family == 4 else f"fd00:31::{identity:x}"


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason` OK: it passed. `verdict`: the event of its judgement, None where there was nothing to judge by."""

    reason: Reason
    verdict: layout.Event | None


@dataclass(slots=True)
class World:
    datapath: Datapath
    table: Table | None = None
    _ids = count(1)

    def __post_init__(self) -> None:
        for family in (4, 6):
            self.datapath.identify(OWN[family], SUBJECT)
            for identity in (*strategies.WORKLOADS, *strategies.NODES):
                self.datapath.identify(address(identity, family), identity)

    def put_in_force(self, case: Case, ep_id: int | None = None) -> int:
        """As the daemon does: addresses, table, endpoint, revision. Returns the endpoint's id."""
        peers = case.peers()
        specs = [(item, spec) for item in case.items for spec in item.specs]
        self.table = compile_table(SUBJECT, case.subject_ports, specs, peers, Cookies())
        self._know(peers)
        number = next(self._ids) if ep_id is None else ep_id
        self.datapath.endpoint(IFINDEX, number, SUBJECT, self.table, OWN[4], OWN[6])
        self.datapath.bump()
        return number

    def _know(self, peers: Peers) -> None:
        known = peers.cidrs.prefixes()
        for network in {*strategies.NETWORKS, ip_network("0.0.0.0/0"), ip_network("::/0")}:
            if network in known:
                self.datapath.identify(str(network), known[network])
            else:
                self.datapath.maps.ipcache.delete(ipcache_key(network))

    def send(self, frames: list[tuple[Direction, bytes]]) -> list[Answer]:
        def one_by_one() -> list[Answer]:
            return [self._send(direction, data) for direction, data in frames]

        return self.datapath.namespace.call(one_by_one)

    def _send(self, direction: Direction, data: bytes) -> Answer:
        program = self.datapath.programs[PROGRAMS[direction]]
        outcome = testrun.run(program, data, Context(ifindex=IFINDEX))
        events = {EventType(event.type): event for event in self.datapath.events()}
        dropped = events.get(EventType.DROP)
        if outcome.verdict == layout.TC_REDIRECT:  # a reset, to whoever waits for a proxy
            assert dropped is not None and dropped.reason == Reason.NO_PROXY
        else:
            assert (outcome.verdict == layout.TC_DROP) == (dropped is not None)
            assert outcome.verdict in (layout.TC_DROP, layout.TC_PASS)
        return Answer(Reason(dropped.reason) if dropped else Reason.OK, events.get(EventType.VERDICT))


def random_packet(chance: Random, case: Case, ports: list[int]) -> Packet:
    """As strategies.packets draws, but by the ten thousand."""
    peer = _random_peer(chance, case)
    protocols = [Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6]
    if peer.address is not None:  # ICMP of the other family is no protocol there
        protocols.remove(Protocol.ICMPV6 if peer.address.version == 4 else Protocol.ICMP)
    protocol = chance.choice(protocols)
    port = chance.choice(ports) if chance.random() < 0.8 else chance.randrange(65536)
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        port = chance.choice(strategies.ICMP_TYPES)
    return Packet(chance.choice(list(Direction)), SUBJECT, peer, protocol, port, case.subject_ports)


def _random_peer(chance: Random, case: Case) -> PeerView:
    if chance.random() < 0.5:
        return PeerView(address=chance.choice(strategies.ADDRESSES))
    identity = chance.choice((*strategies.WORKLOADS, *strategies.NODES))
    return PeerView(identity, None, case.peer_ports.get(identity, ()))


def opening(packet: Packet, client_port: int) -> bytes:
    """The first frame of the connection: a SYN, where there are any."""
    return _between(packet, _layer(packet.protocol, client_port, packet.port, "S"))


def going_on(packet: Packet, client_port: int) -> bytes:
    """A later one, the same way."""
    return _between(packet, _layer(packet.protocol, client_port, packet.port, "A"))


def reply(packet: Packet, client_port: int) -> bytes:
    return _between(packet, _layer(packet.protocol, packet.port, client_port, "A"), back=True)


def _between(packet: Packet, inner: Layer, back: bool = False) -> bytes:
    family = _family(packet)
    remote = str(packet.peer.address) if packet.peer.address else address(packet.peer.identity, family)
    outgoing = (packet.direction is Direction.EGRESS) != back
    ends = (OWN[family], remote) if outgoing else (remote, OWN[family])
    return frame(ip(*ends, inner))


def _family(packet: Packet) -> int:
    if packet.peer.address is not None:
        return packet.peer.address.version
    if packet.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return 4 if packet.protocol == Protocol.ICMP else 6
    return 6 if packet.port % 2 else 4


def _layer(protocol: int, source: int, destination: int, flags: str) -> Layer:
    match protocol:
        case Protocol.TCP:
            return tcp(source, destination, flags)
        case Protocol.UDP:
            return udp(source, destination)
        case Protocol.SCTP:
            return sctp(source, destination)
        case Protocol.ICMP:
            return icmp(destination, ident=source)
        case _:
            return icmp6(destination, ident=source)
