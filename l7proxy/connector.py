"""Connections in the client's name: from the client's address, with the proxy's mark, to a backend.

Rule: a connection that cannot bear the client's address is not made: the server's node would judge somebody else.
Source ports are the proxy's own (61000 to 65535 by default, above what kernels give out by themselves), so that the
answers to a client's address can be told from the client's own connections. They are counted through here: a port
that is asked for by number takes over what a connection before it left in TIME-WAIT (by TCP's timestamps), which
one of the kernel's choice does not, it costs half the time, and does not depend on the namespace's own range as
IP_LOCAL_PORT_RANGE does. Connecting costs no task and no thread: the loop tells when the socket is writable.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from weft.l7proxy.core.stream import Failure

Opened = Callable[[asyncio.Transport], asyncio.Protocol]
Failed = Callable[[Failure, str], None]

IPV6_TRANSPARENT: Final = 75
IP_TRANSPARENT: Final = 19
SO_MARK: Final = 36
#: Ports tried for one connection: all may be taken (for a minute after each that we closed) towards one backend.
TRIES: Final = 64
#: The port is in use towards this address.
_NO_PORT: Final = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


@dataclass(frozen=True, slots=True)
class Sockets:
    """What is set on the proxy's sockets. `mark` 0: none. `transparent` False: only addresses that the host has
    itself can be spoken for (tests without privileges)."""

    mark: int = 0
    first_port: int = 61000
    last_port: int = 65535
    transparent: bool = True
    own_addresses: frozenset[str] = frozenset()


class Cancel:
    """One attempt. After `cancel` neither callback is called; what was connected is closed."""

    __slots__ = ("_failed", "_keepalive", "_loop", "_opened", "_sock", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: Opened, failed: Failed) -> None:
        self._loop, self._opened, self._failed = loop, opened, failed
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None

    def cancel(self) -> None:
        self._opened = _refuse
        self._failed = _ignore
        self._drop()

    def begin(self, sock: socket.socket | None, code: int, timeout: float) -> None:
        """`sock` None: it failed with `code` already."""
        self._sock = sock
        if sock is None:
            self._loop.call_soon(self.fail, Failure.CONNECT, os.strerror(code))
        elif code:
            self._timer = self._loop.call_later(timeout, self._timed_out)
            self._loop.add_writer(sock.fileno(), self._writable)
        else:
            self._loop.call_soon(self._connected)

    def opened(self, transport: asyncio.Transport) -> asyncio.Protocol:
        opened, self._opened, self._failed = self._opened, _refuse, _ignore
        return opened(transport)

    def fail(self, failure: Failure, detail: str) -> None:
        self._drop()
        failed, self._failed = self._failed, _ignore
        failed(failure, detail)

    def _writable(self) -> None:
        if self._sock is None:
            return
        self._loop.remove_writer(self._sock.fileno())
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.fail(Failure.CONNECT, os.strerror(code))
        else:
            self._connected()

    def _connected(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock, self._sock = self._sock, None
        if sock is not None:
            made = self._loop.create_connection(lambda: _Landing(self), sock=sock)
            self._task = self._loop.create_task(made)
            self._task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(Failure.CONNECT, str(error))

    def _timed_out(self) -> None:
        self._timer = None
        self.fail(Failure.CONNECT_TIMEOUT, "connection timeout")

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None


class Connector:
    def __init__(self, loop: asyncio.AbstractEventLoop, sockets: Sockets | None = None) -> None:
        self.sockets = sockets or Sockets()
        #: A client's own address of the other family, "": it has none. Endpoints may have only that family.
        self.twin: Callable[[str], str] = _no_twin
        self._loop = loop
        self._port = random.randint(self.sockets.first_port, self.sockets.last_port)  # workers start apart
        self.attempts = self.port_clashes = 0

    def connect(
        self,
        source_ip: str,
        address: tuple[str, int],
        timeout: float,
        opened: Opened,
        failed: Failed,
        keepalive: tuple[float, float, int] | None = None,
    ) -> Cancel:
        """Calls `opened` with the transport, which answers the protocol that gets it from then on (its
        `connection_made` is called), or `failed`; neither of them from within this call."""
        self.attempts += 1
        attempt = Cancel(self._loop, opened, failed)
        sock, code = None, errno.EADDRNOTAVAIL
        for _ in range(TRIES):
            sock, code = self._dial(source_ip, address, keepalive)
            if code not in _NO_PORT:
                break
            self.port_clashes += 1
        attempt.begin(sock, code, timeout)
        return attempt

    def _dial(
        self, source: str, address: tuple[str, int], keepalive: tuple[float, float, int] | None
    ) -> tuple[socket.socket | None, int]:
        """The socket and what `connect` said."""
        family = _family(address[0])
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # too many open files
            return None, error.errno or errno.EMFILE
        try:
            self._prepare(sock, keepalive)
            self._speak_for(sock, family, source, address[0])
            code = sock.connect_ex(address)
        except OSError as error:
            code = error.errno or errno.EIO
        if code in (0, errno.EINPROGRESS):
            return sock, code
        sock.close()
        return None, code

    def _prepare(self, sock: socket.socket, keepalive: tuple[float, float, int] | None) -> None:
        if self.sockets.mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.sockets.mark)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if keepalive is not None:
            keep_alive(sock, *keepalive)

    def _speak_for(self, sock: socket.socket, family: int, source: str, target: str) -> None:
        """A client on the host itself speaks from the node's own address, and from any port."""
        if source in self.sockets.own_addresses or (_loopback(source) and not _loopback(target)):
            return
        if _family(source) != family and not (source := self.twin(source)):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        if source == target and self.sockets.transparent:  # a workload that was chosen to answer itself: no kernel
            return  # takes its own address from outside, and the node may always reach its workloads
        if self.sockets.transparent:
            transparent(sock, family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, self._next_port()))

    def _next_port(self) -> int:
        """In turn: a port is free again, also of the last connection's TIME-WAIT, before it is asked for again."""
        first, last = self.sockets.first_port, self.sockets.last_port
        self._port = self._port + 1 if first <= self._port < last else first
        return self._port


def transparent(sock: socket.socket, family: int) -> None:
    """May have addresses that are not the host's. CAP_NET_ADMIN or CAP_NET_RAW."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)


def keep_alive(sock: socket.socket, idle: float, interval: float, probes: int) -> None:
    """Seconds; 0: the system's."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (socket.TCP_KEEPIDLE, idle), (socket.TCP_KEEPINTVL, interval), (socket.TCP_KEEPCNT, probes)
    for option, value in options:
        if value:
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, int(value)))


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _no_twin(ip: str) -> str:
    return ""


def _loopback(ip: str) -> bool:
    return ip == "::1" or ip.startswith("127.")


def _ignore(failure: Failure, detail: str) -> None:
    """Nobody waits any more."""


class _Unwanted(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def _refuse(transport: asyncio.Transport) -> asyncio.Protocol:
    return _Unwanted()


class _Landing(asyncio.Protocol):
    """Holds a new connection until its owner has said which protocol it gets."""

    def __init__(self, attempt: Cancel) -> None:
        self._attempt = attempt

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, made)
        protocol = self._attempt.opened(transport)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
