"""A real worker of the L7 proxy, without root: fed by hand, between clients and servers on loopback addresses.

    with ProxyLab(tmp_path) as lab:
        v1 = lab.server("orders-v1", app="orders", version="v1")     # a pod, and an HTTP server at its address
        web = lab.pod("web", app="web")                              # a pod without one: a client
        lab.service("orders", v1, port_name="http")                  # 10.96.0.x port 80; the proxy listens for it
        lab.routing(HostRouting(lab.host("orders"), "default/orders", routes=(...,)))
        lab.start()                                                  # returns when the worker is ready
        reply = lab.get(web, "orders", "/x", {"x-canary": "true"})   # as the pod: from its address
        assert reply.status == 200 and reply.json["server"] == "orders-v1"

Pods have addresses in 127.1.0.0/16, so anybody may bind them; the worker runs with `--plain`, which leaves out
marks and foreign addresses: each service has a listener of its own, and what it accepts counts as addressed to the
service. `lab.change()` after `start` sends what was declared since; `lab.ask` asks; `lab.daemon` has `records`,
`count(family, ...)`, `refusals`. `lab.process` is the worker. For tests of codecs and engine, and benches:
`lab.listeners[name]` is where to connect to, from the address of a pod; `server(..., port=..., serve=False)` lets
you run your own there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.policies import delta
from weft.policies.labels import NAMESPACE_KEY, SERVICE_ACCOUNT_KEY, Label, Labels
from weft.policies.mesh.model import HostRouting, MeshSettings, Telemetry
from weft.policies.model import Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
    IdentityItem,
    NodeItem,
    NodePart,
    PolicyItem,
    ServiceItem,
    ServicePortItem,
    Snapshot,
)
from weft.policies.wire import convert
from weft.policies.wire.pb import proxy_pb2 as pb

SRC = Path(__file__).parents[2] / ".src"
NODE = "node-1"
WAIT = 15.0


@dataclass(frozen=True)
class Pod:
    name: str
    ip: str
    identity: int
    labels: tuple[tuple[str, str], ...]
    port: int = 0
    node: str = NODE
    namespace: str = "default"


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


@dataclass
class _Declared:
    """The snapshot that the worker shall have."""

    pods: dict[str, Pod] = field(default_factory=dict)
    services: dict[str, ServiceItem] = field(default_factory=dict)
    routing: dict[str, HostRouting] = field(default_factory=dict)
    policies: dict[Any, PolicyItem] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    settings: dict[str, MeshSettings] = field(default_factory=dict)

    def snapshot(self, revision: int) -> Snapshot:
        identities = {pod.identity: IdentityItem(pod.identity, _labels(pod)) for pod in self.pods.values()}
        addresses = {
            p.ip: AddressItem(p.ip, p.identity, p.node, f"{p.namespace}/{p.name}", (), "Deployment", p.name)
            for p in self.pods.values()
        }
        nodes = {
            NODE: NodeItem(NODE, ("172.30.0.1",), (), "region/zone-1/"),
            "node-2": NodeItem("node-2", ("172.30.0.2",), (), "region/zone-2/"),
        }
        part = ClusterPart(
            identities,
            addresses,
            nodes,
            dict(self.services),
            dict(self.policies),
            dict(self.routing),
            dict(self.telemetry),
            dict(self.settings),
        )
        return Snapshot(revision, NODE, part, NodePart())


def _labels(pod: Pod) -> Labels:
    own = [Label("k8s", key, value) for key, value in pod.labels]
    derived = [Label("k8s", NAMESPACE_KEY, pod.namespace), Label("k8s", SERVICE_ACCOUNT_KEY, "default")]
    return Labels((*own, *derived))


class ProxyLab:
    def __init__(self, directory: Path, *, arguments: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.listeners: dict[str, tuple[str, int]] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.daemon = FakeDaemon(directory / "proxy.sock")
        self._arguments = arguments
        self._declared = _Declared()
        self._plain: list[str] = []
        self._servers: list[HttpServer] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._generation = 0

    # what there is

    def pod(self, name: str, *, port: int = 0, node: str = NODE, namespace: str = "default", **labels: str) -> Pod:
        """Pods with equal labels share an identity, as in a cluster."""
        number = len(self._declared.pods) + 1
        pairs = tuple(sorted(labels.items()))
        alike = (p.identity for p in self._declared.pods.values() if (p.labels, p.namespace) == (pairs, namespace))
        ip = f"127.1.{number >> 8}.{number & 255}"
        pod = Pod(name, ip, next(alike, 256 + number), pairs, port, node, namespace)
        self._declared.pods[name] = pod
        return pod

    def server(
        self, name: str, *, port: int = 0, serve: Callable[..., Any] | bool = True, node: str = NODE, **labels: str
    ) -> Pod:
        """A pod with a server behind it: the HTTP server of this file, or `serve(connected socket)`, a thread for
        each connection; False: yours, at `pod.ip` and `port`."""
        pod = self.pod(name, port=port, node=node, **labels)
        if serve is False:
            return pod
        server = HttpServer(name, pod.ip, port, None if serve is True else serve)
        self._servers.append(server)
        pod = Pod(pod.name, pod.ip, pod.identity, pod.labels, server.port, pod.node)
        self._declared.pods[name] = pod
        return pod

    def service(self, name: str, *pods: Pod, port: int = 80, port_name: str = "http", app: str = "") -> str:
        """Returns its address. Every call for the same name replaces the service."""
        backends = tuple(BackendItem(p.ip, p.port, p.node, f"{p.namespace}/{p.name}") for p in pods)
        known = self._declared.services.get(f"default/{name}")
        ip = known.cluster_ips[0] if known else f"10.96.0.{len(self._declared.services) + 1}"
        item = ServicePortItem(port_name, Protocol.TCP, port, 0, app, backends)
        self._declared.services[f"default/{name}"] = ServiceItem("default", name, "ClusterIP", (ip,), (item,))
        if name not in self.listeners:
            self.listen(name, (ip, port))
        return ip

    def listen(self, name: str, destination: tuple[str, int]) -> None:
        """Another address that clients may ask for, say a pod's. Before `start`."""
        self.listeners[name] = ("127.0.0.1", _free_port())
        listen, port = self.listeners[name]
        self._plain.append(f"{listen}:{port}={destination[0]}:{destination[1]}")

    def routing(self, *items: HostRouting) -> None:
        self._declared.routing.update({item.host: item for item in items})

    def policy(self, *items: PolicyItem) -> None:
        self._declared.policies.update({item.ref: item for item in items})

    def settings(self, settings: MeshSettings, **telemetry: Telemetry) -> None:
        self._declared.settings["mesh"] = settings
        self._declared.telemetry.update({str(item.ref): item for item in telemetry.values()})

    def remove(self, *pods: Pod) -> None:
        for pod in pods:
            self._declared.pods.pop(pod.name, None)

    @property
    def pods(self) -> dict[str, Pod]:
        return self._declared.pods

    @staticmethod
    def host(service: str) -> str:
        return f"{service}.default.svc.cluster.local"

    # running it

    def __enter__(self) -> ProxyLab:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.daemon.close()
        for server in self._servers:
            server.close()

    def start(self, *, takeover: bool = False) -> None:
        """The worker, or with `takeover` its successor; `process` is the newer one. Returns when it is ready."""
        self.daemon.snapshot(self._declared.snapshot(self.daemon.revision + 1))
        self._generation += 1
        words = ["--daemon", str(self.daemon.path), "--run-dir", str(self.directory)]
        words += ["--generation", str(self._generation), *(["--takeover"] if takeover else []), *self._arguments]
        for each in self._plain:
            words += ["--plain", each]
        environment = {**os.environ, "PYTHONPATH": str(SRC)}
        command = [sys.executable, "-m", "weft.l7proxy.main", *words]
        self.process = subprocess.Popen(command, env=environment)
        self._processes.append(self.process)
        wait_for(lambda: self.daemon.ready(self._generation) or self._died(), "the worker is not ready")

    def change(self) -> None:
        """Sends what was declared since as a difference, and waits until it is acknowledged."""
        revision = self.daemon.snapshot(self._declared.snapshot(self.daemon.revision + 1))
        wait_for(lambda: self.daemon.acked >= revision or self._died(), f"revision {revision} is not acknowledged")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT)

    def ask(self, what: str, arg: str = "") -> Any:
        return self.daemon.ask(what, arg)

    def _died(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}")
        return False

    # speaking to it

    def connect(self, pod: Pod, name: str) -> socket.socket:
        """A connection of the pod's to the listener of a service."""
        sock = socket.socket()
        sock.settimeout(WAIT)
        sock.bind((pod.ip, 0))
        sock.connect(self.listeners[name])
        return sock

    def get(
        self, pod: Pod, name: str, path: str = "/", headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        with self.connect(pod, name) as sock:
            return exchange(sock, path, {"host": name, **(headers or {})}, **more)


def exchange(
    sock: socket.socket,
    path: str = "/",
    headers: dict[str, str] | None = None,
    method: str = "GET",
    body: bytes = b"",
) -> Reply:
    """One HTTP/1.1 request on a connection that stays open."""
    fields = dict(headers or {})
    if body:
        fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    sock.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return read_reply(sock, method == "HEAD")


def read_reply(sock: socket.socket, bodyless: bool = False) -> Reply:
    head, _, rest = _read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
    reply = Reply(int(first.split()[1]), headers, rest)
    if reply.header("transfer-encoding") == "chunked":
        reply.body = _unchunked(sock, rest)
    elif not bodyless:
        length = reply.header("content-length")
        while len(reply.body) < int(length or 0):
            reply.body += _some(sock)
    return reply


def _unchunked(sock: socket.socket, data: bytes) -> bytes:
    while not data.endswith(b"0\r\n\r\n"):
        data += _some(sock)
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


def _read_until(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        data += _some(sock)
    return data


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data


class HttpServer:
    """Answers every request with what it saw of it, as JSON; `/status/NNN` with that status, `/close` not at all,
    `/slow/SECONDS` later. Or each connection is `serve`'s."""

    def __init__(self, name: str, ip: str, port: int = 0, serve: Callable[..., Any] | None = None) -> None:
        self.name, self.requests, self.connections = name, 0, 0
        self._serve = serve or self._http
        self._sock = socket.create_server((ip, port), backlog=128)
        self.port: int = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._guarded, args=(sock,), daemon=True).start()

    def _guarded(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._serve(sock)

    def _http(self, sock: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                data += _some(sock)
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
            length = int(dict(headers).get("content-length", 0))
            while len(data) < length:
                data += _some(sock)
            body, data = data[:length], data[length:]
            self.requests += 1
            method, path, _ = first.split(" ")
            if path.startswith("/close"):
                return
            if path.startswith("/slow/"):
                time.sleep(float(path.split("/")[2]))
            status = int(path.split("/")[2]) if path.startswith("/status/") else 200
            told = {
                "server": self.name,
                "method": method,
                "path": path,
                "headers": headers,
                "body": body.decode("latin-1"),
                "peer": sock.getpeername()[:2],
            }
            text = b"" if method == "HEAD" else json.dumps(told).encode()
            sock.sendall(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(text)) + text)


class FakeDaemon:
    """The daemon's side of the feed, in a thread for each connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[pb.Record] = []
        self.refusals: dict[str, str] = {}
        self.hellos: list[pb.Hello] = []
        self.acked = self.lost = 0
        self.setup = pb.Setup(
            node=NODE, addresses=["172.30.0.1"], mark=0x800, port=15001, first_port=61000, last_port=65535
        )
        self._held: Snapshot | None = None
        self._ready: set[int] = set()
        self._series: dict[tuple[int, int], pb.Series] = {}
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._replies: dict[int, pb.Reply] = {}
        self._asked = self._flushes = self._answered = 0
        self._lock = threading.Lock()
        self._connections: list[tuple[socket.socket, pb.Hello]] = []
        self._listen()

    @property
    def revision(self) -> int:
        return self._held.revision if self._held else 0

    @property
    def held(self) -> Snapshot:
        """What workers are told in full."""
        assert self._held is not None
        return self._held

    @held.setter
    def held(self, new: Snapshot) -> None:
        """Told to workers that connect from now on."""
        self._held = new

    def ready(self, generation: int) -> bool:
        return generation in self._ready

    def snapshot(self, new: Snapshot) -> int:
        """In force from now on, and sent to whoever is connected, as a difference."""
        with self._lock:
            held, self._held = self._held, new
            cluster = delta.between(held.cluster if held else ClusterPart(), new.cluster)
            update = delta.Update(new.revision, "epoch", held is None, cluster, delta.NodeDelta())
            for sock, _ in self._connections:
                self._send(sock, pb.ToProxy(update=convert.to_update(update)))
        return new.revision

    def restart(self) -> None:
        """As a daemon's: connections end, and the next ones are told everything anew."""
        self.disconnect()
        self._listen()

    def disconnect(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        with self._lock:
            for sock, _ in self._connections:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def tell(self, message: pb.ToProxy) -> None:
        with self._lock:
            for sock, _ in self._connections[-1:]:
                self._send(sock, message)

    def ask(self, what: str, arg: str = "") -> Any:
        """LookupError: the worker has no answer, with its words."""
        self._asked += 1
        number = self._asked
        self.tell(pb.ToProxy(query=pb.Query(id=number, what=what, arg=arg)))
        wait_for(lambda: number in self._replies, f"no answer to {what} {arg}")
        reply = self._replies[number]
        if reply.error:
            raise LookupError(reply.error)
        return json.loads(reply.json)

    def counts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Family and labels -> value, everything until now (of a histogram its count)."""
        before = self._flushes
        self.tell(pb.ToProxy(flush=pb.Flush()))
        wait_for(lambda: self._flushes > before, "no counts")
        return dict(self._values)

    def count(self, family: str, **labels: str) -> float:
        """The sum over all series that have these labels."""
        wanted = set(labels.items())
        return sum(v for (name, have), v in self.counts().items() if name == family and wanted <= set(have))

    def close(self) -> None:
        self.disconnect()

    def _listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(str(self.path))
        self._sock.listen(8)
        threading.Thread(target=self._accept, args=(self._sock,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._send(sock, pb.ToProxy(setup=self.setup))
        frames = _frames(sock)
        hello = next(frames, pb.FromProxy()).hello
        with self._lock:
            self.hellos.append(hello)
            if self._held:
                full = delta.full_update(self._held, "epoch")
                self._send(sock, pb.ToProxy(update=convert.to_update(full)))
            self._connections.append((sock, hello))
        for message in frames:
            self._take(message, hello)
        with self._lock:
            self._connections = [pair for pair in self._connections if pair[0] is not sock]
        sock.close()

    def _take(self, message: pb.FromProxy, hello: pb.Hello) -> None:
        kind = message.WhichOneof("message")
        if kind == "ack":
            self.refusals = {each.resource: each.reason for each in message.ack.refusals}
            self.acked = message.ack.revision
        elif kind == "ready":
            self._ready.add(hello.generation)
        elif kind == "records":
            self.records += message.records.records
            self.lost += message.records.lost
        elif kind == "reply":
            self._replies[message.reply.id] = message.reply
        elif kind == "counts":
            self._count(hello.pid, message.counts)

    def _count(self, pid: int, counts: pb.Counts) -> None:
        for series in counts.series:
            self._series[pid, series.id] = series
        for sample in counts.samples:
            series = self._series[pid, sample.id]
            key = series.family, tuple(sorted(series.labels.items()))
            value = float(sample.count) if series.bounds else sample.value
            self._values[key] = value if series.gauge else self._values.get(key, 0.0) + value
        self._flushes += 1

    @staticmethod
    def _send(sock: socket.socket, message: pb.ToProxy) -> None:
        body = message.SerializeToString()
        with contextlib.suppress(OSError):
            sock.sendall(len(body).to_bytes(4, "big") + body)


def _frames(sock: socket.socket) -> Iterator[pb.FromProxy]:
    data = b""
    while True:
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            try:
                more = sock.recv(1 << 20)
            except OSError:
                return
            if not more:
                return
            data += more
        size = int.from_bytes(data[:4], "big")
        yield pb.FromProxy.FromString(data[4 : 4 + size])
        data = data[4 + size :]


def wait_for(condition: Callable[[], Any], what: str, timeout: float = WAIT) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
