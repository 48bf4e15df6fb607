"""When a connection is over, and what a sweep makes of a map."""

from __future__ import annotations

import ctypes

import pytest

from weft.bpf import layout
from weft.bpf import sys as bpf
from weft.bpf.layout import CtFlag
from weft.daemon.datapath import conntrack
from weft.daemon.datapath.conntrack import Sweeper, lifetime

TCP, UDP, ICMP = 6, 17, 1
S = 1_000_000_000


@pytest.mark.parametrize(
    ("protocol", "state", "seconds"),
    [
        (TCP, 0, 60),
        (TCP, CtFlag.SEEN_REPLY, 8000),
        (TCP, CtFlag.MIDSTREAM, 8000),
        (TCP, CtFlag.SEEN_REPLY | CtFlag.FIN_IN, 8000),
        (TCP, CtFlag.SEEN_REPLY | CtFlag.FIN_IN | CtFlag.FIN_OUT, 10),
        (TCP, CtFlag.SEEN_REPLY | CtFlag.RST, 10),
        (UDP, CtFlag.SEEN_REPLY, 60),
        (ICMP, 0, 60),
    ],
    ids=["opening", "established", "midstream", "half closed", "closed", "reset", "a datagram's", "a ping's"],
)
def test_how_long_silence_may_last(protocol: int, state: int, seconds: int) -> None:
    assert lifetime(protocol, state) == seconds


class FakeMap:
    """A conntrack map behind the two calls that the sweeper makes."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def add(self, ep_id: int, port: int, seen_s: float, state: int = 0, protocol: int = TCP) -> None:
        key = layout.CtKey(ep_id=ep_id, family=4, protocol=protocol, local_port=port)
        self.rows[bytes(key)] = bytes(layout.CtValue(seen_ns=int(seen_s * S), state=state))

    def lookup(self, fd: int, key_size: int, value_size: int, chunk: int):  # type: ignore[no-untyped-def]
        rows = list(self.rows.items())
        for at in range(0, len(rows), 3):
            part = rows[at : at + 3]
            yield b"".join(k for k, _ in part), b"".join(v for _, v in part), len(part)

    def delete(self, fd: int, keys: bytes, count: int) -> None:
        for at in range(count):
            self.rows.pop(keys[at * conntrack.KEY_SIZE : (at + 1) * conntrack.KEY_SIZE], None)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> FakeMap:
    fake = FakeMap()
    monkeypatch.setattr(bpf, "map_lookup_batch", fake.lookup)
    monkeypatch.setattr(bpf, "map_delete_batch", fake.delete)
    return fake


def sweep(sweeper: Sweeper, *living: int) -> None:
    for _ in sweeper.sweep(set(living)):
        pass


def test_a_sweep_takes_what_is_over_and_what_nobody_has(table: FakeMap) -> None:
    table.add(1, 1, seen_s=990, state=CtFlag.SEEN_REPLY)
    table.add(1, 2, seen_s=900)
    table.add(1, 3, seen_s=970)
    table.add(2, 4, seen_s=999)
    table.add(3, 5, seen_s=999, protocol=UDP)
    sweeper = Sweeper(0, created=lambda: 5, now=lambda: 1000 * S)
    sweep(sweeper, 1, 3)
    assert sweeper.totals.by_endpoint == {1: 2, 3: 1} and sweeper.totals.entries == 3
    assert sweeper.totals.expired == 2 and len(table.rows) == 3


def test_what_the_map_pushed_out_is_reckoned(table: FakeMap) -> None:
    made = 10
    sweeper = Sweeper(0, created=lambda: made, now=lambda: 1000 * S)
    for port in range(10):
        table.add(1, port, seen_s=999)
    sweep(sweeper, 1)
    assert sweeper.totals.evicted == 0
    made = 25
    for port in range(10, 22):
        table.add(1, port, seen_s=999)
    sweep(sweeper, 1)
    assert sweeper.totals.evicted == 3


def test_a_time_that_lies_ahead_is_not_old(table: FakeMap) -> None:
    table.add(1, 1, seen_s=2000)
    sweep(Sweeper(0, created=lambda: 1, now=lambda: 1000 * S), 1)
    assert table.rows


def test_sizes_are_the_layouts() -> None:
    assert ctypes.sizeof(layout.CtKey) == conntrack.KEY_SIZE
