"""What one request costs the L7 proxy's own code: no sockets, no neighbours, microseconds of CPU.

    python -m tests.bench.relay [http1 | unlike | http2 | grpc | record ...]

Everything of a worker but its event loop: codecs, engine, world, clusters, pools, observer, ring. Transports are
lists; what stands at both ends knows its bytes by heart, so that nearly all of the time is the proxy's. The figure
is the best of many short rounds (`time.process_time`), each of which runs as the loop does: all clients ask, then
all servers answer. System calls and the loop come on top: `python -m tests.bench proxy` has the whole.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

from tests.bench import report
from tests.bench.proxy import HEADERS, SMALL, routing

from weft.l7proxy.core import http1, http2
from weft.l7proxy.core.clusters import ClusterMap
from weft.l7proxy.core.exchange import Engine
from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.encoder import Encoder
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Peer
from weft.l7proxy.observe.observer import MeshObserver, told
from weft.l7proxy.reports import Ring
from weft.l7proxy.world import SnapshotWorld
from weft.policies import delta
from weft.policies.labels import NAMESPACE_KEY, Label, Labels
from weft.policies.model import Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
    IdentityItem,
    NodeItem,
    ServiceItem,
    ServicePortItem,
)

NODE = "node-1"
CLIENT = "127.1.0.9"
SERVICE = ("10.96.0.1", 80)
ROUND = 640  # requests; some 20 ms
ROUNDS = 60
FIELDS = [(name.encode(), value.strip().encode()) for name, _, value in (each.partition(":") for each in HEADERS)]
ANSWER = [
    (b"server", b"nginx/1.22.1"),
    (b"date", b"Fri, 20 Nov 2026 23:30:00 GMT"),
    (b"content-type", b"text/plain"),
    (b"content-length", b"%d" % SMALL),
]
BODY = b"x" * SMALL
MESSAGE = b"\x00\x00\x00\x00\x2d" + b"m" * 45


class Pipe:
    """A transport: what is written stays in `out` until somebody takes it."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.write = self.out.append

    def take(self) -> bytes:
        data = b"".join(self.out)
        self.out.clear()
        return data

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return (CLIENT, 61000)

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Connector:
    """Connects at once, when it is asked to."""

    def __init__(self) -> None:
        self.made: list[tuple[Pipe, Any]] = []
        self._asked: list[Callable[[Any], Any]] = []

    def connect(self, source: str, address: Any, timeout: float, opened: Any, failed: Any, *more: Any) -> Connector:
        self._asked.append(opened)
        return self

    def cancel(self) -> None: ...

    def open(self) -> None:
        asked, self._asked = self._asked, []
        for opened in asked:
            pipe = Pipe()
            self.made.append((pipe, opened(pipe)))


class Proxy:
    """A worker without a loop."""

    def __init__(self, port_name: str) -> None:
        self.world = SnapshotWorld()
        self.world.place(NODE, ())
        cluster = delta.between(ClusterPart(), _cluster(port_name))
        self.world.update(delta.Update(1, "epoch", True, cluster, delta.NodeDelta()))
        self.connector = Connector()
        self.ring = Ring(told)
        draws = Random(1)
        observer = MeshObserver(draws.random, lambda file, text: None, self.ring.add)
        self.clusters = ClusterMap(self.world, self.connector, time.monotonic, draws.random, resolve=_nobody)
        self.engine = Engine(
            self.world, self.clusters, observer, time.monotonic, time.time, _never, draws.random
        )  # fmt: skip
        self.observer = observer

    def server(self, make: Any, number: int) -> tuple[Pipe, Any]:
        pipe, peer = Pipe(), Peer((CLIENT, 40000 + number), SERVICE, number)
        return pipe, make(pipe, self.engine.handler(peer), peer, DEFAULTS, time.monotonic)


async def _nobody(host: str) -> list[str]:
    return []


def _never(delay: float, action: Callable[[], None]) -> Any:
    raise AssertionError("no timer stands in the way of an ordinary request")


def _cluster(port_name: str) -> ClusterPart:
    """A client and two versions of one service on this node, with the routes that the other bench gives Envoy."""
    host = "orders.default.svc.cluster.local"
    pods = {CLIENT: ("web", 300, ""), "127.1.0.1": ("v1", 301, "v1"), "127.1.0.2": ("v2", 302, "v2")}
    identities, addresses = {}, {}
    for ip, (name, number, version) in pods.items():
        own = [Label("k8s", "app", name), Label("k8s", NAMESPACE_KEY, "default")]
        labels = Labels((*own, Label("k8s", "version", version)) if version else own)
        identities[number] = IdentityItem(number, labels)
        addresses[ip] = AddressItem(ip, number, NODE, f"default/{name}", (), "Deployment", name)
    backends = tuple(BackendItem(ip, 8080, NODE, f"default/{pods[ip][0]}") for ip in pods if pods[ip][2])
    port = ServicePortItem(port_name, Protocol.TCP, SERVICE[1], 0, "", backends)
    service = ServiceItem("default", "orders", "ClusterIP", (SERVICE[0],), (port,))
    nodes = {NODE: NodeItem(NODE, ("172.30.0.1",), (), "")}
    return ClusterPart(
        identities, addresses, nodes, {"default/orders": service}, {}, {host: routing(host)}, {}, {}
    )  # fmt: skip


# HTTP/1.1


class Http1:
    """So many clients, a request of each in turn. `unlike`: no two heads are the same, of requests or answers."""

    def __init__(self, connections: int = 32, unlike: bool = False) -> None:
        self.proxy = Proxy("http")
        self._unlike, self._number = unlike, 0
        head = b"".join(b"%b: %b\r\n" % field for field in FIELDS)
        self._request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:18080\r\n%b\r\n" % head
        head = b"".join(b"%b: %b\r\n" % field for field in ANSWER)
        self._response = b"HTTP/1.1 200 OK\r\n%bConnection: keep-alive\r\n\r\n%b" % (head, BODY)
        self._clients = [self.proxy.server(http1.Server, number) for number in range(connections)]

    def turn(self) -> int:
        for _, server in self._clients:
            server.receive(self._another(self._request) if self._unlike else self._request)
        self.proxy.connector.open()
        for pipe, connection in self.proxy.connector.made:
            if pipe.out:
                pipe.out.clear()
                connection.data_received(self._another(self._response) if self._unlike else self._response)
        answered = 0
        for pipe, _ in self._clients:
            answered += len(pipe.out)
            pipe.out.clear()
        return answered

    def _another(self, message: bytes) -> bytes:
        self._number += 1
        return message.replace(b"\r\n", b"\r\nx-number: %d\r\n" % self._number, 1)


# HTTP/2


class Peer2:
    """One end of an HTTP/2 connection that says the same again and again."""

    def __init__(
        self, fields: list[tuple[bytes, bytes]], trailers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        self.encoder = Encoder()
        self._fields, self._trailers = fields, trailers
        self.hello = frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 20)])
        self.hello += frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)

    def say(self, stream: int, body: bytes) -> bytes:
        last = self._trailers is None
        said = frames.headers(stream, self.encoder.encode(self._fields), not body and last, frames.FRAME)
        if body:
            said += frames.pack(0, len(body), frames.DATA, 1 if last else 0, stream) + body
        if self._trailers is not None:
            said += frames.headers(stream, self.encoder.encode(self._trailers), True, frames.FRAME)
        return said


def ended(data: bytes) -> list[int]:
    """Streams whose other side has said all."""
    found, at = [], len(frames.PREFACE) if data.startswith(frames.PREFACE) else 0
    while at < len(data):
        _, size, kind, flags, stream = frames.unpack_head(data, at)
        if kind < 2 and flags & 1:
            found.append(stream)
        at += 9 + size
    return found


class Http2:
    """`grpc`: a message each way, and trailers."""

    def __init__(self, connections: int = 16, streams: int = 10, grpc: bool = False) -> None:
        self.proxy = Proxy("grpc" if grpc else "http2")
        self._streams, self._next = streams, 1
        path, method = (b"/shop.Orders/Get", b"POST") if grpc else (b"/small", b"GET")
        pseudo = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"orders")]
        extra = [(b"content-type", b"application/grpc"), (b"te", b"trailers")] if grpc else []
        self._sent, self._answered = (MESSAGE, MESSAGE) if grpc else (b"", BODY)
        answer = [(b"content-type", b"application/grpc")] if grpc else ANSWER
        self._answer = [(b":status", b"200"), *answer]
        self._trailers = [(b"grpc-status", b"0")] if grpc else None
        self._clients = []
        for number in range(connections):
            pipe, server = self.proxy.server(http2.Server, number)
            client = Peer2([*pseudo, *FIELDS, *extra])
            server.receive(frames.PREFACE + client.hello + frames.SETTINGS_ACK)
            self._clients.append((pipe, server, client))
        self._servers: dict[Any, Peer2] = {}

    def turn(self) -> int:
        first, self._next = self._next, self._next + 2 * self._streams
        for _, server, client in self._clients:
            server.receive(b"".join([client.say(id, self._sent) for id in range(first, self._next, 2)]))
        self.proxy.connector.open()
        for pipe, connection in self.proxy.connector.made:
            peer = self._servers.get(connection)
            if peer is None:
                peer = self._servers[connection] = Peer2(self._answer, self._trailers)
                connection.data_received(peer.hello + frames.SETTINGS_ACK)
            if pipe.out:
                connection.data_received(b"".join([peer.say(id, self._answered) for id in ended(pipe.take())]))
        return sum(len(ended(pipe.take())) for pipe, _, _ in self._clients)


class Ends(Http2):
    """The ends alone: what of `Http2`'s time is not the proxy's."""

    def turn(self) -> int:
        if not self._servers:
            Http2.turn(self)
        peer = next(iter(self._servers.values()))
        first, self._next = self._next, self._next + 2 * self._streams
        done = 0
        for _, _, client in self._clients:
            asked = b"".join([client.say(id, self._sent) for id in range(first, self._next, 2)])
            answered = b"".join([peer.say(id, self._answered) for id in ended(asked)])
            done += len(ended(answered))
        return done


# measuring


def microseconds(turn: Callable[[], int], rounds: int = ROUNDS) -> float:
    """Of a request, the best of all rounds."""
    for _ in range(20):  # connections are made, tables are filled
        turn()
    gc.collect()
    gc.freeze()
    best = float("inf")
    for _ in range(rounds):
        done, start = 0, time.process_time()
        while done < ROUND:
            answered = turn()
            if not answered:
                raise RuntimeError("nothing gets through")
            done += answered
        best = min(best, (time.process_time() - start) / done)
    return best * 1e6


def measured(name: str) -> float:
    if name == "http1":
        return microseconds(Http1().turn)
    if name == "unlike":
        return microseconds(Http1(unlike=True).turn)
    if name in ("http2", "grpc"):
        of = {"grpc": name == "grpc"}
        return microseconds(Http2(**of).turn) - microseconds(Ends(**of).turn)
    return record_cost()


def record_cost() -> float:
    relay = Http1()
    kept: list[Any] = []
    relay.proxy.observer._tell = kept.append
    while len(kept) < 500:
        relay.turn()

    def turn() -> int:
        relay.proxy.ring.take()
        for item in kept:
            relay.proxy.ring.add(item)
        while relay.proxy.ring.take() is not None:
            pass
        return len(kept)

    return microseconds(turn)


NAMES = {
    "http1": "HTTP/1.1, 32 connections",
    "unlike": "HTTP/1.1, no head twice",
    "http2": "HTTP/2, 16 x 10",
    "grpc": "gRPC, 16 x 10",
    "record": "a record for the feed",
}


def bench(told: report.Report, rounds: int, patience: float) -> None:
    rows = [(NAMES[name], f"{measured(name):.1f}") for name in NAMES]
    text = (__doc__ or "").rpartition("\n\n")[2].replace("\n", " ").strip()
    told.add(report.Section("The L7 proxy's own code", text, ("load", "us"), rows))


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        print(f"{NAMES[name]:28} {measured(name):6.1f} us")
