"""Invariant: whatever the policies and the packet, the loaded programs decide what the rules say.

Two readings, written apart: `policies.l4` takes the rules one by one; `policies.compile` makes a table of them, and
the programs look it up. A case is up to four random policies; its packets go for the edges of the
ports that it names, and the addresses that its prefixes split.

                 rules ------------------ l4.judge -------------------+
                   |                                                  +--- equal: verdict, reason, match, rules
                   +--- compile --- maps --- program <--- packet -----+
"""

from __future__ import annotations

from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import policy_strategies as strategies
from policy_strategies import Case
from testkit import world
from testkit.bpf import Datapath
from testkit.world import CLIENT_PORT, Answer, World
from weft.bpf.layout import Reason
from weft.policies.l4 import Judgement, Packet, PeerView, judge
from weft.policies.model import Direction, Protocol
from weft.policies.table import MatchType, Table, Verdict

pytestmark = pytest.mark.root

#: About 14,000 first packets compared, in a few seconds.
CASES: Final = 300
PACKETS: Final = 50

#: From here on Linux gives ports to clients.
EPHEMERAL: Final = 32768

seeds = st.integers(0, (1 << 32) - 1)


def many(examples: int) -> settings:
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, suppress_health_check=unhealthy)


@pytest.fixture
def put(datapath: Datapath) -> World:
    return World(datapath)


def random_packets(seed: int, case: Case, count: int = PACKETS) -> list[Packet]:
    """Each once: an ICMP message without an id, sent again, belongs to the connection that the first one made."""
    chance, ports = Random(seed), strategies.interesting_ports(case)
    return list(dict.fromkeys(world.random_packet(chance, case, ports) for _ in range(count)))


def expected_reason(said: Judgement) -> Reason:
    if said.verdict is Verdict.ALLOW:
        return Reason.OK
    if said.verdict is Verdict.REDIRECT:  # there is no proxy
        return Reason.OK if said.bypass else Reason.NO_PROXY
    return Reason.POLICY if said.match is MatchType.NONE else Reason.POLICY_DENY


def assert_told(table: Table, answer: Answer, said: Judgement, packet: Packet) -> None:
    """The event says how the packet matched, and which rules decided."""
    if answer.verdict is None:
        assert not said.explicit and said.verdict is Verdict.ALLOW, packet
        return
    assert MatchType(answer.verdict.match) is said.match, packet
    assert answer.verdict.direction == packet.direction
    rules = table.rule_sets.get(answer.verdict.cookie, ())
    assert rules == tuple(sorted({rule.origin for rule in said.rules})), packet


@many(CASES)
@given(case=strategies.cases(), seed=seeds)
def test_the_first_packet_of_a_connection_is_judged_as_the_rules_read(put: World, case: Case, seed: int) -> None:
    put.put_in_force(case)
    packets = random_packets(seed, case)
    frames = [(packet.direction, world.opening(packet, CLIENT_PORT + at)) for at, packet in enumerate(packets)]
    assert put.table is not None
    for packet, answer in zip(packets, put.send(frames), strict=True):
        said = judge(case.specs, packet)
        assert answer.reason == expected_reason(said), (packet, said)
        assert_told(put.table, answer, said, packet)


@many(100)
@given(before=strategies.cases(), after=strategies.cases(), seed=seeds)
def test_open_connections_follow_a_change_of_policy_both_ways(
    put: World, before: Case, after: Case, seed: int
) -> None:
    """What was opened goes on, and is answered, exactly as the rules read that are in force then."""
    packets = [packet for packet in random_packets(seed, before) if packet.protocol == Protocol.TCP]
    ep_id = put.put_in_force(before)
    openings = [(packet.direction, world.opening(packet, CLIENT_PORT + at)) for at, packet in enumerate(packets)]
    opened = [answer.reason == Reason.OK for answer in put.send(openings)]
    for case in (before, after):
        put.put_in_force(case, ep_id)
        for at, (packet, was_opened) in enumerate(zip(packets, opened, strict=True)):
            if not was_opened:
                continue
            said = judge(case.specs, named_by(case, packet))
            later = (packet.direction, world.going_on(packet, CLIENT_PORT + at))
            answering = (other_way(packet.direction), world.reply(packet, CLIENT_PORT + at))
            for answer in put.send([later, answering, later]):
                assert answer.reason == expected_reason(said), (packet, said)


@many(100)
@given(case=strategies.cases(), seed=seeds, client_port=st.sampled_from([CLIENT_PORT, 2000]))
def test_a_packet_from_the_middle_is_judged_by_who_can_have_opened(
    put: World, case: Case, seed: int, client_port: int
) -> None:
    """TCP that nobody saw opening: after an installation, or an eviction."""
    put.put_in_force(case)
    packets = [packet for packet in random_packets(seed, case) if packet.protocol == Protocol.TCP]
    frames = [(packet.direction, world.going_on(packet, client_port + at)) for at, packet in enumerate(packets)]
    for at, (packet, answer) in enumerate(zip(packets, put.send(frames), strict=True)):
        mine = judge(case.specs, packet)
        theirs = judge(case.specs, turned_round(packet, client_port + at))
        assert answer.reason in expected_in_the_middle(mine, theirs, packet.port, client_port), packet


def expected_in_the_middle(mine: Judgement, theirs: Judgement, port: int, client_port: int) -> set[Reason]:
    """A port such as clients are given, at one end only, is the client's. At both: either side may have opened. At
    none: only where a direction has policy it has a say."""
    client, server = client_port >= EPHEMERAL, port >= EPHEMERAL
    if client != server:
        return {expected_reason(mine if client else theirs)}
    answers = [mine, theirs]
    if not client and any(map(governed, answers)):
        answers = [said for said in answers if governed(said)]
    reasons = {expected_reason(said) for said in answers}
    return {Reason.OK} if Reason.OK in reasons else reasons


def governed(said: Judgement) -> bool:
    return said.explicit or said.verdict is not Verdict.ALLOW


def other_way(direction: Direction) -> Direction:
    return Direction.INGRESS if direction is Direction.EGRESS else Direction.EGRESS


def named_by(case: Case, packet: Packet) -> Packet:
    """The same packet, in a cluster where ports are named as in `case`."""
    peer = packet.peer
    if peer.address is None:
        peer = PeerView(peer.identity, None, case.peer_ports.get(peer.identity, ()))
    return Packet(packet.direction, packet.subject, peer, packet.protocol, packet.port, case.subject_ports)


def turned_round(packet: Packet, client_port: int) -> Packet:
    """As if the other side had opened: towards the port that this packet comes from."""
    return Packet(
        *(other_way(packet.direction), packet.subject, packet.peer),
        *(packet.protocol, client_port, packet.subject_ports),
    )
