"""`weft local down`: nothing of the cluster is left, whoever died before.

Works from names alone: the cluster's cgroups, the ledger of network namespaces, its pins and folders. Each step
may find its work done. The order: processes first (nobody makes anything anew), then what they used, and the run
directory with the ledger last, so that an interrupted `down` can be called again.

A cluster's name is the user's choice, and a plain node of Weft may live under the same one: so only what carries
a name of ours below it is touched, and a folder only where `up` left its mark.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from weft.daemon.local import cgroup, namespaces
from weft.daemon.local.addresses import MAX_NODES
from weft.daemon.local.names import Cluster, node_name

MARK = "local"  # in the run directory (this room's folder) and in the state directory (a file)
SUPERVISOR, OPERATOR, OUTSIDE = "_supervisor", "_operator", "_outside"  # cgroups beside those of the nodes
NODES = tuple(node_name(i) for i in range(1, MAX_NODES + 1))


def foreign(cluster: Cluster) -> Path | None:
    """A folder of that name that is somebody else's: `up` must not use it."""
    for path in (cluster.run_dir, cluster.state_dir):
        if path.exists() and not (path / MARK).exists() and any(path.iterdir()):
            return path
    return None


def mark(cluster: Cluster) -> None:
    """Makes the folders ours, before anything else is made."""
    cluster.room.mkdir(parents=True, exist_ok=True)
    cluster.ledger.mkdir(exist_ok=True)
    cluster.state_dir.mkdir(parents=True, exist_ok=True)
    (cluster.state_dir / MARK).touch()


def note_netns(cluster: Cluster, name: str) -> None:
    """Before a namespace is made, so that `remove` knows its name."""
    (cluster.ledger / name).touch()


def forget_netns(cluster: Cluster, name: str) -> None:
    """After it is gone."""
    (cluster.ledger / name).unlink(missing_ok=True)


def netns_names(cluster: Cluster) -> set[str]:
    """All that may be there: what the ledger says, and what follows from the cluster's name, should it be lost."""
    own = {cluster.underlay, *(cluster.node_netns(node) for node in NODES)}
    noted = {entry.name for entry in cluster.ledger.iterdir()} if cluster.ledger.exists() else set()
    return noted | own


def remove(cluster: Cluster) -> list[str]:
    """What was removed, in words. OSError or TimeoutError for what cannot be."""
    done = [*_processes(cluster)]
    if gone := sum(namespaces.delete(name) for name in netns_names(cluster)):
        done.append(f"{gone} network namespaces")
    if removed := sum(remove_tree(cluster.pins / node) for node in NODES):
        done.append(f"{removed} pins")
    _remove_if_empty(cluster.pins)
    for path in (cluster.state_dir, cluster.run_dir):
        if (path / MARK).exists():
            remove_tree(path)
            done.append(str(path))
    return done


def _processes(cluster: Cluster) -> list[str]:
    group = cluster.cgroup(cgroup.mount_point())
    ours = [group / name for name in (SUPERVISOR, OPERATOR, OUTSIDE, *NODES) if (group / name).exists()]
    count = sum(len(cgroup.processes(folder)) for path in ours for folder in cgroup.folders(path))
    for path in ours:
        cgroup.remove(path)
    _remove_if_empty(group)
    return [f"{count} processes"] if count else []


def remove_tree(path: Path) -> int:
    """All files below, and the folders; how many files. Links are removed, not followed; a pinned link of bpffs
    detaches its program as it goes. The mark goes last: an interrupted removal is finished by the next."""
    count = 0
    for folder, folders, files in os.walk(path, topdown=False):
        for name in sorted(files, key=lambda each: each == MARK):
            Path(folder, name).unlink(missing_ok=True)
            count += 1
        for name in folders:
            inner = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                inner.unlink() if inner.is_symlink() else inner.rmdir()
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()
    return count


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
