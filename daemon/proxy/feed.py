"""The feed: a unix socket on which the workers of the L7 proxy get the snapshot, and say what they made of it.

In: `update` with the bytes that came from the operator, `flush`, `ask`, `tap`. Out, by callback: who came, is
ready, went (`Watcher`), and what was counted and recorded (`Sink`).

Rules: 1. A new worker gets a full update, made once for each revision; after it the differences, in order, the
very bytes the operator sent. 2. Nobody waits for a worker: what it does not read is bounded, then it is cut off.
3. What a worker refused stays refused here until it, or its successor, acknowledges otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

from weft.daemon.proxy.frames import update_frame
from weft.daemon.proxy.worker import AskFailed, Worker
from weft.policies.wire.pb import proxy_pb2 as pb

log = logging.getLogger("weft.proxy")

#: Connections at once: workers, their draining predecessors, and somebody's mistake.
MOST_WORKERS: Final = 128
#: Seconds in which a connection has to say Hello.
HELLO_WITHIN: Final = 5.0
#: Seconds between two looks at who does not read.
TICK: Final = 1.0


class Watcher(Protocol):
    """Who keeps the processes running."""

    def worker_came(self, worker: Worker) -> None: ...
    def worker_ready(self, worker: Worker) -> None: ...
    def worker_went(self, worker: Worker) -> None: ...


class Sink(Protocol):
    """Who takes what the workers tell. frames.BadFrame: it makes no sense."""

    def counts(self, worker: Worker, counts: pb.Counts) -> None: ...
    def records(self, worker: Worker, records: pb.Records) -> None: ...
    def forget(self, worker: Worker) -> None: ...


class Feed:
    def __init__(
        self,
        path: Path,
        setup: Callable[[], pb.Setup],
        held: Callable[[], int],
        full: Callable[[], bytes],
        watcher: Watcher,
        sink: Sink,
    ) -> None:
        """`held`: the snapshot's revision, 0 while there is none; `full`: it as a serialized Update."""
        self.path = path
        self._setup, self._held, self._full = setup, held, full
        self._watcher, self._sink = watcher, sink
        self.workers: list[Worker] = []  # those that said Hello
        self.on_refusals: Callable[[], None] = lambda: None
        self.cut_off = 0  # connections that were ended because of what came, or was not read
        self.last_cut = ""
        self._strangers: set[Worker] = set()  # no Hello yet
        self._kept: dict[int, dict[str, str]] = {}  # refusals of workers that are away, by number
        self._shared: tuple[int, bytes] = (-1, b"")
        self._changed = asyncio.Event()
        self._flushed: dict[Worker, asyncio.Future[None]] = {}
        self._taps = 0
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises OSError. A socket that a dead daemon left is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        before = os.umask(0o177)  # nobody else may connect in the moment before a chmod
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(self._connection, str(self.path))
        finally:
            os.umask(before)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """The workers stay, and will look for the next daemon."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        for worker in [*self.workers, *self._strangers]:
            worker.close()
        self.path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    # what the daemon does

    def update(self, revision: int, full: bool, update: bytes) -> None:
        """A change is in force: `update` is the serialized message that brought it."""
        self._shared = (-1, b"")
        if not self.workers:
            return
        data = update_frame(update)
        if full:
            self._shared = (revision, data)
        for worker in self.workers:
            if full or not worker.sent:
                self._send_full(worker)
            elif worker.sent == revision - 1:
                worker.send_difference(revision, data)
            elif worker.sent != revision:
                self._send_full(worker)

    def refusals(self) -> dict[str, str]:
        """By resource. A worker says what it refused; said by several it is one."""
        told: dict[str, str] = {}
        for kept in self._kept.values():
            told.update(kept)
        for worker in self.workers:
            if worker.ready and not worker.draining:
                told.update(worker.refusals)
        return told

    def acknowledged(self, revision: int) -> bool:
        """Whether all workers that serve have put it in force (or there are none)."""
        return all(each.acked >= revision for each in self.workers if each.ready and not each.draining)

    async def wait_acknowledged(self, revision: int, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not self.acknowledged(revision):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def serving(self) -> list[Worker]:
        return [each for each in self.workers if each.ready and not each.draining and not each.closed]

    async def ask(self, what: str, arg: str, seconds: float, workers: list[Worker]) -> list[bytes | AskFailed]:
        """The answers, in the order of the workers."""
        questions: list[Coroutine[Any, Any, bytes]] = [each.ask(what, arg, seconds) for each in workers]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        return [each if isinstance(each, bytes | AskFailed) else AskFailed(str(each)) for each in answers]

    async def flush(self, seconds: float) -> None:
        """What was counted until now is here when this returns, as far as the workers say it in time."""
        asked = []
        for worker in [each for each in self.workers if not each.closed]:
            waiting = self._flushed.get(worker)
            if waiting is None or waiting.done():
                waiting = self._flushed[worker] = asyncio.get_running_loop().create_future()
                worker.send(pb.ToProxy(flush=pb.Flush()))
            asked.append(waiting)
        if asked:
            await asyncio.wait(asked, timeout=seconds)

    def tap(self, more: int) -> None:
        """Somebody looks on (1), or no longer does (-1)."""
        before, self._taps = self._taps, self._taps + more
        if bool(before) != bool(self._taps):
            for worker in self.workers:
                worker.send(pb.ToProxy(tap=pb.Tap(on=bool(self._taps))))

    def drain(self, worker: Worker, seconds: float) -> None:
        worker.draining = True
        worker.send(pb.ToProxy(drain=pb.Drain(seconds=seconds)))
        self._notify()

    # what the workers do

    def connected(self, worker: Worker) -> None:
        self._strangers.add(worker)
        if len(self.workers) + len(self._strangers) > MOST_WORKERS:
            worker.cut(f"more than {MOST_WORKERS} connections")

    def greeted(self, worker: Worker) -> None:
        self._strangers.discard(worker)
        self.workers.append(worker)
        log.info("proxy worker %d: pid %d, generation %d", worker.number, worker.pid, worker.generation)
        self._send_full(worker)
        if self._taps:
            worker.send(pb.ToProxy(tap=pb.Tap(on=True)))
        self._watcher.worker_came(worker)

    def arrived(self, worker: Worker, message: pb.FromProxy) -> None:
        kind = message.WhichOneof("message")
        if kind == "ack":
            self._acked(worker, message.ack)
        elif kind == "ready":
            self._became_ready(worker)
        elif kind == "records":
            worker.records += len(message.records.records)
            worker.records_lost += message.records.lost
            self._sink.records(worker, message.records)
        elif kind == "counts":
            self._sink.counts(worker, message.counts)
            if (waiting := self._flushed.pop(worker, None)) and not waiting.done():
                waiting.set_result(None)

    def lost(self, worker: Worker, why: str) -> None:
        self._strangers.discard(worker)
        if why not in ("it closed its connection", "the daemon ends"):
            self.cut_off += 1
            who = f"worker {worker.number}" if worker.hello else "a stranger"
            self.last_cut = f"{who}, pid {worker.pid}: {why}"
            log.warning("proxy feed: %s cut off", self.last_cut)
        if (waiting := self._flushed.pop(worker, None)) and not waiting.done():
            waiting.set_result(None)
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        if worker.refusals and not worker.draining:
            self._kept[worker.number] = worker.refusals
        self._sink.forget(worker)
        self._watcher.worker_went(worker)
        self._notify()

    def _connection(self) -> Worker:
        return Worker(self, self._setup)

    def _send_full(self, worker: Worker) -> None:
        revision = self._held()
        if not revision:
            return
        if self._shared[0] != revision:
            self._shared = (revision, update_frame(self._full()))
        worker.send_full(*self._shared)

    def _acked(self, worker: Worker, ack: pb.Ack) -> None:
        before = self.refusals()
        if ack.revision <= worker.sent:  # else one that a daemon before us sent it
            worker.acked = ack.revision
        worker.refusals = {each.resource: each.reason for each in ack.refusals}
        if worker.ready:
            self._kept.pop(worker.number, None)
        self._notify(self.refusals() != before)

    def _became_ready(self, worker: Worker) -> None:
        if worker.ready:
            return
        worker.ready = True
        if worker.acked:
            self._kept.pop(worker.number, None)
        log.info("proxy worker %d: ready, revision %d", worker.number, worker.acked)
        self._watcher.worker_ready(worker)
        self._notify()

    def _notify(self, refusals_changed: bool = True) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if refusals_changed:
            self.on_refusals()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for worker in [*self.workers]:
                if worker.stalled():
                    worker.cut("it does not read")
            for worker in [*self._strangers]:
                if now - worker.connected_at > HELLO_WITHIN:
                    worker.cut(f"no hello within {HELLO_WITHIN:g} s")
            self._forget_shared()

    def _forget_shared(self) -> None:
        """The full update of a large cluster is megabytes: kept for the moment in which several workers start."""
        if all(each.ready for each in self.workers):
            self._shared = (-1, b"")
