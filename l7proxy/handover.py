"""A successor takes over: the listening sockets, then the connections that stand idle between two requests.

```
successor: connects -----------------> predecessor
           <- listeners, with sockets -             both accept now, from one queue
           accepting - confirms ------>             stops accepting
           <- idle connections, sockets -           drains the rest, and ends
```

Messages are JSON on a SOCK_SEQPACKET unix socket in the run directory, sockets go beside them (SCM_RIGHTS). Rule:
there is no moment in which nobody accepts, and a successor that dies half way leaves the predecessor as it was.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

#: Sockets in one message: SCM_MAX_FD is 253.
MOST_SOCKETS: Final = 200
MESSAGE: Final = 64 << 10
PATIENCE: Final = 10.0
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Given:
    """A socket and what is to be known of it (plain values)."""

    sock: socket.socket
    about: dict[str, Any]


class Refused(OSError):
    """There is no predecessor, or it does not hand over."""


def socket_path(run_dir: Path, worker: int) -> Path:
    return run_dir / f"proxy-{worker}.handover"


class Giver:
    """The predecessor's side. `listeners` and `idle` are asked when the successor is there; `left` is called when
    it has confirmed that it accepts: stop accepting; `gone` when all was sent: drain."""

    def __init__(
        self,
        path: Path,
        listeners: Callable[[], Sequence[Given]],
        left: Callable[[], None],
        idle: Callable[[], Iterable[Given]],
        gone: Callable[[], None],
    ) -> None:
        self.path = path
        self._listeners, self._left, self._idle, self._gone = listeners, left, idle, gone
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes the place of a socket that somebody dead left. Raises OSError."""
        self.path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            sock.bind(str(self.path))
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        sock.listen(1)
        self._sock = sock
        self._task = asyncio.get_running_loop().create_task(self._serve(sock))

    def stop(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self.path.unlink(missing_ok=True)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _serve(self, sock: socket.socket) -> None:
        while self._sock is sock:
            await _readable(sock)
            try:
                successor, _ = sock.accept()
            except BlockingIOError:
                continue
            successor.setblocking(False)
            with successor, contextlib.suppress(OSError, TimeoutError, ValueError):
                if _uid(successor) in (0, os.geteuid()):
                    await self._give(successor)

    async def _give(self, successor: socket.socket) -> None:
        async with asyncio.timeout(PATIENCE):
            await _send(successor, "listeners", self._listeners())
            kind, _ = await _receive(successor)
            if kind != "accepting":
                raise ValueError(kind)
        self._left()
        self.stop()  # the path is the successor's now
        idle = list(self._idle())
        try:
            async with asyncio.timeout(PATIENCE):
                for at in range(0, len(idle), MOST_SOCKETS):
                    await _send(successor, "connections", idle[at : at + MOST_SOCKETS])
                await _send(successor, "done", ())
        finally:
            for each in idle:
                each.sock.close()
            self._gone()


async def take(path: Path, accept: Callable[[Sequence[Given]], Any]) -> list[Given]:
    """The successor's side: `accept` (a coroutine function) gets the listening sockets and returns once connections
    are accepted from them. Returns the idle connections. Refused: nobody is there, or it broke off before it let
    go; if it breaks off later, what came until then is returned."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with sock:
        try:
            async with asyncio.timeout(PATIENCE):
                sock.connect(str(path))
                kind, given = await _receive(sock)
                if kind != "listeners":
                    raise Refused(f"{path}: it says {kind!r}")
        except (OSError, TimeoutError, ValueError) as error:
            raise Refused(f"{path}: {error or 'no answer'}") from None
        await accept(given)
        found: list[Given] = []
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(PATIENCE):
                await _send(sock, "accepting", ())
                while kind != "done":
                    kind, given = await _receive(sock)
                    found += given
        return found


async def _send(sock: socket.socket, kind: str, given: Sequence[Given]) -> None:
    data = json.dumps({"kind": kind, "about": [each.about for each in given]}).encode()
    rights = array.array("i", [each.sock.fileno() for each in given])
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if given else []
    while True:
        try:
            sock.sendmsg([data], beside)
            return
        except BlockingIOError:
            await _writable(sock)


async def _receive(sock: socket.socket) -> tuple[str, list[Given]]:
    """Raises OSError, ValueError."""
    while True:
        try:
            data, beside, flags, _ = sock.recvmsg(MESSAGE, socket.CMSG_SPACE(MOST_SOCKETS * 4))
            break
        except BlockingIOError:
            await _readable(sock)
    socks = [socket.socket(fileno=fd) for fd in _descriptors(beside)]
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for each in socks:
            each.close()
        raise ValueError("the message was cut" if data else "it closed its connection")
    message = json.loads(data)
    return message["kind"], [Given(s, about) for s, about in zip(socks, message["about"], strict=True)]


def _descriptors(beside: Iterable[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _uid(sock: socket.socket) -> int:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    fd = sock.fileno()
    loop.add_reader(fd, _done, waiter)
    try:
        await waiter
    finally:
        if sock.fileno() == fd:  # else it was closed, and the number may be another's by now
            loop.remove_reader(fd)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    fd = sock.fileno()
    loop.add_writer(fd, _done, waiter)
    try:
        await waiter
    finally:
        if sock.fileno() == fd:
            loop.remove_writer(fd)


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
