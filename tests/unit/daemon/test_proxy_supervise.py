"""Worker processes, played by a stand-in: started, restarted, found again, replaced, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import standin_proxy
from weft.daemon.proxy import health, processes, supervise
from weft.daemon.proxy.feed import Feed
from weft.daemon.proxy.processes import Launcher
from weft.daemon.proxy.supervise import Supervisor
from weft.daemon.proxy.worker import AskFailed, Worker
from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb

STAND_IN = (sys.executable, standin_proxy.__file__)
FULL = control_pb2.Update(revision=7, epoch="e", full=True).SerializeToString()


class Ignored:
    def counts(self, worker: Worker, counts: pb.Counts) -> None: ...
    def records(self, worker: Worker, records: pb.Records) -> None: ...
    def forget(self, worker: Worker) -> None: ...


class Daemon:
    """Feed and supervisor, as a daemon has them."""

    def __init__(
        self, run_dir: Path, count: int = 1, version: str = "0.1.0", words: tuple[str, ...] = STAND_IN
    ) -> None:
        launcher = Launcher(words, run_dir / "proxy.sock", run_dir)
        self.serving = 0
        self.supervisor = Supervisor(count, launcher, version, self._drain, self._serving)
        self.feed = Feed(launcher.socket, pb.Setup, lambda: 7, lambda: FULL, self.supervisor, Ignored())

    def _drain(self, worker: Worker, seconds: float) -> None:
        self.feed.drain(worker, seconds)

    def _serving(self) -> None:
        self.serving += 1

    async def __aenter__(self) -> Daemon:
        await self.feed.start()
        self.supervisor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop()
        await self.feed.stop()

    def pids(self) -> list[int]:
        """Of those that serve, by number."""
        return [each.pid for each in sorted(self.feed.serving(), key=lambda each: each.number)]

    async def serves(self, count: int = 1, other_than: tuple[int, ...] = ()) -> list[int]:
        await until(lambda: len(self.pids()) == count and not set(self.pids()) & set(other_than))
        return self.pids()


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.end_all(tmp_path / "proxy.sock")


def told(run_dir: Path, **plan: Any) -> None:
    (run_dir / "standin.json").write_text(json.dumps(plan))


def heard(run_dir: Path, pid: int) -> list[str]:
    return (run_dir / f"standin-{pid}.log").read_text().split("\n")


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # it watches what has no event
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """A process that ended and was not waited for has no command line."""
    line = Path(f"/proc/{pid}/cmdline")
    await until(lambda: not line.exists() or not line.read_bytes())


def play(act: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(act())


def test_every_number_gets_its_worker_in_a_session_of_its_own(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir, count=2) as daemon:
            pids = await daemon.serves(2)
            assert daemon.serving == 2
            assert all(os.getsid(pid) == pid for pid in pids)
            rows = daemon.supervisor.status()
            assert [(row["worker"], row["state"], row["revision"]) for row in rows] == [
                (0, "serving", 7),
                (1, "serving", 7),
            ]

    play(act)


def test_a_killed_worker_comes_back_and_is_told_of(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (pid,) = await daemon.serves()
            os.kill(pid, signal.SIGKILL)
            await daemon.serves(other_than=(pid,))
            (row,) = daemon.supervisor.status()
            assert row["restarts"] == 1 and row["generation"] == 2 and row["problem"] == ""

    play(act)


def test_one_that_dies_at_once_is_tried_ever_more_slowly_and_its_last_words_are_kept(run_dir: Path) -> None:
    async def act() -> None:
        told(run_dir, die=True)
        async with Daemon(run_dir) as daemon:
            await until(lambda: daemon.supervisor.slots[0].failures >= 2)
            assert daemon.supervisor.problems() == ["worker 0: ended with exit code 3, starts again"]
            assert "told to die" in (run_dir / "proxy-0.log").read_text()
            told(run_dir)
            await daemon.serves()
            assert daemon.supervisor.problems() == []

    play(act)
    assert list(supervise.BACK_OFF) == sorted(supervise.BACK_OFF) and supervise.BACK_OFF[-1] == 2


def test_workers_outlive_the_daemon_and_go_on_under_the_next(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir, count=2) as daemon:
            before = await daemon.serves(2)
        async with Daemon(run_dir, count=2) as daemon:
            assert await daemon.serves(2) == before
            assert [row["restarts"] for row in daemon.supervisor.status()] == [0, 0]
            os.kill(before[0], signal.SIGKILL)
            after = await daemon.serves(2, other_than=(before[0],))
            assert after[1] == before[1]
            assert max(each.generation for each in daemon.feed.workers) == 3

    play(act)


def test_a_worker_of_a_number_that_is_no_more_is_drained(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir, count=2) as daemon:
            keep, leave = await daemon.serves(2)
        async with Daemon(run_dir, count=1) as daemon:
            await gone(leave)
            assert await daemon.serves() == [keep]
            assert "drain" in heard(run_dir, leave)

    play(act)


def test_one_that_drains_already_is_not_taken_for_the_one_that_serves(run_dir: Path) -> None:
    async def act() -> None:
        told(run_dir, drain=1000)
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            await daemon.supervisor.restart()
            (successor,) = daemon.pids()
        os.kill(successor, signal.SIGKILL)
        async with Daemon(run_dir) as daemon:
            await daemon.serves(other_than=(old, successor))
            states = {row["pid"]: row["state"] for row in daemon.supervisor.status()}
            assert states[old] == "draining" and sorted(states.values()) == ["draining", "serving"]

    play(act)


def test_a_daemon_that_ends_amid_a_hand_over_leaves_somebody_who_serves(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            told(run_dir, mute=True)
            handing = asyncio.create_task(daemon.supervisor.restart())
            await until(lambda: len(daemon.feed.workers) == 2)
            handing.cancel()
        async with Daemon(run_dir) as daemon:
            await until(lambda: len(daemon.feed.workers) == 2)
            assert await daemon.serves() == [old]
            states = {row["pid"]: row["state"] for row in daemon.supervisor.status()}
            assert states.pop(old) == "serving" and [*states.values()] == ["starting"]
            assert "drain" not in heard(run_dir, old)

    play(act)


def test_a_worker_of_another_version_is_replaced_by_a_hand_over(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
        async with Daemon(run_dir, version="0.2.0") as daemon:
            (new,) = await daemon.serves(other_than=(old,))
            assert heard(run_dir, new)[0] == "takeover"
            await gone(old)

    play(act)


def test_a_hand_over_starts_the_successor_before_the_old_one_drains(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            (done,) = await daemon.supervisor.restart()
            assert done["error"] == "" and done["old_pid"] == old and daemon.pids() == [done["pid"]]
            assert heard(run_dir, done["pid"])[0] == "takeover"
            states = {row["pid"]: row["state"] for row in daemon.supervisor.status()}
            assert states[done["pid"]] == "serving" and states.get(old, "draining") == "draining"
            await gone(old)
            assert daemon.supervisor.slots[0].restarts == 0, "a planned one is no failure"

    play(act)


def test_a_successor_that_fails_leaves_the_old_one_where_it_is(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            told(run_dir, die=True)
            (done,) = await daemon.supervisor.restart()
            assert "exit code 3" in done["error"] and "told to die" in done["error"]
            assert await daemon.serves() == [old]
            assert "drain" not in heard(run_dir, old)

    play(act)


def test_a_successor_that_is_never_ready_is_ended(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "HANDOVER_WITHIN", 1.0)

    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            told(run_dir, mute=True)
            with pytest.raises(AskFailed, match="did not become ready"):
                await daemon.supervisor.replace(daemon.supervisor.slots[0])
            assert await daemon.serves() == [old]
            await until(lambda: processes.running(daemon.feed.path) == {0: [old]})

    play(act)


def test_one_that_does_not_end_after_the_drain_time_is_ended(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "DRAIN", 0.1)
    monkeypatch.setattr(supervise, "DRAIN_GRACE", 0.1)

    async def act() -> None:
        told(run_dir, drain=1000)
        async with Daemon(run_dir) as daemon:
            (old,) = await daemon.serves()
            await daemon.supervisor.restart()
            await gone(old)
            assert daemon.supervisor.slots[0].killed == 1

    play(act)


HANGS = (sys.executable, "-c", "import time; time.sleep(1000)")


@pytest.mark.parametrize(
    ("limit", "words"),
    [("CONNECT_WITHIN", HANGS), ("READY_WITHIN", STAND_IN)],
    ids=["never connects", "is never ready"],
)
def test_one_that_hangs_at_its_start_is_ended(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(health, limit, 0.0)

    async def act() -> None:
        told(run_dir, mute=True)
        async with Daemon(run_dir, words=words) as daemon:
            await until(lambda: daemon.supervisor.slots[0].restarts)
            assert daemon.supervisor.slots[0].killed == 1

    play(act)


def test_one_that_stops_answering_is_ended(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PING_INTERVAL", 1)
    monkeypatch.setattr(health, "MOST_UNANSWERED", 1)

    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (pid,) = await daemon.serves()
            os.kill(pid, signal.SIGSTOP)
            await daemon.serves(other_than=(pid,))
            assert daemon.supervisor.slots[0].killed == 1

    play(act)


def test_a_stranger_on_the_feed_takes_no_worker_s_place(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir) as daemon:
            (pid,) = await daemon.serves()
            _, writer = await asyncio.open_unix_connection(str(daemon.feed.path))
            body = pb.FromProxy(hello=pb.Hello(pid=pid, worker=0, generation=10**9)).SerializeToString()
            writer.write(len(body).to_bytes(4, "big") + body)
            await until(lambda: len(daemon.feed.workers) == 2)
            (row,) = daemon.supervisor.status()
            assert row["pid"] == pid and row["state"] == "serving"
            writer.close()

    play(act)


def test_without_a_proxy_to_start_the_status_says_so(run_dir: Path) -> None:
    async def act() -> None:
        async with Daemon(run_dir, words=()) as daemon:
            await asyncio.sleep(0.05)
            assert daemon.supervisor.warnings() == ["is not installed here: what needs it is refused"]
            (done,) = await daemon.supervisor.restart()
            assert "not installed" in done["error"]

    play(act)


def test_removing_ends_all_workers_of_this_feed_and_nobody_else(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    async def act() -> None:
        async with Daemon(run_dir) as daemon, Daemon(other) as neighbour:
            (pid,), (their_pid,) = await daemon.serves(), await neighbour.serves()
            await daemon.supervisor.stop()
            assert processes.end_all(daemon.feed.path) == 1
            assert processes.running(daemon.feed.path) == {} and pid != their_pid
            assert neighbour.pids() == [their_pid]

    try:
        play(act)
    finally:
        processes.end_all(other / "proxy.sock")
