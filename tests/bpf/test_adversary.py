"""What somebody would try who wants past a policy, packet by packet; each of these once got through, or could have.

Who tries: the workload itself, with raw sockets, or somebody who sends to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from testkit.bpf import Datapath, ipcache_key
from testkit.packets import (
    FRAGMENT,
    TCP,
    UDP,
    Layer,
    Packet,
    error,
    extension,
    fragment6,
    frame,
    icmp,
    icmp6,
    ip,
    ipv4,
    ipv6,
    tcp,
    udp,
    vlan,
)
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, WORLD, Stage, allow, deny
from weft.bpf.layout import CtFlag, IpcacheValue, Reason
from weft.policies.model import Direction

pytestmark = pytest.mark.root

OK, POLICY, INVALID, SOURCE_IP = Reason.OK, Reason.POLICY, Reason.INVALID, Reason.SOURCE_IP
EPHEMERAL = 40000  # what a Linux client is given
UPLINK = 3


def there(mine: int, theirs: int, flags: str = "A", family: int = 4) -> bytes:
    return frame(ip(POD[family], PEER[family], tcp(mine, theirs, flags)))


def here(theirs: int, mine: int, flags: str = "A", family: int = 4) -> bytes:
    return frame(ip(PEER[family], POD[family], tcp(theirs, mine, flags)))


# An ICMP error goes to whoever sent the packet that it quotes, and carries as much else as its sender likes.


@pytest.mark.parametrize("family", [4, 6])
def test_an_error_about_an_open_connection_is_no_letter_to_strangers(stage: Stage, family: int) -> None:
    """The workload may speak with PEER alone, and quotes what PEER sent it, to somebody else."""
    stage.policy(allow(EGRESS, PEER_ID, UDP, 53))
    stage.egress(frame(ip(POD[family], PEER[family], udp(1025, 53))))
    quoted = ip(PEER[family], POD[family], udp(53, 1025, b"what is to be carried out"))
    assert stage.egress(frame(ip(POD[family], PEER[family], error(family, quoted)))).passed
    assert stage.egress(frame(ip(POD[family], WORLD[family], error(family, quoted)))).reason is POLICY
    assert stage.egress(frame(ip(POD[family], OTHER[family], error(family, quoted)))).reason is POLICY


def test_an_error_that_quotes_the_packet_of_another_address_is_not_ours(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID))
    stage.egress(there(1025, 80, "S"))
    wrong = error(4, ip(OTHER[4], PEER[4], tcp(1025, 80, "S")))
    assert stage.ingress(frame(ip(PEER[4], POD[4], wrong))).reason is POLICY


# TCP without an entry: evicted, expired, or never there. Who opened it can only be guessed, and the sender may lie.


@pytest.mark.parametrize("theirs", [EPHEMERAL, 10], ids=["an ordinary port", "a port lower than the server's"])
def test_a_revoked_connection_does_not_come_back_when_its_entry_is_evicted(stage: Stage, theirs: int) -> None:
    """Nothing governs what the server may open: that must not make a client's packets its own."""
    stage.policy(allow(INGRESS, PEER_ID, TCP, 80), egress=False)
    assert [stage.ingress(here(theirs, 80, flags)).reason for flags in ("S", "A")] == [OK, OK]
    stage.policy(egress=False)
    assert stage.ingress(here(theirs, 80)).reason is POLICY
    stage.maps.ct.clear()
    assert stage.ingress(here(theirs, 80)).reason is POLICY
    assert stage.egress(there(80, theirs)).reason is POLICY


@pytest.mark.parametrize("mine", [EPHEMERAL, 10], ids=["an ordinary port", "a port lower than the server's"])
def test_a_workload_cannot_keep_what_it_may_not_open_any_more(stage: Stage, mine: int) -> None:
    """The same from within: it floods the map until its own revoked connection is forgotten."""
    stage.policy(allow(EGRESS, PEER_ID, TCP, 8080), ingress=False)
    assert stage.egress(there(mine, 8080, "S")).passed
    stage.policy(ingress=False)
    stage.maps.ct.clear()
    assert stage.egress(there(mine, 8080)).reason is POLICY


@pytest.mark.parametrize("theirs", [EPHEMERAL, 10])
def test_a_packet_before_its_syn_does_not_turn_the_connection_around(stage: Stage, theirs: int) -> None:
    """A lone ACK first, so that the entry is taken for the server's own connection; the SYN tells who opened."""
    stage.policy(allow(INGRESS, PEER_ID, TCP, 80), egress=False)
    for flags in ("A", "S", "A"):
        assert stage.ingress(here(theirs, 80, flags)).passed
    assert stage.egress(there(80, theirs, "SA")).passed
    assert stage.connection().origin == INGRESS and not stage.connection().state & CtFlag.MIDSTREAM
    stage.policy(egress=False)
    assert stage.ingress(here(theirs, 80)).reason is POLICY
    assert stage.egress(there(80, theirs)).reason is POLICY


def test_clients_and_servers_that_were_forgotten_go_on(stage: Stage) -> None:
    """What the guess is for: connections that policy allows, met in the middle, with one direction ungoverned."""
    stage.policy(allow(INGRESS, PEER_ID, TCP, 80), egress=False)
    assert stage.ingress(here(EPHEMERAL, 80)).passed
    assert stage.ingress(here(443, EPHEMERAL)).passed, "its own, to a server"
    assert stage.ingress(here(50051, EPHEMERAL)).passed, "its own, to a server with a port like a client's"
    stage.policy(allow(EGRESS, PEER_ID, TCP, 443), ingress=False)
    assert stage.egress(there(EPHEMERAL, 443)).passed
    assert stage.egress(there(80, EPHEMERAL)).passed, "somebody's, who came to it"
    assert stage.egress(there(8080, 5000, "A")).reason is POLICY, "a guess is no permission"


def test_a_udp_server_that_goes_on_talking_does_not_lift_what_was_revoked(stage: Stage) -> None:
    stage.policy(allow(INGRESS, PEER_ID, UDP, 443), egress=False)
    question, answer = udp(EPHEMERAL, 443), udp(443, EPHEMERAL)
    assert stage.ingress(frame(ip(PEER[4], POD[4], question))).passed
    assert stage.egress(frame(ip(POD[4], PEER[4], answer))).passed
    stage.policy(egress=False)
    assert stage.egress(frame(ip(POD[4], PEER[4], answer))).reason is POLICY
    assert stage.ingress(frame(ip(PEER[4], POD[4], question))).reason is POLICY


# Only the node itself is the node.


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_that_came_from_outside_is_not_the_nodes_whatever_it_says(stage: Stage, family: int) -> None:
    """The node reaches its workloads always, so its address is worth forging. (The kernel itself refuses
    forged IPv4, not IPv6.) What the node sends has come in nowhere."""
    node = {4: "172.30.0.1", 6: "fd00:172:30::1"}[family]
    stage.datapath.identify(node, 1)
    stage.policy(allow(INGRESS, 1))
    packet = frame(ip(node, POD[family], udp(1, 53)))
    assert stage.ingress(packet, came_in=UPLINK).reason is POLICY
    assert stage.ingress(packet).passed
    assert stage.ingress(frame(ip(PEER[family], POD[family], udp(1, 53))), came_in=UPLINK).reason is POLICY


# Maps change one after the other.


@pytest.mark.parametrize("direction", [INGRESS, EGRESS])
@pytest.mark.parametrize(("identity", "former"), [(310, PEER_ID), (PEER_ID, 310)], ids=["was", "becomes"])
def test_who_changes_is_refused_as_who_he_was_and_as_who_he_becomes(
    stage: Stage, direction: Direction, identity: int, former: int
) -> None:
    stage.policy(deny(direction, PEER_ID), ingress=False, egress=False)
    key = ipcache_key(ip_network(PEER[4]))
    stage.maps.ipcache.put(key, IpcacheValue(identity, former))
    ends = (POD[4], PEER[4]) if direction is EGRESS else (PEER[4], POD[4])
    assert stage.send(direction, frame(ip(*ends, udp(1, 2)))).reason is Reason.POLICY_DENY
    stage.maps.ipcache.put(key, IpcacheValue(310))
    assert stage.send(direction, frame(ip(*ends, udp(1, 2)))).passed


# Nobody goes by way of somebody else, and no workload is a router.


@pytest.mark.parametrize("kind", [131, 137], ids=["loose", "strict"])
@pytest.mark.parametrize("before", [b"", b"\x01\x01\x01\x01", b"\x94\x04\0\0"], ids=["first", "later", "last"])
def test_an_unfinished_ipv4_source_route_is_broken(stage: Stage, kind: int, before: bytes) -> None:
    """The destination in the header is a stop on the way: judged by it, a packet would go anywhere."""
    options = before + struct.pack("!BBB4sB", kind, 7, 4, bytes([10, 244, 1, 9]), 0)
    plain = ipv4(POD[4], PEER[4], udp(1025, 53), options=len(options) // 4)
    packet = Packet(plain.ethertype, plain.raw[:20] + options + plain.raw[20 + len(options) :])
    assert stage.egress(frame(packet)).reason is INVALID
    assert stage.ingress(frame(packet)).reason is INVALID


@pytest.mark.parametrize("options", [b"\x01\x01\x01\0", b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0\0"])
def test_other_ipv4_options_pass(stage: Stage, options: bytes) -> None:
    plain = ipv4(POD[4], PEER[4], udp(1025, 53), options=len(options) // 4)
    packet = Packet(plain.ethertype, plain.raw[:20] + options + plain.raw[20 + len(options) :])
    assert stage.egress(frame(packet)).passed


@pytest.mark.parametrize("kind", [134, 137], ids=["router advertisement", "redirect"])
def test_a_workload_is_no_router(stage: Stage, kind: int) -> None:
    packet = frame(ip("fe80::5", "ff02::1", icmp6(kind), ttl=255))
    assert stage.egress(packet).reason is SOURCE_IP
    assert stage.ingress(packet).passed, "the node is one"


# What has to be refused was refused from the start; it stays so.


def six(inner: Layer) -> Packet:
    return ipv6(POD[6], PEER[6], inner)


def wrapped(inner: Layer, *kinds: int) -> Layer:
    """The first header named is the innermost."""
    for kind in kinds:
        inner = fragment6(inner) if kind == FRAGMENT else extension(kind, inner)
    return inner


SMUGGLED = [
    ("a later fragment after an atomic one", lambda: six(fragment6(fragment6(tcp(1025, 22), offset=8)))),
    ("ports behind authentication", lambda: six(Layer(51, bytes([6, 4]) + bytes(22) + tcp(1025, 22).raw))),
    ("IPv4 in IPv4", lambda: ipv4(POD[4], PEER[4], Layer(4, ipv4(POD[4], OTHER[4], tcp(1025, 22)).raw))),
    ("IPv6 in IPv6", lambda: ipv6(POD[6], PEER[6], Layer(41, ipv6(POD[6], OTHER[6], tcp(1025, 22)).raw))),
    ("GRE", lambda: ipv4(POD[4], PEER[4], Layer(47, bytes(40)))),
    ("ESP", lambda: ipv4(POD[4], PEER[4], Layer(50, bytes(40)))),
    ("ports behind every header there is", lambda: six(wrapped(tcp(1025, 80), 60, 60, 60, 44, 43, 60, 0))),
    ("half of the ports", lambda: ipv4(POD[4], PEER[4], Layer(TCP, b"\x04\x01\x00"), more=1)),
    ("a first fragment without flags", lambda: ipv4(POD[4], PEER[4], Layer(TCP, tcp(1025, 80).raw[:8]), more=1)),
    ("another's ICMP", lambda: ipv4(POD[4], PEER[4], icmp6(128))),
    ("broadcast", lambda: ipv4(POD[4], "255.255.255.255", udp(1025, 80))),
    ("multicast", lambda: ipv6(POD[6], "ff02::1", udp(1025, 80))),
    ("DHCP", lambda: ipv4("0.0.0.0", "255.255.255.255", udp(68, 67))),
    ("a neighbour's greeting to a global address", lambda: ipv6(POD[6], PEER[6], icmp6(135), ttl=255)),
    ("a report to the world", lambda: ipv6(POD[6], "ff0e::1", icmp6(143), ttl=1)),
]  # fmt: skip


@pytest.mark.parametrize("build", [case[1] for case in SMUGGLED], ids=[case[0] for case in SMUGGLED])
def test_what_one_port_allows_carries_nothing_else(stage: Stage, build: Callable[[], Packet]) -> None:
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80))
    assert not stage.egress(frame(build())).passed
    assert stage.connections() == []


def test_tags_do_not_hide_a_packet(datapath: Datapath) -> None:
    stage = Stage(datapath)
    tagged = vlan(ip(POD[4], PEER[4], udp(1, 2)))
    assert stage.egress(tagged).reason is Reason.L3_UNKNOWN
    double = tagged[:12] + struct.pack("!HH", 0x88A8, 1) + tagged[12:]
    assert stage.egress(double).reason is Reason.L3_UNKNOWN


def test_fragments_follow_the_first_that_passed_not_one_that_was_refused(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, UDP, 53), deny(EGRESS, PEER_ID, UDP, 54))
    first, evil = udp(1025, 53, bytes(16)), udp(1025, 54, bytes(16))
    rest = ipv4(POD[4], PEER[4], Layer(UDP, bytes(16)), ident=9, offset=24)
    assert stage.egress(frame(rest)).reason is Reason.FRAGMENT
    assert stage.egress(frame(ipv4(POD[4], PEER[4], first, ident=9, more=1))).passed
    assert stage.egress(frame(rest)).passed
    assert not stage.egress(frame(ipv4(POD[4], PEER[4], evil, ident=9, more=1))).passed
    assert not stage.egress(frame(rest)).passed


@pytest.mark.parametrize("flags", ["S", "SF", "SR", "SP"])
def test_a_syn_with_anything_is_judged_as_a_new_connection(stage: Stage, flags: str) -> None:
    stage.policy(allow(EGRESS, PEER_ID))
    assert stage.egress(there(80, EPHEMERAL, "S")).passed
    assert stage.ingress(here(EPHEMERAL, 80, flags)).reason is POLICY


def test_a_ping_carries_no_other_type_in(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, 1, 8))
    assert stage.egress(frame(ip(POD[4], PEER[4], icmp(8, 5)))).passed
    for kind in (3, 5, 8, 13, 14, 17):
        assert not stage.ingress(frame(ip(PEER[4], POD[4], icmp(kind, 5)))).passed, kind
