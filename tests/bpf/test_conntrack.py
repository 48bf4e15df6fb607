"""Connections. `>` leaves the workload, `<` comes to it; letters are TCP flags; what follows is what becomes of it.

from_workload  --->  who opened it is remembered, with the verdict  <---  to_workload
"""

from __future__ import annotations

import pytest

from testkit.packets import ICMP, ICMPV6, SCTP, TCP, UDP, Layer, error, frame, icmp, icmp6, ip, sctp, tcp, udp
from testkit.stage import EGRESS, INGRESS, OTHER, PEER, PEER_ID, POD, Seen, Stage, allow, deny
from weft.bpf.layout import CtFlag, CtState, EventFlag, EventType, Reason, Stat
from weft.policies.model import Direction

pytestmark = pytest.mark.root

OK, POLICY, DENIED = Reason.OK, Reason.POLICY, Reason.POLICY_DENY
SECOND = 10**9


def out(layer: Layer, family: int = 4, remote: dict[int, str] = PEER) -> bytes:
    return frame(ip(POD[family], remote[family], layer))


def back(layer: Layer, family: int = 4, remote: dict[int, str] = PEER) -> bytes:
    return frame(ip(remote[family], POD[family], layer))


def play(stage: Stage, script: str, *, client: bool = True) -> list[Seen]:
    """ "> S", "< SA": the workload's port is 1025 and the peer's 80, or the other way round if it is the server."""
    mine, theirs = (1025, 80) if client else (80, 1025)
    seen = []
    for step in script.split(", "):
        way, flags = step.split()
        if way == ">":
            seen.append(stage.egress(out(tcp(mine, theirs, flags))))
        else:
            seen.append(stage.ingress(back(tcp(theirs, mine, flags))))
    return seen


def reasons(seen: list[Seen]) -> list[Reason]:
    return [one.reason for one in seen]


CLIENT = allow(EGRESS, PEER_ID, TCP, 80)
SERVER = allow(INGRESS, PEER_ID, TCP, 80)

# Replies pass because the connection does, not because a rule lets them.


@pytest.mark.parametrize("client", [True, False], ids=["the workload opens", "the peer opens"])
def test_replies_need_no_rule_of_their_own(stage: Stage, client: bool) -> None:
    stage.policy(CLIENT if client else SERVER)
    script = "> S, < SA, > A, < A, > FA, < FA, > A" if client else "< S, > SA, < A, > A, < FA, > FA, < A"
    seen = play(stage, script, client=client)
    assert reasons(seen) == [OK] * 7
    ways = [seen[0].events[-1].ct_state, seen[1].events[-1].ct_state]
    assert ways == [CtState.NEW, CtState.REPLY]


def test_the_same_ports_from_another_peer_are_another_connection(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S")
    assert stage.ingress(back(tcp(80, 1025, "SA"), remote=OTHER)).reason is POLICY


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("protocol", "layer"), [(UDP, udp), (SCTP, sctp)], ids=["udp", "sctp"])
def test_answers_without_a_handshake(stage: Stage, protocol: int, layer: object, family: int) -> None:
    stage.policy(allow(EGRESS, PEER_ID, protocol, 53))
    assert stage.ingress(back(layer(53, 1025), family)).reason is POLICY  # type: ignore[operator]
    assert stage.egress(out(layer(1025, 53), family)).passed  # type: ignore[operator]
    assert stage.ingress(back(layer(53, 1025), family)).passed  # type: ignore[operator]
    assert stage.ingress(back(layer(54, 1025), family)).reason is POLICY  # type: ignore[operator]


def test_an_entry_says_what_crossed(stage: Stage) -> None:
    play(stage, "> S, < SA, > A, > A")
    entry = stage.connection()
    assert list(entry.packets) == [1, 3] and list(entry.bytes) == [54, 3 * 54]
    assert entry.origin == Direction.EGRESS and entry.state == CtFlag.SEEN_REPLY
    assert entry.seen_ns >= entry.created_ns > 0
    assert stage.datapath.stat(Stat.CT_CREATED) == 1


# What a revision does: each connection is judged once more, in the orientation of who opened it.


@pytest.mark.parametrize("client", [True, False], ids=["the workload opened", "the peer opened"])
@pytest.mark.parametrize("first", [">", "<"], ids=["the workload speaks first", "the peer speaks first"])
def test_taking_a_permission_back_cuts_both_ways(stage: Stage, client: bool, first: str) -> None:
    stage.policy(CLIENT if client else SERVER)
    play(stage, "> S, < SA, > A" if client else "< S, > SA, < A", client=client)
    stage.policy()
    second = "<" if first == ">" else ">"
    seen = play(stage, f"{first} A, {second} A", client=client)
    assert reasons(seen) == [POLICY, POLICY]
    assert [one.kinds for one in seen] == [["VERDICT", "DROP"], ["DROP"]]
    (verdict,) = seen[0].of(EventType.VERDICT)
    assert verdict.direction == (EGRESS if client else INGRESS)
    assert (verdict.src_port, verdict.dst_port) == (htons(1025), htons(80))


def htons(port: int) -> int:
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def test_giving_it_again_lets_the_open_connection_go_on(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A")
    stage.policy()
    assert reasons(play(stage, "> A")) == [POLICY]
    stage.policy(CLIENT)
    assert reasons(play(stage, "< A, > A")) == [OK, OK]


def test_a_new_table_alone_changes_nothing_until_the_revision_moves(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA")
    stage.policy(bump=False)
    assert reasons(play(stage, "> A, < A")) == [OK, OK]
    stage.datapath.bump()
    assert reasons(play(stage, "> A, < A")) == [POLICY, POLICY]


def test_a_revision_that_changes_nothing_tells_nothing(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A")
    stage.policy(CLIENT, allow(EGRESS, PEER_ID, TCP, 81))
    assert [one.kinds for one in play(stage, "> A, < A")] == [[], []]


def test_a_peer_that_became_somebody_else_is_judged_as_such(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A")
    stage.datapath.identify(PEER[4], 999)
    assert reasons(play(stage, "> A")) == [OK]
    stage.datapath.bump()
    assert reasons(play(stage, "> A, < A")) == [POLICY, POLICY]


def test_a_denial_that_is_explicit_says_so_on_every_packet(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A")
    stage.policy(deny(EGRESS, PEER_ID, TCP, 80, cookie=9))
    assert reasons(play(stage, "> A, > A, < A")) == [DENIED] * 3
    assert stage.connection().cookie == 9


# SYN: always a question of its own.


def test_a_syn_is_judged_in_its_own_direction(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A")
    seen = play(stage, "< S, > A")
    assert reasons(seen) == [POLICY, OK]
    assert stage.connection().origin == EGRESS


def test_both_sides_may_open_at_once(stage: Stage) -> None:
    stage.policy(CLIENT, allow(INGRESS, PEER_ID, TCP, 1025))
    assert reasons(play(stage, "> S, < S, > SA, < SA, > A")) == [OK] * 5
    assert stage.connection().origin == EGRESS


def test_a_syn_sent_again_is_not_told_again(stage: Stage) -> None:
    stage.policy(CLIENT)
    assert [one.kinds for one in play(stage, "> S, > S")] == [["VERDICT", "TRACE"], []]
    assert list(stage.connection().packets) == [0, 2]


@pytest.mark.parametrize("end", ["> R", "< RA", "> FA, < FA, > A"], ids=["reset", "reset by the peer", "closed"])
def test_a_syn_on_a_closed_entry_starts_anew(stage: Stage, end: str) -> None:
    stage.policy(CLIENT)
    play(stage, f"> S, < SA, > A, {end}")
    assert stage.connection().state & ~CtFlag.SEEN_REPLY
    seen = play(stage, "> S")[0]
    assert seen.kinds == ["VERDICT", "TRACE"]
    entry = stage.connection()
    assert entry.state == 0 and list(entry.packets) == [0, 1]
    assert stage.datapath.stat(Stat.CT_CREATED) == 1  # the map holds no more than before


def test_a_syn_on_a_closed_entry_may_come_from_the_other_side(stage: Stage) -> None:
    stage.policy(CLIENT, allow(INGRESS, PEER_ID, TCP, 1025))
    play(stage, "> S, < SA, > A, > R, < S")
    assert stage.connection().origin == INGRESS


def test_a_half_closed_connection_is_not_closed(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA, > A, > FA, < A")
    assert stage.connection().state == CtFlag.SEEN_REPLY | CtFlag.FIN_OUT
    assert reasons(play(stage, "> S")) == [OK]
    assert stage.connection().state & CtFlag.FIN_OUT


def test_a_refused_syn_leaves_no_entry(stage: Stage) -> None:
    stage.policy()
    assert [one.kinds for one in play(stage, "> S, > S")] == [["VERDICT", "DROP"]] * 2
    assert stage.connections() == []


# In the middle of a TCP connection without an entry: installed later, or evicted. Either orientation admits it.

MIDSTREAM = [
    ("its own orientation allows", [allow(EGRESS, PEER_ID, TCP, 80)], "> A, < A", [OK, OK], EGRESS),
    ("the other orientation allows", [allow(INGRESS, PEER_ID, TCP, 1025)], "> A, < A", [OK, OK], INGRESS),
    ("a reply comes first", [allow(EGRESS, PEER_ID, TCP, 80)], "< A, > A", [OK, OK], EGRESS),
    ("a SYN+ACK is a reply", [allow(EGRESS, PEER_ID, TCP, 80), allow(INGRESS)], "< SA, > A", [OK, OK], EGRESS),
    ("both allow: the lower port serves", [allow(EGRESS), allow(INGRESS)], "< A", [OK], EGRESS),
    ("neither allows", [allow(EGRESS, PEER_ID, TCP, 81)], "> A, < A", [POLICY, POLICY], None),
]


@pytest.mark.parametrize(
    ("entries", "script", "becomes", "origin"),
    [case[1:] for case in MIDSTREAM],
    ids=[case[0] for case in MIDSTREAM],
)
def test_midstream(stage: Stage, entries: list, script: str, becomes: list[Reason], origin: int | None) -> None:  # type: ignore[type-arg]
    stage.policy(*entries)
    seen = play(stage, script)
    assert reasons(seen) == becomes
    assert [event.flags for event in seen[0].of(EventType.VERDICT)] == [EventFlag.MIDSTREAM]
    if origin is None:
        assert stage.connections() == []
    else:
        assert stage.connection().origin == origin and stage.connection().state & CtFlag.MIDSTREAM


def test_midstream_who_opened_was_a_guess_so_a_revision_may_turn_it(stage: Stage) -> None:
    stage.policy(allow(EGRESS), allow(INGRESS))
    assert reasons(play(stage, "> A")) == [OK]
    stage.policy(allow(INGRESS, PEER_ID, TCP, 1025))
    assert reasons(play(stage, "> A, < A")) == [OK, OK]
    assert stage.connection().origin == INGRESS
    stage.policy()
    assert reasons(play(stage, "> A, < A")) == [POLICY, POLICY]


def test_a_lone_reset_passes_by_policy_and_leaves_no_entry(stage: Stage) -> None:
    stage.policy(CLIENT)
    assert reasons(play(stage, "< RA, > R")) == [OK, OK]
    assert stage.connections() == []


# Without a handshake nobody knows who opened: what one side started may go on as the other's.


def test_udp_goes_on_as_the_other_sides(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, UDP, 4000))
    assert stage.egress(out(udp(5000, 4000))).passed
    stage.policy(allow(INGRESS, PEER_ID, UDP, 5000))
    assert stage.egress(out(udp(5000, 4000))).reason is POLICY
    turned = stage.ingress(back(udp(4000, 5000)))
    assert turned.passed and turned.kinds == ["VERDICT", "TRACE"]
    assert stage.egress(out(udp(5000, 4000))).passed
    assert stage.connection().origin == INGRESS


def test_udp_refused_both_ways_is_refused(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, UDP, 4000))
    assert stage.egress(out(udp(5000, 4000))).passed
    stage.policy()
    assert stage.ingress(back(udp(4000, 5000))).reason is POLICY
    assert stage.egress(out(udp(5000, 4000))).reason is POLICY


# ICMP: an answer answers its question; an error is about somebody's connection.

PING = {4: icmp(8, 77), 6: icmp6(128, 77)}
PONG = {4: icmp(0, 77), 6: icmp6(129, 77)}
PING_RULES = [allow(EGRESS, PEER_ID, ICMP, 8), allow(EGRESS, PEER_ID, ICMPV6, 128)]


@pytest.mark.parametrize("family", [4, 6])
def test_ping(stage: Stage, family: int) -> None:
    stage.policy(*PING_RULES)
    other_id = {4: icmp(0, 78), 6: icmp6(129, 78)}
    assert stage.ingress(back(PONG[family], family)).reason is POLICY
    assert stage.egress(out(PING[family], family)).passed
    answer = stage.ingress(back(PONG[family], family))
    assert answer.passed and answer.events[0].ct_state == CtState.REPLY
    assert stage.ingress(back(other_id[family], family)).reason is POLICY


@pytest.mark.parametrize("family", [4, 6])
def test_a_question_is_no_answer_though_it_bears_the_same_id(stage: Stage, family: int) -> None:
    stage.policy(*PING_RULES)
    assert stage.egress(out(PING[family], family)).passed
    assert stage.ingress(back(PING[family], family)).reason is POLICY


def test_an_answer_is_of_the_kind_that_was_asked_for(stage: Stage) -> None:
    stage.policy(*PING_RULES)
    assert stage.egress(out(icmp(8, 77))).passed
    assert stage.ingress(back(icmp(14, 77))).reason is POLICY  # timestamp reply


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("unreachable", [True, False], ids=["unreachable", "time exceeded"])
@pytest.mark.parametrize(
    "layer", [tcp(1025, 80, "S"), udp(1025, 80), sctp(1025, 80), None], ids=["tcp", "udp", "sctp", "ping"]
)
def test_an_error_about_a_connection_passes(
    stage: Stage, family: int, unreachable: bool, layer: Layer | None
) -> None:
    asked = layer or PING[family]
    stage.policy(allow(EGRESS, PEER_ID))
    complaint = error(family, ip(POD[family], PEER[family], asked), unreachable=unreachable)
    # from a router, whom nobody has allowed
    assert stage.ingress(back(complaint, family, OTHER)).reason is POLICY
    assert stage.egress(out(asked, family)).passed
    seen = stage.ingress(back(complaint, family, OTHER))
    assert seen.passed and [event.ct_state for event in seen.events] in ([], [CtState.RELATED])


def test_an_error_that_the_workload_sends_about_a_peers_connection(stage: Stage) -> None:
    stage.policy(allow(INGRESS, PEER_ID, UDP, 53))
    complaint = error(4, ip(PEER[4], POD[4], udp(1025, 53)))
    assert stage.egress(out(complaint)).reason is POLICY
    assert stage.ingress(back(udp(1025, 53))).passed
    assert stage.egress(out(complaint)).passed


def test_an_error_about_a_connection_that_was_cut_does_not_pass(stage: Stage) -> None:
    stage.policy(CLIENT)
    play(stage, "> S, < SA")
    stage.policy()
    play(stage, "> A")
    assert stage.ingress(back(error(4, ip(POD[4], PEER[4], tcp(1025, 80))))).reason is POLICY


def test_an_error_about_a_verdict_of_yesterday_does_not_pass(stage: Stage) -> None:
    """Until the connection's own next packet has renewed it."""
    stage.policy(CLIENT)
    play(stage, "> S, < SA")
    complaint = back(error(4, ip(POD[4], PEER[4], tcp(1025, 80))))
    stage.policy()
    assert stage.ingress(complaint).reason is POLICY
    stage.policy(CLIENT)
    play(stage, "> A")
    assert stage.ingress(complaint).passed


@pytest.mark.parametrize(
    "quoted",
    [b"", b"\x45" + bytes(10), bytes(28), b"\x46" + bytes(27), b"\x45\0\0\x1c\0\0\x20\x01" + bytes(20)],
    ids=["nothing", "half a header", "no version", "options cut off", "a later fragment"],
)
def test_an_error_that_quotes_nonsense_is_judged_by_its_type(stage: Stage, quoted: bytes) -> None:
    stage.policy(CLIENT)
    play(stage, "> S")
    assert stage.ingress(back(icmp(3, payload=quoted))).reason is POLICY
    stage.policy(allow(INGRESS, 0, ICMP, 3))
    assert stage.ingress(back(icmp(3, payload=quoted))).passed


def test_neighbours_may_ask_each_other_across_global_addresses(stage: Stage) -> None:
    """The node asks from its own address; hop limit 255 proves that it is the node."""
    stage.policy()
    node = {6: "fd00:172:30::1"}
    stage.datapath.identify(node[6], 1)
    assert stage.ingress(frame(ip(node[6], POD[6], icmp6(135), ttl=255))).passed
    stage.policy(allow(INGRESS, 1))
    assert stage.ingress(frame(ip(node[6], POD[6], icmp6(135), ttl=64))).passed
    assert stage.egress(frame(ip(POD[6], node[6], icmp6(136, 0x6000), ttl=255))).passed


# Time: an entry that was idle for longer than its timeout is as if it were not there.

IDLE = [
    ("a SYN without an answer", "> S", 59, 61),
    ("an established connection", "> S, < SA, > A", 7999, 8001),
    ("a reset one", "> S, < SA, < R", 9, 11),
    ("one closed from both sides", "> S, < SA, > FA, < FA", 9, 11),
    ("one closed from one side", "> S, < SA, > FA", 7999, 8001),
    ("one that was met in the middle", "> PA", 7999, 8001),
]


@pytest.mark.parametrize(
    ("script", "within", "beyond"), [case[1:] for case in IDLE], ids=[case[0] for case in IDLE]
)
def test_idle(stage: Stage, script: str, within: int, beyond: int) -> None:
    stage.policy(CLIENT)
    play(stage, script)
    stage.age(seen_ns=within * SECOND)
    play(stage, "> A")
    assert stage.connection().packets[EGRESS] > 1
    stage.age(seen_ns=beyond * SECOND)
    play(stage, "> A")
    assert stage.connection().state & CtFlag.MIDSTREAM
    assert list(stage.connection().packets) == [0, 1]


def test_idle_udp_needs_a_new_permission(stage: Stage) -> None:
    stage.policy(allow(EGRESS, PEER_ID, UDP, 53))
    stage.egress(out(udp(1025, 53)))
    stage.age(seen_ns=59 * SECOND)
    assert stage.ingress(back(udp(53, 1025))).passed
    stage.age(seen_ns=61 * SECOND)
    assert stage.ingress(back(udp(53, 1025))).reason is POLICY
