"""Requests as they happen, for those who look on (`weft tap`, `weft top`).

Each looker has a bounded queue and a rate; what does not fit is counted and told with what comes next. While nobody
looks the workers do not send starts of requests, and this costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from weft.daemon.observer.directory import Directory, Owner
from weft.daemon.observer.l7 import packed
from weft.policies.wire.pb import node_pb2, proxy_pb2

#: Records that wait for one looker.
QUEUE: Final = 1024
DEFAULT_RATE: Final = 100
#: Seconds after which a loss is told by itself.
QUIET: Final = 0.5
#: Lookers at once; each is a queue and a filter on every record.
MOST: Final = 32


class Looker:
    """One `Tap` call."""

    def __init__(self, request: node_pb2.TapRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self._request, self._clock = request, clock
        self._queue: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._rate = request.max_rate or DEFAULT_RATE
        self._second, self._in_second = 0, 0
        self._taken: set[int] = set()  # requests whose start was told: their end is, too
        self.lost = 0

    def offer(self, record: proxy_pb2.Record, source: Owner | None, destination: Owner | None) -> None:
        if not self._wants(record, source, destination) or not self._room(record):
            return
        if len(self._queue) >= QUEUE:
            self.missed(1)
            return
        self._queue.append(json.dumps(as_json(record, source, destination), separators=(",", ":")).encode())
        self._news.set()

    async def replies(self) -> AsyncIterator[node_pb2.TapReply]:
        while True:
            while self._queue:
                lost, self.lost = self.lost, 0
                yield node_pb2.TapReply(json=self._queue.popleft(), lost=lost)
            self._news.clear()
            try:
                async with asyncio.timeout(QUIET if self.lost else None):
                    await self._news.wait()
            except TimeoutError:  # nothing follows that could tell it
                lost, self.lost = self.lost, 0
                yield node_pb2.TapReply(lost=lost)

    def missed(self, count: int) -> None:
        """Of records that the daemon never had nobody knows whether they were wanted."""
        if count and not self.lost:
            self._news.set()  # for the first; it is told with what comes, or after `QUIET`
        self.lost += count

    def _wants(self, record: proxy_pb2.Record, source: Owner | None, destination: Owner | None) -> bool:
        wanted = self._request
        services = (record.service, record.destination_service)
        return (
            (not wanted.method or wanted.method == record.method)
            and (not wanted.authority or wanted.authority == record.authority)
            and record.path.startswith(wanted.path)
            and (not wanted.source or _is(wanted.source, source, ()))
            and (not wanted.destination or _is(wanted.destination, destination, services))
        )

    def _room(self, record: proxy_pb2.Record) -> bool:
        """By requests, not by records: one whose start was told is told to its end."""
        if not record.start and record.id in self._taken:
            self._taken.discard(record.id)
            return True
        second = int(self._clock())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > self._rate:
            self.missed(not record.start)  # a request is lost once, by its end
            return False
        if record.start and len(self._taken) < QUEUE * 4:
            self._taken.add(record.id)
        return True


class Taps:
    """All who look on. `switch(1)`, `switch(-1)`: one more, one less."""

    def __init__(self, directory: Directory, switch: Callable[[int], None]) -> None:
        self._directory, self._switch = directory, switch
        self._lookers: list[Looker] = []

    def full(self) -> bool:
        return len(self._lookers) >= MOST

    async def look(self, request: node_pb2.TapRequest) -> AsyncIterator[node_pb2.TapReply]:
        """Until the caller has seen enough."""
        looker = Looker(request)
        self._lookers.append(looker)
        self._switch(1)
        try:
            async for reply in looker.replies():
                yield reply
        finally:
            self._lookers.remove(looker)
            self._switch(-1)

    def carried(self, record: proxy_pb2.Record) -> None:
        if not self._lookers:
            return
        source, destination = self._owner(record.source_ip), self._owner(record.upstream_ip)
        for looker in self._lookers:
            looker.offer(record, source, destination)

    def missed(self, count: int) -> None:
        for looker in self._lookers if count else ():
            looker.missed(count)

    def _owner(self, ip: str) -> Owner | None:
        try:
            return self._directory.owner(packed(ip)) if ip else None
        except ValueError:
            return None


def as_json(record: proxy_pb2.Record, source: Owner | None, destination: Owner | None) -> dict[str, Any]:
    """By the record's field names; numbers of 64 bits as numbers; what is unset is left out."""
    found = MessageToDict(record, preserving_proto_field_name=True)
    for name in ("time_ns", "duration_ns", "request_bytes", "response_bytes", "id", "latency_ns"):
        if name in found:
            found[name] = int(found[name])
    found["source"], found["destination"] = _owner_json(source), _owner_json(destination)
    return found


def _owner_json(owner: Owner | None) -> dict[str, str]:
    if owner is None or not owner.pod:
        return {}
    return {
        "namespace": owner.namespace,
        "pod": owner.pod,
        "workload": owner.workload_name or owner.pod,
        "kind": owner.workload_kind or "Pod",
    }


def _is(wanted: str, owner: Owner | None, services: tuple[str, ...]) -> bool:
    """ "ns/": anybody of it; "ns/name": the pod, its workload, or a service."""
    namespace, _, name = wanted.partition("/")
    if owner is not None and owner.namespace == namespace and name in ("", owner.pod, owner.workload_name):
        return True
    return any(each == wanted or (not name and each.startswith(wanted)) for each in services)
