"""One node: its network namespace, its cgroup, the daemon in it, and the question whether a pod may start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from weft.daemon.dns import ADDRESSES as DNS_ADDRESSES
from weft.daemon.local import cgroup, namespaces, network, teardown
from weft.daemon.local.addresses import NodeNet
from weft.daemon.local.names import Cluster, node_name
from weft.daemon.local.programs import Program, keep_running
from weft.daemon.local.state import ProgramState
from weft.daemon.local.store import OPTIONS, RETRY, Manifest
from weft.policies.wire.pb import node_pb2, node_pb2_grpc

METRICS_PORT = 9962
DAEMON = "_daemon"  # the cgroup of the daemon, beside those of its pods; no namespace begins so
WAIT = 10.0  # seconds that one question to the daemon may take before it is asked again


def command(name: str) -> tuple[str, ...]:
    """How `weft-<name>` is started: the script beside our Python, else the module."""
    script = Path(sys.executable).with_name(f"weft-{name}")
    return (str(script),) if script.exists() else (sys.executable, "-m", f"weft.{name}.main")


class Node:
    def __init__(self, cluster: Cluster, index: int, nodes: int, proxy_workers: int = 1) -> None:
        self.index = index
        self.proxy_workers = proxy_workers
        self.name = node_name(index)
        self.net = NodeNet(index)
        self.state = ProgramState(problem="not started")
        self._cluster = cluster
        self._nodes = nodes
        self._root = cgroup.mount_point()

    @property
    def netns(self) -> str:
        return self._cluster.node_netns(self.name)

    @property
    def labels(self) -> dict[str, str]:
        return {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": os.uname().machine,
        }

    def manifest(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {"podCIDR": self.net.pod_cidrs[0], "podCIDRs": list(self.net.pod_cidrs)},
            "status": {"addresses": [{"type": "InternalIP", "address": each} for each in self.net.addresses]},
        }

    def make(self) -> None:
        """Blocks for some 30 ms."""
        teardown.note_netns(self._cluster, self.netns)
        network.make_node(self._cluster, self.index, self._nodes)
        cgroup.make(self._cluster.cgroup(self._root, self.name))

    def program(self) -> Program:
        run = self._cluster.run_dir / self.name
        group = self._cluster.cgroup(self._root, self.name)
        words = {
            "--node": self.name,
            "--run-dir": str(run),
            "--operator": f"unix:{self._cluster.operator_socket}",
            "--pin-dir": str(self._cluster.pins / self.name),
            "--cgroup": str(group),
            "--state-dir": str(self._cluster.state_dir / self.name),
            "--metrics": f"{self.net.addresses[0]}:{METRICS_PORT}",
            "--proxy-workers": str(self.proxy_workers),
        }
        argv = (*command("daemon"), *(word for pair in words.items() for word in pair), "--dns", *DNS_ADDRESSES)
        return Program(
            f"{self.name} daemon", argv, group / DAEMON, run / "daemon.log", str(namespaces.path(self.netns))
        )

    async def run(self, changed: Callable[[], None]) -> None:
        await keep_running(self.program(), self.state, changed)

    async def wait_endpoint(self, namespace: str, name: str, ips: tuple[str, ...]) -> None:
        """Until the pod's programs are attached and its policy is in force, however often the daemon dies."""
        request = node_pb2.WaitEndpointRequest(namespace=namespace, name=name, ips=ips)
        target = f"unix:{self._cluster.daemon_socket(self.name)}"
        stub: Any = node_pb2_grpc.NodeStub
        while True:
            with contextlib.suppress(grpc.RpcError):
                async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
                    await stub(channel).WaitEndpoint(request, timeout=WAIT, wait_for_ready=True)
                return
            await asyncio.sleep(RETRY)
