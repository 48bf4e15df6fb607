"""Invariant: for every set of policies and every packet, the compiled table, asked as the kernel asks it, answers
what the oracle reads from the rules: verdict, how it matched, which rules decided, and who may pass a dead proxy.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import policy_strategies as strategies
from policy_strategies import SUBJECT, Case
from weft.policies import compile as compiler
from weft.policies.cookies import Cookies
from weft.policies.l4 import Packet, judge
from weft.policies.lookup import lookup
from weft.policies.prepare import Peers
from weft.policies.table import Table, Value, Verdict

MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def compiled(case: Case, peers: Peers) -> Table:
    specs = [(item, spec) for item in case.items for spec in item.specs]
    return compiler.compile_table(SUBJECT, case.subject_ports, specs, peers, Cookies())


def asked(table: Table, packet: Packet, peers: Peers) -> Value:
    identity = packet.peer.identity
    if packet.peer.address is not None:
        identity = peers.cidrs.lookup(packet.peer.address)
    return lookup(table, packet.direction, identity, packet.protocol, packet.port)


@MANY
@given(st.data())
def test_table_answers_as_the_rules_read(data: st.DataObject) -> None:
    case = data.draw(strategies.cases())
    peers = case.peers()
    table = compiled(case, peers)
    for _ in range(15):
        packet = data.draw(strategies.packets(case))
        said, value = judge(case.specs, packet), asked(table, packet, peers)
        assert (value.verdict, value.match, value.bypass) == (said.verdict, said.match, said.bypass), packet
        assert table.rule_sets.get(value.cookie, ()) == tuple(sorted({rule.origin for rule in said.rules})), packet


@MANY
@given(st.data())
def test_table_made_small_still_does_the_same(data: st.DataObject) -> None:
    """What is left out when a table would not fit never changes a verdict, nor which L7 rules a redirect has."""
    case = data.draw(strategies.cases())
    peers = case.peers()
    exact = compiled(case, peers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "MAX_ENTRIES", max(0, len(exact.entries) - 1))
        try:
            small = compiled(case, peers)
        except compiler.TableOverflow:
            return
    assert len(small.entries) < max(1, len(exact.entries))
    for _ in range(10):
        packet = data.draw(strategies.packets(case))
        full, less = asked(exact, packet, peers), asked(small, packet, peers)
        assert (full.verdict, full.bypass) == (less.verdict, less.bypass), packet
        if full.verdict is Verdict.REDIRECT:
            assert full.cookie == less.cookie


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_order_of_policies_does_not_matter(data: st.DataObject) -> None:
    """D1: a union. The order in which policies come changes nothing, cookies included."""
    case = data.draw(strategies.cases())
    shuffled = replace(case, items=tuple(data.draw(st.permutations(case.items))))
    peers = case.peers()
    assert compiled(case, peers) == compiled(shuffled, peers)
