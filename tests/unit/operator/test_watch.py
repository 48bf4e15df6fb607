"""The loop around the folders, in process: which folders, and what when nothing notifies or it starts again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from weft.operator import watch as watch_module
from weft.operator.allocate import Ledger
from weft.operator.hub import Hub
from weft.operator.reconcile import Reconciler
from weft.operator.revision import Reservation
from weft.operator.store import Store
from weft.operator.watch import Watch
from weft.policies.model import ObjectRef


def namespace(name: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"


def watching(base: Path, *roots: Path) -> tuple[Watch, Reconciler]:
    """As main.py puts them together."""
    store = Store(base / "state" / "objects")
    store.load()
    ledger = Ledger(base / "state" / "identities", time.time)
    ledger.load()
    reconciler = Reconciler(store, ledger, Reservation(base / "state" / "revision"), Hub("e"))
    reconciler.load()
    watch = Watch(roots, reconciler, "default")
    watch.start()
    reconciler.publish_first()
    return watch, reconciler


def names(reconciler: Reconciler) -> list[str]:
    return sorted(stored.ref.name for stored in reconciler.store)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "w"
    made.mkdir()
    return made


def test_a_folder_inside_another_is_watched_once(tmp_path: Path, root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "a.yaml").write_text(namespace("a"))
    watch, reconciler = watching(tmp_path, inner, root, root)
    assert names(reconciler) == ["a"] and not watch.notices()


def test_folders_with_names_of_one_beginning_are_two_folders(tmp_path: Path, root: Path) -> None:
    other = tmp_path / "w-other"
    other.mkdir()
    for folder in (root, other):
        (folder / "a.yaml").write_text(namespace(folder.name))
    assert names(watching(tmp_path, root, other)[1]) == ["w", "w-other"]


def test_what_an_unwatched_file_declared_stays_and_is_told(tmp_path: Path, root: Path) -> None:
    (root / "a.yaml").write_text(namespace("a"))
    watching(tmp_path, root)
    watch, reconciler = watching(tmp_path)
    assert names(reconciler) == ["a"]
    (notice,) = watch.notices()
    assert notice.warning and "is not watched any more" in notice.reason
    watch, reconciler = watching(tmp_path, root)
    assert not watch.notices()


def test_a_file_that_was_deleted_between_two_lives_counts_at_the_start(tmp_path: Path, root: Path) -> None:
    (root / "a.yaml").write_text(namespace("a"))
    (root / "b.yaml").write_text(namespace("b"))
    watching(tmp_path, root)
    (root / "a.yaml").unlink()
    assert names(watching(tmp_path, root)[1]) == ["b"]


def test_without_notifications_it_looks_by_itself(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watch_module, "RustNotify", none_left)
    monkeypatch.setattr(watch_module, "POLL_INTERVAL", 0.01)

    async def scenario() -> None:
        watch, reconciler = watching(tmp_path, root)
        following = asyncio.ensure_future(watch.run())
        (root / "a.yaml").write_text(namespace("a"))
        await wanted(reconciler, ["a"])
        (root / "a.yaml").unlink()
        await wanted(reconciler, [])
        following.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 10))


async def wanted(reconciler: Reconciler, expected: list[str]) -> None:
    arrived = asyncio.Event()
    reconciler.store.changed.append(lambda *_: arrived.set() if names(reconciler) == expected else None)
    if names(reconciler) != expected:
        await arrived.wait()


def test_an_object_that_moves_to_another_file_is_never_gone(tmp_path: Path, root: Path) -> None:
    async def scenario() -> None:
        (root / "a.yaml").write_text(namespace("x"))
        watch, reconciler = watching(tmp_path, root)
        gone: list[ObjectRef] = []
        reconciler.store.changed.append(lambda ref, stored: gone.append(ref) if stored is None else None)
        following = asyncio.ensure_future(watch.run())
        (root / "a.yaml").rename(root / "b.yaml")
        for _ in range(500):  # adopting an unchanged object is no event
            stored = reconciler.store.get(ObjectRef("Namespace", "", "x"))
            if stored is None or stored.file.endswith("b.yaml"):
                break
            await asyncio.sleep(0.01)
        assert stored and stored.file.endswith("b.yaml") and not gone and not watch.notices()
        following.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 10))
