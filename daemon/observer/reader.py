"""GetFlows over the ring: where to begin, what to send, when to end. No gRPC here.

1 `since` beats `number`: begin at that time, and `number` bounds what is sent. 2 `first`: begin with the oldest.
3 `follow` without a number: begin with what comes. 4 else go back until `number` flows matched (0: all).
Then forward to where the ring ended when the request came, or, following, for ever. A reader the ring has
overtaken is told how many it missed, at most once a second, and goes on with the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from weft.daemon.observer.filters import compiled, event_types
from weft.daemon.observer.flows import Flows
from weft.daemon.observer.l7 import L7Entry
from weft.daemon.observer.mask import Mask
from weft.daemon.observer.matchers import Match
from weft.daemon.observer.store import FLOW_RING, Entry, Gap, Ring
from weft.policies.wire.pb import flow_pb2, observer_pb2

Response = observer_pb2.GetFlowsResponse
#: Flows decoded before others in this loop get their turn: 1 ms or so.
_TURN: Final = 64
_LOST_INTERVAL_NS: Final = 1_000_000_000


class BadRequest(ValueError):
    """The client asked for what makes no sense; the text is for it."""


class Reader:
    """One request. `now` is the wall clock in nanoseconds."""

    def __init__(
        self,
        ring: Ring,
        flows: Flows,
        node_name: str,
        request: observer_pb2.GetFlowsRequest,
        now: Callable[[], int],
    ) -> None:
        if request.first and request.follow:
            raise BadRequest("first cannot be specified with follow")
        try:
            self._passes: Match = compiled(request.whitelist, request.blacklist)
            self._types = event_types(request.whitelist)
            paths = request.field_mask.paths
            self._mask = Mask(flow_pb2.Flow.DESCRIPTOR, paths) if paths else None  # type: ignore[arg-type]
        except ValueError as error:
            raise BadRequest(str(error)) from None
        self._ring, self._flows, self._node_name, self._request, self._now = ring, flows, node_name, request, now
        self._until = nanoseconds(request.until) if request.HasField("until") else None
        self._since = nanoseconds(request.since) if request.HasField("since") else 0
        self._end = ring.next
        self._missed = 0
        self._missed_since = self._told_at = 0

    async def responses(self) -> AsyncIterator[Response]:
        ring, request = self._ring, self._request
        at = await self._begin()
        sent = turn = 0
        while (request.follow and not ring.closed) or (at < self._end and not 0 < request.number <= sent):
            if at < ring.oldest:
                self._miss(ring.oldest - at)
                at = ring.oldest
            if lost := self._told():
                yield lost
                continue  # the ring moves on while the client takes it
            if at >= ring.next:
                await self._next(at)
                continue
            entry = ring[at]
            at += 1
            if isinstance(entry, Gap):
                yield self._lost(entry.source, entry.count, entry.time_ns, entry.time_ns)
                continue
            if self._until is not None and entry.at_ns > self._until:
                if isinstance(entry, L7Entry):
                    continue  # told late: what came after it may have happened before
                return
            if (turn := turn + 1) % _TURN == 0:
                await asyncio.sleep(0)
            if entry.at_ns >= self._since and (flow := self._matching(entry)) is not None:
                sent += 1
                yield self._response(flow)
        if self._missed and (lost := self._told(final=True)):
            yield lost

    async def _begin(self) -> int:
        ring, request = self._ring, self._request
        if request.HasField("since"):
            return ring.since(self._since)
        if request.first:
            return ring.oldest
        if request.follow and request.number == 0:
            return self._end
        at, found = self._end, 0
        while at > ring.oldest and not 0 < request.number <= found:
            at -= 1
            entry = ring[at]
            if request.number and not isinstance(entry, Gap) and self._matching(entry) is not None:
                found += 1
            if at % _TURN == 0:
                await asyncio.sleep(0)
        return at

    def _matching(self, entry: Entry | L7Entry) -> flow_pb2.Flow | None:
        if self._types is not None and entry.kind not in self._types:
            return None
        flow = self._flows.of(entry)
        return flow if self._passes(flow) else None

    async def _next(self, at: int) -> None:
        """Waits for entry `at`; not beyond the time at which the client is to hear of a loss."""
        if not self._missed:
            await self._ring.wait(at)
            return
        left = max(self._told_at + _LOST_INTERVAL_NS - self._now(), 0) / 1e9
        try:
            async with asyncio.timeout(left):
                await self._ring.wait(at)
        except TimeoutError:
            pass

    def _response(self, flow: flow_pb2.Flow) -> Response:
        response = Response(flow=flow, node_name=self._node_name, time=flow.time)
        if self._mask is not None:
            self._mask.apply(response.flow)
        return response

    def _miss(self, count: int) -> None:
        self._missed_since = self._missed_since or self._now()
        self._missed += count

    def _told(self, final: bool = False) -> Response | None:
        now = self._now()
        if not self._missed or not (final or now - self._told_at >= _LOST_INTERVAL_NS):
            return None
        lost = self._lost(FLOW_RING, self._missed, self._missed_since, now)
        self._missed = self._missed_since = 0
        self._told_at = now
        return lost

    def _lost(self, source: int, count: int, first: int, last: int) -> Response:
        lost = flow_pb2.LostEvent(
            source=source,  # type: ignore[arg-type]
            num_events_lost=count,
            first=timestamp(first),
            last=timestamp(last),
        )
        return Response(lost_events=lost, node_name=self._node_name, time=timestamp(last))


def timestamp(nanos: int) -> Timestamp:
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def nanoseconds(time: Timestamp) -> int:
    return time.seconds * 1_000_000_000 + time.nanos
