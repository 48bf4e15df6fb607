"""Memory is the truth, the disk follows: what is put is there after any death of the process."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from weft.operator import durable
from weft.operator.revision import BLOCK, Reservation
from weft.operator.store import Store, canonical, file_name
from weft.policies.model import ObjectRef

POD = ObjectRef("Pod", "default", "web")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "objects")
    made.load()
    return made


def reloaded(store: Store, tmp_path: Path) -> Store:
    again = Store(tmp_path / "objects")
    again.load()
    return again


def test_an_object_is_created_configured_or_unchanged(store: Store) -> None:
    assert store.put(POD, '{"a":1}') == "created"
    assert store.put(POD, '{"a":1}') == "unchanged"
    assert store.put(POD, '{"a":2}') == "configured"
    stored = store.get(POD)
    assert stored and (stored.version, stored.generation) == (2, 2)


def test_objects_with_owner_version_and_generation_survive(store: Store, tmp_path: Path) -> None:
    store.put(POD, '{"a":"ü"}', "/etc/web.yaml", 7)
    store.put(POD, '{"a":"ö"}', "/etc/web.yaml", 7)
    store.put(ObjectRef("Node", "", "n"), "{}")
    again = reloaded(store, tmp_path)
    assert {s.ref: s for s in again} == {s.ref: s for s in store}
    assert again.version == store.version == 3


def test_a_removed_object_stays_removed(store: Store, tmp_path: Path) -> None:
    store.put(POD, "{}")
    assert store.remove(POD) and not store.remove(POD)
    assert len(reloaded(store, tmp_path)) == 0


def test_a_file_stays_the_owner_when_somebody_else_writes_the_object(store: Store) -> None:
    store.put(POD, '{"a":1}', "/etc/web.yaml", 3)
    store.put(POD, '{"a":1,"status":{}}')
    stored = store.get(POD)
    assert stored and (stored.file, stored.line) == ("/etc/web.yaml", 3)
    assert store.put(POD, stored.json, "/etc/other.yaml", 1) == "unchanged"
    adopted = store.get(POD)
    assert adopted and adopted.file == "/etc/other.yaml"


def test_listeners_hear_of_every_change_and_of_nothing_else(store: Store) -> None:
    heard: list[tuple[ObjectRef, bool]] = []
    store.changed.append(lambda ref, stored: heard.append((ref, stored is not None)))
    store.put(POD, "{}")
    store.put(POD, "{}")
    store.remove(POD)
    store.remove(POD)
    assert heard == [(POD, True), (POD, False)]


@pytest.mark.parametrize(
    "ref",
    [
        ObjectRef("Pod", "..", "/etc/passwd"),
        ObjectRef("Pod", "a", ".."),
        ObjectRef("Pod", "", "a@b"),
        ObjectRef("Pod", "a@b", ""),
        ObjectRef("Pod", "x" * 300, "y" * 300),
        ObjectRef("Pod", "x" * 300, "y" * 301),
        ObjectRef("Pod", "ns", "name.tmp"),
        ObjectRef("Pod", "ns", "\0\n"),
    ],
    ids=repr,
)
def test_any_name_makes_a_file_in_the_folder_and_nowhere_else(store: Store, tmp_path: Path, ref: ObjectRef) -> None:
    store.put(ref, "{}")
    store.put(ObjectRef("Pod", "", "other"), "{}")
    assert not store.problems
    assert {s.ref for s in reloaded(store, tmp_path)} == {ref, ObjectRef("Pod", "", "other")}
    assert len(os.listdir(tmp_path)) == 1


def test_different_objects_have_different_files() -> None:
    refs = [ObjectRef("A", "b", "c@d"), ObjectRef("A", "b@c", "d"), ObjectRef("A@b", "c", "d")]
    assert len({file_name(ref) for ref in refs}) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"ref":["Pod","d","x"],"version":1,"generation":1,"file":"","line":0}\n{"a":',
        b"[" * 9999,
    ],
    ids=["empty", "without a head", "not text", "cut short", "too deep"],
)
def test_a_broken_file_is_a_problem_and_the_others_are_loaded(store: Store, tmp_path: Path, content: bytes) -> None:
    store.put(POD, "{}")
    broken = tmp_path / "objects" / "Pod@default@x.json"
    broken.write_bytes(content)
    again = reloaded(store, tmp_path)
    assert [s.ref for s in again] == [POD]
    assert "unreadable" in again.problems[broken] and broken.exists()


def test_a_write_that_was_killed_leaves_the_version_before(store: Store, tmp_path: Path) -> None:
    store.put(POD, '{"a":1}')
    (tmp_path / "objects" / (file_name(POD) + durable.TEMPORARY)).write_bytes(b"half of the n")
    again = reloaded(store, tmp_path)
    assert [s.json for s in again] == ['{"a":1}'] and not again.problems
    assert os.listdir(tmp_path / "objects") == [file_name(POD)]


def test_a_full_disk_is_a_problem_of_the_object_and_the_object_is_in_force(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.put(POD, '{"a":1}')
    with monkeypatch.context() as patched:
        patched.setattr(durable, "write", full)
        assert store.put(POD, '{"a":2}') == "configured"
    stored = store.get(POD)
    assert stored and stored.json == '{"a":2}'
    assert "not saved: No space left" in store.problems[POD]
    assert [s.json for s in reloaded(store, tmp_path)] == ['{"a":1}']
    store.retry()
    assert not store.problems
    assert [s.json for s in reloaded(store, tmp_path)] == ['{"a":2}']


def test_canonical_text_does_not_depend_on_order_and_refuses_what_is_no_json() -> None:
    assert canonical({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"ü"],"b":1}'
    assert json.loads(canonical({"x": 1.5})) == {"x": 1.5}
    for wrong in (float("nan"), float("inf"), "\ud800"):
        with pytest.raises(ValueError):
            canonical({"x": wrong})


def test_state_is_for_the_owner_only(store: Store, tmp_path: Path) -> None:
    store.put(POD, "{}")
    assert (tmp_path / "objects").stat().st_mode & 0o077 == 0
    assert (tmp_path / "objects" / file_name(POD)).stat().st_mode & 0o077 == 0


def test_revisions_only_grow_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "revision"
    first = Reservation(path)
    assert first.start() == 0
    first.reached(BLOCK - 1)
    assert Reservation(path).start() == BLOCK
    second = Reservation(path)
    started = second.start()
    second.reached(started + BLOCK)
    assert Reservation(path).start() > started + BLOCK


def test_a_revision_file_that_makes_no_sense_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "revision"
    path.write_text("seven")
    with pytest.raises(ValueError):
        Reservation(path).start()
