"""Two workers on each node: they share the port, limits and ejections, and go and come one by one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inside import Inside
from mesh_lab import Mesh, Reply, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-workers"
FRESH = {"Connection": "close"}  # a connection for each request: any worker may get it
ADDRESS = "10.96.7.7"
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: orders}}
spec: {{clusterIP: {ADDRESS}, selector: {{app: orders}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http: [{route: [{destination: {host: orders}}], retries: {attempts: 0}}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  trafficPolicy: {%s}
"""
FOUR = RULE % "connectionPool: {http: {http2MaxRequests: 4}}"
SIX = RULE % (
    "outlierDetection: {consecutive5xxErrors: 6, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 100}"
)
LOAD = """
import http.client, threading, time
done, failed, stop = [0, 0], [], threading.Event()
def load(at, fields):
    connection = http.client.HTTPConnection("orders", 80, timeout=10)
    while not stop.wait(0.01):
        try:
            connection.request("GET", "/", headers=fields)
            reply = connection.getresponse()
            reply.read()
            done[at] += 1
            if reply.status != 200:
                failed.append(str(reply.status))
        except Exception as error:
            failed.append(repr(error))
            connection.close()
loads = (0, {}), (0, {}), (1, {"Connection": "close"})
threads = [threading.Thread(target=load, args=each) for each in loads]
for thread in threads: thread.start()
print("begun", flush=True)
time.sleep(4)
stop.set()
for thread in threads: thread.join()
print(done, failed[:10])
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    pods = [Mesh.pod(name, app="orders") for name in ("orders-1", "orders-2")]
    with running(NAME, *pods, SERVICE, ROUTE, workers=2) as mesh:
        until(lambda: len(serving(mesh)) == 2, "two workers")
        yield mesh


def serving(mesh: Mesh) -> dict[int, int]:
    """Worker -> pid, of those that serve."""
    told = json.loads(mesh.status("-o", "json"))
    rows = told["nodes"]["node-1"]["proxy"]["workers"]
    return {row["worker"]: row["pid"] for row in rows if row["state"] == "serving"}


def fresh(mesh: Mesh, count: int, query: str = "", **how: Any) -> list[Reply]:
    return mesh.get("client", f"http://orders/{query}", FRESH, count=count, **how)


def sockets(pid: int) -> int:
    """Connections that the worker has accepted and holds."""
    words = ["ip", "netns", "exec", f"{NAME}-node-1", "ss", "-Htnp", "state", "established", "sport = :80"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return told.count(f"pid={pid},")


@contextmanager
def load(mesh: Mesh) -> Iterator[None]:
    """Kept and fresh connections. None of their requests fails."""
    words = [
        str(Path(sys.executable).with_name("weft")),
        "local",
        "exec",
        "client",
        "--",
        sys.executable,
        "-c",
        LOAD,
    ]
    process = subprocess.Popen(
        words,
        env={**os.environ, "WEFT_RUN_DIR": f"/run/{NAME}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    yield
    told, _ = process.communicate(timeout=30)
    kept, again = json.loads(told.partition("]")[0] + "]")
    print(told)
    assert told.strip().endswith("[]"), told
    assert kept > 20 and again > 10


@contextmanager
def held(count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """So many connections, with one request each, still open."""
    found: list[http.client.HTTPConnection] = []
    try:
        for _ in range(count):
            found.append(Inside(NAME).http("default/client", ADDRESS))
            assert ask(found[-1]) == 200
        yield found
    finally:
        for each in found:
            each.close()


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/", headers={"Host": "orders"})
    reply = connection.getresponse()
    reply.read()
    return reply.status


def test_connections_are_spread_and_every_request_is_counted_once(mesh: Mesh) -> None:
    before = mesh.total("istio_requests_total", reporter="source")
    pids = serving(mesh)
    with held(40):
        open_now = {worker: sockets(pid) for worker, pid in pids.items()}
    assert sum(open_now.values()) == 40 and min(open_now.values()) >= 5, open_now
    assert {reply.status for reply in fresh(mesh, 100, concurrency=4)} == {200}
    assert mesh.total("istio_requests_total", reporter="source") == before + 140
    assert mesh.total("istio_requests_total", reporter="destination") >= before + 140


def test_a_limit_holds_for_all_workers_together(mesh: Mesh) -> None:
    mesh.apply(FOUR)
    try:
        replies = fresh(mesh, 24, "?delay=1", concurrency=24)
    finally:
        mesh.delete(FOUR)
    assert Counter(reply.status for reply in replies) == {200: 4, 503: 20}


def test_an_endpoint_that_one_worker_ejects_is_out_for_all(mesh: Mesh) -> None:
    """Each counts for itself, so of eleven in a row one of them has seen six."""
    mesh.apply(SIX)
    try:
        first = fresh(mesh, 40, "?status=500&only=orders-1&times=11&key=eject")
        time.sleep(1.5)  # the others look once a second
        then = fresh(mesh, 60)
    finally:
        mesh.delete(SIX)
    assert 6 <= Counter(reply.status for reply in first)[500] <= 11
    assert {reply.pod for reply in then} == {"orders-2"}


def test_all_workers_are_replaced_under_load_without_a_failure(mesh: Mesh) -> None:
    before = serving(mesh)
    with load(mesh):
        mesh.weft("proxy", "restart")
        until(lambda: len(serving(mesh)) == 2, "two workers again")
    after = serving(mesh)
    assert not set(before.values()) & set(after.values())


def test_a_worker_that_is_killed_comes_back_and_the_other_goes_on(mesh: Mesh) -> None:
    pids = serving(mesh)
    with held(20) as connections:
        theirs = sockets(pids[1])
        os.kill(pids[0], signal.SIGKILL)
        started = time.monotonic()
        until(lambda: len(now := serving(mesh)) == 2 and now[0] != pids[0], "a new worker")
        print(f"seen again after {time.monotonic() - started:.2f} s")
        assert serving(mesh)[1] == pids[1] and sockets(pids[1]) == theirs > 0
        assert sum(answers(each) for each in connections) == theirs
    assert {reply.status for reply in fresh(mesh, 40)} == {200}


def answers(connection: http.client.HTTPConnection) -> bool:
    try:
        return ask(connection) == 200
    except (OSError, http.client.HTTPException):
        return False
