"""Other people's clients, servers and checkers through the proxy: `make interop` writes INTEROP.md.

gRPC: grpc-go's interop client and server in a live cluster of two nodes, behind a GRPCRoute and behind a
VirtualService, from the server's node and from the other. HTTP/2: h2spec against a worker. WebSocket: `websockets`
on both sides of a worker. What `beside` tells of Envoy is counted here and listed there. Needs root, Go and the
module proxy; what is built is kept in `.bench`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import beside
from tests.bench.envoy import HOME
from tests.bench.report import Report, Section
from tests.support.mesh_lab import Mesh, running
from tests.support.proxy_lab import ProxyLab

RESULTS = Path(__file__).with_name("INTEROP.md")
NAME = "weft-bench-interop"
TOOLS = {
    "client": "google.golang.org/grpc/interop/client@v1.85.0",
    "server": "google.golang.org/grpc/interop/server@v1.85.0",
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
}
CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
)
ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: by-grpcroute}
spec:
  parentRefs: [{group: "", kind: Service, name: by-grpcroute, port: 80}]
  rules:
  - matches: [{method: {service: grpc.testing.TestService}}]
    backendRefs: [{name: by-grpcroute, port: 80}]
  - backendRefs: [{name: by-grpcroute, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: by-virtualservice}
spec:
  hosts: [by-virtualservice]
  http: [{route: [{destination: {host: by-virtualservice}}]}]
"""


def tool(name: str) -> Path:
    """Built once."""
    found = HOME / "go" / "bin" / name
    if not found.exists():
        go = shutil.which("go") or "/usr/local/go/bin/go"
        environment = {**os.environ, "GOBIN": str(found.parent), "GOFLAGS": "-modcacherw"}
        subprocess.run([go, "install", TOOLS[name]], env=environment, check=True)
    return found


# gRPC


def grpc() -> Section:
    server = json.dumps([str(tool("server")), "--port", "8080"])
    pod = f"""
apiVersion: v1
kind: Pod
metadata: {{name: interop, labels: {{app: interop}}}}
spec:
  nodeName: node-1
  containers: [{{name: c, command: {server}, readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}}}]
"""
    hosts = ("by-grpcroute", "by-virtualservice")
    ways = [(host, client) for host in hosts for client in ("client", "client-far")]
    with running(NAME, pod) as mesh:
        mesh.apply(*(Mesh.service(host, "grpc", app="interop") for host in hosts), ROUTES)
        rows = [[case, *(called(mesh, *way, case) for way in ways)] for case in CASES]
        carried = mesh.total("istio_requests_total", request_protocol="grpc", reporter="source")
    passed = sum(cell == "passed" for row in rows for cell in row[1:])
    text = (
        f"Client and server of {TOOLS['client'].removesuffix('/client')}: {passed} of"
        f" {len(rows) * len(ways)} passed; the proxies counted {carried:,.0f} calls. Not here: the cases that need"
        " TLS or Google's accounts, ORCA's and pick_first's, which need balancers of the client's own."
    )
    header = ["case", "GRPCRoute, one node", "across nodes", "VirtualService, one node", "across nodes"]
    return Section("gRPC interop", text, header, rows)


def called(mesh: Mesh, host: str, client: str, case: str) -> str:
    words = ["local", "exec", client, "--", "timeout", "20", str(tool("client"))]
    words += ["--server_host", host, "--server_port", "80", "--test_case", case, "--soak_iterations", "20"]
    try:
        mesh.weft(*words)
    except AssertionError as error:
        return "**failed**: " + str(error).splitlines()[-1].strip()[:200]
    return "passed"


# HTTP/2


def h2spec() -> Section:
    rows: list[list[str]] = []
    for port_name, what in (("http2", "a port declared as HTTP/2"), ("http", "a port declared as HTTP: found out")):
        with tempfile.TemporaryDirectory() as folder, ProxyLab(Path(folder)) as lab:
            lab.service("spec", lab.server("spec-v1", serve=answer, app="spec"), port_name=port_name, app="")
            lab.start()
            for strict in (False, True):
                rows.append([what + (", strict" if strict else ""), *judged(*lab.listeners["spec"], strict)])
    return Section(
        "h2spec",
        "h2spec 2.2.1 against a whole worker; what skips a case is h2spec."
        " What begins with no preface is taken for HTTP/1.1, and answered as a bad request"
        " of it before the connection ends; h2spec wants it to end without a word.",
        ["against", "passed", "of", "skipped", "failed"],
        rows,
    )


def judged(ip: str, port: int, strict: bool) -> list[str]:
    words = [str(tool("h2spec")), "-h", ip, "-p", str(port), "-o", "3", *(["--strict"] if strict else [])]
    told = subprocess.run(words, capture_output=True, text=True, timeout=600).stdout
    score = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", told)
    if score is None:
        return ["", "", "", f"h2spec said nothing: {told[-200:]}"]
    failed = re.findall(r"× (.*)", told.partition("Failures:")[2])
    return [score[2], score[1], score[3], "; ".join(failed)]


def answer(sock: socket.socket) -> None:
    """A server of HTTP/1.1 for any request."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(65536)):
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"transfer-encoding") == b"chunked":
            while not re.search(rb"(^|\r\n)0\r\n(.+\r\n)*\r\n$", data):
                data += sock.recv(65536)
            data = b""
        length = int(fields.get(b"content-length", 0))
        while len(data) < length:
            data += sock.recv(65536)
        data = data[length:]
        sock.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + (b"" if head.startswith(b"HEAD") else b"fine")
        )


# WebSocket


def websocket() -> Section:
    if not (HOME / "websockets").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(HOME), "websockets"]
        subprocess.run(install, check=True)
    sys.path.append(str(HOME))
    from websockets.sync.server import serve

    with tempfile.TemporaryDirectory() as folder, ProxyLab(Path(folder)) as lab:
        pod = lab.server("echo", port=9000, serve=False, app="echo")
        lab.service("echo", pod)
        server = serve(echo, pod.ip, pod.port, select_subprotocol=chat, max_size=1 << 24)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lab.start()
        rows = [[name, outcome(case, lab.listeners["echo"])] for name, case in CONVERSATIONS.items()]
        server.shutdown()
    return Section("WebSocket", "`websockets` as client and as server, through a worker.", ["case", ""], rows)


def chat(connection: Any, offered: Any) -> Any:
    return "chat" if "chat" in offered else None


def echo(connection: Any) -> None:
    for message in connection:
        connection.send(message)


def outcome(case: Callable[[Any, str], bool], address: tuple[str, int]) -> str:
    from websockets.sync.client import connect

    try:
        return "passed" if case(connect, f"ws://{address[0]}:{address[1]}/chat") else "**wrong answer**"
    except Exception as error:
        return f"**failed**: {type(error).__name__}: {error}"


def texts(connect: Any, url: str) -> bool:
    with connect(url) as ws:
        sent = [f"message {number} ä€😀" for number in range(500)]
        for each in sent:
            ws.send(each)
        return [ws.recv(5) for _ in sent] == sent


def large(connect: Any, url: str) -> bool:
    body = os.urandom(4 << 20)
    with connect(url, max_size=1 << 24, compression=None) as ws:
        ws.send(body)
        return bool(ws.recv(10) == body)


def fragments(connect: Any, url: str) -> bool:
    with connect(url) as ws:
        ws.send([f"part {number};" for number in range(100)])
        return bool(ws.recv(5) == "".join(f"part {number};" for number in range(100)))


def compressed(connect: Any, url: str) -> bool:
    with connect(url) as ws:
        ws.send("x" * 100_000)
        return ws.protocol.extensions != [] and ws.recv(5) == "x" * 100_000


def pings(connect: Any, url: str) -> bool:
    with connect(url) as ws:
        return all(ws.ping(b"%d" % number).wait(5) for number in range(20))


def subprotocol(connect: Any, url: str) -> bool:
    with connect(url, subprotocols=["chat", "other"]) as ws:
        return bool(ws.subprotocol == "chat")


def closing(connect: Any, url: str) -> bool:
    with connect(url) as ws:
        ws.close(4321, "enough")
        return bool((ws.close_code, ws.close_reason) == (4321, "enough"))


def together(connect: Any, url: str) -> bool:
    held = [connect(url).__enter__() for _ in range(50)]
    for number, ws in enumerate(held):
        ws.send(str(number))
    found = [ws.recv(5) for ws in held] == [str(number) for number in range(50)]
    for ws in held:
        ws.close()
    return found


CONVERSATIONS: dict[str, Callable[[Any, str], bool]] = {
    "500 texts at once": texts,
    "4 MB, binary": large,
    "a message in 100 fragments": fragments,
    "permessage-deflate": compressed,
    "pings are answered": pings,
    "a subprotocol is agreed on": subprotocol,
    "a close with code and reason": closing,
    "50 connections": together,
}


# Envoy


def envoy() -> Section:
    found = beside.compare()
    rows = [[name, ", ".join(told)] for name, told in found.items() if told]
    text = (
        f"{len(found)} requests through both, with the same routes and the same server: {len(found) - len(rows)}"
        " were answered and passed on alike, field by field. l7proxy/README.md says why the others differ;"
        " `python -m tests.bench.beside` says in what."
    )
    return Section("Beside Envoy", text, ["request", "differs in"], rows)


def main() -> None:
    told = Report()
    for part in (grpc, h2spec, websocket, envoy):
        told.add(part())
    head = "# Interoperation\n\nWritten by `make interop`.\n\n"
    RESULTS.write_text(head + "\n".join(section.markdown() for section in told.sections))


if __name__ == "__main__":
    main()
