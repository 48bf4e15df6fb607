"""A live `weft local` cluster for the truth test: its pods, how to apply to it, how to probe in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from weft.daemon.cli import client
from weft.policies.wire.pb import control_pb2, node_pb2

PORTS = (80, 81, 443, 445)
WORLD = {"world": ("203.0.113.10", "2001:db8::10"), "world2": ("203.0.113.20", "2001:db8::20")}
HOST = ("172.30.0.1", "fd00:172:30::1")
#: name in a probe -> pods that stand for it, (namespace, pod)
PODS = {
    "s": [("default", "s")],
    "foo": [("default", "foo"), ("default", "foo-far")],
    "bar": [("default", "bar"), ("default", "bar-far")],
    "xfoo": [("other", "foo")],
    "xbar": [("other", "bar-far")],
}


def pod(
    namespace: str, name: str, labels: dict[str, str], named: dict[str, int], socket_dir: Path
) -> dict[str, object]:
    far = name.endswith("-far")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "node-2" if far else "node-1"},
            "containers": [
                {
                    "name": "agent",
                    "image": "agent",
                    "command": agent_command(socket_dir / f"{namespace}.{name}"),
                    "ports": [{"name": key, "containerPort": port} for key, port in named.items()],
                    "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
                }
            ],
        },
    }


def agent_command(path: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("pod_agent.py")), str(path), *map(str, PORTS)]


def manifests(socket_dir: Path) -> list[dict[str, object]]:
    objects: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": {"team": "red"}}},
        pod("default", "s", {"app": "s"}, {"web": 80, "alt": 81}, socket_dir),
        pod("default", "foo", {"app": "foo"}, {"web": 80}, socket_dir),
        pod("default", "foo-far", {"app": "foo"}, {"web": 80}, socket_dir),
        pod("default", "bar", {"app": "bar", "color": "blue"}, {"web": 81}, socket_dir),
        pod("default", "bar-far", {"app": "bar", "color": "blue"}, {"web": 81}, socket_dir),
        pod("other", "foo", {"app": "foo"}, {"web": 80}, socket_dir),
        pod("other", "bar-far", {"app": "bar", "color": "blue"}, {"web": 80}, socket_dir),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "svc", "namespace": "default"},
            "spec": {"selector": {"app": "foo"}, "ports": [{"port": 8000, "targetPort": "web"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "front", "namespace": "default"},
            "spec": {"selector": {"app": "s"}, "ports": [{"port": 8000, "targetPort": "web"}]},
        },
    ]
    for name, addresses in WORLD.items():
        outside = pod("default", name, {}, {}, socket_dir)
        outside["metadata"] = {
            "name": name,
            "namespace": "default",
            "annotations": {"weft.dev/external-address": ",".join(addresses)},
        }
        objects.append(outside)
    return objects


@dataclass(frozen=True)
class Probe:
    """One thing to try: from a pod (or outside, or the node) to an address, and how `weft policy` calls it."""

    source: str  # the agent's socket name
    source_name: str  # NS/POD or an address, for `weft policy verdict`
    target: str
    target_name: str
    port: int
    protocol: str  # tcp, udp, ping, http
    requests: tuple[dict[str, Any], ...] = ()  # what goes over the connection, if it is http

    def __str__(self) -> str:
        return f"{self.source_name} > {self.target_name} [{self.target}]:{self.port}/{self.protocol}"


@dataclass
class Cluster:
    run_dir: Path
    sockets: Path
    addresses: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    services: dict[str, tuple[str, ...]] = field(default_factory=dict)
    live: list[dict[str, object]] = field(default_factory=list)
    helpers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def weft(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("weft")), *words],
            env={**os.environ, "WEFT_RUN_DIR": str(self.run_dir)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def learn(self) -> None:
        """Addresses from the objects that the cluster itself wrote."""
        import grpc

        from weft.policies.wire.pb import control_pb2_grpc

        with grpc.insecure_channel(
            f"unix:{self.run_dir / 'operator.sock'}", options=[("grpc.default_authority", "localhost")]
        ) as channel:
            stub = control_pb2_grpc.ObjectsStub(channel)
            for event in stub.Watch(control_pb2.WatchRequest(), timeout=30):
                if event.type == "synced":
                    break
                self.keep(json.loads(event.json))

    def keep(self, document: dict) -> None:  # type: ignore[type-arg]
        kind, metadata = document["kind"], document["metadata"]
        if kind == "Pod" and document.get("status", {}).get("podIPs"):
            ips = tuple(each["ip"] for each in document["status"]["podIPs"])
            self.addresses[(metadata["namespace"], metadata["name"])] = ips
        if kind == "Service":
            self.services[metadata["name"]] = tuple(document["spec"].get("clusterIPs", ()))
        if kind in {"Pod", "Service", "EndpointSlice", "Namespace", "Node"}:
            self.live.append(document)

    def apply(self, documents: Iterable[dict]) -> control_pb2.ApplyReply:  # type: ignore[type-arg]
        request = control_pb2.ApplyRequest(
            documents=[control_pb2.Document(json=json.dumps(each), file="case.yaml") for each in documents],
            default_namespace="default",
        )
        reply: control_pb2.ApplyReply = client.call(self.run_dir / "operator.sock", "objects", "Apply", request)
        self.wait(reply.revision)
        return reply

    def delete(self, refs: Sequence[control_pb2.ObjectRef]) -> None:
        reply = client.call(
            self.run_dir / "operator.sock", "objects", "Delete", control_pb2.DeleteRequest(refs=refs)
        )
        self.wait(reply.revision)

    def wait(self, revision: int) -> None:
        for path in client.daemons(str(self.run_dir)).values():
            client.call(path, "node", "WaitRevision", node_pb2.WaitRevisionRequest(revision=revision))

    def expand(self, text: str) -> list[Probe]:
        """`foo > s:80/udp` to every pod pair and address family it stands for."""
        left, _, right = text.partition(" > ")
        name, _, where = right.partition(":")
        port, _, protocol = where.partition("/")
        if port == "ping":
            port, protocol = "0", "ping"
        return [
            Probe(source, source_names[":" in address], address, target_name, int(port), protocol or "tcp")
            for source, source_names in self.sources(left)
            for target_name, address in self.targets(name)
        ]

    def sources(self, name: str) -> list[tuple[str, tuple[str, str]]]:
        """Agents, and what the verdict calls each in IPv4 and in IPv6."""
        if name in WORLD:
            return [(f"default.{name}", WORLD[name])]
        if name == "host":
            return [("host", HOST)]
        return [(f"{namespace}.{pod}", (f"{namespace}/{pod}",) * 2) for namespace, pod in PODS[name]]

    def targets(self, name: str) -> list[tuple[str, str]]:
        if name in WORLD:
            return [(address, address) for address in WORLD[name]]
        if name in self.services:
            return [(f"svc/default/{name}", address) for address in self.services[name]]
        return [(f"{ns}/{pod}", address) for ns, pod in PODS[name] for address in self.addresses[(ns, pod)]]

    def measure(self, probes: Sequence[Probe], timeout: float) -> list[Any]:
        """ "ok" or why not, for each probe, of `http` the answers; the pods try at the same time."""
        by_source: dict[str, list[int]] = {}
        for i, probe in enumerate(probes):
            by_source.setdefault(probe.source, []).append(i)
        connections = {}
        for source, numbers in by_source.items():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(30)
            sock.connect(str(self.sockets / source))
            orders = [
                [probes[i].target, probes[i].port, probes[i].protocol, timeout, probes[i].requests] for i in numbers
            ]
            sock.sendall(json.dumps(orders).encode() + b"\n")
            connections[source] = sock
        answers: list[Any] = [""] * len(probes)
        for source, sock in connections.items():
            with sock, sock.makefile() as lines:
                for i, answer in zip(by_source[source], json.loads(lines.readline()), strict=True):
                    answers[i] = answer
        return answers

    def load(
        self, probe: Probe, seconds: float, *, expect: str, connections: int = 2, timeout: float = 3.0
    ) -> Load:
        """Starts a load in the background; `Load.result()` waits for it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(seconds + 30)
        sock.connect(str(self.sockets / probe.source))
        order = {
            "address": probe.target,
            "port": probe.port,
            "seconds": seconds,
            "connections": connections,
            "timeout": timeout,
            "expect": expect,
        }
        sock.sendall(json.dumps(order).encode() + b"\n")
        return Load(probe, sock)


@dataclass
class Load:
    probe: Probe
    sock: socket.socket

    def result(self) -> dict[str, object]:
        with self.sock, self.sock.makefile() as lines:
            told: dict[str, object] = json.loads(lines.readline())
        return told


@contextlib.contextmanager
def running(name: str, nodes: int = 2, folders: Sequence[Path] = ()) -> Iterator[Cluster]:
    """A cluster of the truth test's pods under the run directory of that name, following `folders`; gone after."""
    sockets = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    cluster = Cluster(Path("/run") / name, sockets)
    (sockets / "manifests.yaml").write_text(yaml.safe_dump_all(manifests(sockets)))
    cluster.weft("local", "down")
    try:
        paths = [word for path in (sockets / "manifests.yaml", *folders) for word in ("-f", str(path))]
        up = cluster.weft("local", "up", *paths, "--nodes", str(nodes), timeout=90)
        assert up.returncode == 0, up.stdout + up.stderr
        cluster.learn()
        (sockets / "live.yaml").write_text(yaml.safe_dump_all(cluster.live))
        host = ["nsenter", f"--net=/run/netns/{name}-node-1", *agent_command(sockets / "host")]
        cluster.helpers.append(subprocess.Popen(host))
        yield cluster
    finally:
        for helper in cluster.helpers:
            helper.kill()
            helper.wait()
        down = cluster.weft("local", "down")
        shutil.rmtree(sockets)
        assert down.returncode == 0, down.stderr
