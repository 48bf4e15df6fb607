"""Control groups, version 2: where the node's sockets are balanced and watched."""

from __future__ import annotations

from pathlib import Path


def mount_point(mounts: Path = Path("/proc/self/mounts")) -> Path | None:
    """Of the version 2 hierarchy, wherever this machine has it; None: nowhere."""
    for line in mounts.read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(where.replace("\\040", " "))
    return None


def ensure(directory: Path) -> Path:
    """The group itself, made if it is not there. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def is_version_2(directory: Path) -> bool:
    return (directory / "cgroup.procs").exists() and (directory / "cgroup.controllers").exists()


def remove(directory: Path) -> None:
    """The group and those below it, if nobody lives in them any more."""
    if not directory.is_dir():
        return
    for below in sorted((path for path in directory.rglob("*") if path.is_dir()), reverse=True):
        _remove_one(below)
    _remove_one(directory)


def _remove_one(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # somebody's processes are in it: theirs to end
