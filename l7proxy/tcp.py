"""TCP tunnels: bytes both ways between a client and one endpoint, unread.

In: an accepted connection, with what was read of it. A route, or the service that was addressed, or the very
address gives the endpoint; one that does not answer is followed by another. Rules:

1. each end's half-close is passed on; a reset at one end is a reset at the other;
2. an end that does not read stops the other's reading: at most a buffer's high water mark is held;
3. denied, nobody there, or nobody answers: the client gets a reset, never silence;
4. an endpoint on whose port requests are judged gets no unread bytes (nothing fails open);
5. what policy says holds as long as the tunnel does: it is judged again when both ends are there, and whenever
   policy changes, or who they are.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Collection
from typing import Any, Final

from weft.l7proxy import tcproutes
from weft.l7proxy.connector import Cancel
from weft.l7proxy.core.parties import Cluster, Endpoint, Permit, Workload, same_workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Failure, Peer, Request
from weft.l7proxy.shell import Shell
from weft.policies.mesh.model import ConnectionPool

#: Endpoints that are tried before the client is told.
TRIES: Final = 5
HIGH_WATER: Final = 256 << 10
#: Seconds between two records of what an open connection carried so far.
REPORTED: Final = 5.0
_POOL: Final = ConnectionPool()
_ABORTIVE: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """RST instead of FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE)
    transport.abort()


class _End(asyncio.Protocol):
    """One of the two connections. `other` is the far end's, and it is there before bytes flow."""

    __slots__ = ("bytes", "ended", "lost", "other", "transport", "tunnel")
    other: _End

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel, self.transport = tunnel, transport
        self.bytes = 0
        self.ended = self.lost = False
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        self.other.finish()
        if self.other.ended:
            self.tunnel.close()
        return True

    def finish(self) -> None:
        """No more comes from the other side."""
        if not self.lost and not self.transport.is_closing():
            self.transport.write_eof()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.tunnel.lost(self, exc)


class _Early(_End):
    """The upstream before the client has spoken: if the server speaks first, nobody speaks HTTP here."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        self.tunnel.early(data)

    def eof_received(self) -> bool:
        self.ended = True
        self.tunnel.early(b"")
        return True


class Tunnel:
    """`begin` looks for an endpoint and connects; `adopt` gives it the client. Either may come first."""

    def __init__(self, shell: Shell, peer: Peer, server_name: str | None = None) -> None:
        self.peer = peer
        self._shell = shell
        self._server_name = server_name
        self._client = shell.world.workload(peer.source[0])
        self._server: Workload | None = None  # behind the endpoint, once both ends are there
        self._cluster: Cluster | None = None
        self._pool = _POOL
        self._tried: list[Endpoint] = []
        self._denied: Permit | None = None
        self._attempt: Cancel | None = None
        self._counted: Endpoint | None = None  # that our connection, or the attempt at one, is counted at
        self._down: _End | None = None
        self._up: _End | None = None
        self._held = b""  # of the client, until there is an upstream
        self._early = b""  # of the server, until there is the client
        self._server_first: Callable[[bool], None] | None = None
        self._moved = (0, 0)
        self._started = self._active = self._told = shell.now()
        self._over = False
        self.entry = self._new_entry()

    # from outside

    def begin(self, server_first: Callable[[bool], None] | None = None) -> None:
        """`server_first` is called before `adopt`, at most once: with True if the server speaks or closes, with
        False if there is none."""
        self._server_first = server_first
        self._cluster = self._choose()
        if self._cluster is not None:
            self._pool = self._cluster.policy.connection_pool or _POOL
            self.entry.cluster = self._cluster.name
        self._try()

    def adopt(self, transport: asyncio.Transport, data: bytes = b"", ended: bool = False) -> None:
        """The client's connection is this tunnel's from now on. `data`: what was read of it; `ended`: all of it."""
        self._server_first = None
        self._down = _End(self, transport)
        self._down.bytes, self._down.ended = len(data), ended
        self._held = data
        transport.set_protocol(self._down)
        self._shell.open.add(self)
        if self._over:
            self.reset()
        elif self._up is None:
            transport.pause_reading()
        else:
            self._join(self._up)

    def abandon(self) -> None:
        """The client speaks HTTP, or has gone: this was in vain, and nothing is told of it."""
        self._over, self._server_first = True, None
        if self._attempt is not None:
            self._attempt.cancel()
            self._ended()
        if self._up is not None:
            self._up.transport.abort()

    def policy_changed(self, addresses: Collection[str] | None) -> None:
        """Or who has these addresses; None: anybody's policy."""
        endpoint = self.entry.endpoint
        if self._server is None or endpoint is None:
            return  # judged when both ends are there
        if (addresses is None or self._client.ip in addresses or endpoint.ip in addresses) and not self._holds():
            self._revoke()

    # Open

    def tick(self, now: float) -> None:
        if self._down is None or self._up is None:
            return
        moved = (self._down.bytes, self._up.bytes)
        if moved != self._moved:
            self._moved, self._active = moved, now
        longest = self._pool.max_connection_duration
        if now - self._active >= self._pool.tcp_idle_timeout:
            self.entry.details = "idle timeout"
            self.close()
        elif longest and now - self._started >= longest:
            self.entry.flags, self.entry.details = "DT", "max connection duration"
            self.close()
        elif now - self._told >= REPORTED:
            self._told = now
            self._carried()

    def drain(self) -> None:
        """Bytes that nobody reads have no end to wait for: the time that is left is theirs."""

    def reset(self) -> None:
        for end in (self._down, self._up):
            if end is not None and not end.lost:
                reset(end.transport)

    def close(self) -> None:
        for end in (self._down, self._up):
            if end is not None and not end.lost:
                end.transport.close()

    def describe(self) -> dict[str, Any]:
        endpoint = self.entry.endpoint
        return {
            "protocol": "tcp",
            "source": list(self.peer.source),
            "destination": list(self.peer.destination),
            "upstream": [endpoint.ip, endpoint.port] if endpoint and self._up else None,
            "seconds": round(self._shell.now() - self._started, 3),
        }

    # to an endpoint

    def _choose(self) -> Cluster | None:
        """None: what was declared leads nowhere (NC). Routes hold where the client is: on this node."""
        world, clusters, (ip, _) = self._shell.world, self._shell.clusters, self.peer.destination
        host, port = world.addressed(self.peer.destination) if self._client.local else ("", 0)
        if not host:
            return clusters.original(self.peer.destination, self._client)
        self.entry.host, self.entry.service = host, world.service_key(host)
        routing = world.routing(host)
        rule = tcproutes.choose(routing, self._client, port, ip, self._server_name) if routing else None
        if rule is None:
            return clusters.cluster(host, port, "", self._client)
        self.entry.route = str(rule.origin)
        destination = tcproutes.draw(rule.destinations, self._shell.random)
        if destination is None or destination.refused:
            return None
        chosen = destination.port or self._default_port(destination.host, port)
        return clusters.cluster(destination.host, chosen, destination.subset, self._client)

    def _default_port(self, host: str, port: int) -> int:
        service = self._shell.world.service(host)
        ports = [item.port for item in service.ports] if service else []
        return ports[0] if len(ports) == 1 else port

    def _try(self) -> None:
        cluster = self._cluster
        if cluster is None:
            return self._fail("NC", "no such destination")
        key, _ = cluster.hash_key(_CONNECTION, self.peer)
        endpoint = cluster.pick(key, self._tried, self._allowed)
        if endpoint is None:
            return self._nobody(cluster)
        self._tried.append(endpoint)
        self.entry.endpoint = endpoint
        if not cluster.connect(endpoint):
            return self._fail("UO", "as many connections as the destination may have")
        self._counted = endpoint
        self.entry.tries += 1
        self._attempt = self._shell.connector.connect(
            self._client.ip,
            (endpoint.ip, endpoint.port),
            self._pool.connect_timeout,
            self._opened,
            self._failed,
            self._pool.keepalive,
        )
        return None

    def _allowed(self, endpoint: Endpoint) -> bool:
        permit = self._shell.world.permit(self._client, endpoint.workload, endpoint.port)
        if not permit.allowed or permit.judges:
            self._denied = permit
            return False
        return True

    def _nobody(self, cluster: Cluster) -> None:
        if cluster.denied and self._denied is not None:
            self.entry.verdict, self.entry.denied_by = "DROPPED", self._denied.denied_by
            self._fail("UAEX", self._denied.reason if not self._denied.allowed else "requests are judged here")
        else:
            self._fail("UF" if self._tried else "UH", self.entry.failure or "no healthy upstream")

    def _failed(self, failure: Failure, detail: str) -> None:
        self._attempt = None
        self.entry.failure = detail
        self._ended(failure)
        if len(self._tried) < TRIES:
            self._try()
        else:
            self._fail("UF", detail)

    def _ended(self, failure: Failure | None = None) -> None:
        """Once for each `connect` of the cluster."""
        counted, self._counted = self._counted, None
        if counted is not None and self._cluster is not None:
            if failure is not None:
                self._cluster.connected(counted, failure)
            self._cluster.disconnected(counted)

    def _opened(self, transport: asyncio.Transport) -> asyncio.Protocol:
        self._attempt = None
        if self._cluster is not None and self._counted is not None:
            self._cluster.connected(self._counted, None)
        local = transport.get_extra_info("sockname")
        self.entry.upstream_local = (local[0], local[1]) if local else None
        self._up = up = _Early(self, transport) if self._down is None else _End(self, transport)
        if self._down is not None:
            self._join(up)
        return up

    def _join(self, up: _End) -> None:
        """Both ends are there."""
        down = self._down
        assert down is not None
        if isinstance(up, _Early):
            self._up, up = _landed(up), up
            up = self._up
        down.other, up.other = up, down
        if not self._holds():
            return self._revoke()
        held, early = self._held, self._early
        self._held = self._early = b""
        if held:
            up.transport.write(held)
        if early:
            down.transport.write(early)
        if up.ended:
            down.finish()
        if down.ended:
            up.finish()
        self._permitted()
        self._carried()
        if not down.transport.is_closing():
            down.transport.resume_reading()
        return None

    def _holds(self) -> bool:
        """Whether both ends are who they were, and policy lets one speak to the other."""
        endpoint = self.entry.endpoint
        assert endpoint is not None
        client, server = self._shell.world.workload(self._client.ip), endpoint.workload
        same = same_workload(client, self._client) and (self._server is None or same_workload(server, self._server))
        self._client, self._server = client, server
        return same and self._allowed(endpoint)

    def _revoke(self) -> None:
        self._over = True
        entry, denied = self.entry, self._denied
        entry.verdict, entry.flags, entry.details = "DROPPED", "UAEX", "not permitted any more"
        entry.denied_by, entry.allowed_by = denied.denied_by if denied else (), ()
        self._shell.counted["revoked"] += 1
        self.reset()

    # what happens

    def early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > HIGH_WATER and self._up is not None:
            self._up.transport.pause_reading()
        self._tell(True)

    def lost(self, end: _End, error: Exception | None) -> None:
        other = self._up if end is self._down else self._down
        if end is not self._down:
            self._ended()
        if other is None:
            return self._early_loss()
        if not other.lost:
            if error is not None:
                self.entry.flags = self.entry.flags or ("DC" if end is self._down else "UC")
                reset(other.transport)
            else:
                other.transport.close()
        else:
            self._finish()
        return None

    def _early_loss(self) -> None:
        """One end is lost before there is another."""
        if self._down is not None:  # the client's
            if self._attempt is not None:
                self._attempt.cancel()
                self._attempt = None
                self._ended()
            self._finish()
        else:
            self._over, self._up = True, None
            self.entry.flags, self.entry.details = "UC", "the server closed before the client spoke"
            self._tell(True)

    def _tell(self, spoken: bool) -> None:
        told, self._server_first = self._server_first, None
        if told is not None:
            told(spoken)

    def _fail(self, flags: str, detail: str) -> None:
        self._over = True
        self.entry.flags, self.entry.details = flags, detail
        if self.entry.verdict == "FORWARDED":
            self.entry.verdict = "ERROR"
        if self._down is not None:
            self.reset()
        self._tell(False)

    # what is told of it

    def _new_entry(self) -> Entry:
        entry = Entry(self._started, self._shell.wall())
        entry.protocol, entry.client = "TCP", self._client
        entry.source_port = self.peer.source[1]
        entry.destination_ip, entry.destination_port = self.peer.destination
        entry.reports_source = not from_proxy(self._client, self.peer, self._shell.first_port)
        return entry

    def _permitted(self) -> None:
        endpoint, entry = self.entry.endpoint, self.entry
        assert endpoint is not None
        server = endpoint.workload
        permit = self._shell.world.permit(self._client, server, endpoint.port)
        entry.allowed_by, entry.reports_destination = permit.allowed_by, permit.reports_destination
        entry.egress, entry.ingress = bool(self._client.namespace) and self._client.local, server.local

    def _measure(self) -> None:
        self.entry.request_bytes = self._down.bytes if self._down else 0
        self.entry.response_bytes = self._up.bytes if self._up else 0

    def _carried(self) -> None:
        self._measure()
        self._shell.observer.carried(self.entry)

    def _finish(self) -> None:
        if self in self._shell.open:
            self._shell.open.discard(self)
            self._measure()
            self.entry.ended = self._shell.now()
            self._shell.observer.over(self.entry)


def from_proxy(client: Workload, peer: Peer, first_port: int) -> bool:
    """The proxy of the client's node stands before this one, and has told of the client's side."""
    return bool(client.namespace) and not client.local and peer.source[1] >= first_port


def _landed(early: _Early) -> _End:
    """The same connection, for bytes both ways."""
    end = _End(early.tunnel, early.transport)
    end.bytes, end.ended, end.lost = early.bytes, early.ended, early.lost
    early.transport.set_protocol(end)
    if not early.lost and not early.transport.is_closing():
        early.transport.resume_reading()
    return end


#: What stands for a connection where a request is asked for.
_CONNECTION: Final = Request(b"", b"", b"", [])
