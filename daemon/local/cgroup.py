"""Cgroup v2 folders of a cluster: what its processes are in, counted and ended by.

A process cannot leave its cgroup by forking, so "all processes of the cluster" is a folder, not a search. The
programs on sockets are attached to `N/<node>` by the daemon; here folders are only made, emptied and removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from weft.daemon import cgroups


def mount_point() -> Path:
    """Where cgroup v2 is mounted. LookupError if nowhere."""
    if found := cgroups.mount_point():
        return found
    raise LookupError("cgroup v2 is not mounted (mount -t cgroup2 none /sys/fs/cgroup/unified)")


def make(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def processes(path: Path) -> list[int]:
    """Of the folder itself, not of those below; [] where there is none."""
    try:
        return [int(word) for word in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def folders(path: Path) -> list[Path]:
    """`path` and all below it, the deepest first; [] where there is none."""
    return [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]


def kill(path: Path) -> None:
    """SIGKILL to everything in it and below, at once; returns before they are gone."""
    try:
        (path / "cgroup.kill").write_text("1")
    except FileNotFoundError:  # no such cgroup; or a kernel before 5.14, which is asked process by process
        for folder in folders(path):
            for pid in processes(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def empty(path: Path) -> bool:
    try:
        return "populated 0" in (path / "cgroup.events").read_text()
    except OSError:
        return True


def remove(path: Path, timeout: float = 5.0) -> None:
    """Kills what is in it and removes it with all below. TimeoutError names what will not go."""
    end = time.monotonic() + timeout
    while path.exists():
        kill(path)
        for folder in folders(path):
            with contextlib.suppress(OSError):  # EBUSY: the killed are not gone yet
                folder.rmdir()
        if path.exists() and time.monotonic() > end:
            raise TimeoutError(
                f"{path}: processes {[pid for f in folders(path) for pid in processes(f)]} do not end"
            )
        if path.exists():
            time.sleep(0.005)
