"""Accepted connections: undecided first, then HTTP behind a codec, or a tunnel.

In: bytes of a client. Out: calls of a `ServerCodec`, which gets the transport to write to. What a connection speaks
is decided once: by what its service port declares, else by the first bytes (`detect`), or by the server where it
speaks first. Rules:

1. a client that waits for the server is not made to wait for us: after GRACE its server is connected;
2. bytes that do not decide within the head's time are TCP where nothing is declared, and the end where HTTP is;
3. what was read is handed on whole, so whoever gets the connection sees all of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final, cast

from weft.l7proxy.core import http1, http2
from weft.l7proxy.core.stream import Peer, Request, ServerCodec
from weft.l7proxy.detect import Declared, Speech, client_hello, declared, http_speech, speech
from weft.l7proxy.shell import MakeCodec, Shell
from weft.l7proxy.tcp import Tunnel, reset
from weft.policies.snapshot import ServicePortItem

#: Seconds that a client has to speak before its server is asked whether it speaks first. Who speaks HTTP does so
#: mostly with the handshake's last packet, and then no connection is made in vain.
GRACE: Final = 0.005
#: Seconds that a connection without a request has when the worker drains.
LAST_WORDS: Final = 1.0
HIGH_WATER: Final = 64 << 10
#: Endpoints of a service that are asked for policy before the first byte.
ASKED: Final = 16


class HttpConnection(asyncio.Protocol):
    """What the loop knows of a codec. `data_received` is the codec's own method: no call in between."""

    __slots__ = ("codec", "data_received", "peer", "shell", "transport")
    data_received: Callable[[bytes], None]  # type: ignore[assignment]

    def __init__(self, shell: Shell, transport: asyncio.Transport, peer: Peer, codec: ServerCodec) -> None:
        self.shell, self.transport, self.peer, self.codec = shell, transport, peer, codec
        self.data_received = codec.receive
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def eof_received(self) -> bool:
        self.codec.eof()
        return True

    def pause_writing(self) -> None:
        self.codec.pause_writing()

    def resume_writing(self) -> None:
        self.codec.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.shell.open.discard(self)
        self.codec.lost()
        if isinstance(self.codec, http1.Server):
            self.codec.on_h2c = None
        del self.data_received  # nobody shall wait for the collector of cycles

    def give_away(self) -> socket.socket | None:
        """The connection's socket, to be used by another process; None: it is not idle. The connection is closed
        here once the loop turns, and stays open there."""
        if self.peer.protocol != "http1" or not self.codec.idle or self.transport.get_write_buffer_size():
            return None
        return _taken_from(self.transport)

    def upgrade(self, request: Request, settings: bytes, rest: bytes) -> None:
        """From HTTP/1.1 to HTTP/2, as the client asked (RFC 7540, 3.2); the 101 is written."""
        shell, peer = self.shell, self.peer
        peer.protocol, peer.upgraded = "http2", True
        value = urlsafe_b64encode(settings).rstrip(b"=")
        try:
            codec = http2.Server.upgrade(
                self.transport, shell.handler(peer), peer, shell.limits, shell.now, request, value
            )
        except ValueError:
            self.transport.close()
            return
        self.codec = codec
        self.data_received = codec.receive
        self.transport.set_protocol(self)
        if rest:
            codec.receive(rest)

    # Open

    def tick(self, now: float) -> None:
        self.codec.tick(now)

    def drain(self) -> None:
        self.codec.drain()

    def reset(self) -> None:
        reset(self.transport)

    def describe(self) -> dict[str, Any]:
        return {
            "protocol": self.peer.protocol,
            "source": list(self.peer.source),
            "destination": list(self.peer.destination),
            "idle": self.codec.idle,
        }


class Accepted(asyncio.Protocol):
    """A connection nobody knows yet what it speaks."""

    __slots__ = ("_data", "_declared", "_shell", "_timer", "_transport", "_tunnel", "_until", "peer")
    _transport: asyncio.Transport

    def __init__(self, shell: Shell, peer: Peer, says: Declared | None = None) -> None:
        """`says` None: as the service port declares."""
        self.peer = peer
        self._shell = shell
        self._data = b""
        self._declared = port_declares(shell, peer) if says is None else says
        self._timer: asyncio.Handle | None = None
        self._tunnel: Tunnel | None = None
        self._until = shell.now() + shell.limits.idle_timeout

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._shell.open.add(self)
        if self._declared is Declared.TCP:  # soon: uvloop reads after this call, whoever pauses it now
            self._timer = self._shell.loop.call_soon(self._become_tunnel, None)
        elif self._declared is Declared.NOTHING:
            self._timer = self._shell.loop.call_later(GRACE, self._ask_server)

    def data_received(self, data: bytes) -> None:
        if not self._data:
            self._until = self._shell.now() + self._shell.limits.head_timeout
        self._data = data = self._data + data if self._data else data
        if self._declared is Declared.TCP:
            return self._become_tunnel(None)
        said = http_speech(data) if self._declared is Declared.HTTP else speech(data)
        if said is Speech.HTTP1:
            self._become_http(self._shell.http1, "http1")
        elif said is Speech.HTTP2:
            self._become_http(self._shell.http2, "http2")
        elif said is Speech.TLS:
            hello = client_hello(data)
            if hello.complete:
                self._become_tunnel(hello.name)
        elif said is Speech.TCP:
            self._become_tunnel(None)
        return None

    def eof_received(self) -> bool:
        if self._declared is Declared.HTTP:
            return False
        self._become_tunnel(None, ended=True)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._tunnel is not None:
            self._tunnel.abandon()

    def give_away(self) -> socket.socket | None:
        """As HttpConnection's: nothing was read of it yet."""
        return None if self._data else _taken_from(self._transport)

    # Open

    def tick(self, now: float) -> None:
        if now < self._until:
            return
        if self._data and self._declared is not Declared.HTTP:
            self._become_tunnel(None)
        else:
            self._shell.counted["undecided_timeout"] += 1
            self._transport.close()

    def drain(self) -> None:
        """Its first request may be on its way: that is served yet."""
        self._until = min(self._until, self._shell.now() + LAST_WORDS)

    def reset(self) -> None:
        reset(self._transport)

    def describe(self) -> dict[str, Any]:
        return {"protocol": "", "source": list(self.peer.source), "destination": list(self.peer.destination)}

    # what becomes of it

    def _ask_server(self) -> None:
        """Neither side has said what they speak: the server may be the one who speaks first."""
        self._timer = None
        if not self._data:
            self._tunnel = Tunnel(self._shell, self.peer)
            self._tunnel.begin(self._server_first)

    def _server_first(self, spoken: bool) -> None:
        if spoken:
            self._become_tunnel(None)
        else:
            self._tunnel = None  # the client may speak HTTP yet, and then is told in its words

    def _become_http(self, make: MakeCodec, protocol: str) -> None:
        self._leave()
        if self._tunnel is not None:
            self._tunnel.abandon()
            self._tunnel = None
        shell, transport, peer = self._shell, self._transport, self.peer
        peer.protocol = protocol
        codec = make(transport, shell.handler(peer), peer, shell.limits, shell.now)
        connection = HttpConnection(shell, transport, peer, codec)
        transport.set_protocol(connection)
        shell.open.add(connection)
        if isinstance(codec, http1.Server):
            codec.on_h2c = connection.upgrade
        data, self._data = self._data, b""
        codec.receive(data)
        if shell.draining:
            codec.drain()

    def _become_tunnel(self, server_name: str | None, *, ended: bool = False) -> None:
        self._leave()
        self.peer.protocol = "tcp"
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None and server_name:  # a name may lead elsewhere
            tunnel.abandon()
            tunnel = None
        data, self._data = self._data, b""
        if tunnel is None:
            tunnel = Tunnel(self._shell, self.peer, server_name)
            tunnel.adopt(self._transport, data, ended)
            tunnel.begin()
        else:
            tunnel.adopt(self._transport, data, ended)

    def _leave(self) -> None:
        self._shell.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def port_declares(shell: Shell, peer: Peer) -> Declared:
    host, port = shell.world.addressed(peer.destination)
    service = shell.world.service(host) if host else None
    for item in service.ports if service else ():
        if item.port == port:
            says = declared(item.name, item.app_protocol)
            return Declared.NOTHING if says is Declared.TCP and _judged(shell, peer, item) else says
    return Declared.NOTHING


def _judged(shell: Shell, peer: Peer, port: ServicePortItem) -> bool:
    """Policy that judges requests says what a port speaks, whatever its service calls it. Of the endpoints some are
    asked: one that is judged and was not gets no tunnel."""
    world, (ip, number) = shell.world, peer.destination
    client = world.workload(peer.source[0])
    asked = [(ip, number)] if world.workload(ip).namespace else [(b.ip, b.port) for b in port.backends[:ASKED]]
    permits = (world.permit(client, world.workload(backend), at) for backend, at in asked)
    return any(permit.judges for permit in permits)


def _taken_from(transport: asyncio.Transport) -> socket.socket | None:
    """What comes from now on stays in the kernel, for whoever uses the socket."""
    if transport.is_closing():
        return None
    transport.pause_reading()
    sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    transport.abort()
    return sock
