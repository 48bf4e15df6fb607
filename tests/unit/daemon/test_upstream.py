"""The stream from the operator over real gRPC: it breaks, and comes back; gaps are never bridged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from weft.daemon import upstream
from weft.daemon.upstream import Held, Upstream
from weft.policies.delta import OutOfOrder
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc


class Operator(control_pb2_grpc.ControlServicer):
    def __init__(self, *updates: pb.Update) -> None:
        self.updates = list(updates)
        self.heard: list[pb.NodeMessage] = []
        self.end = asyncio.Event()

    async def Stream(self, messages: AsyncIterator[pb.NodeMessage], context: Any) -> AsyncIterator[pb.Update]:
        self.heard.append(await anext(messages))
        for update in self.updates:
            yield update
            self.heard.append(await anext(messages))
        await self.end.wait()

    async def start(self, path: Path) -> grpc.aio.Server:
        server = grpc.aio.server()
        control_pb2_grpc.add_ControlServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        return server


async def until(condition: Callable[[], Any], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # it watches what has no event
            await asyncio.sleep(0.005)


class Node:
    def __init__(self) -> None:
        self.held = Held()
        self.taken: list[int] = []

    async def arrived(self, update: pb.Update) -> dict[str, str]:
        if update.revision == 13:
            raise OutOfOrder("13 does not follow")
        if update.revision == 14:
            raise ValueError("not an update")
        self.taken.append(update.revision)
        self.held = Held(update.revision, update.epoch)
        return {"policy x": "too large"} if update.revision == 2 else {}


def scene(play: Callable[[Path, Node, Upstream], Awaitable[None]], tmp_path: Path) -> None:
    async def main() -> None:
        node, path = Node(), tmp_path / "o.sock"
        stream = Upstream(f"unix:{path}", "node-1", "0", lambda: node.held, node.arrived)
        task = asyncio.create_task(stream.run())
        try:
            await play(path, node, stream)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_updates_are_taken_in_order_and_acknowledged_with_what_was_refused(tmp_path: Path) -> None:
    async def play(path: Path, node: Node, stream: Upstream) -> None:
        operator = Operator(pb.Update(revision=1, epoch="e"), pb.Update(revision=2, epoch="e"))
        server = await operator.start(path)
        await until(lambda: len(operator.heard) == 3)
        assert operator.heard[0].hello.node == "node-1" and node.taken == [1, 2]
        assert operator.heard[1].ack == pb.Ack(revision=1)
        assert operator.heard[2].ack == pb.Ack(
            revision=2, refusals=[pb.Refusal(resource="policy x", reason="too large")]
        )
        assert stream.link.connected
        await server.stop(0)

    scene(play, tmp_path)


def test_it_comes_back_and_says_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "LONGEST_PAUSE", 0.1)

    async def play(path: Path, node: Node, stream: Upstream) -> None:
        first = Operator(pb.Update(revision=7, epoch="e"))
        server = await first.start(path)
        await until(lambda: node.taken == [7])
        await server.stop(0)
        await until(lambda: not stream.link.connected)
        again = Operator()
        server = await again.start(path)
        await until(lambda: again.heard)
        assert (again.heard[0].hello.revision, again.heard[0].hello.epoch) == (7, "e")
        await server.stop(0)

    scene(play, tmp_path)


@pytest.mark.parametrize("revision", [13, 14], ids=["a gap", "what is no update"])
def test_after_a_gap_it_asks_for_everything(tmp_path: Path, revision: int) -> None:
    async def play(path: Path, node: Node, stream: Upstream) -> None:
        node.held = Held(12, "e")
        operator = Operator(pb.Update(revision=revision, epoch="e"))
        server = await operator.start(path)
        await until(lambda: len(operator.heard) >= 2)
        hellos = [message.hello for message in operator.heard if message.HasField("hello")]
        assert hellos[0].revision == 12 and hellos[1].revision == 0
        assert node.taken == []
        await server.stop(0)

    scene(play, tmp_path)


def test_nobody_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT", 0.05)

    async def play(path: Path, node: Node, stream: Upstream) -> None:
        await until(lambda: stream.link.reconnects > 1)
        assert not stream.link.connected and "nobody listens" in stream.link.problem

    scene(play, tmp_path)


def test_others_are_waited_for_while_updates_go_on_and_the_newest_is_acknowledged(tmp_path: Path) -> None:
    """What refuses later is told later, by the same revision."""

    async def main() -> None:
        node, path = Node(), tmp_path / "o.sock"
        settled, refused = asyncio.Event(), {"route y": "bad"}

        async def wait(revision: int) -> dict[str, str]:
            await settled.wait()
            return dict(refused)

        operator = Operator()
        acks: asyncio.Queue[pb.Ack] = asyncio.Queue()

        async def stream_of(messages: AsyncIterator[pb.NodeMessage], context: Any) -> AsyncIterator[pb.Update]:
            async def listen() -> None:
                async for message in messages:
                    acks.put_nowait(message.ack)

            await anext(messages)
            listening = asyncio.create_task(listen())
            for revision in (1, 2, 3):
                yield pb.Update(revision=revision, epoch="e")
            await listening

        operator.Stream = stream_of  # type: ignore[method-assign]
        server = await operator.start(path)
        stream = Upstream(f"unix:{path}", "node-1", "0", lambda: node.held, node.arrived, wait)
        task = asyncio.create_task(stream.run())
        try:
            await until(lambda: node.taken == [1, 2, 3])
            assert acks.empty(), "nobody has it yet"
            settled.set()
            async with asyncio.timeout(5):
                told = [await acks.get()]
                while told[-1].revision < 3:
                    told.append(await acks.get())
            assert [(each.resource, each.reason) for each in told[-1].refusals] == [("route y", "bad")]
            stream.tell()
            refused.clear()
            stream.tell()
            async with asyncio.timeout(5):
                last = await acks.get()
            assert last.revision == 3 and not last.refusals
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.stop(0)

    asyncio.run(main())
