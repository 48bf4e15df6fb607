"""The snapshot on disk: never behind what was told to keep, never more than is whole, and never an exception."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from snapshots import NODE, pod, policy, snapshot
from weft.daemon import state
from weft.daemon.state import SnapshotFile, digest
from weft.policies.delta import Update, between, between_nodes, full_update
from weft.policies.snapshot import Snapshot
from weft.policies.wire import convert

PODS = (pod("a", 1), pod("b", 2))
STEPS = [
    snapshot(1, PODS[:1]),
    snapshot(2, PODS),
    snapshot(3, PODS, (policy("p", 302, 301),)),
    snapshot(4, PODS[1:], (policy("p", 302, 301, ports=(81,)),)),
]


def full(snap: Snapshot) -> bytes:
    return convert.to_update(full_update(snap, "e1")).SerializeToString()


def difference(before: Snapshot, after: Snapshot) -> bytes:
    delta = between(before.cluster, after.cluster), between_nodes(before.own, after.own)
    return convert.to_update(Update(after.revision, "e1", False, *delta)).SerializeToString()


def keep(file: SnapshotFile, steps: list[Snapshot] = STEPS) -> None:
    file.replace(full(steps[0]))
    for before, after in pairwise(steps):
        file.append(difference(before, after), lambda after=after: full(after))  # type: ignore[misc]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "snapshot.bin"


def load(path: Path) -> tuple[Snapshot | None, str]:
    file = SnapshotFile(path)
    found = file.load(NODE)
    return (found[0] if found else None), file.health.found


def test_what_was_kept_is_found(path: Path) -> None:
    keep(SnapshotFile(path))
    assert load(path) == (STEPS[-1], "")
    assert SnapshotFile(path).load(NODE) == (STEPS[-1], "e1")


def test_no_file_is_no_snapshot_and_no_problem(path: Path) -> None:
    assert load(path) == (None, "")


def test_a_difference_without_a_full_one_before_it_makes_the_file_whole(path: Path) -> None:
    SnapshotFile(path).append(b"not looked at", lambda: full(STEPS[2]))
    assert load(path) == (STEPS[2], "")


def test_differences_that_outweigh_the_whole_are_folded_into_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "COMPACT_BYTES", 0)
    file = SnapshotFile(path)
    keep(file, STEPS * 10)
    assert path.stat().st_size < 5 * len(full(STEPS[-1]))
    assert load(path) == (STEPS[-1], "")


def test_cut_off_anywhere_the_last_whole_record_counts_and_the_rest_is_told(path: Path) -> None:
    keep(SnapshotFile(path))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found, problem = load(path)
        assert found is None or found in STEPS[:-1]
        assert problem or found in STEPS[:-1], "what is cut off between two records is a shorter history"


@pytest.mark.parametrize("marked", [("e1", 5), ("e2", 4), ("e1", 0)])
def test_a_file_that_does_not_reach_what_the_kernel_holds_is_not_used(path: Path, marked: tuple[str, int]) -> None:
    """It would put back what was taken away since."""
    keep(SnapshotFile(path))
    file = SnapshotFile(path)
    assert file.load(NODE, digest(*marked)) is None
    assert "not used" in file.health.found


@pytest.mark.parametrize("revision", [1, 2, 3, 4])
def test_a_file_that_goes_beyond_what_the_kernel_holds_is_what_was_to_come(path: Path, revision: int) -> None:
    keep(SnapshotFile(path))
    assert SnapshotFile(path).load(NODE, digest("e1", revision)) == (STEPS[-1], "e1")


def test_a_byte_changed_anywhere_is_never_taken_for_a_snapshot_that_was_not(path: Path) -> None:
    keep(SnapshotFile(path))
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        found, problem = load(path)
        assert problem and (found is None or found in STEPS)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 4096, os.urandom(4096), b"weft snapshot 2\n"])
def test_what_is_no_snapshot_is_told_and_passed_over(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found, problem = load(path)
    assert found is None and problem


def broken(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_is_counted_and_leaves_no_old_snapshot(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = SnapshotFile(path)
    file.replace(full(STEPS[0]))
    with monkeypatch.context() as patch:
        patch.setattr(file, "_append", broken(number))
        file.append(difference(STEPS[0], STEPS[1]), lambda: full(STEPS[1]))
    assert file.health.failed == 1 and os.strerror(number) in file.health.problem
    assert file.behind() and load(path) == (None, "")
    file.append(difference(STEPS[1], STEPS[2]), lambda: full(STEPS[2]))
    assert not file.behind() and file.health.problem == "" and load(path) == (STEPS[2], "")


def test_a_whole_one_that_could_not_be_written_leaves_nothing_half_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SnapshotFile(path)
    file.replace(full(STEPS[0]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken(errno.ENOSPC))
        file.replace(full(STEPS[1]))
    assert file.health.failed == 1 and list(path.parent.iterdir()) == []


@pytest.mark.root
def test_a_full_disk(tmp_path: Path) -> None:
    """A real one: a tmpfs of 64 KiB."""
    import subprocess

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        file = SnapshotFile(tmp_path / "snapshot.bin")
        file.replace(full(STEPS[0]))
        (tmp_path / "ballast").write_bytes(b"")
        with (tmp_path / "ballast").open("ab", buffering=0) as ballast:
            try:
                while ballast.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        for _ in range(40):
            file.append(difference(STEPS[0], STEPS[1]) * 20, lambda: full(STEPS[1]) * 2000)
        assert file.health.failed and "No space left" in file.health.problem
        assert load(tmp_path / "snapshot.bin") == (None, "")
        (tmp_path / "ballast").unlink()
        file.replace(full(STEPS[2]))
        assert load(tmp_path / "snapshot.bin") == (STEPS[2], "")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
