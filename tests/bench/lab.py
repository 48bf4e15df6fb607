"""Two nodes and three pods of network namespaces and veth, as `weft local` lays them out, without Weft.

client --veth-- node 1 --veth-- node 2 --veth-- far
near   --veth--/
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "weft-bench"
ADDRESSES = {"client": "10.244.1.2", "near": "10.244.1.3", "far": "10.244.2.2"}
NODE_OF = {"client": "n1", "near": "n1", "far": "n2"}
NODES = {"n1": "172.30.0.1", "n2": "172.30.0.2"}


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def namespace(name: str) -> str:
    return f"{PREFIX}-{name}"


def veth(pod: str) -> str:
    """The node's side of a pod's veth."""
    return f"wb-{pod}"


@dataclass
class Lab:
    """`with Lab() as lab:`; what it made is gone after, also after an exception."""

    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Lab:
        self.remove()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def build(self) -> None:
        for name in (*NODES, *ADDRESSES):
            run("ip", "netns", "add", namespace(name))
            self.ip(name, "link set lo up")
        self.join_nodes()
        for pod in ADDRESSES:
            self.add_pod(pod)

    def join_nodes(self) -> None:
        run(
            *f"ip link add uplink netns {namespace('n1')} type veth".split(),
            *f"peer uplink netns {namespace('n2')}".split(),
        )
        for name, address in NODES.items():
            self.ip(name, f"addr add {address}/24 dev uplink")
            self.ip(name, "link set uplink up")
            self.sysctl(name, "net/ipv4/ip_forward", "1")
        self.ip("n1", "route add 10.244.2.0/24 via 172.30.0.2")
        self.ip("n2", "route add 10.244.1.0/24 via 172.30.0.1")

    def add_pod(self, pod: str) -> None:
        node = NODE_OF[pod]
        run(
            *f"ip link add {veth(pod)} netns {namespace(node)} type veth".split(),
            *f"peer eth0 netns {namespace(pod)}".split(),
        )
        self.ip(node, f"link set {veth(pod)} up")
        self.ip(node, f"addr add 169.254.1.1/32 dev {veth(pod)}")
        self.ip(node, f"route add {ADDRESSES[pod]} dev {veth(pod)}")
        self.ip(pod, f"addr add {ADDRESSES[pod]}/32 dev eth0")
        self.ip(pod, "link set eth0 up")
        self.ip(pod, "route add 169.254.1.1 dev eth0")
        self.ip(pod, "route add default via 169.254.1.1 dev eth0")

    def ip(self, name: str, command: str) -> str:
        return run("ip", "-n", namespace(name), *command.split())

    def sysctl(self, name: str, key: str, value: str) -> None:
        run("ip", "netns", "exec", namespace(name), "sh", "-c", f"echo {value} > /proc/sys/{key}")

    def ifindex(self, pod: str) -> int:
        return int(self.ip(NODE_OF[pod], f"-o link show {veth(pod)}").split(":")[0])

    def spawn(self, name: str, words: Sequence[str], cgroup: Path | None = None) -> subprocess.Popen[bytes]:
        def enter() -> None:
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))

        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace(name), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=enter,
        )
        self.started.append(process)
        return process

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.wait()
        self.remove()

    def remove(self) -> None:
        for name in (*ADDRESSES, *NODES):
            if Path(f"/run/netns/{namespace(name)}").exists():
                run("ip", "netns", "del", namespace(name))
