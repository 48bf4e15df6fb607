"""Two nodes and three pods of network namespaces and veth, as `weft local` lays them out, without Weft.

client --veth-- node 1 --veth-- node 2 --veth-- far
near   --veth--/

Each pod has a control group below its node's; all traffic stays inside. `with Lab() as lab:`: what it made is gone
after, also after an exception, and what a killed bench left is gone before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft.daemon import cgroups
from weft.daemon.local import namespaces

PREFIX = "weft-bench"
ADDRESSES = {"client": "10.244.1.2", "near": "10.244.1.3", "far": "10.244.2.2"}
NODE_OF = {"client": "n1", "near": "n1", "far": "n2"}
NODES = {"n1": "172.30.0.1", "n2": "172.30.0.2"}

#: A round of one connection per request opens more of them than there are ports, if each rests for a minute.
PORTS_ENOUGH = {"ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_tw_reuse": "1", "ipv4/tcp_max_tw_buckets": "0"}


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def namespace(name: str) -> str:
    """Of a node or a pod."""
    return f"{PREFIX}-{name}"


def veth(pod: str) -> str:
    """The node's side of a pod's veth."""
    return f"wb-{pod}"


def cgroup(name: str) -> Path:
    """Of a node, or of a pod below its node's."""
    mounted = cgroups.mount_point()
    if mounted is None:
        raise RuntimeError("no cgroup version 2 is mounted")
    return mounted / PREFIX / (f"{NODE_OF[name]}/{name}" if name in NODE_OF else name)


def mortal(words: Sequence[str]) -> list[str]:
    """`words`, ended by the kernel when the bench ends, however it does."""
    return ["setpriv", "--pdeathsig", "KILL", *words]


def entering(pod: str, words: Sequence[str]) -> list[str]:
    """`words` run in a pod: its control group and its network from the first instruction, and nothing else."""
    enter = f"echo $$ > {cgroup(pod)}/cgroup.procs; "
    return ["sh", "-c", enter + 'exec "$@"', "sh", "nsenter", f"--net={namespaces.path(namespace(pod))}", *words]


@dataclass
class Lab:
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    servers: dict[str, int] = field(default_factory=dict)  # pod -> process
    folder: Path = Path("/nonexistent")
    lock: int = -1

    def __enter__(self) -> Lab:
        self.lock = os.open(f"/run/{PREFIX}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # two benches at once would measure each other
        self.remove()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def build(self) -> None:
        for name in (*NODES, *ADDRESSES):
            namespaces.create(namespace(name))
            self.ip(name, "link set lo up")
            cgroup(name).mkdir(parents=True, exist_ok=True)
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
            namespaces.write_sysctls(namespace(name), {"ipv4/ip_forward": "1"})
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
        namespaces.write_sysctls(namespace(pod), PORTS_ENOUGH)

    def ip(self, name: str, command: str) -> str:
        return run("ip", "-n", namespace(name), *command.split())

    def ifindex(self, pod: str) -> int:
        """Of its veth, in its node."""
        return int(self.ip(NODE_OF[pod], f"-o link show {veth(pod)}").split(":")[0])

    def spawn(self, pod: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Runs until the lab ends."""
        process = subprocess.Popen(
            entering(pod, words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.started.append(process)
        return process

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        self.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)

    def remove(self) -> None:
        if cgroup("").is_dir():
            (cgroup("") / "cgroup.kill").write_text("1")  # a tool's children, and those of a bench that was killed
        for name in (*ADDRESSES, *NODES):
            namespaces.delete(namespace(name))
        until = time.monotonic() + 3
        while cgroup("").is_dir() and time.monotonic() < until:  # the last process of a group leaves it late
            cgroups.remove(cgroup(""))
            time.sleep(0.02)
