"""weft.control.v1.Control: one stream per node. The shell around `hub` (what to send) and `nodes` (who has what).

A node that acknowledges slowly is sent nothing more until it does; by then the differences it missed may be gone
from the hub's history, and it gets a full snapshot. So a stuck node costs the operator nothing but its status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import NoReturn

import grpc
import grpc.aio

from weft.operator.admit import admit
from weft.operator.hub import Hub
from weft.operator.nodes import Nodes, Session, check, registration
from weft.operator.reconcile import Reconciler
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc as rpc

log = logging.getLogger(__name__)

#: Seconds that a stream may take to say hello.
HELLO_TIMEOUT = 10.0

Context = grpc.aio.ServicerContext[pb.NodeMessage, pb.Update]


class Control(rpc.ControlServicer):
    def __init__(self, reconciler: Reconciler, hub: Hub, nodes: Nodes) -> None:
        self._reconciler = reconciler
        self._hub = hub
        self._nodes = nodes

    async def Stream(self, request_iterator: object, context: Context) -> None:
        hello = await self._hello(context)
        session = self._nodes.connect(hello)
        log.info("%s connected (%s), has revision %d", hello.node, hello.version or "no version", hello.revision)
        try:
            await self._register(hello)
            await _first(self._send(context, session), self._receive(context, session), session.superseded.wait())
            if session.superseded.is_set():
                await context.abort(grpc.StatusCode.ABORTED, f"another stream of {hello.node} took over")
        finally:
            self._nodes.disconnect(session)
            log.info("%s disconnected, acknowledged revision %d", hello.node, session.node.acknowledged)

    async def _hello(self, context: Context) -> pb.Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                message = await context.read()
        except TimeoutError:
            await _refuse(context, "no hello")
        if not isinstance(message, pb.NodeMessage) or message.WhichOneof("message") != "hello":
            await _refuse(context, "the first message must be a hello")
        try:
            check(message.hello)
        except Invalid as error:
            await _refuse(context, str(error))
        return message.hello

    async def _register(self, hello: pb.Hello) -> None:
        """So that the first thing a node hears already holds itself."""
        ref = ObjectRef("Node", "", hello.node)
        stored = self._reconciler.store.get(ref)
        document = registration(hello, stored.json if stored else None)
        if document:
            self._reconciler.commit(self._reconciler.prepare(admit(document, "")))
            await self._reconciler.settled()

    async def _send(self, context: Context, session: Session) -> None:
        while True:
            update = self._hub.next(session.node.name, session.epoch, session.holds)
            if update is None:
                await self._hub.beyond(session.holds)
            elif session.full:
                await session.room.wait()
            else:
                session.sent(update)
                await context.write(update)
                if update.full:
                    log.info("%s: full snapshot, revision %d", session.node.name, update.revision)

    async def _receive(self, context: Context, session: Session) -> None:
        while True:
            message = await context.read()
            if not isinstance(message, pb.NodeMessage):
                return  # the node has closed its side
            if message.WhichOneof("message") == "ack":
                session.acknowledged(message.ack)
                for refusal in message.ack.refusals:
                    log.warning("%s refuses %s: %s", session.node.name, refusal.resource, refusal.reason)


async def _first(*awaitables: Awaitable[object]) -> None:
    """Until one of them is done; the others are cancelled. What it raised is raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse(context: Context, reason: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
    raise AssertionError("abort does not return")
