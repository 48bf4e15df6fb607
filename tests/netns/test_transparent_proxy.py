"""The whole way of a judged connection on one node: programs, steering, the real worker, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon_lab import Lab, allow, wait_for
from weft.daemon.proxy import processes
from weft.policies.mesh.model import Destination, Dialect, HostRouting, Origin, Route, Rule
from weft.policies.model import L7, HttpRule, ObjectRef, PortSpec, Protocol
from weft.policies.snapshot import BackendItem, PolicyItem, ServiceItem, ServicePortItem

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

WEB, API, OTHER = 300, 301, 302

SERVER = """
import json, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"peer": self.client_address[:2], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
print("ready", flush=True)
Server(("::", 80), Handler).serve_forever()
"""
CLIENT = """
import http.client, json
try:
    conn = http.client.HTTPConnection({address!r}, {port}, timeout=5)
    conn.request("GET", {path!r})
    reply = conn.getresponse()
    print(json.dumps([reply.status, reply.read().decode()]), flush=True)
except OSError as error:
    print(json.dumps([0, repr(error)]), flush=True)
"""

LOAD = """
import http.client, json, sys, threading, time
done, failed, stop = [0], [], threading.Event()
def one(conn):
    conn.request("GET", "/api/1")
    reply = conn.getresponse()
    reply.read()
    done[0] += 1
    if reply.status != 200:
        failed.append(str(reply.status))
def kept():
    conn = http.client.HTTPConnection({address!r}, {port}, timeout=5)
    while not stop.is_set():
        try:
            one(conn)
        except Exception as error:
            failed.append("kept: " + repr(error))
            conn.close()
        time.sleep(0.01)
def fresh():
    while not stop.is_set():
        conn = http.client.HTTPConnection({address!r}, {port}, timeout=5)
        try:
            one(conn)
        except Exception as error:
            failed.append("fresh: " + repr(error))
        conn.close()
        time.sleep(0.01)
threads = [threading.Thread(target=each) for each in (kept, fresh)]
for each in threads: each.start()
print("running", flush=True)
sys.stdin.readline()
stop.set()
for each in threads: each.join()
print(json.dumps([done[0], failed]), flush=True)
"""
MAIL = """
import socket, threading
server = socket.create_server(("::", 25), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
def greet(conn):
    with conn:
        conn.sendall(b"220 hello")
        while data := conn.recv(65536):
            conn.sendall(data.upper())
        conn.sendall(b"bye")
while True:
    threading.Thread(target=greet, args=(server.accept()[0],), daemon=True).start()
"""
SPEAK = """
import json, socket
said = []
with socket.create_connection(({address!r}, {port}), timeout=5) as sock:
    said.append(sock.recv(100).decode())
    sock.sendall(b"ehlo")
    said.append(sock.recv(100).decode())
    sock.shutdown(socket.SHUT_WR)
    said.append(sock.recv(100).decode())
    said.append(sock.recv(100).decode())
print(json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab("wt-T", tmp_path_factory.mktemp("proxy")) as lab:
        for name, number in (("web", WEB), ("api", API), ("other", OTHER)):
            lab.add_pod(name, number)
        lab.start_daemon()
        lab.wait_ready("web", "api", "other")
        server = lab.python("api", SERVER)
        assert server.stdout and server.stdout.readline() == "ready\n"
        try:
            wait_for(
                lambda: lab.query("status")["proxy"]["serving"] == 1, 15, lambda: str(lab.query("status")["proxy"])
            )
            yield lab
        finally:
            lab.stop_daemon()  # first: it would start others in their place
            processes.end_all(lab.run_dir / lab.node / "proxy.sock")
            print(lab.log.read_text()[-3000:])
            for log in Path(lab.run_dir / lab.node).glob("proxy-*.log"):
                print(log.read_text()[-3000:])


def get(lab: Lab, pod: str, address: str, path: str, port: int = 80) -> tuple[int, Any]:
    process = lab.python(pod, CLIENT.format(address=address, port=port, path=path))
    assert process.stdout
    status, body = json.loads(process.stdout.readline())
    return status, json.loads(body) if status == 200 else body


def judged() -> PolicyItem:
    """The API takes GET /api/... from WEB alone."""
    item = allow("api", API, {WEB}, 80)
    (spec,) = item.specs
    (rule,) = spec.rules
    rule = replace(rule, ports=(PortSpec(Protocol.TCP, 80, 80),), l7=L7((HttpRule("/api/.*", "GET"),)))
    return replace(item, specs=(replace(spec, rules=(rule,)),))


@pytest.mark.parametrize("family", [4, 6])
def test_a_request_to_a_pod_whose_requests_are_judged_passes_the_proxy(lab: Lab, family: int) -> None:
    assert not lab.set_policies(judged())
    status, seen = get(lab, "web", lab.ip("api", family), "/api/1")
    assert status == 200, seen
    assert seen["peer"][0].removeprefix("::ffff:") == lab.ip("web", family)
    assert 61000 <= seen["peer"][1] <= 65535, "the proxy's connection"
    status, body = get(lab, "web", lab.ip("api", family), "/admin")
    assert (status, body) == (403, "Access denied\r\n")
    status, body = get(lab, "other", lab.ip("api", family), "/api/1")
    assert status == 0, "the programs deny it: the proxy never sees it"


def test_a_request_to_a_service_with_a_route_goes_where_the_route_says(lab: Lab) -> None:
    lab.set_policies()
    publish(lab, "front", "10.96.0.10", 8080, 80, "http")
    status, seen = get(lab, "web", "10.96.0.10", "/x", 8080)
    assert status == 200, seen
    assert seen["peer"][0].removeprefix("::ffff:") == lab.ip("web")
    assert seen["peer"][1] >= 61000


def publish(lab: Lab, name: str, vip: str, port: int, target: int, port_name: str = "") -> None:
    """A service before the API's pod, with a route, so that it goes through the proxy."""
    host = f"{name}.default.svc.cluster.local"
    backend = BackendItem(lab.ip("api"), target, lab.node, "default/api")
    item = ServicePortItem(port_name, Protocol.TCP, port, 0, "", (backend,))
    service = ServiceItem("default", name, "ClusterIP", (vip,), (item,))
    origin = Origin("VirtualService", "default", name, "spec.http[0]")
    rule = Rule(origin, destinations=(Destination(host),))
    route = Route(ObjectRef("VirtualService", "default", name), Dialect.ISTIO, (host,), http=(rule,))
    held = lab.operator.snapshot.cluster
    routing = HostRouting(host, f"default/{name}", (route,))
    revision = lab.operator.publish(
        services={**held.services, service.key: service}, routing={**held.routing, host: routing}
    )
    assert not lab.operator.wait(revision)


def test_a_server_that_speaks_first_is_heard_through_the_proxy(lab: Lab) -> None:
    lab.set_policies()
    server = lab.python("api", MAIL)
    assert server.stdout and server.stdout.readline() == "ready\n"
    publish(lab, "mail", "10.96.0.25", 25, 25)
    client = lab.python("web", SPEAK.format(address="10.96.0.25", port=25))
    assert client.stdout
    assert json.loads(client.stdout.readline()) == ["220 hello", "EHLO", "bye", ""]
    rows = lab.query("proxy", "connections")
    assert rows[0]["answer"] == [] or all(row["destination"][1] != 25 for row in rows[0]["answer"])


def test_a_planned_restart_fails_no_request(lab: Lab) -> None:
    assert not lab.set_policies(judged())
    client = lab.python("web", LOAD.format(address=lab.ip("api"), port=80))
    assert client.stdin and client.stdout and client.stdout.readline() == "running\n"
    for _ in range(3):
        (row,) = lab.query("proxy", "restart ", timeout=30)
        assert not row["error"]
    client.stdin.write("\n")
    client.stdin.flush()
    done, failed = json.loads(client.stdout.readline())
    assert done > 20
    assert failed == []
