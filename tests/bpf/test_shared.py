"""The counters that workers share, on a real map: what one writes the others see, and what dies is cleared."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_lab import Lab
from weft.bpf import shared
from weft.bpf import sys as bpf
from weft.bpf.abi import MapKind
from weft.bpf.shared import ACTIVE, COLUMNS, EJECTED, NoColumn, OtherShape, Shared
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import ConnectionPool, Outlier

pytestmark = pytest.mark.root


@pytest.fixture
def fd() -> Iterator[int]:
    made = shared.create(64)
    yield made
    os.close(made)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "counters.lock"


def test_what_one_worker_counts_the_other_sees(fd: int, lock: Path) -> None:
    one, other = Shared(fd, lock), Shared(fd, lock)
    mine, theirs = one.row("shop/web", "orders:80", ""), other.row("shop/web", "orders:80", "")
    mine.mine[ACTIVE], theirs.mine[ACTIVE] = 3, 4
    assert mine.total(ACTIVE) == theirs.total(ACTIVE) == 7
    assert mine.index == theirs.index
    assert one.column != other.column


def test_another_process_sees_it_too(fd: int, lock: Path) -> None:
    row = Shared(fd, lock).row("a", "b", "c")
    child = os.fork()
    if child == 0:
        Shared(fd, lock).row("a", "b", "c").mine[ACTIVE] = 5
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert row.total(ACTIVE) == 5


def test_the_programs_read_the_same_cells(fd: int, lock: Path) -> None:
    row = Shared(fd, lock).row("a", "b", "c")
    row.mine[ACTIVE] = 0x1234
    raw = bpf.map_lookup(fd, row.index.to_bytes(4, "little"), shared.ROW)
    assert raw is not None
    assert int.from_bytes(raw[16:24], "little") == 0x1234


def test_keys_have_rows_of_their_own(fd: int, lock: Path) -> None:
    rows = Shared(fd, lock)
    keys = [("a", "b", "c"), ("a", "bc", ""), ("", "a", "bc"), ("ab", "", "c")]
    assert len({rows.row(*key).index for key in keys}) == len(keys)


def test_a_worker_is_alone_until_there_is_another_and_again_after(fd: int, lock: Path) -> None:
    one = Shared(fd, lock)
    assert one.alone
    other = Shared(fd, lock)
    one.look_around()
    assert not one.alone and not other.alone
    other.close()
    one.look_around()
    assert one.alone


def test_what_a_killed_worker_had_counted_is_taken_out(fd: int, lock: Path) -> None:
    one = Shared(fd, lock)
    row = one.row("a", "b", "c")
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        Shared(fd, lock).row("a", "b", "c").mine[ACTIVE] = 9
        os.write(told, b"x")
        signal.pause()
    os.read(ready, 1)
    one.look_around()
    assert row.total(ACTIVE) == 9 and not one.alone
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    one.look_around()
    assert row.total(ACTIVE) == 0 and one.alone
    os.close(ready)
    os.close(told)


def test_who_takes_a_column_over_finds_it_empty(fd: int, lock: Path) -> None:
    first = Shared(fd, lock)
    row = first.row("a", "b", "c")
    row.mine[ACTIVE] = 4
    os.close(first._lock)  # as if it had died: nobody tidied up
    second = Shared(fd, lock)
    assert second.column == first.column
    assert second.row("a", "b", "c").total(ACTIVE) == 0


def test_there_are_as_many_workers_as_columns(fd: int, lock: Path) -> None:
    workers = [Shared(fd, lock) for _ in range(COLUMNS)]
    assert len({worker.column for worker in workers}) == COLUMNS
    with pytest.raises(NoColumn):
        Shared(fd, lock)


def test_a_released_row_serves_another_key_once_nobody_holds_it(lock: Path) -> None:
    fd = shared.create(1)
    one, other = Shared(fd, lock), Shared(fd, lock)
    held, also = one.row("a", "b", "c"), other.row("a", "b", "c")
    held.mine[ACTIVE] = 2
    one.release(held)
    assert one.row("x", "y", "z").index == -1 and one.refused == 1, "the other one holds it"
    other.release(also)
    fresh = one.row("x", "y", "z")
    assert fresh.index == 0 and fresh.total(ACTIVE) == 0
    os.close(fd)


def test_a_full_map_counts_privately(lock: Path) -> None:
    fd = shared.create(4)
    rows = Shared(fd, lock)
    made = [rows.row("a", "b", str(number)) for number in range(6)]
    made[5].mine[ACTIVE] = 1
    assert rows.refused == 2 and made[5].total(ACTIVE) == 1
    rows.release(made[5])
    os.close(fd)


def test_who_reads_ejections_takes_the_latest(fd: int, lock: Path) -> None:
    one, other = Shared(fd, lock).row("", "b", "c"), Shared(fd, lock).row("", "b", "c")
    one.mine[EJECTED], other.mine[EJECTED] = 1000, 3000
    assert one.greatest(EJECTED) == 3000


def test_two_workers_share_limits_loads_and_ejections(fd: int, lock: Path) -> None:
    one, other = (Lab(rows=Shared(fd, lock)) for _ in range(2))
    for lab in (one, other):
        pool = ConnectionPool(http2_max_requests=3)
        lab.policy(
            pool=pool, outlier=Outlier(consecutive_5xx=1, interval=1.0, base_ejection=2.0, max_ejection_percent=50)
        )
        lab.serve("10.0.1.1", "10.0.1.2")
        lab.cluster()
        lab.after(2)
    busy, idle = one.cluster().group.members
    for _ in range(2):
        one.open(endpoint=busy)
    one.connector.open_all()
    assert {other.pick().ip for _ in range(50)} == {idle.ip}
    sinks = [other.open()[0] for _ in range(2)]
    other.connector.open_all()
    assert [sink.failure for sink in sinks] == [None, Failure.OVERFLOW]
    one.call(500, idle)
    other.after(0.2)
    assert {other.pick().ip for _ in range(50)} == {busy.ip}
    one.after(4)
    other.after(4)
    assert idle.ip in {other.pick().ip for _ in range(50)}


def test_workers_find_the_pinned_map(lock: Path) -> None:
    pin = Path("/sys/fs/bpf") / f"weft-test-shared-{os.getpid()}"
    try:
        first, second = shared.pinned(pin), shared.pinned(pin)
        Shared(first, lock).row("a", "b", "c").mine[ACTIVE] = 2
        assert Shared(second, lock).row("a", "b", "c").total(ACTIVE) == 2
        os.close(first)
        os.close(second)
    finally:
        pin.unlink(missing_ok=True)


def test_another_map_is_refused(lock: Path) -> None:
    fd = bpf.map_create(MapKind.ARRAY, 4, shared.ROW, 4, name="other")
    with pytest.raises(OtherShape):
        Shared(fd, lock)
    os.close(fd)
