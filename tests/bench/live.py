"""A real `weft local` cluster of one node and four pods, which follows a folder of policies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from weft.daemon.local.names import Cluster
from weft.policies.wire.pb import control_pb2, control_pb2_grpc, node_pb2, node_pb2_grpc

NAMES = Cluster(Path("/run/weft-bench-local"))
NODE, PORT = "node-1", 8080
PODS = ("server", "client", "other-1", "other-2")
#: Echoes single bytes, to any number of connections.
ECHO = f"""
import socket, threading
def echo(conn):
    with conn:
        try:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := conn.recv(64):
                conn.sendall(data)
        except OSError:
            pass
server = socket.create_server(("", {PORT}), backlog=512)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""


def manifest(name: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "python",
        "command": [sys.executable, "-c", ECHO],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container]},
    }


def service() -> dict[str, Any]:
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}, "spec": spec}


@dataclass
class Live:
    folder: Path  # of policies, followed
    _channels: tuple[grpc.Channel, grpc.Channel]

    @property
    def node(self) -> node_pb2_grpc.NodeStub:
        return node_pb2_grpc.NodeStub(self._channels[0])  # type: ignore[no-untyped-call]

    def wait_revision(self, revision: int) -> int:
        """Until the node has it in force; the revision that it has."""
        request = node_pb2.WaitRevisionRequest(revision=revision)
        return int(self.node.WaitRevision(request, timeout=10).revision)

    def operator_revision(self) -> int:
        stub = control_pb2_grpc.ObjectsStub(self._channels[1])  # type: ignore[no-untyped-call]
        return int(stub.Status(control_pb2.StatusRequest(), timeout=10).revision)

    def processes(self) -> dict[str, int]:
        state = json.loads((NAMES.room / "state.json").read_text())
        operator = int(state["operator"]["pid"])
        supervisor = int(status(operator)["PPid"])
        return {"supervisor": supervisor, "operator": operator, "daemon": int(state["nodes"][NODE]["pid"])}

    def address(self, pod: str) -> str:
        state = json.loads((NAMES.room / "state.json").read_text())
        return str(state["pods"][f"default/{pod}"]["ips"][0])


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def weft(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft.daemon.cli.main", *words],
        env={**os.environ, "WEFT_RUN_DIR": str(NAMES.run_dir)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"weft {' '.join(words)}: {done.stdout}{done.stderr}")


def channel(socket: Path) -> grpc.Channel:
    return grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])


@contextmanager
def running() -> Iterator[Live]:
    base = Path(tempfile.mkdtemp(prefix="weft-bench-"))
    (folder := base / "policies").mkdir()
    manifests = base / "pods.json"
    manifests.write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [*map(manifest, PODS), service()]})
    )
    try:
        weft("local", "down")
        weft("local", "up", "-f", str(manifests), "-f", str(folder), "--nodes", "1", "-q")
        with channel(NAMES.daemon_socket(NODE)) as daemon, channel(NAMES.operator_socket) as operator:
            yield Live(folder, (daemon, operator))
    finally:
        weft("local", "down")
        shutil.rmtree(base)
