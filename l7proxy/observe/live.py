"""The observer with its files, its collectors and its share of the daemon's feed: what a worker makes one of."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any, Final

from weft.l7proxy.core.parties import World
from weft.l7proxy.observe.export import Exporter, Resolve
from weft.l7proxy.observe.observer import MeshObserver, told
from weft.l7proxy.reports import Counts, Ring
from weft.policies.snapshot import ClusterPart
from weft.policies.wire.pb import proxy_pb2 as pb

_STANDARD: Final = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFiles:
    """Appends to files by name. What cannot be written is counted, and its reason kept."""

    def __init__(self) -> None:
        self.lost = 0
        self.problems: dict[str, str] = {}
        self._open: dict[str, int] = dict(_STANDARD)

    def write(self, file: str, text: str) -> None:
        try:
            descriptor = self._open.get(file)
            if descriptor is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
                descriptor = self._open[file] = os.open(file, flags, 0o640)
            os.write(descriptor, text.encode("utf-8", "replace"))
            self.problems.pop(file, None)
        except OSError as error:
            self.lost += text.count("\n")
            self.problems[file] = error.strerror or str(error)


class Telling:
    """`observer` is the engine's; `ring` and `counts` are the feed's."""

    def __init__(self, world: World, resolve: Resolve, counts: Counts) -> None:
        self.ring = Ring(told)
        self.files = LogFiles()
        self.observer = MeshObserver(
            random.random, self.files.write, self.ring.add, os.environ, behind=world.behind
        )
        self.exporter = Exporter(self.observer.outbox, world, resolve, time.monotonic)
        self._counts = counts
        self._unsent: list[pb.Counts] = []
        counts.share(self._take, self.observer.metrics.described_anew)
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self.exporter.run())

    def changed(self, cluster: ClusterPart, workloads: bool) -> None:
        """A new snapshot. `workloads`: who has an address changed."""
        settings = cluster.settings.get("mesh")
        before = self.observer.settle(settings, cluster.telemetry.values())
        if before is not None:
            self._unsent.append(before)
        if workloads:
            self.observer.workloads_changed()

    def tick(self) -> None:
        """Ten times a second."""
        self.observer.flush()

    async def finish(self) -> None:
        """What is still waiting."""
        self.observer.flush()
        if self._task is not None:
            self._task.cancel()
        try:
            async with asyncio.timeout(2):
                await self.exporter.flush()
        except TimeoutError:
            return

    def _take(self) -> list[pb.Counts]:
        unsent, self._unsent = self._unsent, []
        fresh = self.observer.metrics.drain()
        return unsent if fresh is None else [*unsent, fresh]

    def describe(self) -> dict[str, Any]:
        """For `status`."""
        observer = self.observer
        return {
            "spans": {"sent": self.exporter.sent, "lost": observer.outbox.lost, "problems": self.exporter.problems},
            "access_log": {
                "lost": self.files.lost + observer.unlogged,
                "problems": self.files.problems | dict.fromkeys(observer.problems, ""),
            },
            "expressions_failed": dict(observer.expressions.failed),
            "metrics_forgotten": observer.metrics.forgotten,
            "records_lost": self.ring.lost_ever,
        }
