"""The observer API over a real unix socket, with clients as anybody would write them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from flow_records import Cluster, record
from weft.bpf.layout import EventType
from weft.daemon.observer.service import Observer
from weft.policies.wire.pb import flow_pb2, observer_pb2, observer_pb2_grpc, peer_pb2, peer_pb2_grpc

Scenario = Callable[[Observer, grpc.aio.Channel], Coroutine[Any, Any, None]]


def run(tmp_path: Path, scenario: Scenario, **options: Any) -> None:
    async def with_server() -> None:
        observer = Observer("node-1", Cluster(), version="0.1.0", **options)
        address = f"unix:{tmp_path}/observer.sock"
        await observer.serve(address)
        try:
            async with grpc.aio.insecure_channel(
                address, options=[("grpc.default_authority", "localhost")]
            ) as channel:
                await asyncio.wait_for(scenario(observer, channel), 20)
        finally:
            await observer.stop(0)
        assert not (tmp_path / "observer.sock").exists()

    asyncio.run(with_server())


def stub(channel: grpc.aio.Channel) -> Any:
    return observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call]


async def ports(stream: AsyncIterator[observer_pb2.GetFlowsResponse], count: int = 1000) -> list[int]:
    """Source ports of the flows; a loss is the negative number of lost flows."""
    found: list[int] = []
    async for response in stream:
        if response.HasField("lost_events"):
            found.append(-response.lost_events.num_events_lost)
        else:
            found.append(response.flow.l4.TCP.source_port)
        if len(found) == count:
            break
    return found


def feed(observer: Observer, *source_ports: int, **fields: int) -> None:
    for port in source_ports:
        observer.feed(record(ports=(port, 80), **fields))  # type: ignore[arg-type]


REQUESTS = {
    "all without a number": ({}, [1, 2, 3, 4, 5]),
    "the last two": ({"number": 2}, [4, 5]),
    "the first two": ({"number": 2, "first": True}, [1, 2]),
    "the last two that a filter lets through": (
        {"number": 2, "blacklist": [flow_pb2.FlowFilter(source_port=["4", "5"])]},
        [2, 3],
    ),
    "the first one that a filter lets through": (
        {"number": 1, "first": True, "whitelist": [flow_pb2.FlowFilter(source_port=["3", "5"])]},
        [3],
    ),
    "more than there are": ({"number": 99}, [1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize(("request_fields", "expected"), REQUESTS.values(), ids=REQUESTS.keys())
def test_get_flows_returns(tmp_path: Path, request_fields: dict[str, Any], expected: list[int]) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1, 2, 3, 4, 5)
        assert await ports(stub(channel).GetFlows(observer_pb2.GetFlowsRequest(**request_fields))) == expected

    run(tmp_path, scenario)


def test_since_and_until_bound_the_flows_by_their_time(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        for second in range(1, 6):
            feed(observer, second, time_ns=second * 1_000_000_000)
        base = 1_700_000_000
        request = observer_pb2.GetFlowsRequest()
        request.since.seconds, request.until.seconds = base + 2, base + 4
        assert await ports(stub(channel).GetFlows(request)) == [2, 3, 4]

    run(tmp_path, scenario, clocks=lambda: (1_700_000_000_000_000_000 + 9_000_000_000, 9_000_000_000))


def test_a_follower_gets_the_last_ones_and_then_what_comes(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1, 2, 3)
        stream = stub(channel).GetFlows(observer_pb2.GetFlowsRequest(number=1, follow=True))
        assert await ports(stream, 1) == [3]
        feed(observer, 4)
        assert await ports(stream, 1) == [4]
        feed(observer, 5, 6)
        assert await ports(stream, 2) == [5, 6]
        stream.cancel()

    run(tmp_path, scenario)


def test_a_follower_that_asked_for_nothing_old_starts_with_the_next_flow(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1)
        stream = stub(channel).GetFlows(observer_pb2.GetFlowsRequest(follow=True))
        await stream.wait_for_connection()
        await asyncio.sleep(0.05)
        feed(observer, 2)
        assert await ports(stream, 1) == [2]
        stream.cancel()

    run(tmp_path, scenario)


def test_a_follower_that_does_not_read_costs_no_memory_and_hears_what_it_missed(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        stream = stub(channel).GetFlows(observer_pb2.GetFlowsRequest(follow=True))
        await stream.wait_for_connection()
        await asyncio.sleep(0.05)
        total = 20_000
        for start in range(0, total, 500):
            feed(observer, *range(start + 1, start + 501))
            await asyncio.sleep(0)
        assert len(observer.ring) == 63
        found: list[int] = []
        while sum(-item if item < 0 else 1 for item in found) < total:  # the rest of the loss a second later
            found += await ports(stream, 1)
        assert sum(-item if item < 0 else 1 for item in found) == total
        assert [item for item in found if item > 0][-1] == total and min(found) < 0
        stream.cancel()

    run(tmp_path, scenario, capacity=63)


def test_a_loss_in_the_kernel_is_told_to_every_reader(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1)
        observer.lost(7)
        observer.feed(b"not an event")
        feed(observer, 2)
        responses = [r async for r in stub(channel).GetFlows(observer_pb2.GetFlowsRequest(number=2))]
        kinds = [
            r.lost_events.source if r.HasField("lost_events") else r.flow.l4.TCP.source_port for r in responses
        ]
        assert kinds == [1, flow_pb2.PERF_EVENT_RING_BUFFER, flow_pb2.OBSERVER_EVENTS_QUEUE, 2]
        assert responses[1].lost_events.num_events_lost == 7

    run(tmp_path, scenario)


REFUSED = {
    "first with follow": {"first": True, "follow": True},
    "an address that is none": {"whitelist": [flow_pb2.FlowFilter(source_ip=["10.0.0.300"])]},
    "CEL": {"whitelist": [flow_pb2.FlowFilter(experimental={"cel_expression": ["true"]})]},
    "a field mask of a field that is none": {"field_mask": {"paths": ["no_such_field"]}},
    "a regular expression that never ends": {"whitelist": [flow_pb2.FlowFilter(http_path=["(a+)+$"])]},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
def test_get_flows_refuses(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ports(stub(channel).GetFlows(observer_pb2.GetFlowsRequest(**fields)))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details()

    run(tmp_path, scenario)


def test_a_field_mask_leaves_only_what_was_asked_for(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1)
        request = observer_pb2.GetFlowsRequest(field_mask={"paths": ["source.pod_name", "l4.TCP.source_port"]})
        [response] = [r async for r in stub(channel).GetFlows(request)]
        assert response.flow == flow_pb2.Flow(source={"pod_name": "frontend-1"}, l4={"TCP": {"source_port": 1}})
        assert response.node_name == "node-1" and response.HasField("time")

    run(tmp_path, scenario)


def test_status_nodes_and_namespaces_tell_of_this_node(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1, 2, 3, time_ns=time.monotonic_ns())
        status = await stub(channel).ServerStatus(observer_pb2.ServerStatusRequest())
        assert (status.num_flows, status.max_flows, status.seen_flows, status.version) == (3, 4095, 3, "0.1.0")
        assert not status.HasField("num_connected_nodes") and status.uptime_ns > 0
        [node] = (await stub(channel).GetNodes(observer_pb2.GetNodesRequest())).nodes
        assert (node.name, node.num_flows) == ("node-1", 3) and node.address.endswith("observer.sock")
        namespaces = (await stub(channel).GetNamespaces(observer_pb2.GetNamespacesRequest())).namespaces
        assert [(n.cluster, n.namespace) for n in namespaces] == [("default", "default"), ("default", "shop")]

    run(tmp_path, scenario)


def test_agent_and_debug_events_are_empty_streams(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        assert [r async for r in stub(channel).GetAgentEvents(observer_pb2.GetAgentEventsRequest(number=5))] == []
        assert [r async for r in stub(channel).GetDebugEvents(observer_pb2.GetDebugEventsRequest(number=5))] == []

    run(tmp_path, scenario)


def test_peers_health_and_reflection_answer(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        peers = peer_pb2_grpc.PeerStub(channel).Notify(peer_pb2.NotifyRequest())  # type: ignore[no-untyped-call]
        change = await peers.read()
        assert (change.name, change.type) == ("node-1", peer_pb2.PEER_ADDED)
        peers.cancel()
        health = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="observer.Observer")
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {"observer.Observer", "peer.Peer", "grpc.health.v1.Health"} <= names
        call.cancel()

    run(tmp_path, scenario)


def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "observer.sock").touch()

    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        assert (await stub(channel).ServerStatus(observer_pb2.ServerStatusRequest())).max_flows == 4095

    run(tmp_path, scenario)


def test_stopping_ends_what_followers_wait_for(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        stream = stub(channel).GetFlows(observer_pb2.GetFlowsRequest(follow=True))
        await stream.wait_for_connection()
        peers = peer_pb2_grpc.PeerStub(channel).Notify(peer_pb2.NotifyRequest())  # type: ignore[no-untyped-call]
        await peers.read()
        await asyncio.wait_for(observer.stop(5), 2)  # nobody had to be cut
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await ports(stream)
        assert ended.value.details() == "the observer is stopping"
        assert await peers.read() is grpc.aio.EOF

    run(tmp_path, scenario)


def test_names_are_those_of_the_moment_the_record_came(tmp_path: Path) -> None:
    async def scenario(observer: Observer, channel: grpc.aio.Channel) -> None:
        feed(observer, 1)
        observer.directory.owners.clear()  # type: ignore[attr-defined]
        [response] = [r async for r in stub(channel).GetFlows(observer_pb2.GetFlowsRequest())]
        assert response.flow.source.pod_name == "frontend-1"

    run(tmp_path, scenario)


def test_a_record_of_every_event_type_is_taken() -> None:
    observer = Observer("node-1", Cluster())
    for kind in EventType:
        observer.feed(record(kind))
    assert observer.seen == len(EventType) and not any(observer.status()["lost"].values())
