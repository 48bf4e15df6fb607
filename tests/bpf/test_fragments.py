"""Fragments: only the first has ports; the rest follow it, by (addresses, id, protocol).

[ports | data] [data] [data]  --->  judged like one packet
"""

from __future__ import annotations

import pytest

from testkit.packets import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Layer,
    extension,
    fragment6,
    fragments,
    frame,
    icmp,
    icmp6,
    ipv6,
    tcp,
    udp,
)
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, Stage, allow
from weft.bpf.layout import EventType, Reason

pytestmark = pytest.mark.root

OK, POLICY, FRAGMENT = Reason.OK, Reason.POLICY, Reason.FRAGMENT

LONG = udp(1025, 53, bytes(40))

#: What a workload may: UDP 53, TCP 80 and pings, to the peer.
RULES = [
    allow(EGRESS, PEER_ID, UDP, 53),
    allow(EGRESS, PEER_ID, TCP, 80),
    allow(EGRESS, PEER_ID, ICMP, 8),
    allow(EGRESS, PEER_ID, ICMPV6, 128),
]


def cut(layer: Layer, family: int = 4, **more: int) -> list[bytes]:
    return fragments(POD[family], PEER[family], layer, **more)


def sent(stage: Stage, frames: list[bytes]) -> list[Reason]:
    return [stage.egress(frame_).reason for frame_ in frames]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("layer", "becomes"),
    [
        ({4: LONG, 6: LONG}, OK),
        ({4: udp(1025, 54, bytes(40)), 6: udp(1025, 54, bytes(40))}, POLICY),
        ({4: icmp(8, 5, payload=bytes(40)), 6: icmp6(128, 5, payload=bytes(40))}, OK),
        ({4: icmp(13, 5, payload=bytes(40)), 6: icmp6(139, 5, payload=bytes(40))}, POLICY),
    ],
    ids=["udp allowed", "udp refused", "ping allowed", "another icmp refused"],
)
def test_the_rest_follows_the_first(stage: Stage, family: int, layer: dict[int, Layer], becomes: Reason) -> None:
    stage.policy(*RULES)
    assert sent(stage, cut(layer[family], family)) == [becomes] * 3


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_in_pieces(stage: Stage, family: int) -> None:
    stage.policy(*RULES)
    assert sent(stage, cut(tcp(1025, 80, "S", bytes(40)), family, size=24)) == [OK] * 3
    assert len(stage.connections()) == 1 and list(stage.connection().packets) == [0, 3]


@pytest.mark.parametrize("family", [4, 6])
def test_the_rest_before_the_first_is_dropped(stage: Stage, family: int) -> None:
    stage.policy(*RULES)
    first, *rest = cut(LONG, family)
    assert sent(stage, rest) == [FRAGMENT] * 2
    assert sent(stage, [first, *rest]) == [OK] * 3


def test_another_packets_first_fragment_helps_nobody(stage: Stage) -> None:
    stage.policy(*RULES)
    assert sent(stage, cut(LONG, ident=1)[:1]) == [OK]
    assert sent(stage, cut(LONG, ident=2)[1:]) == [FRAGMENT] * 2
    assert sent(stage, fragments(POD[4], OTHER[4], LONG, ident=1)[1:]) == [FRAGMENT] * 2


def test_both_ways_are_two_things(stage: Stage) -> None:
    stage.policy(*RULES, allow(INGRESS))
    assert sent(stage, cut(LONG)[:1]) == [OK]
    assert stage.ingress(fragments(PEER[4], POD[4], LONG)[1]).reason is FRAGMENT


def test_answers_in_pieces(stage: Stage) -> None:
    stage.policy(*RULES)
    sent(stage, cut(LONG))
    answers = fragments(PEER[4], POD[4], udp(53, 1025, bytes(100)))
    assert {stage.ingress(answer).reason for answer in answers} == {OK}


def test_a_spoofed_first_fragment_teaches_nothing(stage: Stage) -> None:
    stage.policy(*RULES)
    spoofed, *rest = fragments(OTHER[4], PEER[4], LONG)
    assert sent(stage, [spoofed, *rest]) == [Reason.SOURCE_IP] * 3
    assert list(stage.maps.fragments.items()) == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_first_fragment_too_short_for_its_header(stage: Stage, family: int) -> None:
    stage.policy(*RULES)
    pieces = cut(tcp(1025, 80, "S", bytes(40)), family, size=16)
    assert sent(stage, pieces)[:2] == [Reason.CT_TRUNCATED, FRAGMENT]


def test_headers_behind_the_fragment_header(stage: Stage) -> None:
    """What all fragments share is what follows the fragment header: here destination options, then UDP."""
    stage.policy(*RULES)
    whole = extension(60, LONG)
    pieces = [
        fragment6(Layer(60, whole.raw[:24]), more=1),
        fragment6(Layer(60, whole.raw[24:]), offset=24),
    ]
    assert sent(stage, [frame(ipv6(POD[6], PEER[6], piece)) for piece in pieces]) == [OK, OK]


def test_a_later_fragment_is_told_with_the_ports_of_the_first(stage: Stage) -> None:
    stage.policy()
    for piece in cut(LONG):
        (drop,) = stage.egress(piece).of(EventType.DROP)
        assert drop.dst_port == int.from_bytes((53).to_bytes(2, "big"), "little")
