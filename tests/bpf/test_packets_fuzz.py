"""Whatever bytes come: the programs answer pass or drop, and each packet is counted once, under its reason.

Valid packets are bent (bits flipped, cut, glued, lengthened) and sent both ways at a workload with policy,
fragments and connections in play. Seeds are numbers: a failure names one, and it comes back.
"""

from __future__ import annotations

import random

import pytest

from testkit.packets import (
    DESTINATION,
    HOP_BY_HOP,
    ICMP,
    ROUTING,
    TCP,
    UDP,
    Layer,
    arp,
    error,
    extension,
    fragment6,
    fragments,
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
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, Stage, allow, deny, entry
from weft.bpf import layout
from weft.bpf.layout import ConfigFlag, Reason, Stat
from weft.bpf.testrun import Outcome
from weft.policies.table import Verdict

pytestmark = pytest.mark.root

#: Frames in one trip, and trips. The kernel takes no frame shorter than its network header in a test run.
MANY, TRIPS = 2000, 10
MARK = 0x800
#: What so many packets must meet, or they are not wild enough; the rest needs another stage.
PROXYS = {Reason.NO_PROXY, Reason.BECAME_JUDGED, Reason.NOT_THE_PROXY}
MET = set(Reason) - {Reason.CT_FULL, Reason.NO_BACKEND, Reason.NO_POLICY} - PROXYS
_SHORTEST = {0x0800: 14 + 20, 0x86DD: 14 + 40}


def packets(dice: random.Random) -> list[bytes]:
    """One of each kind, with ports and ids that meet."""
    family = dice.choice((4, 6))
    ends = dice.choice(((POD, PEER), (PEER, POD), (POD, OTHER), (OTHER, PEER)))
    source, destination = (side[family] for side in ends)
    low, high = dice.choice((80, 53)), 1025 + dice.randrange(4)
    ports = dice.choice(((low, high), (high, low)))
    layer = dice.choice(
        (
            tcp(*ports, dice.choice(("S", "SA", "A", "FA", "R", "SF", ""))),
            udp(*ports, bytes(dice.randrange(40))),
            sctp(*ports),
            (icmp if family == 4 else icmp6)(dice.randrange(256), dice.randrange(3)),
            Layer(dice.randrange(256), dice.randbytes(dice.randrange(40))),
        )
    )
    whole = ip(source, destination, layer)
    about = error(family, ip(destination, source, layer), unreachable=dice.random() < 0.5)
    found = [frame(whole), frame(ip(source, destination, about)), vlan(whole), arp(), unknown()]
    found += fragments(source, destination, layer, ident=dice.randrange(3))
    if family == 6:
        for kind in (HOP_BY_HOP, ROUTING, DESTINATION):
            layer = extension(kind, layer, words=dice.randrange(3), segments_left=dice.randrange(2))
        found += [frame(ipv6(source, destination, layer)), frame(ipv6(source, destination, fragment6(layer)))]
    else:
        found.append(frame(ipv4(source, destination, layer, options=dice.randrange(11))))
    return found


def bent(dice: random.Random, whole: bytes) -> bytes:
    raw = bytearray(whole)
    way = dice.randrange(5)
    if way == 1:
        raw[dice.randrange(12, len(raw))] ^= 1 << dice.randrange(8)
    elif way == 2:
        del raw[dice.randrange(14, len(raw) + 1) :]
    elif way == 3:
        raw += dice.randbytes(dice.randrange(64))
    elif way == 4:
        at = dice.randrange(14, len(raw))
        raw[at : at + 4] = dice.randbytes(4)
    return bytes(raw.ljust(_SHORTEST.get(int.from_bytes(raw[12:14], "big"), 14), b"\0"))


@pytest.mark.parametrize("seed", range(TRIPS))
def test_every_packet_is_answered_and_counted_once(stage: Stage, seed: int) -> None:
    dice = random.Random(seed)
    stage.policy(
        allow(EGRESS, PEER_ID, TCP, 80),
        allow(EGRESS, PEER_ID, UDP),
        allow(INGRESS, PEER_ID),
        deny(INGRESS, 0, TCP, 53),
        allow(EGRESS, 0, ICMP, 8),
    )
    frames: list[bytes] = []
    while len(frames) < MANY:
        frames += [bent(dice, whole) for whole in packets(dice)]
    programs = ("weft_from_workload", "weft_to_workload")
    runs = stage.datapath.run_all([(dice.choice(programs), packet, 1) for packet in frames])
    answers = [run.verdict for run in runs]
    assert set(answers) == {layout.TC_PASS, layout.TC_DROP}
    counted = stage.counted()
    assert sum(counted.values()) == len(frames)
    passed = sum(count for (_, reason), count in counted.items() if reason == Reason.OK)
    assert passed == answers.count(layout.TC_PASS)
    assert {reason for _, reason in counted} == MET
    assert stage.datapath.stat(Stat.COUNTER_FAILED) == 0
    assert all(run.packet[: len(sent)] == sent for run, sent in zip(runs, frames, strict=True))


@pytest.mark.parametrize("seed", range(TRIPS // 2))
def test_on_a_node_with_a_proxy_too(stage: Stage, seed: int) -> None:
    """What is judged finds no listener: it is dropped or reset, turned round or left to go on, and counted once."""
    dice = random.Random(seed)
    stage.datapath.configure(flags=ConfigFlag.PROXY, proxy_mark=MARK)
    stage.maps.proxy.put(0, layout.Proxy(ifindex=1, port=15001, first_port=1026))
    rules = (allow(EGRESS, PEER_ID, UDP), allow(INGRESS, PEER_ID))
    judged = (entry(Verdict.REDIRECT, EGRESS, PEER_ID, TCP, 80), entry(Verdict.REDIRECT, INGRESS, 0, TCP, 53))
    programs = ("weft_from_workload", "weft_to_workload", "weft_to_workload")
    runs: list[Outcome] = []
    stage.policy(*rules, allow(EGRESS))
    while len(runs) < MANY:
        frames = [bent(dice, whole) for _ in range(20) for whole in packets(dice)]
        runs += stage.datapath.run_all([(dice.choice(programs), packet, 1) for packet in frames])
        stage.policy(*rules, *judged)
    answers = [run.verdict for run in runs]
    assert set(answers) == {layout.TC_PASS, layout.TC_DROP, layout.TC_REDIRECT}
    counted = stage.counted()
    assert sum(counted.values()) == len(runs)
    assert {reason for _, reason in counted} >= {Reason.NO_PROXY, Reason.BECAME_JUDGED}
    passed = sum(count for (_, reason), count in counted.items() if reason == Reason.OK)
    assert answers.count(layout.TC_PASS) <= passed <= len(runs) - answers.count(layout.TC_DROP)


@pytest.mark.parametrize("seed", range(TRIPS // 2))
def test_at_weft_p0_every_packet_is_marked_reset_or_dropped(stage: Stage, seed: int) -> None:
    """Nothing else goes on from there: what is neither for the proxy nor a reset would be nobody's judgement."""
    dice = random.Random(seed)
    stage.datapath.configure(flags=ConfigFlag.PROXY, proxy_mark=MARK)
    stage.maps.proxy.put(0, layout.Proxy(ifindex=1, port=15001, first_port=61000))
    frames = [bent(dice, whole) for _ in range(MANY // 10) for whole in packets(dice)]
    runs = stage.datapath.run_all([("weft_to_proxy", packet, 1) for packet in frames])
    went_on = [run for run in runs if run.verdict == layout.TC_PASS]
    fragments_ = [run for run in went_on if run.context.mark == MARK]
    assert went_on and len(went_on) - len(fragments_) == stage.datapath.stat(Stat.PROXY_RESET)
    assert {run.verdict for run in runs} == {layout.TC_PASS, layout.TC_DROP}
