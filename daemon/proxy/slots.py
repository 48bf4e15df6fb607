"""One worker number: its process, its successor, those that leave; and what the status says of them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from weft.daemon.proxy.processes import Process


@dataclass(slots=True, eq=False)
class Slot:
    """One worker number. `problem`: why it does not serve; "" it does, or has just begun to start."""

    number: int
    current: Process | None = None
    successor: Process | None = None
    leaving: list[Process] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    killed: int = 0
    failures: int = 0
    problem: str = ""

    def processes(self) -> list[Process]:
        return [each for each in (self.current, self.successor) if each is not None] + self.leaving


def row(slot: Slot, process: Process) -> dict[str, Any]:
    worker = process.worker
    return {
        "worker": process.number,
        "pid": process.pid,
        "generation": process.generation,
        "state": state(slot, process),
        "connected": worker is not None,
        "version": worker.version if worker else "",
        "revision": worker.acked if worker else 0,
        "refusals": len(worker.refusals) if worker else 0,
        "records": worker.records if worker else 0,
        "records_lost": worker.records_lost if worker else 0,
        "uptime_seconds": int(time.monotonic() - process.started),
        "restarts": slot.restarts,
        "killed": slot.killed,
        "problem": slot.problem if process is slot.current else "",
        "status": worker.status if worker else {},
    }


def state(slot: Slot, process: Process) -> str:
    if process in slot.leaving:
        return "draining"
    return "serving" if process.worker is not None and process.worker.ready else "starting"
