"""Whether the workers still do what they are there for: looked at once a second.

A worker that does not connect, does not become ready with a snapshot in hand, or leaves questions unanswered, is
reported to be ended; its log is kept within its bound.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from weft.daemon.local.logs import trim
from weft.daemon.proxy.processes import Launcher, Process
from weft.daemon.proxy.slots import Slot
from weft.daemon.proxy.worker import AskFailed, Worker

#: Seconds that a new one has to connect; and, with a snapshot in hand, to serve.
CONNECT_WITHIN: Final = 30.0
READY_WITHIN: Final = 30.0
PING_INTERVAL: Final = 5.0
#: Pings in a row without an answer: 30 s of silence.
MOST_UNANSWERED: Final = 6
LOG_BYTES: Final = 16 << 20


class Health:
    def __init__(
        self,
        slots: Sequence[Slot],
        launcher: Launcher,
        kill: Callable[[Slot, Process, str], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`kill` says why; `spawn` starts a task that nobody waits for."""
        self._slots, self._launcher, self._kill, self._spawn = slots, launcher, kill, spawn

    async def run(self) -> None:
        """Until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(1.0)
            rounds += 1
            for slot in self._slots:
                for process in (slot.current, slot.successor):
                    if process is not None:
                        self._check(slot, process, ping=rounds % PING_INTERVAL == 0)
                trim_log = self._launcher.log_of(slot.number)
                await asyncio.to_thread(trim, trim_log, LOG_BYTES, LOG_BYTES // 2)

    def _check(self, slot: Slot, process: Process, ping: bool) -> None:
        worker, now = process.worker, time.monotonic()
        if worker is None:
            if not process.connected_once and now - process.started > CONNECT_WITHIN:
                self._kill(slot, process, f"it did not connect within {CONNECT_WITHIN:g} s")
            return
        if not worker.ready:
            if worker.updated_at and now - worker.updated_at > READY_WITHIN:
                self._kill(slot, process, f"it was not ready within {READY_WITHIN:g} s")
            return
        if ping and process.unanswered >= MOST_UNANSWERED:
            self._kill(slot, process, "it does not answer")
        elif ping:
            process.unanswered += 1
            self._spawn(self._ping(process, worker))

    async def _ping(self, process: Process, worker: Worker) -> None:
        """Any answer is a sign of life, also that there is none."""
        try:
            answer = await worker.ask("status", "", PING_INTERVAL * MOST_UNANSWERED)
            worker.status = found if isinstance(found := json.loads(answer), dict) else {}
        except (AskFailed, ValueError):
            pass
        if worker.heard_at > time.monotonic() - PING_INTERVAL * MOST_UNANSWERED:
            process.unanswered = 0
