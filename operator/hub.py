"""Revisions on their way to nodes: the last of each, ready to send. Knows no connection.

The cluster part of a revision is encoded once and the same bytes go to every node. A node that holds a revision of
this incarnation (`epoch`) that is not too old is told the differences since; everybody else gets everything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from weft.policies.delta import ClusterDelta, NodeDelta, Step, Update, apply_node, between
from weft.policies.snapshot import ClusterPart, NodePart
from weft.policies.wire.convert import encode_cluster, to_update
from weft.policies.wire.pb import control_pb2 as pb

#: How far back a node may be and still get differences. Past either a full snapshot is the cheaper way.
HISTORY_STEPS = 256
HISTORY_BYTES = 4 << 20


_NOTHING = ClusterDelta()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A step with its cluster part as bytes only."""

    step: Step
    cluster: bytes


class Hub:
    """`revision` 0: nothing was published yet, and nodes wait."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.revision = 0
        self._part = ClusterPart()
        self._nodes: dict[str, NodePart] = {}
        self._history: deque[_Kept] = deque()
        self._history_bytes = 0
        self._full: tuple[int, bytes] = (0, b"")
        self._published = asyncio.Event()

    def publish(self, step: Step, part: ClusterPart) -> None:
        """`part`: the cluster as `step` leaves it. After a gap in the revisions nobody gets differences."""
        kept = _Kept(Step(step.revision, _NOTHING, step.nodes), encode_cluster(step.cluster))
        for name, delta in step.nodes.items():
            self._nodes[name] = apply_node(self._nodes.get(name, NodePart()), delta)
        if step.revision != self.revision + 1:
            self._history.clear()
            self._history_bytes = 0
        self.revision, self._part = step.revision, part
        self._history.append(kept)
        self._history_bytes += len(kept.cluster)
        while self._history_bytes > HISTORY_BYTES or len(self._history) > HISTORY_STEPS:
            self._history_bytes -= len(self._history.popleft().cluster)
        published, self._published = self._published, asyncio.Event()
        published.set()

    async def beyond(self, revision: int) -> None:
        """Returns when there is something newer than `revision`."""
        while self.revision <= revision:
            await self._published.wait()

    def next(self, node: str, epoch: str, held: int) -> pb.Update | None:
        """What to tell a node that holds revision `held` of `epoch`. None: it has all."""
        if epoch == self.epoch and held == self.revision:
            return None
        kept = self._kept(held + 1) if epoch == self.epoch else None
        if kept is None:
            return self.full(node)
        delta = kept.step.nodes.get(node, NodeDelta())
        return to_update(Update(held + 1, self.epoch, False, _NOTHING, delta), kept.cluster)

    def full(self, node: str) -> pb.Update:
        if self._full[0] != self.revision:
            self._full = self.revision, encode_cluster(between(ClusterPart(), self._part))
        own = NodeDelta(self._nodes.get(node, NodePart()).endpoints)
        return to_update(Update(self.revision, self.epoch, True, _NOTHING, own), self._full[1])

    def forget_full(self) -> None:
        """Frees the bytes of the last full snapshot: nodes join in bursts, and then for hours none does."""
        self._full = 0, b""

    def _kept(self, revision: int) -> _Kept | None:
        first = self._history[0].step.revision if self._history else self.revision + 1
        return self._history[revision - first] if first <= revision <= self.revision else None
