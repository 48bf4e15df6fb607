"""The observer's shell: takes records in, serves the Hubble API.

observer = Observer("node-1", directory, registry=registry)
await observer.serve("unix:/run/weft/observer.sock")     # returns once it listens; more addresses allowed
for record in ring.poll(): observer.feed(record)         # in the event loop's thread
observer.lost(7)                                         # records the kernel's ring had no room for
await observer.stop()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weft.bpf.layout import EventType
from weft.daemon.observer import events, l7
from weft.daemon.observer.directory import Directory, Owner
from weft.daemon.observer.flows import Flows, Node
from weft.daemon.observer.metrics import FlowMetrics
from weft.daemon.observer.store import DEFAULT_CAPACITY, KERNEL_RING, L7_PROXY, OBSERVER_QUEUE, Entry, Gap, Ring

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry

    from weft.policies.wire.pb import proxy_pb2

_CLOCKS_AGREE_NS = 1_000_000_000


class Observer:
    """One node's flows. Not thread-safe: feed, serve and stop belong to one event loop."""

    def __init__(
        self,
        node_name: str,
        directory: Directory,
        *,
        cluster_name: str = "default",
        node_labels: tuple[str, ...] = (),
        capacity: int = DEFAULT_CAPACITY,
        version: str = "",
        registry: CollectorRegistry | None = None,
        workload_of: Callable[[int], Owner | None] = lambda cgroup: None,
        clocks: Callable[[], tuple[int, int]] = lambda: (time.time_ns(), time.monotonic_ns()),
    ) -> None:
        """`workload_of` a cgroup's id: who sent what has no source address yet (the choice of a backend)."""
        self.node = Node(node_name, cluster_name, node_labels, version)
        self.directory = directory
        self.ring = Ring(capacity)
        self.flows = Flows(self.node, directory)
        self.metrics = FlowMetrics()
        if registry is not None:
            registry.register(self.metrics)
        self.seen = 0  # flows, since the start
        self.lost_by: dict[int, int] = {KERNEL_RING: 0, OBSERVER_QUEUE: 0, L7_PROXY: 0}
        self.addresses: tuple[str, ...] = ()
        self.stopping = asyncio.Event()
        self._workload_of = workload_of
        self._clocks = clocks
        self._started_ns = clocks()[1]
        self._wall_offset = self._offset_until = 0
        self._server: grpc.aio.Server | None = None

    def feed(self, record: bytes) -> None:
        """One `weft_event` of the ring buffer. Never raises: what cannot be decoded is counted as lost."""
        try:
            events.check(record)
        except events.Undecodable:
            self._gap(OBSERVER_QUEUE, 1)
            return
        record = bytes(record)  # a view of the ring is overwritten later
        directory = self.directory
        time_ns, src_identity, dst_identity, cookie = events.head(record)
        source, destination = events.addresses(record)
        who = directory.owner(source)
        if record[events.TYPE] == EventType.SOCK or not any(source):
            who, cookie = who or self._workload_of(events.cgroup(record)), 0  # there it is a service's number
        entry = Entry(
            number=self.ring.next,
            time_ns=self._wall(time_ns),
            record=record,
            source=who,
            destination=directory.owner(destination),
            policies=directory.policies(cookie) if cookie else (),
        )
        self.ring.append(entry)
        self.seen += 1
        self.metrics.count(record, src_identity, dst_identity)

    def lost(self, count: int) -> None:
        """The kernel's ring buffer had no room for `count` records since the last call."""
        if count > 0:
            self._gap(KERNEL_RING, count)

    def carried(self, record: proxy_pb2.Record) -> None:
        """A request that the L7 proxy has ended, or a TCP connection (which is no flow: programs told of it). Never
        raises: what makes no sense is counted as lost."""
        if not l7.is_http(record):
            return
        try:
            found = [*l7.entries(record, self.directory, self.ring.next, self.now())]
        except ValueError:
            self._gap(OBSERVER_QUEUE, 1)
            return
        for entry in found:
            self.ring.append(entry)
        self.seen += len(found)
        self.metrics.request(record)

    def lost_requests(self, count: int) -> None:
        """The proxy had no room for `count` records."""
        if count > 0:
            self._gap(L7_PROXY, count)

    async def serve(self, *addresses: str) -> None:
        """Listens on gRPC addresses ("unix:/run/weft/observer.sock", "127.0.0.1:4244"); returns when it does.
        A socket file left by a dead daemon is replaced. OSError: an address is taken or cannot be had."""
        from weft.daemon.observer import api

        self._server = await api.start(self, addresses)
        self.addresses = addresses

    async def stop(self, grace: float = 0.2) -> None:
        """Ends the streams, closes and removes the sockets. Followers are cut after `grace` seconds."""
        from weft.daemon.observer import api

        if self._server is None:
            return
        server, self._server = self._server, None
        self.ring.close()
        self.stopping.set()
        await server.stop(grace)
        api.remove_sockets(self.addresses)

    def status(self) -> dict[str, Any]:
        """For Query("status"): current, max and seen flows, flows per second, lost by source."""
        return {
            "current_flows": len(self.ring),
            "max_flows": self.ring.capacity,
            "seen_flows": self.seen,
            "flows_per_second": round(self.ring.rate(self.now()), 2),
            "lost": {
                "kernel_ring": self.lost_by[KERNEL_RING],
                "undecodable": self.lost_by[OBSERVER_QUEUE],
                "l7_proxy": self.lost_by[L7_PROXY],
            },
        }

    def now(self) -> int:
        return self._clocks()[0]

    def uptime_ns(self) -> int:
        return self._clocks()[1] - self._started_ns

    def _gap(self, source: int, count: int) -> None:
        self.lost_by[source] += count
        self.metrics.lost(source, count)
        self.ring.append(Gap(self.ring.next, self.now(), source, count))

    def _wall(self, monotonic_ns: int) -> int:
        """Records have CLOCK_MONOTONIC. The wall clock may be set: the difference is looked up once a second."""
        if monotonic_ns >= self._offset_until:
            wall, monotonic = self._clocks()
            self._wall_offset = wall - monotonic
            self._offset_until = monotonic + _CLOCKS_AGREE_NS
        return monotonic_ns + self._wall_offset
