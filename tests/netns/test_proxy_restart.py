"""Processes come and go under load on two live nodes, and no request is lost that need not be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from inside import Inside
from mesh_lab import Mesh, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-v3"
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: [front]
  http: [{route: [{destination: {host: web}, weight: 50}, {destination: {host: far}, weight: 50}]}]
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    pods = [Mesh.pod("web", 1, app="web"), Mesh.pod("far", 2, app="far")]
    services = [Mesh.service("front", app="web"), Mesh.service("web"), Mesh.service("far")]
    with running(NAME, *pods, *services, ROUTE) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def front(mesh: Mesh) -> str:
    listed = json.loads(mesh.weft("local", "get", "services", "-o", "json"))
    (address,) = (each["spec"]["clusterIP"] for each in listed if each["metadata"]["name"] == "front")
    return str(address)


class Load:
    """Requests, as fast as they are answered: over connections that are kept, and over one for each.

    A client is as good as HTTP clients are: where the server ended a kept connection between two requests, it says
    so by closing before it has answered a single byte, and the request goes out over a new one (RFC 9112, 9.6).
    """

    def __init__(self, address: str, client: str = "client", kept: int = 2, fresh: int = 2) -> None:
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0
        self._address, self._client, self._inside = address, client, Inside(NAME)
        self._stop = threading.Event()
        work = [self._keep] * kept + [self._renew] * fresh
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in work]
        for thread in self._threads:
            thread.start()

    def _run(self, work: object) -> None:
        while not self._stop.is_set():
            try:
                work()  # type: ignore[operator]
            except OSError as error:
                self.seen[f"{work.__name__}: {type(error).__name__}"] += 1  # type: ignore[attr-defined]
                time.sleep(0.01)

    def _keep(self) -> None:
        with self._open() as sock:
            kept = 0
            while not self._stop.is_set() and self._one(sock, kept):
                kept += 1

    def _renew(self) -> None:
        with self._open() as sock:
            self._one(sock, 0)

    def _open(self) -> socket.socket:
        return self._inside.connect(self._client, self._address, 80, 5)

    def _one(self, sock: socket.socket, kept: int) -> bool:
        """False: the connection is over."""
        started = time.monotonic()
        sock.sendall(b"GET / HTTP/1.1\r\nhost: front\r\n\r\n")
        data = _reply(sock)
        if not data:
            if not kept:
                raise ConnectionResetError("closed without an answer")
            self.seen["closed between requests"] += 1
            return False
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.seen[data.split(b" ", 2)[1].decode()] += 1
        return b"connection: close" not in data.lower()

    def result(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.seen

    @property
    def answered(self) -> int:
        return self.seen["200"]

    def goes_on(self, more: int = 200, seconds: float = 10) -> None:
        enough = self.answered + more
        until(lambda: self.answered >= enough, f"{more} more answers: {self.seen}", seconds)


def _reply(sock: socket.socket) -> bytes:
    """The head and the body of one answer; b"": closed before its first byte."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            if data:
                raise ConnectionResetError("cut short")
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length"))
    )
    while len(body) < length:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError("cut short")
        body += more
    return head


def lost(seen: Counter[str]) -> dict[str, int]:
    return {what: count for what, count in seen.items() if what not in ("200", "closed between requests")}


def workers(mesh: Mesh) -> dict[str, int]:
    try:
        told = json.loads(mesh.weft("proxy", "status", "-o", "json"))
    except AssertionError:  # a daemon is not there, or not all workers are
        return {}
    rows = [(node, row) for node, proxy in told.items() for row in proxy["workers"]]
    return {node: row["pid"] for node, row in rows if row["state"] == "serving"}


@pytest.mark.parametrize("client", ["client", "client-far"])
def test_a_restart_of_the_proxies_under_load_loses_no_request(mesh: Mesh, front: str, client: str) -> None:
    before = workers(mesh)
    load = Load(front, client)
    try:
        load.goes_on()
        for _ in range(2):
            mesh.weft("proxy", "restart")
            load.goes_on()
    finally:
        seen = load.result()
    after = workers(mesh)
    print(client, dict(seen), f"slowest {load.slowest:.3f} s")
    assert not lost(seen)
    assert set(after) == set(before) == {"node-1", "node-2"} and not {*before.values()} & {*after.values()}


def test_connections_that_stand_idle_survive_a_restart(mesh: Mesh, front: str) -> None:
    sock = Inside(NAME).connect("client", front, 80, 5)
    with sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: front\r\n\r\n")
        assert b" 200 " in _reply(sock)
        mesh.weft("proxy", "restart")
        sock.sendall(b"GET / HTTP/1.1\r\nhost: front\r\n\r\n")
        assert b" 200 " in _reply(sock)


def test_a_killed_worker_costs_what_it_held_and_a_second(mesh: Mesh, front: str) -> None:
    """Nobody else notices: a connection past the proxy goes on, and the other node's clients do."""
    web = mesh.one("client-far", "http://web/").json and address_of(mesh, "web")
    plain = Inside(NAME).connect("client-far", web, 8080, 5)
    elsewhere = Load(front, "client-far")
    load = Load(front)
    try:
        load.goes_on()
        pid = workers(mesh)["node-1"]
        os.kill(pid, signal.SIGKILL)
        killed, had = time.monotonic(), load.answered
        until(lambda: lost(load.seen), "resets", 1)
        until(lambda: load.answered > had + 20, "answers again", 3)
        back = time.monotonic() - killed
        plain.sendall(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        assert b" 200 " in _reply(plain)
        elsewhere.goes_on()
    finally:
        seen, others = load.result(), elsewhere.result()
        plain.close()
    print(f"back after {back:.2f} s", dict(seen), dict(others))
    assert not {
        what for what in lost(seen) if not what.endswith(("ConnectionResetError", "ConnectionRefusedError"))
    }
    assert not lost(others)


def address_of(mesh: Mesh, pod: str) -> str:
    pods = json.loads(mesh.weft("local", "get", "pods", "-o", "json"))
    return str(next(each["ips"][0] for each in pods if each["name"] == pod))


def process(mesh: Mesh, program: str, *words: str) -> int:
    """The pid of the cluster's process whose command line has all the words."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_text().replace("\0", " ") if entry.name.isdigit() else ""
            if f"/run/{mesh.name}" in line and program in line and all(word in line for word in words):
                return int(entry.name)
    raise AssertionError(f"no {program} of {mesh.name}")


def test_a_killed_daemon_under_load_costs_no_request(mesh: Mesh, front: str) -> None:
    pid = process(mesh, "weft-daemon", "--node node-1")
    held = workers(mesh)
    load = Load(front)
    try:
        load.goes_on()
        os.kill(pid, signal.SIGKILL)
        load.goes_on()
        until(lambda: workers(mesh) == held, "the daemon, with the workers that were there", 20)
        load.goes_on()
    finally:
        seen = load.result()
    print(dict(seen))
    assert not lost(seen)


def test_without_the_operator_routes_stay(mesh: Mesh, front: str) -> None:
    pid = process(mesh, "weft-operator")
    load = Load(front)
    try:
        os.kill(pid, signal.SIGSTOP)
        try:
            load.goes_on()
            mesh.weft("proxy", "restart")
            load.goes_on()
        finally:
            os.kill(pid, signal.SIGKILL)
        load.goes_on(500)
    finally:
        seen = load.result()
    print(dict(seen))
    assert not lost(seen)
    until(lambda: "2/2 connected" in mesh.status(), "the operator", 20)
