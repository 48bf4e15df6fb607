"""A process in a cgroup and a network namespace of its own, that opens sockets on request: a pod, for the hooks.

`Pod.call(function, ...)` runs a function of this module there. The namespace has `lo` with a few more addresses,
and nothing else: a service's address leads nowhere unless a hook changes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000

#: On `lo`, beside 127.0.0.1 and ::1: addresses that are not loopback's.
ADDRESSES: Final = ("10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2")

Address = tuple[str, int]


class Pod:
    def __init__(self, cgroup: Path) -> None:
        """`cgroup`: a directory that is there, of version 2."""
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _enter, (str(cgroup),))
        self.call(os.getpid)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._pool.submit(function, *args, **kwargs).result(timeout=20)

    def close(self) -> None:
        self._pool.shutdown()


@contextlib.contextmanager
def private_cgroup(name: str) -> Iterator[Path]:
    """Below the version 2 hierarchy, removed at the end."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next(Path(fields[1]) for fields in mounts if fields[2] == "cgroup2")
    path = root / f"weft-test-{os.getpid()}-{name}"
    (path / "pod").mkdir(parents=True)
    try:
        yield path
    finally:
        (path / "pod").rmdir()
        path.rmdir()


def _enter(cgroup: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare the network namespace")
    (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        nodad = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", address, "dev", "lo", *nodad], check=True)


# What runs in the pod. Sockets stay there, under a number.

_kept: dict[int, socket.socket] = {}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(kind: socket.SocketKind, address: str, port: int = 0) -> int:
    """Answers whoever asks with its own port; TCP closes then. Its port."""
    server = socket.socket(_family(address), kind)
    server.bind((address, port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    name = server.getsockname()[1]
    threading.Thread(
        target=_accept if kind == socket.SOCK_STREAM else _echo, args=(server, name), daemon=True
    ).start()
    return int(name)


def _accept(server: socket.socket, name: int) -> None:
    while True:
        client, _ = server.accept()
        with client:
            client.sendall(str(name).encode())
            client.recv(1 << 16)  # until the other side is done


def _echo(server: socket.socket, name: int) -> None:
    while True:
        _, peer = server.recvfrom(1 << 16)
        server.sendto(str(name).encode(), peer)


def ask(
    kind: socket.SocketKind, to: Address, *, bind: str = "", mapped: bool = False, payload: bytes = b"?"
) -> tuple[Address, int]:
    """Connects, asks, closes. Who the socket says its peer is, and the port that answered. Raises OSError.
    `mapped`: an IPv6 socket that speaks IPv4."""
    address = f"::ffff:{to[0]}" if mapped else to[0]
    with socket.socket(_family(address), kind) as asking:
        asking.settimeout(5)
        if bind:
            asking.bind((bind, 0))
        asking.connect((address, to[1]))
        asking.sendall(payload)
        return asking.getpeername()[:2], int(asking.recv(64))


def datagram_socket(family: int, connect: Address | None = None) -> int:
    """A number for `send`."""
    opened = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    opened.settimeout(5)
    if connect:
        opened.connect(connect)
    _kept[opened.fileno()] = opened
    return opened.fileno()


def send(number: int, to: Address | None = None) -> tuple[Address, int]:
    """Who the answer says it comes from, and the port that answered."""
    opened = _kept[number]
    if to:
        opened.sendto(b"?", to)
    else:
        opened.send(b"?")
    answer, source = opened.recvfrom(64)
    return source[:2], int(answer)


def connect(number: int, to: Address) -> None:
    """Once more, to somebody else."""
    _kept[number].connect(to)


def peer(number: int) -> Any:
    return _kept[number].getpeername()[:2]


def netns_cookie() -> int:
    """As programs see it."""
    with socket.socket() as asking:
        return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, 71, 8), "little")


def close_all() -> None:
    while _kept:
        _kept.popitem()[1].close()
