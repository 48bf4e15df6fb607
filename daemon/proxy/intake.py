"""Records of the workers to those who want them, a bounded number at a time.

A worker brings up to 1,024 requests in one message, each some 14 microseconds of work (four flows): policy and the
command line have their turn in between, as they have with the kernel's records (`pump`). What waits is bounded; the
rest is counted as lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from weft.policies.wire.pb import proxy_pb2 as pb

#: Records in one turn: 2 ms.
TURN: Final = 128
#: Records that may wait: more than a second of two busy workers.
MOST: Final = 32768


class Intake:
    def __init__(self, sinks: Iterable[Callable[[pb.Record], None]], lost: Callable[[int], None]) -> None:
        self._sinks, self._lost = tuple(sinks), lost
        self._waiting: deque[pb.Record] = deque()
        self._scheduled = False

    def bring(self, records: pb.Records) -> None:
        room = max(MOST - len(self._waiting), 0)
        self._waiting.extend(records.records[:room])
        if lost := records.lost + max(len(records.records) - room, 0):
            self._lost(lost)
        if self._waiting and not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        """The first at once: a few records never wait."""
        waiting, sinks = self._waiting, self._sinks
        try:
            for _ in range(min(TURN, len(waiting))):
                record = waiting.popleft()
                for sink in sinks:
                    sink(record)
        finally:
            self._scheduled = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._turn)
