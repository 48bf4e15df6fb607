"""Keeps the node's proxy workers running: one process for each number, and its successor while one takes over.

```
            dead: again, 0 to 2 s later
           +---------+
           v         |
 starting --Ready--> serving --successor is Ready--> draining --60 s at most--> ended
```

Rules: 1. A worker that lives is never started a second time: one that an earlier daemon started is found by its
command line, and adopted when it says Hello. 2. A successor serves before its predecessor drains; one that does
not get that far is ended, and the predecessor goes on. 3. A worker that hangs (does not answer, does not become
ready) is ended and started anew: what it holds is as good as lost, and clients come back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from weft.daemon.local.programs import last_line
from weft.daemon.proxy.health import Health
from weft.daemon.proxy.processes import Launcher, Process, describe, running, worker_number
from weft.daemon.proxy.slots import Slot, row
from weft.daemon.proxy.worker import AskFailed, Worker

log = logging.getLogger("weft.proxy")

#: Seconds before each start after one that failed; the first after a good life is at once.
BACK_OFF: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
GROWN_UP: Final = 10.0
#: Seconds that a worker which lives has to find the new daemon.
ADOPT_WITHIN: Final = 10.0
#: Seconds for one question to a worker that was found.
ASK_WITHIN: Final = 5.0
#: Seconds for the whole of a hand-over.
HANDOVER_WITHIN: Final = 20.0
DRAIN: Final = 60.0
#: Seconds after that in which a drained one has to be gone.
DRAIN_GRACE: Final = 5.0


class Drains(Protocol):
    def __call__(self, worker: Worker, seconds: float) -> None: ...


class Supervisor:
    """The feed's `Watcher`."""

    def __init__(
        self,
        count: int,
        launcher: Launcher,
        version: str,
        drain: Drains,
        on_serving: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_serving`: a worker is ready."""
        self.launcher, self.version = launcher, version
        self.slots = [Slot(number) for number in range(count)]
        self.retired = Slot(-1)  # workers of numbers that this node has no more
        self._drain_worker, self._on_serving = drain, on_serving
        self._generation = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Once the feed listens."""
        alive = running(self.launcher.socket)
        for slot in self.slots:
            self._spawn(self._keep(slot, adopt=bool(alive.get(slot.number))))
        self._spawn(Health(self.slots, self.launcher, self._kill, self._spawn).run())

    async def stop(self) -> None:
        """The workers go on without us."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in (*self.slots, self.retired):
            for process in slot.processes():
                process.forget()

    # what the feed tells

    def worker_came(self, worker: Worker) -> None:
        process = self._known(worker.pid) or self._adopted(worker)
        if process is not None:
            process.worker, process.connected_once, process.unanswered = worker, True, 0

    def worker_ready(self, worker: Worker) -> None:
        process = self._known(worker.pid)
        if process is not None:
            process.ready.set()
            slot = self._slot(process)
            if slot.successor is process:
                self._promote(slot)
            if slot.current is process:
                slot.problem = ""
            slot.changed.set()
        self._on_serving()

    def worker_went(self, worker: Worker) -> None:
        process = self._known(worker.pid)
        if process is not None and process.worker is worker:
            process.worker = None

    # what people ask

    async def restart(self, numbers: list[int] | None = None) -> list[dict[str, Any]]:
        """Replaces workers one after the other by a hand-over; what became of each."""
        done: list[dict[str, Any]] = []
        for slot in self.slots:
            if numbers is None or slot.number in numbers:
                before = slot.current.pid if slot.current else 0
                try:
                    process = await self.replace(slot)
                    done.append({"worker": slot.number, "old_pid": before, "pid": process.pid, "error": ""})
                except AskFailed as failed:
                    done.append({"worker": slot.number, "old_pid": before, "pid": before, "error": str(failed)})
        return done

    async def replace(self, slot: Slot) -> Process:
        """AskFailed: the one that is there goes on."""
        if slot.successor is not None:
            raise AskFailed("a successor is just starting")
        process = slot.successor = self._begin(slot, takeover=slot.current is not None)
        if process is None:
            raise AskFailed(slot.problem)
        try:
            async with asyncio.timeout(HANDOVER_WITHIN):
                await _first(process.ready, process.ended)
        except TimeoutError:
            pass
        if not process.ready.is_set():
            why = f"ended with {describe(process.code)}" if process.ended.is_set() else "did not become ready"
            self._kill(slot, process, f"the successor {why}")
            raise AskFailed(f"the successor {why}: {last_line(self.launcher.log_of(slot.number))}")
        return process

    def status(self) -> list[dict[str, Any]]:
        return [row(slot, each) for slot in (*self.slots, self.retired) for each in slot.processes()] + [
            {"worker": slot.number, "state": "down", "restarts": slot.restarts, "problem": slot.problem}
            for slot in self.slots
            if not slot.processes()
        ]

    def problems(self) -> list[str]:
        """Of workers that do not serve, as text."""
        return [f"worker {slot.number}: {slot.problem}" for slot in self.slots if slot.problem]

    def warnings(self) -> list[str]:
        missing = bool(self.slots) and not self.launcher.words
        return ["is not installed here: what needs it is refused"] if missing else []

    # one worker

    async def _keep(self, slot: Slot, adopt: bool) -> None:
        if adopt:
            await self._await_adoption(slot)
        while self.launcher.words or slot.current is not None:
            if slot.current is None and slot.successor is None:
                await asyncio.sleep(BACK_OFF[min(slot.failures, len(BACK_OFF) - 1)])
                if slot.current is None and slot.successor is None:
                    slot.current = self._begin(slot, takeover=False)
                    if slot.current is None:
                        slot.failures += 1
                        continue
            await slot.changed.wait()
            slot.changed.clear()

    async def _await_adoption(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(ADOPT_WITHIN):
                while slot.current is None:
                    await slot.changed.wait()
                    slot.changed.clear()
        except TimeoutError:
            log.error("worker %d lives and does not come to us: started anew", slot.number)
            for pid in running(self.launcher.socket).get(slot.number, []):
                stray = Process(slot.number, 0, pid)
                if self._take_in(slot, stray):
                    self._kill(slot, stray, "it did not find the new daemon")

    def _begin(self, slot: Slot, takeover: bool) -> Process | None:
        """A new process of this number; None: it could not be started, and `problem` says why."""
        if not self.launcher.words:
            raise AskFailed("weft-l7proxy is not installed here")
        self._generation += 1
        try:
            child = self.launcher.start(slot.number, self._generation, takeover)
        except OSError as error:
            slot.problem = f"cannot be started: {error}"
            log.error("proxy worker %d %s", slot.number, slot.problem)
            return None
        process = Process(slot.number, self._generation, child.pid, child)
        process.watch(self._ended)
        log.info("proxy worker %d: started, pid %d, generation %d", slot.number, child.pid, self._generation)
        return process

    def _adopted(self, worker: Worker) -> Process | None:
        """One that an earlier daemon started; None: not one of ours (a proxy that somebody else supervises)."""
        if worker_number(worker.pid, self.launcher.socket) != worker.number:
            return None
        process = Process(worker.number, worker.generation, worker.pid)
        slot = self.slots[worker.number] if worker.number < len(self.slots) else self.retired
        if not self._take_in(slot, process):
            return None
        process.worker = worker
        self._generation = max(self._generation, worker.generation)
        log.info("proxy worker %d: pid %d goes on under this daemon", worker.number, worker.pid)
        if slot is self.retired:
            self._let_go(slot, process)
        else:
            self._place(slot, process)
            self._spawn(self._look_at(slot, process, worker))
        return process

    def _place(self, slot: Slot, process: Process) -> None:
        """Of two that live, a hand-over was under way: the older one serves until the newer one is ready."""
        slot.leaving.remove(process)
        current = slot.current
        if current is None:
            slot.current, slot.problem = process, ""
        elif process.generation > current.generation and slot.successor is None:
            slot.successor = process
        elif process.generation < current.generation and slot.successor is None and not current.ready.is_set():
            slot.current, slot.successor = process, current
        else:
            self._let_go(slot, process)
        slot.changed.set()

    def _promote(self, slot: Slot) -> None:
        """The successor serves."""
        old, slot.current, slot.successor = slot.current, slot.successor, None
        slot.problem = ""
        if old is not None:
            self._let_go(slot, old)

    async def _look_at(self, slot: Slot, process: Process, worker: Worker) -> None:
        """One that drains already takes nothing new, so it is nobody's current one; one of another version is
        replaced."""
        try:
            state = json.loads(await worker.ask("status", "", ASK_WITHIN)).get("state")
        except (AskFailed, ValueError, AttributeError):
            state = ""
        if state == "draining" and slot.current is process:
            slot.current, slot.successor = slot.successor, None
            self._let_go(slot, process)
            slot.changed.set()
        elif worker.version != self.version and slot.current is process:
            log.info("proxy worker %d is of version %s: replaced", worker.number, worker.version)
            await self._upgrade(slot)

    def _take_in(self, slot: Slot, process: Process) -> bool:
        """False: it has ended meanwhile."""
        try:
            process.watch(self._ended)
        except OSError:
            return False
        slot.leaving.append(process)  # until it is known for better
        return True

    async def _upgrade(self, slot: Slot) -> None:
        try:
            await self.replace(slot)
        except AskFailed as failed:
            slot.problem = f"not upgraded: {failed}"
            log.error("proxy worker %d %s", slot.number, slot.problem)

    def _let_go(self, slot: Slot, process: Process) -> None:
        """It takes nothing new, ends what it has, and is gone after the drain time."""
        if process not in slot.leaving:
            slot.leaving.append(process)
        if process.worker is not None:
            self._drain_worker(process.worker, DRAIN)
        self._spawn(self._see_off(slot, process))

    async def _see_off(self, slot: Slot, process: Process) -> None:
        await asyncio.sleep(DRAIN + DRAIN_GRACE)
        if not process.ended.is_set():
            self._kill(slot, process, "it was still there after the drain time")

    def _kill(self, slot: Slot, process: Process, why: str) -> None:
        if not process.ended.is_set():
            slot.killed += 1
            log.error("proxy worker %d, pid %d: killed, for %s", slot.number, process.pid, why)
            process.send(signal.SIGKILL)

    def _ended(self, process: Process) -> None:
        slot = self._slot(process)
        if process in slot.leaving:
            slot.leaving.remove(process)
            log.info("proxy worker %d: pid %d has ended", slot.number, process.pid)
        elif process is slot.successor:
            slot.successor = None
        elif process is slot.current:
            slot.current = slot.successor  # if there is one it is about to serve
            slot.successor = None
            slot.restarts += 1
            young = time.monotonic() - process.started < GROWN_UP
            slot.failures = slot.failures + 1 if young else 0
            slot.problem = f"ended with {describe(process.code)}, starts again"
            said = last_line(self.launcher.log_of(slot.number))
            log.error("proxy worker %d, pid %d, ended with %s: %s", slot.number, process.pid,
                      describe(process.code), said)  # fmt: skip
        slot.changed.set()

    # small things

    def _known(self, pid: int) -> Process | None:
        found = (each for slot in (*self.slots, self.retired) for each in slot.processes() if each.pid == pid)
        return next(found, None) if pid else None

    def _slot(self, process: Process) -> Slot:
        return self.slots[process.number] if process.number < len(self.slots) else self.retired

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the proxy's supervision ended", exc_info=error)


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
