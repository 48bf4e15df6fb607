"""What is not a whole, honest packet of the workload's own is dropped with its reason, before policy is asked.

frame -> IPv4 | IPv6, extension headers -> transport -> whose is it -> policy
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from testkit.packets import (
    DESTINATION,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    ICMP,
    NO_NEXT,
    ROUTING,
    TCP,
    Layer,
    arp,
    extension,
    fragment6,
    frame,
    icmp,
    icmp6,
    ip,
    ipv4,
    ipv6,
    sctp,
    tcp,
    udp,
    unknown,
    vlan,
)
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, Stage, allow
from weft.bpf.layout import EventType, Reason, Stat
from weft.policies.model import Direction

pytestmark = pytest.mark.root

OK, INVALID, TRUNCATED, UNKNOWN_L3 = Reason.OK, Reason.INVALID, Reason.CT_TRUNCATED, Reason.L3_UNKNOWN

SYN = tcp(1025, 80, "S")
LINK_LOCAL, ROUTER, ALL_NODES, ALL_ROUTERS = "fe80::1234", "fe80::1", "ff02::1", "ff02::2"
SOLICITED, MLD_GROUP, SITE_GROUP = "ff02::1:ff00:5", "ff02::16", "ff05::2"


def v4(inner: Layer, **unusual: int) -> bytes:
    return frame(ipv4(POD[4], PEER[4], inner, **unusual))


def v6(inner: Layer, **unusual: int) -> bytes:
    return frame(ipv6(POD[6], PEER[6], inner, **unusual))


def chain(kinds: list[int], inner: Layer, words: int = 0) -> Layer:
    for kind in reversed(kinds):
        inner = extension(kind, inner, words=words)
    return inner


@dataclass(frozen=True, slots=True)
class Case:
    says: str
    frame: bytes
    becomes: Reason


HEADERS = [
    Case("IPv4 as it should be", v4(SYN), OK),
    Case("IPv4 with options", v4(SYN, options=3), OK),
    Case("IPv4 with as many options as there can be", v4(SYN, options=10), OK),
    Case("IPv4 that says it is IPv5", v4(SYN, version=5), INVALID),
    Case("IPv4 whose header is shorter than a header", v4(SYN, options=-1), INVALID),
    Case("IPv4 longer than the frame", v4(SYN, length=41), INVALID),
    Case("IPv4 shorter than its own header", v4(SYN, length=19), INVALID),
    Case("IPv4 of length nothing", v4(SYN, length=0), INVALID),
    Case("IPv4 that ends inside the frame: the rest is padding", v4(tcp(1025, 80, "S", bytes(6)), length=40), OK),
    Case("IPv4 whose transport header lies in the padding", v4(SYN, length=20), TRUNCATED),
    Case("IPv6 as it should be", v6(SYN), OK),
    Case("IPv6 that says it is IPv4", v6(SYN, version=4), INVALID),
    Case("IPv6 longer than the frame", v6(SYN, length=21), INVALID),
    Case("IPv6 whose transport header lies in the padding", v6(SYN, length=0), TRUNCATED),
    Case("a VLAN inside", vlan(ip(POD[4], PEER[4], SYN)), UNKNOWN_L3),
    Case("an EtherType nobody knows", unknown(), UNKNOWN_L3),
]

# Cut off anywhere: the ports may be there, but a header is a header.
TRANSPORT = [
    Case(
        f"{name} cut to {size} of {whole} bytes, v{family}", build(Layer(layer.protocol, layer.raw[:size])), reason
    )
    for family, build in ((4, v4), (6, v6))
    for name, layer, whole in (
        ("tcp", SYN, 20),
        ("udp", udp(1025, 80), 8),
        ("sctp", Layer(132, sctp(1025, 80).raw[:12]), 12),
        ("icmp", icmp(8) if family == 4 else icmp6(128), 8),
    )
    for size, reason in ((0, TRUNCATED), (4, TRUNCATED), (whole - 1, TRUNCATED), (whole, OK))
] + [
    Case("tcp whose header says four words", v4(tcp(1025, 80, "S", header_words=4)), TRUNCATED),
    Case("tcp whose header says fifteen", v4(tcp(1025, 80, "S", bytes(40), header_words=15)), OK),
]

EXTENSIONS = [
    Case("hop-by-hop", v6(chain([HOP_BY_HOP], SYN)), OK),
    Case("hop-by-hop, destination, routing", v6(chain([HOP_BY_HOP, DESTINATION, ROUTING], SYN)), OK),
    Case("long ones", v6(chain([HOP_BY_HOP, DESTINATION], SYN, words=9)), OK),
    Case("as many as are walked", v6(chain([DESTINATION] * 6, SYN)), OK),
    Case("one more", v6(chain([DESTINATION] * 7, SYN)), INVALID),
    Case(
        "one that ends beyond the packet", v6(Layer(HOP_BY_HOP, bytes([TCP, 200]) + bytes(6) + SYN.raw)), TRUNCATED
    ),
    Case("one that begins beyond the packet", v6(Layer(HOP_BY_HOP, bytes([DESTINATION, 200]) + bytes(6))), INVALID),
    Case("half of one", v6(Layer(HOP_BY_HOP, bytes([TCP, 0, 1]))), INVALID),
    Case("a source route that is not finished", v6(extension(ROUTING, SYN, segments_left=1)), INVALID),
    Case("a fragment header that fragments nothing", v6(fragment6(SYN)), OK),
    Case("two fragment headers", v6(fragment6(fragment6(SYN, more=1), more=1)), INVALID),
    Case("nothing next", v6(Layer(NO_NEXT, b"")), OK),
    Case("nothing next, and bytes behind it", v6(Layer(NO_NEXT, bytes(40))), OK),
    Case("half a fragment header", v6(Layer(FRAGMENT, bytes([TCP, 0, 0]))), INVALID),
]


@pytest.mark.parametrize("case", [*HEADERS, *TRANSPORT, *EXTENSIONS], ids=lambda case: case.says)
def test_a_packet_as_it_is(stage: Stage, case: Case) -> None:
    stage.policy(allow(EGRESS))
    seen = stage.egress(case.frame)
    assert seen.reason is case.becomes
    if case.becomes is not OK:
        assert seen.kinds == ["DROP"] and seen.events[0].reason == case.becomes
        assert stage.connections() == []


def test_ports_behind_extension_headers_are_the_ones_judged(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80))
    assert stage.egress(v6(chain([HOP_BY_HOP, DESTINATION], SYN))).passed
    assert stage.egress(v6(chain([HOP_BY_HOP, DESTINATION], tcp(1025, 81, "S")))).reason is Reason.POLICY


# Whose is it: a workload sends from its own addresses.

SOURCES = [
    ("another workload's", 4, OTHER[4]),
    ("another workload's", 6, OTHER[6]),
    ("its own, but for a bit", 4, "10.244.1.4"),
    ("its own, but for a bit", 6, "fd00:10:244:1::4"),
    ("its link-local one", 6, LINK_LOCAL),
    ("none", 4, "0.0.0.0"),
    ("none", 6, "::"),
    ("loopback", 4, "127.0.0.1"),
    ("loopback", 6, "::1"),
]


@pytest.mark.parametrize(("family", "source"), [case[1:] for case in SOURCES], ids=[case[0] for case in SOURCES])
def test_a_source_that_is_not_its_own(stage: Stage, family: int, source: str) -> None:
    seen = stage.egress(frame(ip(source, PEER[family], SYN)))
    assert seen.reason is Reason.SOURCE_IP and seen.kinds == ["DROP"]
    assert stage.connections() == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_workload_without_an_address_of_the_family_owns_none(stage: Stage, family: int) -> None:
    endpoint = stage.maps.endpoints.get(1)
    assert endpoint is not None
    field = endpoint.ipv4 if family == 4 else endpoint.ipv6
    field[:] = bytes(len(field))
    stage.maps.endpoints.put(1, endpoint)
    nothing = "0.0.0.0" if family == 4 else "::"
    for source in (POD[family], nothing):
        assert stage.egress(frame(ip(source, PEER[family], SYN))).reason is Reason.SOURCE_IP


def test_what_comes_to_a_workload_may_come_from_anywhere(stage: Stage) -> None:
    assert stage.ingress(frame(ip(OTHER[4], POD[4], SYN))).passed


# A device whose workload is not known: nothing but the link's own talk.


@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_no_endpoint(stage: Stage, direction: Direction) -> None:
    stage.maps.endpoints.clear()
    seen = stage.send(direction, v4(SYN))
    assert seen.reason is Reason.NO_POLICY and seen.kinds == ["DROP"]
    assert stage.datapath.stat(Stat.NO_ENDPOINT) == 1
    assert stage.send(direction, arp()).passed


# The link's own talk passes although nothing is allowed; beyond the link it does not.


@dataclass(frozen=True, slots=True)
class Link:
    says: str
    direction: Direction
    frame: bytes
    passes: bool


def six(source: str, destination: str, kind: int, ttl: int = 255) -> bytes:
    return frame(ipv6(source, destination, icmp6(kind), ttl=ttl))


LINK = [
    Link("arp out", EGRESS, arp(), True),
    Link("arp in", INGRESS, arp(), True),
    Link("who has the router", EGRESS, six(POD[6], SOLICITED, 135), True),
    Link("is my address taken", EGRESS, six("::", SOLICITED, 135), True),
    Link("where are routers", EGRESS, six(LINK_LOCAL, ALL_ROUTERS, 133), True),
    Link("here I am, to the router", EGRESS, six(POD[6], ROUTER, 136), True),
    Link("the router answers", INGRESS, six(ROUTER, POD[6], 136), True),
    Link("the router asks", INGRESS, six(ROUTER, SOLICITED, 135), True),
    Link("a router's advertisement", INGRESS, six(ROUTER, ALL_NODES, 134), True),
    Link("a listener's report", EGRESS, six(LINK_LOCAL, MLD_GROUP, 143, ttl=1), True),
    Link("a listener's query", INGRESS, six(ROUTER, ALL_NODES, 130, ttl=1), True),
    Link("discovery to an address beyond the link", EGRESS, six(POD[6], OTHER[6], 135), False),
    Link("discovery to a group of the site", EGRESS, six(POD[6], SITE_GROUP, 135), False),
    Link("discovery that a router has passed on", INGRESS, six(OTHER[6], POD[6], 136, ttl=254), False),
    Link("discovery with a hop limit of its own", EGRESS, six(POD[6], SOLICITED, 135, ttl=64), False),
    Link("a report from beyond the link", INGRESS, six(OTHER[6], POD[6], 143, ttl=1), False),
    Link("a ping on the link", INGRESS, six(ROUTER, POD[6], 128), False),
    Link("udp on the link", INGRESS, frame(ipv6(ROUTER, POD[6], udp(1, 2), ttl=255)), False),
    Link("discovery in IPv4", EGRESS, frame(ipv4(POD[4], PEER[4], icmp6(135), ttl=255)), False),
]


@pytest.mark.parametrize("case", LINK, ids=lambda case: case.says)
def test_the_link(stage: Stage, case: Link) -> None:
    stage.policy()
    seen = stage.send(case.direction, case.frame)
    assert seen.passed == case.passes
    assert seen.kinds == [] or not case.passes
    assert stage.connections() == []


# The mark: only the node's own proxy may bear it.


def test_a_workload_cannot_bear_the_proxys_mark(stage: Stage) -> None:
    stage.datapath.configure(proxy_mark=0x100)
    assert stage.egress(v4(SYN), mark=0x1F0).mark == 0xF0
    assert stage.ingress(frame(ip(PEER[4], POD[4], SYN)), mark=0x1F0).mark == 0x1F0


def test_without_a_proxy_marks_are_other_peoples(stage: Stage) -> None:
    assert stage.egress(v4(SYN), mark=0x1F0).mark == 0x1F0


def test_a_drop_says_who_as_far_as_it_is_known(stage: Stage) -> None:
    stage.policy(allow(EGRESS, 0, ICMP, 8), allow(EGRESS, 0, GRE))
    (event,) = stage.egress(v4(Layer(TCP, SYN.raw[:8]))).of(EventType.DROP)
    assert (event.src_identity, event.dst_identity, event.ep_id) == (300, 400, 7)
    (event,) = stage.egress(unknown()).of(EventType.DROP)
    assert (event.family, event.dst_identity, event.ep_id) == (0, 0, 7)
