"""Ways past a policy, a route or a limit on the L7 path, tried on a live cluster of two nodes.

What needs no kernel is in tests/unit/l7proxy/adversary.
"""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inside import Inside
from mesh_lab import Mesh, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-a"
ECHO = """
import socket, threading
def serve(sock):
    with sock:
        while data := sock.recv(65536):
            if b"upgrade: websocket" in data.lower():
                data = b"HTTP/1.1 101 X\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n"
            sock.sendall(data)
listener = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
TCP_ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec: {hosts: [NAME], tcp: [{route: [{destination: {host: NAME}}]}]}
"""
HTTP_ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec: {hosts: [NAME], http: [{route: [{destination: {host: NAME}}]}]}
"""
EGRESS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: egress}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress: [{toEndpoints: [{matchLabels: {app: TO}}]}]
"""
INGRESS_HTTP = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: ingress}
spec:
  endpointSelector: {matchLabels: {app: TO}}
  ingress:
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "PORT", protocol: TCP}], rules: {http: [{path: RULE}]}}]
"""


def echo(name: str, node: int) -> str:
    command = json.dumps([sys.executable, "-c", ECHO])
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: node-{node}
  containers: [{{name: c, command: {command}, ports: [{{containerPort: 9000}}],
    readinessProbe: {{tcpSocket: {{port: 9000}}, periodSeconds: 1}}}}]
"""


def objects() -> list[str]:
    found = [Mesh.pod("web", node=1, app="web"), Mesh.pod("web-far", node=2, app="web-far")]
    found += [Mesh.service(name) for name in ("web", "web-far")]
    for name, node in (("echo", 1), ("echo-far", 2)):
        found += [echo(name, node), Mesh.service(name, "tcp", 9000, 9000), TCP_ROUTE.replace("NAME", name)]
        found += [Mesh.service(f"ws-{name}", "http", 80, 9000, app=name), HTTP_ROUTE.replace("NAME", f"ws-{name}")]
    return [*found, *(HTTP_ROUTE.replace("NAME", name) for name in ("web", "web-far"))]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with running(NAME, *objects()) as mesh:
        until(lambda: mesh.one("client", "http://web/").status == 200, "the mesh is up", 30)
        until(lambda: mesh.one("client", "http://web-far/").status == 200, "both nodes are", 30)
        yield mesh


def address(mesh: Mesh, service: str) -> str:
    """As a pod resolves it."""
    words = ("local", "exec", "client", "--", sys.executable, "-c")
    code = f"import socket; print(socket.getaddrinfo({service!r}, 80, socket.AF_INET)[0][4][0])"
    return mesh.weft(*words, code).split()[-1]


def connected(mesh: Mesh, service: str, port: int) -> socket.socket:
    return Inside(NAME).connect("default/client", address(mesh, service), port)


def lives(sock: socket.socket) -> bool:
    sock.sendall(b"ping")
    return sock.recv(100) == b"ping"


def is_cut(sock: socket.socket, seconds: float = 5.0) -> bool:
    sock.settimeout(seconds)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def upgraded(mesh: Mesh, service: str) -> socket.socket:
    sock = connected(mesh, service, 80)
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {service}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


# revocation


@pytest.mark.parametrize("server", ["echo", "echo-far"])
def test_a_tunnel_through_a_route_ends_when_egress_is_taken_back(mesh: Mesh, server: str) -> None:
    """The kernel knows the connection by the service's address, which no policy names: the proxy alone can."""
    allowed, other = EGRESS.replace("TO", server), EGRESS.replace("TO", "web")
    mesh.apply(allowed)
    try:
        with connected(mesh, server, 9000) as sock:
            assert lives(sock)
            mesh.apply(other)
            assert is_cut(sock), "it goes on without a permit"
    finally:
        mesh.delete(other)


@pytest.mark.parametrize("server", ["echo", "echo-far"])
def test_an_upgraded_connection_ends_when_egress_is_taken_back(mesh: Mesh, server: str) -> None:
    allowed, other = EGRESS.replace("TO", server), EGRESS.replace("TO", "web")
    mesh.apply(allowed)
    try:
        with upgraded(mesh, f"ws-{server}") as sock:
            assert lives(sock)
            mesh.apply(other)
            assert is_cut(sock), "it goes on without a permit"
    finally:
        mesh.delete(other)


@pytest.mark.parametrize("server", ["echo", "echo-far"])
def test_a_tunnel_ends_when_requests_are_judged_on_its_port(mesh: Mesh, server: str) -> None:
    rules = INGRESS_HTTP.replace("TO", server).replace("PORT", "9000").replace("RULE", "/x")
    try:
        with connected(mesh, server, 9000) as sock:
            assert lives(sock)
            mesh.apply(rules)
            with contextlib.suppress(ConnectionError):  # it is cut already
                sock.sendall(b"GET /y HTTP/1.1\r\nHost: x\r\n\r\n")
            assert is_cut(sock), "requests pass unjudged"
    finally:
        mesh.delete(rules)


@pytest.mark.parametrize("server", ["echo", "echo-far"])
def test_rules_that_change_end_an_upgraded_connection_that_they_forbid(mesh: Mesh, server: str) -> None:
    rules = INGRESS_HTTP.replace("TO", server).replace("PORT", "9000")
    mesh.apply(rules.replace("RULE", "/ws"))
    try:
        with upgraded(mesh, f"ws-{server}") as sock:
            assert lives(sock)
            mesh.apply(rules.replace("RULE", "/other"))
            assert is_cut(sock), "it goes on although its request is forbidden"
    finally:
        mesh.delete(rules)


# a workload that answers itself


def test_a_pod_reaches_itself_through_its_service(mesh: Mesh) -> None:
    for server in ("web", "web-far"):
        reply = mesh.one(server, f"http://{server}.default/self", timeout=5)
        assert (reply.status, reply.pod) == (200, server), reply


def test_a_pod_reaches_itself_also_where_its_policy_denies_everything(mesh: Mesh) -> None:
    nothing = EGRESS.replace("app: client", "app: web").replace("TO", "nobody")
    mesh.apply(nothing)
    try:
        assert mesh.one("web", "http://web.default/self", timeout=5).status == 200
        assert mesh.one("web", "http://web-far/", timeout=5).status == 403
    finally:
        mesh.delete(nothing)


# paths


ESCAPES = [
    "/public/../private",
    "/public/%2e%2e/private",
    "/public/..%2fprivate",
    "/public/..;/private",
    "//private",
]


@pytest.mark.parametrize("server", ["web", "web-far"])
def test_no_way_of_writing_a_path_leads_out_of_the_folder_that_is_allowed(mesh: Mesh, server: str) -> None:
    rules = INGRESS_HTTP.replace("TO", server).replace("PORT", "8080").replace("RULE", "/public/.*")
    mesh.apply(rules)
    try:
        with connected(mesh, server, 80) as sock:
            assert asked(sock, "/public/x") == 200
            assert {path: asked(sock, path) for path in ESCAPES} == dict.fromkeys(ESCAPES, 403)
            assert asked(sock, "/public/./x") == 200
    finally:
        mesh.delete(rules)


def asked(sock: socket.socket, path: str) -> int:
    """One request on a connection that stays."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += sock.recv(65536)
    return int(head.split()[1])


# the node


def test_the_node_itself_is_not_judged_and_whoever_has_its_address_from_outside_is(mesh: Mesh) -> None:
    """Kubelets' probes come from the node (E11); what the node masquerades would come with the same address."""
    rules = INGRESS_HTTP.replace("TO", "web").replace("PORT", "8080").replace("RULE", "/public/.*")
    mesh.apply(rules)
    try:
        ip = pod_address("web")
        inside = ["ip", "netns", "exec", f"{NAME}-node-1", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        done = subprocess.run([*inside, f"http://{ip}:8080/private"], capture_output=True, text=True, check=True)
        assert done.stdout == "200"
        assert mesh.one("client", f"http://{ip}:8080/private").status == 403
    finally:
        mesh.delete(rules)


def pod_address(pod: str) -> str:
    words = ["ip", "netns", "exec", Inside(NAME).namespace(f"default/{pod}").name]
    told = subprocess.run([*words, "hostname", "-I"], capture_output=True, text=True, check=True).stdout
    return next(each for each in told.split() if ":" not in each)


# one client's doing


def test_one_client_with_a_thousand_slow_connections_does_not_hold_up_another(mesh: Mesh) -> None:
    inside, ip = Inside(NAME), address(mesh, "web")
    held = [inside.connect("default/client", ip, 80) for _ in range(300)]
    try:
        for sock in held:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nX-A: ")
        replies = mesh.get("web-far", "http://web/", count=50)
        assert {reply.status for reply in replies} == {200}
        for sock in held:
            sock.sendall(b"a")
        assert mesh.one("client", "http://web/").status == 200
    finally:
        for sock in held:
            sock.close()


# sockets of the run directory


@pytest.mark.parametrize("name", ["proxy.sock", "proxy-0.handover", "observer.sock"])
def test_the_nodes_sockets_are_roots_alone(mesh: Mesh, name: str) -> None:
    found = [path for path in Path(f"/run/{NAME}").rglob(name) if not path.is_symlink()]
    if name != "observer.sock":
        assert len(found) == 2
    for path in found:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode) and not mode & 0o002, path
        folder = path.parent.stat()
        assert folder.st_uid == 0 and not folder.st_mode & 0o002, path.parent
