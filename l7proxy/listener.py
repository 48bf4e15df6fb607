"""Where redirected connections are accepted: on the loopback addresses, for whatever address the client asked for.

The kernel gives the socket connections to anybody (bpf_sk_assign), so the accepted socket's own address is what the
client addressed. The mark is inherited. A connection that was addressed to the listener itself comes from nobody's
client: it would be sent to the proxy again, so it is refused and counted. So is one of a client that has as many
as one may have: descriptors and memory are all clients'.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from weft.l7proxy.connection import Accepted
from weft.l7proxy.connector import SO_MARK, transparent
from weft.l7proxy.core.stream import Peer
from weft.l7proxy.shell import Shell
from weft.l7proxy.tcp import reset

BACKLOG: Final = 4096
LOOPBACKS: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def transparent_listeners(port: int, mark: int) -> list[socket.socket]:
    """On both loopback addresses; on IPv4's alone where the host has no IPv6. Raises OSError."""
    found = []
    for family, address in LOOPBACKS:
        try:
            found.append(listening(family, address, port, mark=mark, spoofed=True))
        except OSError:
            if family is socket.AF_INET6 and not _has_ipv6():
                continue
            for sock in found:
                sock.close()
            raise
    return found


def listening(
    family: socket.AddressFamily, address: str, port: int, *, mark: int = 0, spoofed: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if spoofed:
            transparent(sock, family)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Listener:
    """One listening socket. `destination`: in place of the accepted socket's own address (tests, benches)."""

    def __init__(self, shell: Shell, sock: socket.socket, destination: tuple[str, int] | None = None) -> None:
        self.sock, self.destination = sock, destination
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._shell = shell
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await self._shell.loop.create_server(
            lambda: _Arriving(self._shell, self), sock=self.sock, backlog=BACKLOG
        )

    def stop(self) -> None:
        """Accepts nothing more. A successor that holds the same socket goes on."""
        if self._server is not None:
            self._server.close()
            self._server = None


class _Arriving(asyncio.Protocol):
    """Asks whom the client addressed, once the connection is there."""

    def __init__(self, shell: Shell, listener: Listener) -> None:
        self._shell, self._listener = shell, listener

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, made)
        shell, own = self._shell, self._listener
        source = _plain(transport.get_extra_info("peername"))
        destination = own.destination or _plain(transport.get_extra_info("sockname"))
        shell.accepted += 1
        if source is None or destination is None:
            transport.abort()  # gone already
        elif destination == own.address:
            shell.counted["refused_loop"] += 1
            reset(transport)
        elif shell.crowded(source[0]):
            shell.counted["refused_crowd"] += 1
            reset(transport)
        else:
            accepted = Accepted(shell, Peer(source, destination, shell.accepted))
            transport.set_protocol(accepted)
            accepted.connection_made(transport)


def _plain(name: tuple[str, int] | tuple[str, int, int, int] | None) -> tuple[str, int] | None:
    """IPv4 addresses in IPv6's clothes are unmapped."""
    if not name:
        return None
    return name[0].removeprefix("::ffff:") if "." in name[0] else name[0], name[1]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
