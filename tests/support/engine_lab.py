"""A world for the engine: a clock that the test turns, clusters whose endpoints do as they are told, clients that
write down what they are answered. Each part keeps to the protocol of core/stream.py and complains if the engine
does not: a second head, anything after the end, an `open` that is not `done` once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from weft.l7proxy.core.exchange import Engine
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.parties import Permit, Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Failure, Headers, Peer, Request, Reset, Response
from weft.policies import l7
from weft.policies.mesh.model import (
    ConnectionPool,
    Destination,
    Dialect,
    HostRouting,
    MeshSettings,
    Origin,
    Route,
    Rule,
    TrafficPolicy,
)
from weft.policies.model import ObjectRef, Protocol
from weft.policies.snapshot import ServiceItem, ServicePortItem

HOST = "api.shop.svc.cluster.local"
CLIENT = Workload(
    "10.0.0.1", 300, "shop", "client-1", {"app": "client"}, "Deployment", "client", node="n1", local=True
)
SERVER_PORT = 8080


class Clock:
    """Monotonic time that stands still until `advance`; `schedule` is `loop.call_later`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._due: list[tuple[float, int, Callable[[], None], Scheduled]] = []
        self._number = itertools.count()

    def now(self) -> float:
        return self.time

    def schedule(self, delay: float, callback: Callable[[], None]) -> Scheduled:
        handle = Scheduled()
        heapq.heappush(self._due, (self.time + delay, next(self._number), callback, handle))
        return handle

    @property
    def scheduled(self) -> int:
        return sum(not handle.cancelled for *_, handle in self._due)

    def advance(self, seconds: float, tick: Callable[[float], None], step: float = 0.05) -> None:
        end = self.time + seconds
        while self.time < end - 1e-9:
            until = min(end, self.time + step)
            while self._due and self._due[0][0] <= until:
                when, _, callback, handle = heapq.heappop(self._due)
                self.time = max(self.time, when)
                if not handle.cancelled:
                    callback()
            self.time = until
            tick(self.time)


class Scheduled:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Client:
    """A Downstream. `status`, `headers`, `content`, `trailers` of what came; `ended`; `was_reset`."""

    def __init__(
        self, source: tuple[str, int] = ("10.0.0.1", 40000), destination: tuple[str, int] = ("10.9.0.1", 80)
    ):
        self.peer = Peer(source, destination)
        self.status = 0
        self.headers: Headers = []
        self.content = b""
        self.trailers: Headers | None = None
        self.hints: list[int] = []
        self.ended = self.paused = False
        self.was_reset: Reset | None = None
        self.answers = 0

    @property
    def over(self) -> bool:
        return self.ended or self.was_reset is not None

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    def informational(self, response: Response) -> None:
        assert not self.answers and not self.over
        self.hints.append(response.status)

    def respond(self, response: Response, end: bool) -> None:
        assert not self.answers and not self.over, "a second answer"
        self.answers += 1
        self.status, self.headers, self.ended = response.status, response.headers, end

    def send(self, data: bytes) -> None:
        assert self.answers and not self.over, "a piece of nothing"
        self.content += data

    def finish(self, trailers: Headers | None = None) -> None:
        assert self.answers and not self.over, "a second end"
        self.ended, self.trailers = True, trailers

    def reset(self, reason: Reset) -> None:
        assert not self.over
        self.was_reset = reason

    def close_after(self) -> None: ...

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class Try:
    """An Upstream: one request at one endpoint. The test plays the server through `sink`."""

    fresh = True
    local = ("10.0.0.1", 61001)

    def __init__(self, cluster: FakeCluster, endpoint: FakeEndpoint, protocol: str, sink: Any) -> None:
        self.cluster, self.endpoint, self.protocol, self.sink = cluster, endpoint, protocol, sink
        self.head: Request | None = None
        self.content = b""
        self.ended = self.paused = self.dead = self.cancelled = False
        self.trailers: Headers | None = None
        self.was_reset: Reset | None = None
        self.done: list[tuple[int, Failure | None]] = []
        self.at = 0.0

    # what the engine calls

    def request(self, request: Request, end: bool) -> None:
        assert self.head is None, "a second head"
        self.head, self.ended = request, end
        self.headers = list(request.headers)
        self._react()

    def send(self, data: bytes) -> None:
        if self.dead:
            return
        assert self.head is not None and (not self.ended or self.tunnel)
        self.content += data

    def finish(self, trailers: Headers | None = None) -> None:
        if self.dead:
            return
        assert self.head is not None and (not self.ended or self.tunnel)
        self.ended, self.trailers = True, trailers
        self._react()

    def reset(self, reason: Reset) -> None:
        if not self.dead:
            self.dead, self.was_reset = True, reason

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    tunnel = False

    def _react(self) -> None:
        if self.ended and self.cluster.server is not None and not self.dead:
            self.cluster.server(self)

    # what the test says of the server

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    def open(self) -> Try:
        self.sink.opened(self)
        return self

    def respond(self, status: int = 200, headers: Headers | None = None, body: bytes | None = b"") -> Try:
        """`body` None: it does not end yet."""
        if self.dead:
            return self
        if body == b"":
            self.dead = True
        self.tunnel = status == 101
        self.sink.response(Response(status, list(headers or ()), length=len(body or b"")), body == b"")
        if body:
            self.send_down(body)
            self.end_down()
        return self

    def send_down(self, data: bytes) -> None:
        if not self.dead:
            self.sink.response_body(data)

    def end_down(self, trailers: Headers | None = None) -> None:
        if not self.dead:
            if not self.tunnel:
                self.dead = True
            self.sink.response_end(trailers)

    def fail(self, failure: Failure, detail: str = "") -> Try:
        if not self.dead:
            self.dead = True
            self.sink.failed(failure, detail)
        return self


@dataclass(eq=False)
class FakeEndpoint:
    ip: str
    port: int = SERVER_PORT
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        return Workload(self.ip, 400, "shop", f"pod-{self.ip}", self.labels, local=True)


class FakeCluster:
    """`connects` "now": opens within `open`; "later": waits for the test; a Failure: fails so. `server`: called
    with each Try whose request is complete."""

    def __init__(self, lab: Lab, host: str, port: int, subset: str) -> None:
        self.lab, self.host, self.port, self.subset = lab, host, port, subset
        self.name = f"outbound|{port}|{subset}|{host}"
        self.policy = TrafficPolicy(connection_pool=ConnectionPool())
        self.protocol = ""
        self.endpoints = [FakeEndpoint(f"10.1.0.{number}") for number in range(1, 4)]
        self.denied = self.retired = False
        self.tries: list[Try] = []
        self.connects: Any = "now"
        self.server: Callable[[Try], object] | None = None
        self.key: tuple[int | None, bytes] = (None, b"")
        self.most_retries = 1 << 30
        self.retrying = self.active = 0
        self._next = 0

    def hash_key(self, request: Request, peer: Peer) -> tuple[int | None, bytes]:
        return self.key

    def pick(self, key: int | None, tried: Collection[Any], allowed: Callable[[Any], bool]) -> FakeEndpoint | None:
        open_to = [one for one in self.endpoints if allowed(one)]
        self.denied = bool(self.endpoints) and not open_to
        fresh = [one for one in open_to if one not in tried] or open_to
        self._next += 1
        return fresh[self._next % len(fresh)] if fresh else None

    def open(self, endpoint: Any, client: Workload, protocol: str, sink: Any) -> None:
        one = Try(self, endpoint, protocol, sink)
        one.at = self.lab.clock.time
        self.tries.append(one)
        self.active += 1
        connects = self.connects(len(self.tries)) if callable(self.connects) else self.connects
        if connects == "now":
            one.open()
        elif isinstance(connects, Failure):
            one.fail(connects)

    def cancel(self, sink: Any) -> None:
        one = next(one for one in reversed(self.tries) if one.sink is sink)
        assert one.head is None and not one.dead
        one.dead = one.cancelled = True

    def done(self, endpoint: Any, status: int, failure: Failure | None, seconds: float) -> None:
        one = next(one for one in reversed(self.tries) if one.endpoint is endpoint and not one.done)
        one.done.append((status, failure))
        self.active -= 1
        assert seconds >= 0

    def begin_retry(self) -> bool:
        if self.retrying >= self.most_retries:
            return False
        self.retrying += 1
        return True

    def end_retry(self) -> None:
        self.retrying -= 1
        assert self.retrying >= 0


class FakeWorld:
    def __init__(self) -> None:
        self.settings = MeshSettings()
        self.workloads = {CLIENT.ip: CLIENT}
        self.hosts: dict[tuple[str, int], tuple[str, int]] = {("10.9.0.1", 80): (HOST, 80)}
        self.routings: dict[str, HostRouting] = {}
        self.permits: dict[str, Permit] = {}  # by the server's address
        self.judged: list[l7.Request] = []

    @property
    def generation(self) -> object:
        """Tests change what they like: nothing is remembered from one look to the next."""
        return object()

    def workload(self, ip: str) -> Workload:
        return self.workloads.get(ip) or Workload(ip, 2)

    def addressed(self, destination: tuple[str, int], authority: bytes = b"") -> tuple[str, int]:
        return self.hosts.get(destination, ("", 0))

    def routing(self, host: str) -> HostRouting | None:
        return self.routings.get(host)

    def service(self, host: str) -> ServiceItem | None:
        name, _, rest = host.partition(".")
        return ServiceItem(
            rest.partition(".")[0],
            name,
            "ClusterIP",
            (),
            (ServicePortItem("http", Protocol.TCP, 80, 0, "http", ()),),
        )

    def service_key(self, host: str) -> str:
        return "/".join(reversed(host.split(".")[:2])) if host else ""

    def permit(self, client: Workload, server: Workload, port: int) -> Permit:
        return self.permits.get(server.ip) or Permit(True, allowed_by=("CiliumNetworkPolicy shop/all",))

    def judge(self, limits: l7.HttpLimits, request: l7.Request) -> l7.HttpAnswer:
        self.judged.append(request)
        return l7.judge(limits, request)


class FakeObserver:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.begun = self.attempts = 0

    def begin(self, request: Request, peer: Peer, client: Workload, entry: Entry) -> None:
        self.begun += 1

    def attempt(self, request: Request, entry: Entry) -> None:
        self.attempts += 1

    def over(self, entry: Entry) -> None:
        assert entry not in self.entries
        self.entries.append(entry)


class Lab:
    """`client(...)` sends a request; `cluster()` is where it goes to unless a rule says otherwise."""

    def __init__(self, *rules: Rule, limits: Limits = DEFAULTS, seed: int = 1) -> None:
        self.clock, self.world, self.observer = Clock(), FakeWorld(), FakeObserver()
        self.clusters: dict[tuple[str, int, str], FakeCluster] = {}
        self.missing: set[tuple[str, int, str]] = set()
        self.random = random.Random(seed)
        self.draws: list[float] = []  # taken before the random ones
        self.server: Callable[[Try], object] | None = None
        clock = self.clock
        self.engine = Engine(
            self.world, self, self.observer, clock.now, clock.now, clock.schedule, self.draw, limits
        )
        if rules:
            self.route(*rules)

    def route(self, *rules: Rule, host: str = HOST, **more: Any) -> None:
        ref = ObjectRef("VirtualService", "shop", "api")
        route = Route(ref, Dialect.ISTIO, (host,), rules, **more)
        self.world.routings[host] = HostRouting(host, "shop/api", (route,))

    def draw(self) -> float:
        return self.draws.pop(0) if self.draws else self.random.random()

    # parties.Clusters

    def cluster(self, host: str = HOST, port: int = 80, subset: str = "", client: Any = None) -> Any:
        key = (host, port, subset)
        if client is not None and key in self.missing:
            return None
        if key not in self.clusters:
            self.clusters[key] = FakeCluster(self, *key)
            self.clusters[key].server = lambda one: self.server(one) if self.server else None
        return self.clusters[key]

    def original(self, destination: tuple[str, int], client: Any) -> Any:
        cluster = self.cluster(destination[0], destination[1], "original")
        cluster.name, cluster.host = "PassthroughCluster", ""
        cluster.endpoints = [FakeEndpoint(*destination)]
        return cluster

    # what a test does

    def client(
        self,
        path: bytes = b"/",
        headers: Headers | None = None,
        *,
        method: bytes = b"GET",
        authority: bytes = b"api",
        end: bool = True,
        source: tuple[str, int] = ("10.0.0.1", 40000),
        destination: tuple[str, int] = ("10.9.0.1", 80),
        **more: Any,
    ) -> Asking:
        client = Client(source, destination)
        request = Request(method, path, authority, list(headers or ()), **more)
        sink = self.engine.handler(client.peer).request(request, client, end)
        return Asking(client, sink, self)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds, self.engine.tick)

    @property
    def entry(self) -> Entry:
        return self.observer.entries[-1]

    @property
    def tries(self) -> list[Try]:
        return [one for cluster in self.clusters.values() for one in cluster.tries]

    def check_quiet(self) -> None:
        """Nothing is left behind, and each open was done once."""
        assert not self.engine.active and not self.engine.mirrors
        assert not self.clock.scheduled
        for cluster in self.clusters.values():
            assert not cluster.active and not cluster.retrying
            assert all(len(one.done) == 1 for one in cluster.tries), [one.done for one in cluster.tries]


class Asking:
    """One request under way: its client and what the codec would call."""

    def __init__(self, client: Client, sink: Any, lab: Lab) -> None:
        self.client, self.sink, self.lab = client, sink, lab

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def body(self, data: bytes) -> Asking:
        self.sink.body(data)
        return self

    def end(self, trailers: Headers | None = None) -> Asking:
        self.sink.end(trailers)
        return self


def rule(*to: str | Destination, **fields: Any) -> Rule:
    """A rule to hosts (`host` or `host/subset`)."""
    destinations = tuple(one if isinstance(one, Destination) else destination(one) for one in to)
    return Rule(Origin("VirtualService", "shop", "api", "spec.http[0]"), destinations=destinations, **fields)


def destination(name: str, weight: int = 1, **fields: Any) -> Destination:
    host, _, subset = name.partition("/")
    return Destination(host, 80, subset, weight, **fields)
