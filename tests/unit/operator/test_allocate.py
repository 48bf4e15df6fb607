"""The same labels keep their number, whatever happens to the operator; no number has two owners too soon."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from weft.operator import allocate, durable
from weft.operator.allocate import Ledger
from weft.policies.labels import Labels
from weft.policies.numbers import Exhausted


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identities"


def labels(name: str) -> Labels:
    return Labels.k8s({"app": name, "text": 'quotes " and = and ü'})


def ledger(path: Path, clock: Clock) -> Ledger:
    made = Ledger(path, clock, grace=60)
    made.load()
    return made


def test_numbers_start_at_256_and_survive_a_restart(path: Path, clock: Clock) -> None:
    first = ledger(path, clock)
    assert [first.allocate(labels(name)) for name in "abca"] == [256, 257, 258, 256]
    second = ledger(path, clock)
    assert [second.allocate(labels(name)) for name in "cbad"] == [258, 257, 256, 259]


def test_a_kill_without_sync_loses_nothing_but_an_unfinished_line(path: Path, clock: Clock) -> None:
    ledger(path, clock).allocate(labels("a"))
    with path.open("ab") as file:
        file.write(b'[257, "k8s:app=b')
    again = ledger(path, clock)
    assert again.allocate(labels("a")) == 256
    assert again.allocate(labels("c")) == 257
    assert ledger(path, clock).allocate(labels("c")) == 257


def test_labels_that_return_get_their_number_back_even_after_a_restart(path: Path, clock: Clock) -> None:
    first = ledger(path, clock)
    first.allocate(labels("a"))
    first.release(256)
    assert len(first) == 0
    assert first.allocate(labels("b")) == 257, "fresh numbers go first"
    assert ledger(path, clock).allocate(labels("a")) == 256


def test_a_number_is_used_again_only_when_none_is_left_and_after_its_grace(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocate, "CLUSTER_MAX", 258)
    made = ledger(path, clock)
    assert [made.allocate(labels(name)) for name in "abc"] == [256, 257, 258]
    made.release(257)
    clock.now += 30
    made.release(256)
    with pytest.raises(Exhausted):
        made.allocate(labels("d"))
    clock.now += 30
    assert made.allocate(labels("d")) == 257, "the one that was idle longest"
    with pytest.raises(Exhausted):
        made.allocate(labels("b"))
    clock.now += 30
    assert made.allocate(labels("b")) == 256
    again = ledger(path, clock)
    assert {name: again.allocate(labels(name)) for name in "dbc"} == {"d": 257, "b": 256, "c": 258}


def test_the_grace_counts_across_a_restart_and_a_clock_that_was_set_back(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocate, "CLUSTER_MAX", 256)
    made = ledger(path, clock)
    made.release(made.allocate(labels("a")))
    clock.now -= 500
    again = ledger(path, clock)
    with pytest.raises(Exhausted):
        again.allocate(labels("b"))
    clock.now += 60
    assert again.allocate(labels("b")) == 256


def test_what_nothing_stands_on_after_a_start_is_released(path: Path, clock: Clock) -> None:
    first = ledger(path, clock)
    for name in "ab":
        first.allocate(labels(name))
    again = ledger(path, clock)
    again.allocate(labels("a"))
    again.release_others({256})
    assert len(again) == 1


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[1]", b'["x", "k", 0]', b'[255, "k", 0]', b'[70000, "k", 0]', b"\xff", b'[257, "k8s:app=a", 0.0]'],
)
def test_a_line_that_makes_no_sense_is_left_out(path: Path, clock: Clock, line: bytes) -> None:
    path.write_bytes(b'[256, "k8s:app=a", 0.0]\n' + line + b'\n[300, "k8s:app=b", 0.0]\n')
    made = ledger(path, clock)
    assert made.allocate(Labels.k8s({"app": "a"})) == 256
    assert made.allocate(Labels.k8s({"app": "b"})) == 300
    assert made.allocate(Labels.k8s({"app": "c"})) == 301


def test_a_ledger_that_cannot_be_read_stops_the_start(path: Path, clock: Clock) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        ledger(path, clock)


def test_a_full_disk_is_a_problem_until_there_is_room_and_then_nothing_is_missing(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ledger(path, clock)
    real = durable.write_all

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_all", half)
    assert [made.allocate(labels(name)) for name in "ab"] == [256, 257]
    made.sync()
    assert "No space left" in made.problem and made.unsynced
    monkeypatch.setattr(durable, "write_all", real)
    made.sync()
    assert not made.problem and not made.unsynced
    again = ledger(path, clock)
    assert [again.allocate(labels(name)) for name in "ab"] == [256, 257]
