"""Destinations without a network: a world of services, a clock, a connector and codecs that do what they are told.

Everything here is a real implementation of its interface, only smaller: the connector opens when it is told to, the
codec has one stream (http1) or as many as it is told (http2), the server's words are methods.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from weft.l7proxy.core.clusters import ClusterMap
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.stream import Failure, Peer, Request, Reset
from weft.policies.mesh.model import (
    ConnectionPool,
    DestinationPolicy,
    HostRouting,
    LeveledPolicy,
    LoadBalancer,
    Outlier,
    Subset,
    TrafficPolicy,
)
from weft.policies.model import ObjectRef, Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

HOST = "orders.shop.svc.cluster.local"
REF = ObjectRef("DestinationRule", "shop", "orders")


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class World:
    """`lookups`: how often a host's service or routing was asked for."""

    services: dict[str, ServiceItem] = field(default_factory=dict)
    routings: dict[str, HostRouting] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    lookups: int = 0

    def workload(self, ip: str) -> Workload:
        if ip not in self.workloads:
            self.workloads[ip] = Workload(ip, 2)
        return self.workloads[ip]

    def service(self, host: str) -> ServiceItem | None:
        self.lookups += 1
        return self.services.get(host)

    def routing(self, host: str) -> HostRouting | None:
        self.lookups += 1
        return self.routings.get(host)


def pod(ip: str, name: str, namespace: str = "shop", locality: str = "", node: str = "", **labels: str) -> Workload:
    return Workload(ip, 300, namespace, name, labels, "Deployment", name, "", node, True, locality)


class Transport:
    """What a codec and a pool ask of one."""

    def __init__(self) -> None:
        self.closed = self.aborted = False
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.9.9.9", 61000) if name == "sockname" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def write(self, data: bytes) -> None: ...
    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def end(self) -> None:
        """The connection is gone."""
        self.protocol.connection_lost(None)


class Stream:
    """An `Upstream`."""

    def __init__(self, codec: Codec, sink: Any, fresh: bool) -> None:
        self.codec, self.sink, self.fresh = codec, sink, fresh
        self.local = codec.local

    def request(self, request: Request, end: bool) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self, trailers: object = None) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def reset(self, reason: Reset) -> None:
        self.end()

    def end(self) -> None:
        """Answered, or given up."""
        self.codec.streams.remove(self)
        self.codec.tell()


class Codec:
    streams_at_once = 1

    def __init__(self, transport: Transport, limits: object, now: Callable[[], float]) -> None:
        self.transport, self.on_change = transport, None
        self.streams: list[Stream] = []
        self.carried = 0
        self.closing = False
        self.local = ("", 0)
        self.room = self.streams_at_once

    def open(self, sink: Any) -> Stream:
        assert self.available > 0, "opened beyond what is available"
        stream = Stream(self, sink, self.carried == 0)
        self.carried += 1
        self.streams.append(stream)
        return stream

    @property
    def available(self) -> int:
        return 0 if self.closing else max(0, self.room - len(self.streams))

    @property
    def active(self) -> int:
        return len(self.streams)

    def tell(self) -> None:
        if self.closing and not self.streams:
            self.transport.close()
        if self.on_change is not None:
            self.on_change()

    def go_away(self) -> None:
        self.closing = True
        self.tell()

    def close(self) -> None:
        if not self.closing:
            self.go_away()

    def receive(self, data: bytes) -> None:
        """Nothing was asked: nobody may answer."""
        if not self.streams:
            self.go_away()

    def eof(self) -> None:
        self.go_away()

    def lost(self, failure: Failure) -> None:
        self.closing = True
        streams, self.streams = self.streams, []
        for stream in streams:
            stream.sink.failed(failure, "")

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Codec2(Codec):
    streams_at_once = 100


class Sink:
    """A try: what happened to it."""

    def __init__(self) -> None:
        self.upstream: Stream | None = None
        self.failures: list[tuple[Failure, str]] = []

    def opened(self, upstream: Stream) -> None:
        assert self.upstream is None, "opened twice"
        self.upstream = upstream

    def failed(self, failure: Failure, detail: str) -> None:
        self.failures.append((failure, detail))

    @property
    def failure(self) -> Failure | None:
        return self.failures[0][0] if self.failures else None


class Dial:
    def __init__(self, source: str, address: tuple[str, int], timeout: float, opened: Any, failed: Any) -> None:
        self.source, self.address, self.timeout = source, address, timeout
        self._opened, self._failed = opened, failed
        self.cancelled = False
        self.transport: Transport | None = None

    def cancel(self) -> None:
        self.cancelled = True

    def open(self) -> Transport:
        assert not self.cancelled
        self.transport = Transport()
        self.transport.protocol = self._opened(self.transport)
        self.transport.protocol.connection_made(self.transport)
        return self.transport

    def fail(self, failure: Failure = Failure.CONNECT) -> None:
        assert not self.cancelled
        self._failed(failure, "Connection refused")


class Connector:
    """`dials`: all there were. `waiting`: those that have not been opened or failed yet, in order."""

    def __init__(self) -> None:
        self.dials: list[Dial] = []
        self.waiting: list[Dial] = []

    def connect(
        self,
        source_ip: str,
        address: tuple[str, int],
        timeout: float,
        opened: Any,
        failed: Any,
        keepalive: Any = None,
    ) -> Dial:
        dial = Dial(source_ip, address, timeout, opened, failed)
        self.dials.append(dial)
        self.waiting.append(dial)
        return dial

    def open_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for dial in waiting:
            if not dial.cancelled:
                dial.open()

    def next(self) -> Dial:
        return self.waiting.pop(0)


class Lab:
    """One proxy's destinations. `client`: a pod of the workload `web`."""

    def __init__(self, seed: int = 1, **options: Any) -> None:
        self.world, self.now, self.connector = World(), Clock(), Connector()
        self.random = random.Random(seed)
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.map = ClusterMap(
            self.world,  # type: ignore[arg-type]
            self.connector,
            self.now,
            self.random.random,
            resolve=self.resolve,
            codecs={"http1": Codec, "http2": Codec2},  # type: ignore[dict-item]
            **options,
        )
        self.client = self.add(pod("10.0.0.1", "web"))

    async def resolve(self, host: str) -> list[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        if host not in self.answers:
            raise OSError(f"{host}: no such name")
        return self.answers[host]

    def add(self, workload: Workload) -> Workload:
        self.world.workloads[workload.ip] = workload
        return workload

    def serve(
        self, *ips: str | BackendItem, host: str = HOST, port: int = 80, name: str = "http", prefer: str = ""
    ) -> None:
        """The host has these backends from now on."""
        items = [ip if isinstance(ip, BackendItem) else BackendItem(ip, 8080) for ip in ips]
        namespace = host.split(".")[1]
        ports = (ServicePortItem(name, Protocol.TCP, port, 0, "", tuple(items)),)
        service = ServiceItem(namespace, host.split(".")[0], "ClusterIP", ("10.96.0.1",), ports, prefer=prefer)
        self.world.services[host] = service
        self.map.changed([host])

    def declare(self, *policies: DestinationPolicy, host: str = HOST) -> None:
        self.world.routings[host] = HostRouting(host, "shop/orders", policies=policies)
        self.map.changed([host])

    def policy(
        self,
        balancer: LoadBalancer | None = None,
        pool: ConnectionPool | None = None,
        outlier: Outlier | None = None,
        subsets: tuple[Subset, ...] = (),
    ) -> None:
        level = LeveledPolicy(TrafficPolicy(balancer, pool, outlier))
        self.declare(DestinationPolicy(REF, HOST, level, subsets))

    def cluster(self, subset: str = "", client: Workload | None = None, host: str = HOST, port: int = 80) -> Any:
        return self.map.cluster(host, port, subset, client or self.client)

    def pick(self, key: int | None = None, **of: Any) -> Any:
        return self.cluster(**of).pick(key, (), anybody)

    def open(self, cluster: Any = None, endpoint: Any = None, protocol: str = "http1") -> tuple[Sink, Any]:
        """One try, of the cluster's own choice, where none is said."""
        cluster = cluster or self.cluster()
        endpoint = endpoint or cluster.pick(None, (), anybody)
        sink = Sink()
        cluster.open(endpoint, self.client, protocol, sink)
        return sink, endpoint

    def call(self, status: int = 200, endpoint: Any = None, failure: Failure | None = None) -> Any:
        """One whole request; the endpoint it went to."""
        cluster = self.cluster()
        sink, endpoint = self.open(cluster, endpoint)
        self.connector.open_all()
        if sink.upstream is not None:
            sink.upstream.end()
        cluster.done(endpoint, status, failure, 0.01)
        return endpoint

    def after(self, seconds: float, step: float = 0.1) -> None:
        """Time passes, with the ticks in it."""
        until = self.now.time + seconds
        while self.now.time < until - 1e-9:
            self.now.time = min(until, self.now.time + step)
            self.map.tick(self.now.time)


def anybody(endpoint: object) -> bool:
    return True


def peer(source: str = "10.0.0.1", destination: tuple[str, int] = ("10.96.0.1", 80)) -> Peer:
    return Peer((source, 40000), destination, 7)


def request(path: bytes = b"/", headers: Iterable[tuple[bytes, bytes]] = ()) -> Request:
    return Request(b"GET", path, b"orders", list(headers))
