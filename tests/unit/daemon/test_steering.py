"""What steering asks of the node, compared with what is there. The rest is for tests/netns/test_steering.py."""

from __future__ import annotations

import socket

from weft.daemon import steering
from weft.daemon.netlink import Rule

V4, V6 = socket.AF_INET, socket.AF_INET6
MARK = 0x800
WANTED = steering.wanted_rules(MARK)


def test_what_the_proxy_sends_itself_is_not_delivered_to_it() -> None:
    for family in steering.FAMILIES:
        rules = sorted(rule for rule in WANTED if rule.family == family)
        own, steered, end = rules
        assert own.priority < steered.priority < end.priority
        assert own.iif == "lo" and own.goto == end.priority
        assert steered.table == steering.TABLE and (end.goto, end.table) == (0, 0)


def test_nothing_is_missing_where_all_is_there() -> None:
    assert not any(steering.gap(MARK, WANTED, steering.FAMILIES))


def test_on_a_fresh_node_all_is_missing() -> None:
    found = steering.gap(MARK, (), ())
    assert found == (WANTED, frozenset(), frozenset(steering.FAMILIES))


def test_rules_of_another_mark_are_replaced() -> None:
    found = steering.gap(MARK, steering.wanted_rules(0x400), steering.FAMILIES)
    assert found == (WANTED, steering.wanted_rules(0x400), frozenset())


def test_one_that_was_bent_is_a_stranger() -> None:
    bent = Rule(V4, 101, MARK, iif="eth0", table=steering.TABLE)
    found = steering.gap(MARK, {*WANTED - {Rule(V4, 101, MARK, table=steering.TABLE)}, bent}, steering.FAMILIES)
    assert found.rules == {Rule(V4, 101, MARK, table=steering.TABLE)} and found.strangers == {bent}


def test_a_table_that_is_gone_in_one_family_is_made_there() -> None:
    assert steering.gap(MARK, WANTED, {V4}).routes == {V6}
