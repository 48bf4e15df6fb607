"""Policy as the programs look it up. The subject is the workload; what it may depends on who, which way, where.

PEER (400) ----+                            +---- from_workload: the workload's egress
OTHER (500) ---+---- node ---- veth ---- workload (300)
world (9/10) --+                            +---- to_workload: its ingress
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from testkit.packets import GRE, ICMP, ICMPV6, SCTP, TCP, UDP, Layer, frame, icmp, icmp6, ip, sctp, tcp, udp
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, WORLD, WORLD_ID, Stage, allow, deny, entry
from weft.bpf.layout import EventType, Reason
from weft.policies.model import Direction
from weft.policies.table import Key, MatchType, Value, Verdict

pytestmark = pytest.mark.root

Entry = tuple[Key, Value]

OK, POLICY, DENIED, NO_PROXY, UNKNOWN = (
    Reason.OK,
    Reason.POLICY,
    Reason.POLICY_DENY,
    Reason.NO_PROXY,
    Reason.L4_UNKNOWN,
)
RAW = Layer(GRE, bytes(8))


@dataclass(frozen=True, slots=True)
class Case:
    says: str
    entries: Sequence[Entry]
    packet: Layer
    becomes: Reason
    direction: Direction = EGRESS
    remote: dict[int, str] | None = None
    match: MatchType | None = None

    def frame(self, family: int) -> bytes:
        remote = (self.remote or PEER)[family]
        ends = (POD[family], remote) if self.direction is EGRESS else (remote, POD[family])
        return frame(ip(*ends, self.packet))


# Who and where: the two lookups. Which of them answers shows in the match type of the event.
LOOKUPS = [
    Case("nothing allowed, nothing passes", [], tcp(1025, 80, "S"), POLICY, match=MatchType.NONE),
    Case("a peer, every port", [allow(EGRESS, PEER_ID)], tcp(1025, 80, "S"), OK, match=MatchType.L3_ONLY),
    Case("a peer, its port", [allow(EGRESS, PEER_ID, TCP, 80)], tcp(1025, 80, "S"), OK, match=MatchType.L3_L4),
    Case("a peer, another port", [allow(EGRESS, PEER_ID, TCP, 81)], tcp(1025, 80, "S"), POLICY),
    Case("a peer, its port, another protocol", [allow(EGRESS, PEER_ID, UDP, 80)], tcp(1025, 80, "S"), POLICY),
    Case("anybody, a port", [allow(EGRESS, 0, TCP, 80)], tcp(1025, 80, "S"), OK, match=MatchType.L4_ONLY),
    Case("anybody, everything", [allow(EGRESS)], tcp(1025, 80, "S"), OK, match=MatchType.ALL),
    Case("a peer, a protocol", [allow(EGRESS, PEER_ID, TCP)], tcp(1025, 80, "S"), OK, match=MatchType.L3_PROTO),
    Case("anybody, a protocol", [allow(EGRESS, 0, TCP)], tcp(1025, 80, "S"), OK, match=MatchType.PROTO_ONLY),
    Case("another peer", [allow(EGRESS, PEER_ID)], tcp(1025, 80, "S"), POLICY, remote=OTHER),
    Case("the other direction", [allow(INGRESS, PEER_ID)], tcp(1025, 80, "S"), POLICY),
    Case("the source port does not count", [allow(EGRESS, PEER_ID, TCP, 1025)], tcp(1025, 80, "S"), POLICY),
    Case(
        "ingress is judged on the workload's port",
        [allow(INGRESS, PEER_ID, TCP, 80)],
        tcp(1025, 80, "S"),
        OK,
        INGRESS,
    ),
    Case("ingress, another port", [allow(INGRESS, PEER_ID, TCP, 80)], tcp(80, 1025, "S"), POLICY, INGRESS),
]

# Port ranges are prefixes: 8080/12 bits is 8080..8095.
RANGES = [
    Case("the first of a range", [allow(EGRESS, 0, TCP, 8080, 12)], udp(1025, 8080), POLICY),
    Case("the first of a range, tcp", [allow(EGRESS, 0, TCP, 8080, 12)], tcp(1025, 8080, "S"), OK),
    Case("the last of a range", [allow(EGRESS, 0, TCP, 8080, 12)], tcp(1025, 8095, "S"), OK),
    Case("one before a range", [allow(EGRESS, 0, TCP, 8080, 12)], tcp(1025, 8079, "S"), POLICY),
    Case("one behind a range", [allow(EGRESS, 0, TCP, 8080, 12)], tcp(1025, 8096, "S"), POLICY),
    Case(
        "a port inside a range has its own entry",
        [allow(EGRESS, 0, TCP, 8080, 12), deny(EGRESS, 0, TCP, 8081)],
        tcp(1025, 8081, "S"),
        DENIED,
    ),
]

# The first hit is final: precedence was settled when the table was compiled.
PRECEDENCE = [
    Case(
        "1 the identity's entry is final, although anybody's denies",
        [allow(EGRESS, PEER_ID), deny(EGRESS, 0, TCP, 80)],
        tcp(1025, 80, "S"),
        OK,
    ),
    Case(
        "1 the identity's denial is final, although anybody's allows",
        [deny(EGRESS, PEER_ID), allow(EGRESS, 0, TCP, 80)],
        tcp(1025, 80, "S"),
        DENIED,
    ),
    Case(
        "2 anybody's entry answers where the identity has none for the port",
        [allow(EGRESS, PEER_ID, TCP, 81), deny(EGRESS, 0, TCP, 80)],
        tcp(1025, 80, "S"),
        DENIED,
    ),
    Case(
        "the longer prefix within one identity",
        [deny(EGRESS, PEER_ID, TCP, 80), allow(EGRESS, PEER_ID)],
        tcp(1025, 80, "S"),
        DENIED,
    ),
    Case(
        "a redirect without a proxy stops, and says why",
        [entry(Verdict.REDIRECT, EGRESS, 0, TCP, 80)],
        tcp(1025, 80, "S"),
        NO_PROXY,
    ),
    Case(
        "a redirect that may be passed by passes",
        [entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80, bypass=True)],
        tcp(1025, 80, "S"),
        OK,
        INGRESS,
    ),
]

# Identities: by the longest prefix; nobody's address is the world's.
WHO = [
    Case("a stranger, although peers may", [allow(EGRESS, PEER_ID)], tcp(1025, 80, "S"), POLICY, remote=WORLD),
    Case("a stranger by port", [allow(EGRESS, 0, TCP, 80)], tcp(1025, 80, "S"), OK, remote=WORLD),
    Case(
        "the world",
        [allow(EGRESS, WORLD_ID[4], TCP, 80), allow(EGRESS, WORLD_ID[6], TCP, 80)],
        tcp(1025, 80, "S"),
        OK,
        remote=WORLD,
    ),
    Case(
        "a workload is not the world",
        [allow(EGRESS, WORLD_ID[4], TCP, 80), allow(EGRESS, WORLD_ID[6], TCP, 80)],
        tcp(1025, 80, "S"),
        POLICY,
    ),
]

PROTOCOLS = [
    Case("udp", [allow(EGRESS, PEER_ID, UDP, 53)], udp(1025, 53), OK),
    Case("sctp", [allow(EGRESS, PEER_ID, SCTP, 80)], sctp(1025, 80), OK),
    Case("sctp is not tcp", [allow(EGRESS, PEER_ID, TCP, 80)], sctp(1025, 80), POLICY),
    Case("an unknown protocol, ports allowed", [allow(EGRESS, PEER_ID, TCP)], RAW, UNKNOWN),
    Case("an unknown protocol, the peer allowed", [allow(EGRESS, PEER_ID)], RAW, OK, match=MatchType.L3_ONLY),
    Case("an unknown protocol, the peer denied", [deny(EGRESS, PEER_ID), allow(EGRESS)], RAW, DENIED),
]


def _both_families(cases: list[Case]) -> list[object]:
    return [pytest.param(case, family, id=f"{case.says}, v{family}") for case in cases for family in (4, 6)]


@pytest.mark.parametrize(("case", "family"), _both_families([*LOOKUPS, *RANGES, *PRECEDENCE, *WHO, *PROTOCOLS]))
def test_a_new_connection(stage: Stage, case: Case, family: int) -> None:
    stage.policy(*case.entries)
    seen = stage.send(case.direction, case.frame(family))
    assert seen.reason is case.becomes
    (verdict,) = seen.of(EventType.VERDICT)
    assert verdict.reason == case.becomes
    if case.match is not None:
        assert verdict.match == case.match


# ICMP is judged by its type: no ports, so no other rule of ports lets it through (P6).
ICMP_CASES = [
    ("its type", [allow(EGRESS, 0, ICMP, 8), allow(EGRESS, 0, ICMPV6, 128)], {4: icmp(8), 6: icmp6(128)}, OK),
    (
        "another type",
        [allow(EGRESS, 0, ICMP, 13), allow(EGRESS, 0, ICMPV6, 139)],
        {4: icmp(8), 6: icmp6(128)},
        POLICY,
    ),
    ("tcp allowed", [allow(EGRESS, 0, TCP)], {4: icmp(8), 6: icmp6(128)}, POLICY),
    ("the peer allowed", [allow(EGRESS, PEER_ID)], {4: icmp(8), 6: icmp6(128)}, OK),
    (
        "type 0 is a type",
        [allow(EGRESS, 0, ICMP, 0, 16), allow(EGRESS, 0, ICMPV6, 129)],
        {4: icmp(0), 6: icmp6(129)},
        OK,
    ),
    (
        "the other family's icmp is unknown",
        [allow(EGRESS, 0, ICMP, 0, 0), allow(EGRESS, 0, ICMPV6, 0, 0)],
        {4: icmp6(128), 6: icmp(8)},
        UNKNOWN,
    ),
]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("says", "entries", "packets", "becomes"), ICMP_CASES, ids=[case[0] for case in ICMP_CASES]
)
def test_icmp(
    stage: Stage, family: int, says: str, entries: list[Entry], packets: dict[int, Layer], becomes: Reason
) -> None:
    stage.policy(*entries)
    assert stage.egress(frame(ip(POD[family], PEER[family], packets[family]))).reason is becomes


SYN = {family: frame(ip(POD[family], PEER[family], tcp(1025, 80, "S"))) for family in (4, 6)}


def test_a_direction_without_policy_allows_all_and_tells_no_verdict(stage: Stage) -> None:
    stage.policy(allow(INGRESS, PEER_ID), egress=False)
    seen = stage.egress(SYN[4])
    assert seen.passed and seen.kinds == ["TRACE"]


def test_a_direction_that_is_not_enforced_still_has_its_denials(stage: Stage) -> None:
    stage.policy(deny(EGRESS, PEER_ID), egress=False)
    assert stage.egress(SYN[4]).reason is DENIED
    other = stage.egress(frame(ip(POD[4], OTHER[4], tcp(1025, 80, "S"))))
    assert other.passed and other.kinds == ["VERDICT", "TRACE"]


def test_a_missing_table_allows_nothing(stage: Stage) -> None:
    stage.endpoint(policy_id=4711, flags=2)
    assert stage.egress(SYN[6]).reason is Reason.NO_POLICY


def test_before_identities_are_known_everybody_is_the_world(stage: Stage) -> None:
    stage.maps.ipcache.clear()
    stage.policy(allow(EGRESS, WORLD_ID[4]))
    assert stage.egress(SYN[4]).passed
    assert stage.egress(SYN[6]).reason is POLICY


def test_the_longest_prefix_says_who(stage: Stage) -> None:
    stage.datapath.identify("203.0.113.0/24", 1 << 24)
    stage.datapath.identify("203.0.113.4/30", (1 << 24) + 1)
    stage.policy(allow(EGRESS, (1 << 24) + 1))
    inside = stage.egress(frame(ip(POD[4], "203.0.113.7", tcp(1025, 80, "S"))))
    beside = stage.egress(frame(ip(POD[4], "203.0.113.8", tcp(1025, 80, "S"))))
    assert (inside.reason, beside.reason) == (OK, POLICY)
    assert [event.dst_identity for event in inside.events + beside.events] == [(1 << 24) + 1] * 2 + [1 << 24] * 2


# Audit mode: what policy refuses passes, and says that it should not have.


@pytest.mark.parametrize(
    ("entries", "becomes"),
    [
        ([], POLICY),
        ([deny(EGRESS, PEER_ID)], DENIED),
        ([entry(Verdict.REDIRECT, EGRESS, PEER_ID)], NO_PROXY),
    ],
    ids=["not allowed", "denied", "no proxy"],
)
def test_audit_lets_pass_and_says_so(stage: Stage, entries: list[Entry], becomes: Reason) -> None:
    stage.datapath.configure(flags=1)
    stage.policy(*entries)
    seen = stage.egress(SYN[4])
    assert seen.passed and seen.kinds == ["VERDICT", "TRACE"]
    assert [(event.reason, event.flags) for event in seen.events] == [(becomes, 1)] * 2
    reply = stage.ingress(frame(ip(PEER[4], POD[4], tcp(80, 1025, "SA"))))
    assert reply.passed and reply.kinds == ["TRACE"]


def test_audit_passes_nothing_but_what_policy_refuses(stage: Stage) -> None:
    stage.datapath.configure(flags=1)
    stage.policy()
    assert stage.egress(frame(ip(OTHER[4], PEER[4], tcp(1025, 80, "S")))).reason is Reason.SOURCE_IP


def test_the_end_of_audit_cuts_what_it_let_through(stage: Stage) -> None:
    stage.datapath.configure(flags=1)
    stage.policy()
    assert stage.egress(SYN[4]).passed
    stage.datapath.configure(flags=0)
    stage.datapath.bump()
    assert stage.egress(frame(ip(POD[4], PEER[4], tcp(1025, 80)))).reason is POLICY


# What `bpf policy get` shows: packets of who opened the connection, by the rules that decided.


def test_rules_count_the_packets_that_they_let_and_stop(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80, cookie=5), deny(EGRESS, 0, TCP, 81, cookie=6))
    stage.egress(SYN[4])
    stage.ingress(frame(ip(PEER[4], POD[4], tcp(80, 1025, "SA"))))
    stage.egress(frame(ip(POD[4], PEER[4], tcp(1025, 80, "A", b"hello"))))
    stage.egress(frame(ip(POD[4], PEER[4], tcp(1026, 81, "S"))))
    stats = {(key.cookie, key.direction, key.verdict): value for key, value in stage.maps.rule_stats.items()}
    assert {key: (value.packets, value.bytes) for key, value in stats.items()} == {
        (5, EGRESS, Verdict.ALLOW): (2, 54 + 59),
        (6, EGRESS, Verdict.DENY): (1, 54),
    }
