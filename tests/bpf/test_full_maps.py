"""Maps without room: what could not be tracked is dropped and counted; what could not be counted still passes.

The programs are linked against a small map of a kind that evicts nothing, in place of the real one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from testkit.bpf import Datapath
from testkit.packets import TCP, UDP, fragments, frame, ip, tcp, udp
from testkit.stage import EGRESS, PEER, PEER_ID, POD, Stage, allow
from weft.bpf import layout, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import ProgKind
from weft.bpf.layout import MapSpec, Reason, Stat
from weft.bpf.loader import compiler, load
from weft.bpf.maps import Map

pytestmark = pytest.mark.root

TC = ("weft_from_workload", "weft_to_workload")


@pytest.fixture(scope="module")
def code() -> dict[str, bytes]:
    return compiler.compile_file(load.SOURCES / "workload.c", {})


Cramped = Callable[[MapSpec, str, int], Stage]


@pytest.fixture
def cramped(datapath: Datapath, code: dict[str, bytes]) -> Iterator[Cramped]:
    """`cramped(spec, kind, entries)`: the stage with that one map replaced."""
    with ExitStack() as stack:

        def make(spec: MapSpec, kind: str, entries: int) -> Stage:
            small = dataclasses.replace(spec, kind=kind, max_entries=entries)
            maps = {each.name: bpf.obj_get(datapath.pin_dir / each.pin) for each in layout.MAPS if each != spec}
            maps[spec.name] = tables.create(small)
            programs = {
                name: bpf.prog_load(ProgKind.SCHED_CLS, compiler.link(code[name], maps), name=name[5:])
                for name in TC
            }
            for fd in (*maps.values(), *programs.values()):
                stack.callback(os.close, fd)
            found = dataclasses.replace(datapath.maps)
            setattr(found, spec.name, Map(small, os.dup(maps[spec.name])))
            stack.callback(getattr(found, spec.name).close)
            return Stage(dataclasses.replace(datapath, programs=programs, maps=found))

        yield make


def connection(port: int) -> bytes:
    return frame(ip(POD[4], PEER[4], tcp(port, 80, "S")))


def test_a_connection_that_cannot_be_tracked_is_dropped(cramped: Cramped) -> None:
    stage = cramped(layout.CT, "hash", 1)
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80))
    assert stage.egress(connection(1025)).passed
    full = stage.egress(connection(1026))
    assert full.reason is Reason.CT_FULL
    assert full.kinds == ["VERDICT", "DROP"]
    assert stage.datapath.stat(Stat.CT_INSERT_FAILED) == 1
    assert stage.egress(connection(1025)).passed


def test_audit_does_not_pass_what_cannot_be_tracked(cramped: Cramped) -> None:
    stage = cramped(layout.CT, "hash", 1)
    stage.datapath.configure(flags=1)
    stage.egress(connection(1025))
    assert stage.egress(connection(1026)).reason is Reason.CT_FULL


def test_the_longest_unused_connection_makes_room_and_comes_back_in_midstream(cramped: Cramped) -> None:
    stage = cramped(layout.CT, "lru_hash", 64)
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80))
    for port in range(1025, 2025):
        assert stage.egress(connection(port)).passed
    assert len(stage.connections()) <= 64
    assert stage.ingress(frame(ip(PEER[4], POD[4], tcp(80, 1025, "A")))).passed


def test_fragments_that_could_not_be_remembered_are_dropped(cramped: Cramped) -> None:
    stage = cramped(layout.FRAGMENTS, "hash", 1)
    stage.policy(allow(EGRESS, PEER_ID, UDP, 53))
    first, second = (fragments(POD[4], PEER[4], udp(1025, 53, bytes(40)), ident=ident) for ident in (1, 2))
    assert [stage.egress(piece).reason for piece in first] == [Reason.OK] * 3
    assert [stage.egress(piece).reason for piece in second] == [Reason.OK, Reason.FRAGMENT, Reason.FRAGMENT]


def test_a_rule_that_cannot_be_counted_changes_no_verdict(cramped: Cramped) -> None:
    stage = cramped(layout.RULE_STATS, "percpu_hash", 1)
    stage.policy(allow(EGRESS, PEER_ID, TCP, 80, cookie=1), allow(EGRESS, PEER_ID, TCP, 81, cookie=2))
    assert stage.egress(connection(1025)).passed
    assert stage.egress(frame(ip(POD[4], PEER[4], tcp(1026, 81, "S")))).passed
    assert stage.datapath.stat(Stat.COUNTER_FAILED) == 1
