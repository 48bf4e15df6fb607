"""Pools over real sockets, on asyncio's loop and on uvloop, with the codecs and the connector that the worker has:
what fakes cannot get wrong."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from cluster_lab import Clock, World, anybody, pod
from weft.l7proxy.connector import Connector, Sockets
from weft.l7proxy.core.clusters import ClusterMap
from weft.l7proxy.core.http1 import Client
from weft.l7proxy.core.stream import Failure, Request, Response
from weft.l7proxy.upstream.connection import Connection
from weft.l7proxy.upstream.pool import _Dial as Dial
from weft.policies.mesh.model import (
    ConnectionPool,
    DestinationPolicy,
    HostRouting,
    LeveledPolicy,
    TrafficPolicy,
)
from weft.policies.model import ObjectRef, Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

HOST = "orders.shop.svc.cluster.local"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Try:
    """A ResponseSink that sends one GET."""

    def __init__(self) -> None:
        self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.fresh, self.local = False, ("", 0)

    def opened(self, upstream: Any) -> None:
        self.fresh, self.local = upstream.fresh, upstream.local
        upstream.request(Request(b"GET", b"/", b"orders", []), True)

    def informational(self, response: Response) -> None: ...
    def response(self, response: Response, end: bool) -> None:
        self.status = response.status
        if end:
            self.over.set_result(response.status)

    def response_body(self, data: bytes) -> None: ...
    def response_end(self, trailers: object) -> None:
        self.over.set_result(self.status)

    def failed(self, failure: Failure, detail: str) -> None:
        self.over.set_result(failure)

    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...


class Proxy:
    def __init__(self, port: int) -> None:
        self.world = World()
        self.client = self.world.workloads["127.0.0.1"] = pod("127.0.0.1", "web")
        backends = (BackendItem("127.0.0.1", port),)
        item = ServicePortItem("http", Protocol.TCP, 80, 0, "", backends)
        self.world.services[HOST] = ServiceItem("shop", "orders", "ClusterIP", (), (item,))
        connector = Connector(asyncio.get_running_loop(), Sockets(transparent=False))
        self.clock = Clock()
        self.map = ClusterMap(self.world, connector, self.clock, lambda: 0.5, resolve=None)  # type: ignore[arg-type]

    async def call(self) -> tuple[object, Try]:
        cluster = self.map.cluster(HOST, 80, "", self.client)  # type: ignore[arg-type]
        assert cluster is not None
        endpoint = cluster.pick(None, (), anybody)
        assert endpoint is not None
        sink = Try()
        cluster.open(endpoint, self.client, "http1", sink)
        async with asyncio.timeout(5):
            outcome = await sink.over
        failed = isinstance(outcome, Failure)
        cluster.done(endpoint, 0 if failed else sink.status, outcome if isinstance(outcome, Failure) else None, 0.0)
        return outcome, sink

    @property
    def connections(self) -> int:
        return next(iter(self.map.views.values())).circuit.connections


def against(serve: Serve, check: Callable[[Proxy], Awaitable[None]]) -> None:
    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = Proxy(server.sockets[0].getsockname()[1])
        await check(proxy)
        proxy.map.close()
        await asyncio.sleep(0.01)
        assert proxy.connections == 0
        server.close()

    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run())


async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        writer.write(ANSWER)
    writer.close()


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await asyncio.sleep(0.05)
    writer.close()


async def too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await asyncio.sleep(0.05)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    await reader.read()
    writer.close()


def test_a_connection_is_used_again_and_opened_on_at_once() -> None:
    async def check(proxy: Proxy) -> None:
        first, one = await proxy.call()
        second, other = await proxy.call()
        assert (first, second, one.fresh, other.fresh) == (200, 200, True, False)
        assert one.local == other.local and one.local[0] == "127.0.0.1" and one.local[1] > 0
        assert proxy.connections == 1

    against(keep_alive, check)


@pytest.mark.parametrize("serve", [once, too_much])
def test_a_connection_that_ended_or_said_too_much_is_not_used_again(serve: Serve) -> None:
    async def check(proxy: Proxy) -> None:
        _, one = await proxy.call()
        await asyncio.sleep(0.1)
        assert proxy.connections == 0
        outcome, other = await proxy.call()
        assert outcome == 200 and other.fresh and one.local != other.local

    against(serve, check)


def test_nobody_listening_is_a_failed_connect() -> None:
    async def check(proxy: Proxy) -> None:
        proxy.world.services[HOST] = ServiceItem(
            "shop",
            "orders",
            "ClusterIP",
            (),
            (ServicePortItem("", Protocol.TCP, 80, 0, "", (BackendItem("127.0.0.1", 1),)),),
        )
        proxy.map.changed([HOST])
        assert (await proxy.call())[0] is Failure.CONNECT

    against(keep_alive, check)


@pytest.mark.parametrize("per_connection", [1, 0])
def test_a_connection_that_is_over_waits_for_no_collector(per_connection: int) -> None:
    """Where each request has a connection of its own, cycles would pile up until the collector stops the worker."""

    async def check(proxy: Proxy) -> None:
        pool = TrafficPolicy(connection_pool=ConnectionPool(max_requests_per_connection=per_connection))
        rule = DestinationPolicy(ObjectRef("DestinationRule", "shop", "x"), HOST, LeveledPolicy(pool))
        proxy.world.routings[HOST] = HostRouting(HOST, "shop/orders", policies=(rule,))
        proxy.map.changed([HOST])
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await proxy.call()
            [view] = proxy.map.views.values()
            view.close()
            await asyncio.sleep(0.05)
            alive = [one for one in gc.get_objects() if type(one) in (Connection, Client, Dial)]
            assert not alive
        finally:
            gc.enable()

    against(keep_alive, check)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def check(proxy: Proxy) -> None:
        await proxy.call()
        proxy.clock.time += 3601
        proxy.map.tick(proxy.clock.time)
        await asyncio.sleep(0.05)
        assert proxy.connections == 0

    against(keep_alive, check)
