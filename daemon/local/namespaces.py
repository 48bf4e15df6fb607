"""Network namespaces by name, without a child process: what `ip netns add|del` does, and work inside one.

Python 3.11 has no `os.setns`, so libc is called. Only threads made for it ever change their namespace, and end
with their work: the caller's thread stays where it is.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from weft.daemon.local.names import NETNS_DIR

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 4096, 16384, 1 << 20
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, flags: int) -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None),
        f"mount {source} on {target}",
    )


def path(name: str) -> Path:
    return NETNS_DIR / name


def exists(name: str) -> bool:
    return path(name).exists()


def create(name: str) -> None:
    """Makes the namespace `name`, its loopback down as the kernel gives it. FileExistsError if there is one."""
    _prepare()
    target = path(name)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))

    def make() -> None:
        _check(_libc.unshare(CLONE_NEWNET), f"unshare {name}")
        _mount("/proc/thread-self/ns/net", str(target), MS_BIND)

    try:
        in_thread(make)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def delete(name: str) -> bool:
    """Removes the name; the namespace goes with the last process in it. False if there was none."""
    target = path(name)
    if not target.exists():
        return False
    _libc.umount2(str(target).encode(), MNT_DETACH)  # not mounted: half made; the file goes all the same
    target.unlink(missing_ok=True)
    return True


def _prepare() -> None:
    """/run/netns as a shared mount, as iproute2 makes it: an unmount is then seen in every mount namespace.
    Making it shared fails where it is no mount yet (`os.path.ismount` does not see a bind onto itself)."""
    NETNS_DIR.mkdir(parents=True, exist_ok=True)
    shared = ctypes.c_ulong(MS_SHARED | MS_REC)
    if _libc.mount(b"none", str(NETNS_DIR).encode(), b"none", shared, None) != 0:
        _mount(str(NETNS_DIR), str(NETNS_DIR), MS_BIND | MS_REC)
        _check(_libc.mount(b"none", str(NETNS_DIR).encode(), b"none", shared, None), f"share {NETNS_DIR}")


def in_thread(work: Callable[[], T]) -> T:
    """`work()` in a thread of its own, which ends with it; its result or its exception here."""
    result: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed to the caller, whatever it is
            failed.append(error)

    thread = threading.Thread(target=run, name="weft-netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


def inside(name: str, work: Callable[[], T]) -> T:
    """`work()` in the namespace `name`. Sockets and /proc/sys files opened there stay there."""

    def enter_and_work() -> T:
        with open(path(name)) as namespace:
            _check(_libc.setns(namespace.fileno(), CLONE_NEWNET), f"setns {name}")
        return work()

    return in_thread(enter_and_work)


def open_socket(name: str, family: int, kind: int) -> socket.socket:
    return inside(name, lambda: socket.socket(family, kind))


def write_sysctls(name: str, values: dict[str, str]) -> None:
    """Keys with slashes below /proc/sys/net. A key that this kernel lacks is an OSError that names it."""

    def write() -> None:
        for key, value in values.items():
            with open(f"/proc/sys/net/{key}", "w") as file:
                file.write(value)

    inside(name, write)
