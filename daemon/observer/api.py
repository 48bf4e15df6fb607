"""gRPC: the Observer and Peer services of Hubble, health and reflection, over one Observer.

A stream that nobody reads costs nothing: each keeps its place in the ring, and grpc holds back the next response
until the last one is on its way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from weft.daemon.observer.reader import BadRequest, Reader
from weft.daemon.observer.store import Gap
from weft.policies.wire.pb import observer_pb2 as pb
from weft.policies.wire.pb import observer_pb2_grpc, peer_pb2, peer_pb2_grpc, relay_pb2

if TYPE_CHECKING:
    from weft.daemon.observer.service import Observer

Context = grpc.aio.ServicerContext[Any, Any]
_NAMESPACE_KEPT_NS = 3600 * 1_000_000_000
#: Of requests: filters are small, and a client of the socket shall not make the daemon large.
_MAX_REQUEST = 256 * 1024
#: Calls at once, followers included; one more is refused. Each follower decodes what it is sent.
_MAX_STREAMS = 128
SERVICES = ("observer.Observer", "peer.Peer")
HEALTH = "grpc.health.v1.Health"


class ObserverService(observer_pb2_grpc.ObserverServicer):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def GetFlows(self, request: pb.GetFlowsRequest, context: Context) -> AsyncIterator[pb.GetFlowsResponse]:
        o = self._observer
        try:
            reader = Reader(o.ring, o.flows, o.node.full_name, request, o.now)
        except BadRequest as bad:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(bad))
        await context.send_initial_metadata(())  # a follower shall know that it misses nothing from here on
        async for response in reader.responses():
            yield response
        if o.ring.closed and request.follow:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the observer is stopping")

    async def GetAgentEvents(
        self, request: pb.GetAgentEventsRequest, context: Context
    ) -> AsyncIterator[pb.GetAgentEventsResponse]:
        """None are kept; a follower waits for what never comes, as with an idle agent."""
        await self._nothing(request, context)
        for _ in ():
            yield pb.GetAgentEventsResponse()

    async def GetDebugEvents(
        self, request: pb.GetDebugEventsRequest, context: Context
    ) -> AsyncIterator[pb.GetDebugEventsResponse]:
        """As GetAgentEvents."""
        await self._nothing(request, context)
        for _ in ():
            yield pb.GetDebugEventsResponse()

    async def _nothing(
        self, request: pb.GetAgentEventsRequest | pb.GetDebugEventsRequest, context: Context
    ) -> None:
        if request.first and request.follow:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "first cannot be specified with follow")
        if request.follow:
            await self._observer.stopping.wait()

    async def GetNodes(self, request: pb.GetNodesRequest, context: Context) -> pb.GetNodesResponse:
        """This node; a client that knows several sockets merges their answers."""
        o = self._observer
        node = pb.Node(
            name=o.node.full_name,
            version=o.node.version,
            address=o.addresses[0] if o.addresses else "",
            state=relay_pb2.NODE_CONNECTED,
            tls=pb.TLS(enabled=False),
            uptime_ns=o.uptime_ns(),
            num_flows=len(o.ring),
            max_flows=o.ring.capacity,
            seen_flows=o.seen,
        )
        return pb.GetNodesResponse(nodes=[node])

    async def GetNamespaces(self, request: pb.GetNamespacesRequest, context: Context) -> pb.GetNamespacesResponse:
        """Those with flows in the last hour, as far back as the ring goes."""
        o = self._observer
        found: set[str] = set()
        for number in range(o.ring.since(o.now() - _NAMESPACE_KEPT_NS), o.ring.next):
            entry = o.ring[number]
            if not isinstance(entry, Gap):
                found.update(owner.namespace for owner in (entry.source, entry.destination) if owner is not None)
        names = [pb.Namespace(cluster=o.node.cluster, namespace=name) for name in sorted(found - {""})]
        return pb.GetNamespacesResponse(namespaces=names)

    async def ServerStatus(self, request: pb.ServerStatusRequest, context: Context) -> pb.ServerStatusResponse:
        o = self._observer
        return pb.ServerStatusResponse(
            num_flows=len(o.ring),
            max_flows=o.ring.capacity,
            seen_flows=o.seen,
            uptime_ns=o.uptime_ns(),
            version=o.node.version,
            flows_rate=o.ring.rate(o.now()),
        )


class PeerService(peer_pb2_grpc.PeerServicer):
    """Tells of this node and keeps the stream open: the other nodes' addresses are not this daemon's to know."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def Notify(
        self, request: peer_pb2.NotifyRequest, context: Context
    ) -> AsyncIterator[peer_pb2.ChangeNotification]:
        o = self._observer
        for address in o.addresses[:1]:
            yield peer_pb2.ChangeNotification(name=o.node.full_name, address=address, type=peer_pb2.PEER_ADDED)
        await o.stopping.wait()


def remove_sockets(addresses: Sequence[str]) -> None:
    for address in addresses:
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


async def start(observer: Observer, addresses: Sequence[str]) -> grpc.aio.Server:
    """A server that listens. OSError: it cannot, on one of them."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_REQUEST), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=_MAX_STREAMS,
    )
    observer_pb2_grpc.add_ObserverServicer_to_server(ObserverService(observer), server)  # type: ignore[no-untyped-call]
    peer_pb2_grpc.add_PeerServicer_to_server(PeerService(observer), server)  # type: ignore[no-untyped-call]
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for name in ("", *SERVICES):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    _add_reflection(server)
    for address in addresses:
        _listen(server, address)
    await server.start()
    return server


def _add_reflection(server: grpc.aio.Server) -> None:
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection([*SERVICES, HEALTH, reflection.SERVICE_NAME], server)


def _listen(server: grpc.aio.Server, address: str) -> None:
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).parent.mkdir(parents=True, exist_ok=True)
        remove_sockets([address])
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"{address}: {error}") from None
    if port == 0:
        raise OSError(f"{address}: cannot listen")
