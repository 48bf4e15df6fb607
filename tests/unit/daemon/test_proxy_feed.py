"""Workers on the feed: what they are sent, what they may say, and what becomes of those who misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from weft.daemon.proxy import feed as feeds
from weft.daemon.proxy import worker as workers
from weft.daemon.proxy.counts import Counts
from weft.daemon.proxy.feed import Feed
from weft.daemon.proxy.frames import BadFrame, Frames, framed, update_frame
from weft.daemon.proxy.worker import AskFailed, Worker
from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb


def update(revision: int, full: bool = False, cluster: bytes = b"") -> bytes:
    return control_pb2.Update(revision=revision, epoch="e", full=full, cluster=cluster).SerializeToString()


class Client:
    """A worker, as a test plays it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self, kind: str) -> Any:
        message = pb.ToProxy.FromString(await self.raw())
        assert message.WhichOneof("message") == kind
        return getattr(message, kind)

    async def raw(self) -> bytes:
        async with asyncio.timeout(3):
            return await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(4), "big"))

    def say(self, **message: Any) -> None:
        self.writer.write(framed(pb.FromProxy(**message).SerializeToString()))

    async def ended(self) -> bool:
        async with asyncio.timeout(3):
            try:
                while await self.reader.read(65536):
                    pass
            except OSError:
                pass
        return True


class Scene:
    """A feed; who came, was ready and went, in words."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.records_: list[pb.Record] = []
        self.ledger = Counts()
        self.held: tuple[int, bytes] = (7, update(7, True))
        self.fulls = 0
        self.feed = Feed(
            path, lambda: pb.Setup(node="node-1", mark=0x800), lambda: self.held[0], self._full, self, self
        )

    def _full(self) -> bytes:
        self.fulls += 1
        return self.held[1]

    def worker_came(self, worker: Worker) -> None:
        self.heard.append(f"came {worker.number}")

    def worker_ready(self, worker: Worker) -> None:
        self.heard.append(f"ready {worker.number}")

    def worker_went(self, worker: Worker) -> None:
        self.heard.append(f"went {worker.number}")

    def counts(self, worker: Worker, counts: pb.Counts) -> None:
        self.ledger.add(worker, counts)

    def records(self, worker: Worker, records: pb.Records) -> None:
        self.records_ += records.records

    def forget(self, worker: Worker) -> None:
        self.ledger.forget(worker)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(str(self.feed.path))
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    @asynccontextmanager
    async def worker(self, number: int = 0, ready: bool = True) -> AsyncIterator[Client]:
        """One that was given its first update."""
        async with self.client() as client:
            await client.get("setup")
            client.say(hello=pb.Hello(version="1", pid=5, worker=number, generation=1))
            if self.held[1]:
                client.say(ack=pb.Ack(revision=(await client.get("update")).revision))
            if ready:
                client.say(ready=pb.Ready())
                await until(lambda: any(each.ready and each.number == number for each in self.feed.workers))
            yield client


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110  # it watches what has no event
            await asyncio.sleep(0.002)


def play(tmp_path: Path, act: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene(tmp_path / "proxy.sock")
        await scene.feed.start()
        try:
            await act(scene)
        finally:
            await scene.feed.stop()

    asyncio.run(main())


# frames


def test_frames_come_whole_however_they_were_cut() -> None:
    said = [pb.FromProxy(ack=pb.Ack(revision=n)) for n in range(3)]
    data = b"".join(framed(each.SerializeToString()) for each in said)
    assert list(Frames().receive(data)) == said
    byte_by_byte = Frames()
    assert [m for at in range(len(data)) for m in byte_by_byte.receive(data[at : at + 1])] == said
    tail = Frames()
    assert list(tail.receive(data + b"\0\0")) == said and list(tail.receive(b"")) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        framed(b"\xff\xff\xff"),
        framed(b""),
        framed(pb.FromProxy(ready=pb.Ready()).SerializeToString()[:-1] + b"\x7f"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["too long", "no message", "empty", "cut inside", "another protocol"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(Frames().receive(data))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 300_000])
def test_an_update_is_framed_as_it_came(size: int) -> None:
    raw = update(9, cluster=bytes(size))
    data = update_frame(raw)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert pb.ToProxy.FromString(data[4:]).update.SerializeToString() == raw


# what workers are sent


def test_a_worker_is_set_up_then_given_everything_then_each_difference_as_it_came(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.client() as client:
            assert (await client.get("setup")).mark == 0x800
            client.say(hello=pb.Hello(pid=5, worker=3, generation=2))
            assert await client.raw() == update_frame(scene.held[1])[4:]
            scene.held = (8, update(8, True))
            scene.feed.update(8, False, update(8, cluster=b"bytes of the operator"))
            assert await client.raw() == update_frame(update(8, cluster=b"bytes of the operator"))[4:]
            scene.feed.update(9, True, update(9, True))
            assert (await client.get("update")).full
        assert scene.heard[0] == "came 3"

    play(tmp_path, act)


def test_the_whole_is_made_once_for_all_who_come_at_that_revision(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker(0), scene.worker(1):
            assert scene.fulls == 1 and {each.sent for each in scene.feed.workers} == {7}
            scene.held = (8, update(8, True))
            scene.feed.update(8, True, scene.held[1])
            assert {each.sent for each in scene.feed.workers} == {8}
            async with scene.worker(2):
                assert scene.fulls == 1, "what the operator sent is whole already"

    play(tmp_path, act)


def test_without_a_snapshot_a_worker_waits_for_the_first(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.held = (0, b"")
        async with scene.worker(ready=False) as client:
            await until(lambda: scene.feed.workers)
            assert scene.feed.workers[0].sent == 0
            scene.held = (1, update(1, True))
            scene.feed.update(1, True, update(1, True))
            assert (await client.get("update")).revision == 1

    play(tmp_path, act)


def test_a_difference_that_does_not_follow_is_never_sent(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker() as client:
            scene.held = (9, update(9, True))
            scene.feed.update(9, False, update(9))
            got = await client.get("update")
            assert got.full and got.revision == 9

    play(tmp_path, act)


# what they say


def test_refusals_are_of_all_workers_and_last_until_taken_back(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        told: list[dict[str, str]] = []
        scene.feed.on_refusals = lambda: told.append(scene.feed.refusals())
        refused = control_pb2.Refusal(resource="route shop", reason="bad regex")
        async with scene.worker(0) as one, scene.worker(1):
            one.say(ack=pb.Ack(revision=7, refusals=[refused]))
            await until(lambda: scene.feed.refusals() == {"route shop": "bad regex"})
            assert told[-1] == {"route shop": "bad regex"}
            one.writer.close()
            await until(lambda: "went 0" in scene.heard)
            assert scene.feed.refusals() == {"route shop": "bad regex"}, "a worker that is away has not agreed"
            async with scene.worker(0):
                assert scene.feed.refusals() == {} and told[-1] == {}

    play(tmp_path, act)


def test_a_revision_is_acknowledged_when_all_that_serve_have_it(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        assert await scene.feed.wait_acknowledged(99, 0.01), "nobody serves: nobody to wait for"
        async with scene.worker(0) as one, scene.worker(1) as two, scene.worker(2, ready=False):
            scene.feed.update(8, False, update(8))
            one.say(ack=pb.Ack(revision=8))
            assert not await scene.feed.wait_acknowledged(8, 0.05)
            waiting = asyncio.create_task(scene.feed.wait_acknowledged(8, 3))
            two.say(ack=pb.Ack(revision=8))
            assert await waiting

    play(tmp_path, act)


def test_an_acknowledgement_of_what_was_not_sent_acknowledges_nothing(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker() as client:
            client.say(ack=pb.Ack(revision=4000))
            client.say(ack=pb.Ack(revision=7, refusals=[control_pb2.Refusal(resource="x", reason="y")]))
            await until(lambda: scene.feed.refusals())
            assert scene.feed.workers[0].acked == 7

    play(tmp_path, act)


def test_questions_are_answered_by_their_number(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker() as client:
            worker = scene.feed.workers[0]
            one = asyncio.create_task(worker.ask("routes", "", 3))
            two = asyncio.create_task(worker.ask("clusters", "x", 3))
            first, second = await client.get("query"), await client.get("query")
            client.say(reply=pb.Reply(id=second.id, error="no such cluster"))
            client.say(reply=pb.Reply(id=999, json=b"nobody asked"))
            client.say(reply=pb.Reply(id=first.id, json=b"[]"))
            assert await one == b"[]"
            with pytest.raises(AskFailed, match="no such cluster"):
                await two

    play(tmp_path, act)


def test_a_question_ends_when_nobody_answers_or_the_worker_goes(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker() as client:
            worker = scene.feed.workers[0]
            with pytest.raises(AskFailed, match="did not answer"):
                await worker.ask("routes", "", 0.02)
            waiting = asyncio.create_task(worker.ask("routes", "", 3))
            await client.get("query")
            client.writer.close()
            with pytest.raises(AskFailed, match="gone"):
                await waiting

    play(tmp_path, act)


def test_a_flush_waits_for_the_counts_and_no_longer_than_it_may(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker(0) as client, scene.worker(1):
            flushing = asyncio.create_task(scene.feed.flush(0.2))
            await client.get("flush")
            labels = {"reporter": "source"}
            series = pb.Series(id=1, family="istio_requests_total", labels=labels)
            client.say(counts=pb.Counts(series=[series], samples=[pb.Sample(id=1, value=3)]))
            await flushing  # the other one never answers
            assert scene.ledger.as_json()["istio_requests_total"]["series"] == [{"labels": labels, "value": 3.0}]

    play(tmp_path, act)


def test_starts_of_requests_are_asked_for_while_somebody_looks(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker(0) as client:
            scene.feed.tap(1)
            assert (await client.get("tap")).on
            scene.feed.tap(1)
            async with scene.worker(1) as late:
                assert (await late.get("tap")).on
            scene.feed.tap(-1)
            scene.feed.tap(-1)
            assert not (await client.get("tap")).on

    play(tmp_path, act)


# what they must not do

HELLO = framed(pb.FromProxy(hello=pb.Hello(worker=1)).SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        framed(pb.FromProxy(ready=pb.Ready()).SerializeToString()),
        HELLO + HELLO,
        HELLO + b"\xff" * 64,
        HELLO + framed(pb.FromProxy(counts=pb.Counts(samples=[pb.Sample(id=1)])).SerializeToString()),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["ready before hello", "hello twice", "garbage", "a sample of no series", "another protocol"],
)
def test_nonsense_costs_the_connection_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    async def act(scene: Scene) -> None:
        async with scene.worker(0) as good, scene.client() as bad:
            bad.writer.write(data)
            assert await bad.ended()
            await until(lambda: scene.feed.cut_off == 1)
            scene.feed.update(8, False, update(8))
            assert (await good.get("update")).revision == 8

    play(tmp_path, act)


def test_who_does_not_read_is_cut_off_and_given_everything_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "BACKLOG", 1 << 20)

    async def act(scene: Scene) -> None:
        async with scene.worker(0), scene.worker(1) as good:
            for revision in range(8, 48):
                scene.feed.update(revision, False, update(revision, cluster=bytes(100_000)))
                assert (await good.get("update")).revision == revision
            await until(lambda: scene.feed.cut_off == 1)
            assert "does not read" in scene.feed.last_cut and "worker 0" in scene.feed.last_cut
            scene.held = (47, update(47, True))
            async with scene.worker(0):
                assert {each.sent for each in scene.feed.workers} == {47}

    play(tmp_path, act)


def test_who_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "HELLO_WITHIN", 0.01)
    monkeypatch.setattr(feeds, "TICK", 0.02)

    async def act(scene: Scene) -> None:
        async with scene.client() as silent:
            assert await silent.ended()

    play(tmp_path, act)


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_WORKERS", 2)

    async def act(scene: Scene) -> None:
        async with scene.worker(0), scene.worker(1), scene.client() as third:
            assert await third.ended()
            assert len(scene.feed.workers) == 2

    play(tmp_path, act)


def test_nobody_else_may_connect(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        assert scene.feed.path.stat().st_mode & 0o777 == 0o600

    play(tmp_path, act)
