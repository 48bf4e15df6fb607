"""Protocols through the proxies of two live nodes, byte by byte: HTTP/1.1 with all that belongs to it, WebSocket,
h2c, gRPC by grpcio, TCP where either side speaks first, TLS by its server name."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inside import Inside
from mesh_lab import HERE, Mesh, running

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-v4"
CLIENTS = ("client", "client-far")
BIG = 20 << 20


def pod(name: str, words: list[str], port: int) -> str:
    command = json.dumps([sys.executable, *words])
    probe = f"{{tcpSocket: {{port: {port}}}, periodSeconds: 1}}"
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}, group: {name.partition("-")[0]}}}}}
spec:
  nodeName: node-1
  containers: [{{name: c, command: {command}, readinessProbe: {probe}}}]
"""


def service(name: str, app: str, ports: list[tuple[str, int, int]]) -> str:
    listed = [{"name": name, "port": port, "targetPort": target} for name, port, target in ports]
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{group: {app}}}, ports: {json.dumps(listed)}}}
"""


#: Those after the first are not declared: the first bytes tell.
PORTS = [("http", 80, 8080), ("any", 81, 8080), ("first", 90, 9000), ("count", 91, 9001), ("sealed", 8443, 8443)]
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wire}
spec: {hosts: [wire], http: [{route: [{destination: {host: wire}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: sealed}
spec:
  hosts: [sealed, a.test, b.test]
  tls:
  - match: [{port: 443, sniHosts: [a.test]}]
    route: [{destination: {host: wire, port: {number: 8443}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{group: '', kind: Service, name: calls, port: 80}]
  rules:
  - matches: [{method: {service: pkg.Svc, method: Who}}]
    backendRefs: [{name: calls-b, port: 80}]
  - matches: [{method: {service: pkg.Svc}}]
    backendRefs: [{name: calls-a, port: 80}]
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("tls")
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a.test",
    ]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
    grpc = str(HERE / "mesh_grpc.py")
    texts = [
        pod("wire", [str(HERE / "mesh_wire.py"), str(folder / "cert"), str(folder / "key")], 8443),
        pod("calls-a", [grpc, "serve", "7000", "a"], 7000),
        pod("calls-b", [grpc, "serve", "7000", "b"], 7000),
        service("wire", "wire", PORTS),
        service("sealed", "wire", [("tls", 443, 8443)]),
        service("calls", "calls", [("grpc", 80, 7000)]),
        service("calls-a", "a", [("grpc", 80, 7000)]).replace("group: a", "app: calls-a"),
        service("calls-b", "b", [("grpc", 80, 7000)]).replace("group: b", "app: calls-b"),
        ROUTES,
    ]
    with running(NAME, *texts) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def addresses(mesh: Mesh) -> dict[str, list[str]]:
    listed = json.loads(mesh.weft("local", "get", "services", "-o", "json"))
    return {each["metadata"]["name"]: each["spec"]["clusterIPs"] for each in listed}


class Wire:
    """A connection to the service `wire`, as bytes."""

    def __init__(self, address: str, port: int = 80, client: str = "client", timeout: float = 10) -> None:
        self.sock = Inside(NAME).connect(client, address, port, timeout)
        self.data = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, text: str | bytes) -> None:
        self.sock.sendall(text.replace("\n", "\r\n").encode() if isinstance(text, str) else text)

    def until(self, end: bytes) -> bytes:
        while end not in self.data:
            more = self.sock.recv(65536)
            assert more, f"closed; got {self.data!r:.300}"
            self.data += more
        found, _, self.data = self.data.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            more = self.sock.recv(65536)
            assert more, f"closed; got {self.data!r:.300}"
            self.data += more
        found, self.data = self.data[:size], self.data[size:]
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        first, *fields = self.until(b"\r\n\r\n").decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (field.partition(":") for field in fields)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = self.head()
        return status, headers, self.exactly(int(headers["content-length"]))

    def told(self) -> dict[str, Any]:
        status, _, body = self.reply()
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def chunks(self) -> tuple[bytes, dict[str, str]]:
        """A chunked body, and its trailers."""
        body = b""
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            body += self.exactly(size + 2)[:-2]
        trailers = {}
        while line := self.until(b"\r\n").strip().decode():
            name, _, value = line.partition(":")
            trailers[name.lower()] = value.strip()
        return body, trailers

    def closed(self) -> bool:
        return not self.data and self.sock.recv(1) == b""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wire(addresses: dict[str, list[str]], client: str) -> Iterator[Wire]:
    with Wire(addresses["wire"][0], client=client) as wire:
        yield wire


# --- HTTP/1.1


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    for number in range(3):
        wire.send(f"GET /{number} HTTP/1.1\nhost: wire\n\n")
        assert wire.told()["target"] == f"/{number}"
    wire.send("".join(f"POST /p{n} HTTP/1.1\nhost: wire\ncontent-length: {n}\n\n{'x' * n}" for n in range(20)))
    seen = [wire.told() for _ in range(20)]
    assert [(each["target"], each["body"]) for each in seen] == [(f"/p{n}", n) for n in range(20)]
    wire.send("GET /last HTTP/1.1\nhost: wire\nconnection: close\n\n")
    assert wire.told()["target"] == "/last" and wire.closed()


def test_chunks_and_trailers_go_both_ways_while_they_come(wire: Wire) -> None:
    wire.send("POST /echo HTTP/1.1\nhost: wire\ntransfer-encoding: chunked\ntrailer: x-end\nte: trailers\n\n")
    body = b""
    status = 0
    for piece in (b"one", b"two" * 1000, b"3"):
        wire.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        if not status:
            status, headers = wire.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
        while len(body) < len(piece):
            size = int(wire.until(b"\r\n"), 16)
            body += wire.exactly(size + 2)[:-2]
        assert body == piece, "each piece is back before the next one goes"
        body = b""
    wire.send("0\nx-end: done\n\n")
    rest, trailers = wire.chunks()
    assert rest == b"" and trailers["x-count"] == "3004"
    assert json.loads(trailers["x-sum"]) == {"x-end": "done"}
    wire.send("GET /next HTTP/1.1\nhost: wire\n\n")
    assert wire.told()["target"] == "/next"


def test_who_expects_100_continue_is_answered_by_the_server(wire: Wire) -> None:
    wire.send("POST /expect HTTP/1.1\nhost: wire\ncontent-length: 5\nexpect: 100-continue\n\n")
    assert wire.head()[0] == 100
    wire.send("hello")
    seen = wire.told()
    assert (seen["body"], seen["early"]) == (5, 0)
    wire.send("POST /refuse HTTP/1.1\nhost: wire\ncontent-length: 5\nexpect: 100-continue\n\n")
    assert wire.reply()[0] == 417


def test_head_hints_and_bodies_that_end_with_the_connection(wire: Wire) -> None:
    wire.send("HEAD /x HTTP/1.1\nhost: wire\n\n")
    status, headers = wire.head()
    assert status == 200 and headers["x-from"] == "server" and int(headers["content-length"]) > 10
    wire.send("GET /hints HTTP/1.1\nhost: wire\n\n")
    status, headers = wire.head()
    if status == 103:
        assert headers["link"] == "</a.css>"
        status, headers = wire.head()
    assert status == 200 and wire.exactly(6) == b"hinted"
    wire.send("GET /old HTTP/1.1\nhost: wire\n\n")
    status, headers = wire.head()
    assert status == 200
    assert (wire.chunks()[0] if "transfer-encoding" in headers else wire.exactly(13)) == b"until the end"


def test_http_1_0(wire: Wire, addresses: dict[str, list[str]], client: str) -> None:
    wire.send("GET /x HTTP/1.0\nhost: wire\n\n")
    seen = wire.told()
    assert seen["version"] == "HTTP/1.1" and wire.closed()
    with Wire(addresses["wire"][0], client=client) as kept:
        for number in range(2):
            kept.send(f"GET /{number} HTTP/1.0\nhost: wire\nconnection: keep-alive\n\n")
            assert kept.told()["target"] == f"/{number}"
    with Wire(addresses["wire"][0], client=client) as chunked:
        chunked.send("POST /echo HTTP/1.0\nhost: wire\ncontent-length: 3\n\nabc")
        status, headers = chunked.head()
        assert status == 200 and "transfer-encoding" not in headers, "HTTP/1.0 knows no chunks"
        assert chunked.exactly(3) == b"abc" and chunked.closed()


def test_websocket_frames_pass_both_ways(wire: Wire) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    wire.send(
        f"GET /ws HTTP/1.1\nhost: wire\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-key: {key}\n"
        "sec-websocket-version: 13\n\n"
    )
    status, headers = wire.head()
    assert status == 101 and headers["upgrade"].lower() == "websocket" and headers["sec-websocket-accept"]
    for message in (b"hello", b"x" * 125, b"y" * 5000):
        mask = os.urandom(4)
        length = bytes([0x80 | len(message)]) if len(message) < 126 else b"\xfe" + len(message).to_bytes(2, "big")
        wire.send(b"\x82" + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(message)))
        wire.exactly(2 if len(message) < 126 else 4)
        assert wire.exactly(len(message)) == message
    wire.send(b"\x88\x80\0\0\0\0")
    assert wire.exactly(2) == b"\x88\0" and wire.closed()


# --- HTTP/2 without TLS


@pytest.mark.parametrize(
    ("how", "port"),
    [("--http2-prior-knowledge", 80), ("--http2", 80), ("--http2", 81)],
    ids=["prior knowledge", "upgrade", "upgrade on an undeclared port"],
)
def test_h2c(mesh: Mesh, client: str, how: str, port: int) -> None:
    """The server speaks HTTP/1.1. (Twice over one connection: not with prior knowledge, this curl cannot.)"""
    paths = ("/x", "/y") if how == "--http2" else ("/x",)
    words = ["curl", "-s", "-m", "10", how, "-w", "\n%{http_version} %{http_code} %{num_connects}\n"]
    urls = [f"http://wire:{port}{path}" for path in paths]
    lines = mesh.weft("local", "exec", client, "--", *words, *urls).splitlines()
    assert [line for line in lines if line[:1].isdigit()] == ["2 200 1", "2 200 0"][: len(paths)], lines
    seen = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(each["target"], each["version"]) for each in seen] == [(path, "HTTP/1.1") for path in paths]


# --- big bodies


def proxies(mesh: Mesh) -> dict[int, float]:
    """pid -> anonymous memory in MiB."""
    told = json.loads(mesh.weft("proxy", "status", "-o", "json"))
    pids = [row["pid"] for proxy in told.values() for row in proxy["workers"]]
    found = {}
    for pid in pids:
        text = Path(f"/proc/{pid}/status").read_text()
        found[pid] = int(re.search(r"RssAnon:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]
    return found


def test_big_bodies_do_not_pile_up(mesh: Mesh, addresses: dict[str, list[str]]) -> None:
    """20 MB each way, from each node, to a client that reads late and a server that reads late, all at once."""
    before = proxies(mesh)
    downs = [Wire(addresses["wire"][0], client=client, timeout=30) for client in CLIENTS]
    for wire in downs:
        wire.send(f"GET /big?size={BIG} HTTP/1.1\nhost: wire\n\n")
    ups = [Wire(addresses["wire"][0], client=client, timeout=30) for client in CLIENTS]
    for wire in ups:
        wire.send(f"POST /slow HTTP/1.1\nhost: wire\ncontent-length: {BIG}\n\n")
    senders = [threading.Thread(target=wire.send, args=(b"u" * BIG,)) for wire in ups]
    for sender in senders:
        sender.start()
    time.sleep(0.7)
    held = {pid: size - before[pid] for pid, size in proxies(mesh).items()}
    for wire in downs:
        status, _ = wire.head()
        size = len(wire.data)
        while size < BIG:
            size += len(wire.sock.recv(1 << 20))
        assert (status, size) == (200, BIG)
    for sender in senders:
        sender.join()
    assert [wire.told()["body"] for wire in ups] == [BIG, BIG]
    for wire in (*downs, *ups):
        wire.sock.close()
    after = {pid: size - before[pid] for pid, size in proxies(mesh).items()}
    print("MiB held:", held, "after:", after)
    assert max(held.values()) < 8 and max(after.values()) < 8


# --- TCP and TLS


def test_a_server_that_speaks_first_is_heard_at_once(addresses: dict[str, list[str]], client: str) -> None:
    with Wire(addresses["wire"][0], 90, client) as wire:
        started = time.monotonic()
        assert wire.until(b"\r\n") == b"220 ready\r\n"
        assert time.monotonic() - started < 1
        wire.send(b"EHLO x\r\n")
        assert wire.until(b"\r\n") == b"EHLO x\r\n"


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_each_half_of_a_connection_ends_by_itself(
    addresses: dict[str, list[str]], client: str, family: int
) -> None:
    for data in (b"hello", b"\0" * (1 << 20), b"POST"):
        with Wire(addresses["wire"][family], 91, client) as wire:
            wire.send(data)
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.until(b"done") == b"%d bytes, and you said you are done" % len(data)
            assert wire.closed()


def test_who_speaks_first_but_no_http_is_not_made_to_wait(addresses: dict[str, list[str]], client: str) -> None:
    with Wire(addresses["wire"][0], 90, client) as wire:
        started = time.monotonic()
        wire.send(b"hello")
        assert wire.until(b"hello").endswith(b"hello") and time.monotonic() - started < 1


def test_tls_passes_by_its_server_name(addresses: dict[str, list[str]], client: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = Inside(NAME).connect(client, addresses["sealed"][0], 443)
    with context.wrap_socket(sock, server_hostname="a.test") as sealed:
        assert sealed.recv(100) == b"asked for a.test\n"


# --- gRPC


WANTED = {
    "unary": ["hello", "one", "value", True],
    "large": True,
    "fail": ["FAILED_PRECONDITION", "not “now”: 100 %", "asked"],
    "down": True,
    "up": 300_000,
    "both": True,
    "deadline": ["DEADLINE_EXCEEDED", True],
    "cancel": ["first", "CANCELLED", "yes"],
    "missing": "UNIMPLEMENTED",
    "who": ["b"],
    "at_once": 200,
}


def test_grpc_calls_of_all_kinds_follow_their_route(mesh: Mesh, client: str) -> None:
    words = [sys.executable, str(HERE / "mesh_grpc.py"), "call", "calls.default.svc.cluster.local:80"]
    told = json.loads(mesh.weft("local", "exec", client, "--", *words))
    assert told == WANTED
