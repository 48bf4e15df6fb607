"""What user space is told: a verdict once for each connection, every drop, and of the rest enough to see it live.

connection  S      SA      A  A  A  A ... 5 s ...  A      FA      R
from        V T                                    T      T       T
to                 T                               T
"""

from __future__ import annotations

import ctypes

import pytest

from testkit.packets import ICMP, TCP, UDP, arp, frame, icmp, ip, tcp, udp
from testkit.stage import (
    EGRESS,
    EP_ID,
    INGRESS,
    PEER,
    PEER_ID,
    POD,
    POD_ID,
    WORLD,
    WORLD_ID,
    Stage,
    allow,
    packed,
)
from weft.bpf import layout, testrun
from weft.bpf.layout import CtState, Event, Reason, Stat
from weft.policies.table import MatchType, Verdict

pytestmark = pytest.mark.root

SECOND = 10**9


def net(port: int) -> int:
    """As a __be16 field of a ctypes structure shows it."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def out(flags: str, family: int = 4) -> bytes:
    return frame(ip(POD[family], PEER[family], tcp(1025, 80, flags)))


def back(flags: str, family: int = 4) -> bytes:
    return frame(ip(PEER[family], POD[family], tcp(80, 1025, flags)))


def told(event: Event) -> dict[str, object]:
    """The fields that describe a packet and its judgement."""
    names = (
        "sub_type reason direction family protocol tcp_flags icmp_code src_port dst_port match verdict ct_state "
        "flags ep_id src_identity dst_identity cookie ifindex length"
    )
    return {name: getattr(event, name) for name in names.split()} | {
        "src": bytes(event.src),
        "dst": bytes(event.dst),
    }


COMMON: dict[str, object] = {
    "family": 4,
    "protocol": TCP,
    "tcp_flags": 2,
    "icmp_code": 0,
    "src_port": net(1025),
    "dst_port": net(80),
    "flags": 0,
    "ep_id": EP_ID,
    "src_identity": POD_ID,
    "dst_identity": PEER_ID,
    "ifindex": 1,
    "length": 54,
    "src": packed(POD[4]),
    "dst": packed(PEER[4]),
    "direction": EGRESS,
    "sub_type": 0,
    "reason": 0,
    "match": MatchType.L3_L4,
    "verdict": Verdict.ALLOW,
    "ct_state": CtState.NEW,
    "cookie": 5,
}


def test_an_allowed_connection_word_for_word(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80, cookie=5))
    seen = stage.egress(out("S"))
    assert seen.kinds == ["VERDICT", "TRACE"]
    assert told(seen.events[0]) == COMMON
    assert told(seen.events[1]) == COMMON | {"sub_type": 3}
    (trace,) = stage.ingress(back("SA")).events
    swapped = {"src": COMMON["dst"], "dst": COMMON["src"], "src_port": net(80), "dst_port": net(1025)}
    identities = {"src_identity": PEER_ID, "dst_identity": POD_ID}
    reply = {"tcp_flags": 0x12, "direction": INGRESS, "ct_state": CtState.REPLY}
    assert told(trace) == COMMON | swapped | identities | reply


def test_a_refused_connection_word_for_word(stage: Stage) -> None:
    stage.policy()
    seen = stage.egress(frame(ip(POD[6], WORLD[6], udp(1025, 53))))
    refused = COMMON | {
        "family": 6,
        "protocol": UDP,
        "tcp_flags": 0,
        "dst_port": net(53),
        "dst_identity": WORLD_ID[6],
        "length": 62,
        "src": packed(POD[6]),
        "dst": packed(WORLD[6]),
        "reason": Reason.POLICY,
        "match": MatchType.NONE,
        "verdict": Verdict.DENY,
        "cookie": 0,
    }
    assert seen.kinds == ["VERDICT", "DROP"]
    assert [told(event) for event in seen.events] == [refused, refused]


def test_icmp_tells_type_and_code_and_no_ports(stage: Stage) -> None:
    (event,) = stage.egress(frame(ip(POD[4], PEER[4], icmp(8, 77, code=1)))).events
    assert (event.protocol, event.tcp_flags, event.icmp_code) == (ICMP, 8, 1)
    assert (event.src_port, event.dst_port) == (0, 0)


def test_who_sent_the_frame(stage: Stage) -> None:
    (event,) = stage.egress(out("S")).events
    assert bytes(event.src_mac).hex(":") == "02:00:00:00:00:0a"
    assert bytes(event.dst_mac).hex(":") == "02:00:00:00:00:0b"
    assert event.time_ns > 0


# Aggregation


def kinds(stage: Stage, *frames: bytes) -> list[list[str]]:
    ways = {POD[4]: stage.egress, PEER[4]: stage.ingress}
    return [ways[".".join(str(byte) for byte in sent[26:30])](sent).kinds for sent in frames]


def test_new_flags_are_told_once_in_each_direction(stage: Stage) -> None:
    script = [
        out("S"),
        back("SA"),
        out("A"),
        out("PA"),
        back("A"),
        out("FA"),
        back("FA"),
        out("FA"),
        out("R"),
        out("R"),
    ]
    trace, nothing = ["TRACE"], list[str]()
    assert kinds(stage, *script) == [
        trace, trace, nothing, nothing, nothing, trace, trace, nothing, trace, nothing
    ]  # fmt: skip


def test_a_live_connection_is_told_every_five_seconds_in_each_direction(stage: Stage) -> None:
    kinds(stage, out("S"), back("SA"), out("A"))
    stage.age(reported_ns=49 * SECOND // 10)
    assert kinds(stage, out("A"), back("A")) == [[], []]
    stage.age(reported_ns=SECOND // 5)
    assert kinds(stage, out("A"), back("A"), out("A"), back("A")) == [["TRACE"], ["TRACE"], [], []]


def test_the_interval_is_the_daemons_to_choose(stage: Stage) -> None:
    stage.datapath.configure(trace_interval_ms=0)
    assert kinds(stage, out("S"), out("A"), out("A")) == [["TRACE"]] * 3


def test_every_drop_is_told(stage: Stage) -> None:
    stage.policy()
    assert kinds(stage, out("S"), out("S")) == [["VERDICT", "DROP"]] * 2


def test_a_datagrams_later_packets_are_told_as_seldom(stage: Stage) -> None:
    sent = frame(ip(POD[4], PEER[4], udp(1025, 53)))
    assert kinds(stage, sent, sent) == [["TRACE"], []]


def test_the_link_is_not_told(stage: Stage) -> None:
    assert stage.egress(arp()).events == []


# A full ring: the events are lost and counted, the packets go their way.


def test_a_full_ring_is_counted_and_changes_no_verdict(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80))
    stage.datapath.configure(trace_interval_ms=0)
    program = stage.datapath.programs["weft_from_workload"]
    many = layout.EVENTS.max_entries // ctypes.sizeof(Event)  # more than there is room for: records have headers
    stage.datapath.namespace.call(testrun.run, program, out("A"), repeat=many)
    lost = stage.datapath.stat(Stat.EVENT_LOST)
    assert lost > 0
    refused = frame(ip(POD[4], PEER[4], tcp(1025, 81, "S")))
    runs = stage.datapath.run_all([("weft_from_workload", packet, 1) for packet in (out("A"), refused)])
    assert [run.verdict for run in runs] == [layout.TC_PASS, layout.TC_DROP]
    assert stage.datapath.stat(Stat.EVENT_LOST) == lost + 3
    assert stage.counted() == {(EGRESS, Reason.OK): many + 1, (EGRESS, Reason.POLICY): 1}
    assert len(stage.datapath.events()) == 1 + many - lost  # a verdict, and a trace of each packet
