"""weft.node.v1.Node: what `weft`, whatever starts pods, and tests ask of this node. Decides nothing."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from weft.daemon.agent import Agent
from weft.daemon.datapath.endpoints import Place
from weft.daemon.endpoint_views import NotFound
from weft.daemon.proxy.tap import Taps
from weft.daemon.proxy.worker import AskFailed
from weft.daemon.queries import Queries
from weft.policies.wire.pb import node_pb2 as pb
from weft.policies.wire.pb import node_pb2_grpc

#: A snapshot of 5,000 workloads and 1,000 policies is about 5 MB.
LARGEST_REPLY = 512 << 20
Context = grpc.aio.ServicerContext[Any, Any]


class NodeService(node_pb2_grpc.NodeServicer):
    def __init__(
        self, agent: Agent, queries: Queries, taps: Taps, settled: Callable[[int], Awaitable[None]]
    ) -> None:
        """`settled`: until the proxy has a revision, too, or has had its time."""
        self._agent, self._queries, self._taps, self._settled = agent, queries, taps, settled

    async def WaitEndpoint(self, request: pb.WaitEndpointRequest, context: Context) -> pb.WaitEndpointReply:
        """The caller's deadline is how long; gRPC answers DEADLINE_EXCEEDED itself."""
        key = f"{request.namespace}/{request.name}"
        spot: Place = await self._agent.wait_for(lambda: self._ready(key, tuple(request.ips)))
        return pb.WaitEndpointReply(
            endpoint_id=spot.ep_id, identity=spot.item.identity, revision=self._agent.in_force
        )

    async def WaitRevision(self, request: pb.WaitRevisionRequest, context: Context) -> pb.WaitRevisionReply:
        await self._agent.wait_for(lambda: self._agent.in_force >= request.revision)
        await self._settled(request.revision)
        return pb.WaitRevisionReply(revision=self._agent.in_force)

    async def Query(self, request: pb.QueryRequest, context: Context) -> pb.QueryReply:
        try:
            answer = await self._queries.answer(request.what, request.arg)
        except NotFound as missing:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(missing))
        except AskFailed as failed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(failed))
        return pb.QueryReply(json=json.dumps(answer).encode())

    async def GetSnapshot(self, request: pb.SnapshotRequest, context: Context) -> pb.SnapshotReply:
        return pb.SnapshotReply(update=self._agent.serialized())

    async def Tap(self, request: pb.TapRequest, context: Context) -> AsyncIterator[pb.TapReply]:
        if self._taps.full():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many look on already")
        await context.send_initial_metadata(())  # from here on nothing is missed
        async for reply in self._taps.look(request):
            yield reply

    def _ready(self, key: str, ips: tuple[str, ...]) -> Place | None:
        """`ips`, if given, must be those we know it by: the name may be that of a workload before it."""
        agent = self._agent
        spot = agent.datapath.placed.places.get(key)
        if spot is None or not agent.datapath.ready(key) or agent.problem:
            return None
        return spot if set(ips) <= set(spot.item.ips) else None


async def serve(socket: Path, service: NodeService) -> grpc.aio.Server:
    """Raises OSError. A socket that a dead daemon left is replaced."""
    _make_room(socket)
    server = grpc.aio.server(options=[("grpc.max_send_message_length", LARGEST_REPLY)])
    add: Callable[[Any, Any], None] = node_pb2_grpc.add_NodeServicer_to_server
    add(service, server)
    try:
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    except RuntimeError as error:
        raise OSError(f"{socket}: {error}") from None
    os.chmod(socket, 0o600)
    return server


def _make_room(socket: Path) -> None:
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
