"""What everything of one local cluster is called and where it lives. Pure.

A cluster is its run directory: the last part of the path is its name, and every global name starts with it.
A pod's part joins namespace and name by `_`, which neither can hold, so no two pods and no node share a name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

NETNS_DIR = Path("/run/netns")
BPFFS = Path("/sys/fs/bpf")
STATE_ROOT = Path("/var/lib")
NAME_MAX = 96  # file systems take 255; long names only make listings unreadable


def short(text: str, limit: int = NAME_MAX) -> str:
    """`text`, or its head and a hash of all of it where it is longer than `limit`."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[: limit - 13]}-{digest}"


def link_name(namespace: str, pod: str) -> str:
    """The node's end of a pod's veth; the kernel takes 15 characters."""
    return "weft" + hashlib.sha256(f"{namespace}/{pod}".encode()).hexdigest()[:10]


def node_name(index: int) -> str:
    return f"node-{index}"


@dataclass(frozen=True, slots=True)
class Cluster:
    run_dir: Path

    @property
    def name(self) -> str:
        return self.run_dir.name

    @property
    def operator_socket(self) -> Path:
        return self.run_dir / "operator.sock"

    def daemon_socket(self, node: str) -> Path:
        return self.run_dir / node / "daemon.sock"

    @property
    def room(self) -> Path:
        """This room's own files: configuration, state, lock, ledger, pods' files."""
        return self.run_dir / "local"

    @property
    def log(self) -> Path:
        return self.run_dir / "local.log"

    @property
    def ledger(self) -> Path:
        """One empty file for each network namespace that was ever about to be made."""
        return self.room / "netns"

    def pod_dir(self, namespace: str, pod: str) -> Path:
        return self.room / "pods" / f"{namespace}_{pod}"

    @property
    def state_dir(self) -> Path:
        return STATE_ROOT / self.name

    @property
    def pins(self) -> Path:
        return BPFFS / self.name

    @property
    def underlay(self) -> str:
        return f"{self.name}-underlay"

    def node_netns(self, node: str) -> str:
        return f"{self.name}-{node}"

    def pod_netns(self, namespace: str, pod: str) -> str:
        return short(f"{self.name}-{namespace}_{pod}")

    def cgroup(self, root: Path, *parts: str) -> Path:
        """Under `root`, the mount point of cgroup v2."""
        return root.joinpath(self.name, *parts)

    def pod_cgroup(self, root: Path, node: str, namespace: str, pod: str) -> Path:
        return self.cgroup(root, node, short(f"{namespace}_{pod}", 250))
