"""Requests for those who look on: which, how many, and at what cost for those who do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flow_records import CLIENT, SERVER, Cluster
from weft.daemon.proxy import tap
from weft.daemon.proxy.tap import Looker, Taps
from weft.policies.wire.pb import node_pb2
from weft.policies.wire.pb import proxy_pb2 as pb


def request(**fields: Any) -> pb.Record:
    defaults: dict[str, Any] = {
        "id": 1, "source_ip": "10.244.1.5", "upstream_ip": "10.244.2.7", "service": "shop/front", "method": "GET",
        "destination_service": "shop/orders", "authority": "orders", "path": "/a/b?c", "protocol": "HTTP/1.1",
    }  # fmt: skip
    return pb.Record(**{**defaults, **fields})


def looked(wanted: node_pb2.TapRequest, *records: pb.Record, clock: Callable[[], float] = lambda: 0.0) -> Looker:
    looker = Looker(wanted, clock)
    for record in records:
        looker.offer(record, CLIENT, SERVER)
    return looker


def told(looker: Looker) -> list[dict[str, Any]]:
    return [json.loads(data) for data in looker._queue]


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({}, True),
        ({"source": "default/"}, True),
        ({"source": "default/frontend"}, True),
        ({"source": "default/frontend-1"}, True),
        ({"source": "shop/frontend"}, False),
        ({"destination": "shop/orders"}, True),
        ({"destination": "shop/front"}, True),
        ({"destination": "shop/"}, True),
        ({"destination": "shop/order"}, False),
        ({"method": "GET", "authority": "orders", "path": "/a/"}, True),
        ({"method": "POST"}, False),
        ({"path": "/b"}, False),
    ],
    ids=lambda value: " ".join(map("=".join, value.items())) or "all" if isinstance(value, dict) else str(value),
)
def test_what_is_wanted(wanted: dict[str, str], seen: bool) -> None:
    assert bool(told(looked(node_pb2.TapRequest(**wanted), request()))) is seen


def test_a_loss_is_told_even_when_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "QUIET", 0.01)
    looker = Looker(node_pb2.TapRequest(max_rate=1), lambda: 0.0)
    for number in range(3):
        looker.offer(request(id=number), CLIENT, SERVER)
    looker.missed(5)
    assert looker.lost == 7

    async def main() -> list[tuple[bool, int]]:
        found = []
        async with asyncio.timeout(2):
            async for reply in looker.replies():
                found.append((bool(reply.json), reply.lost))
                if len(found) == 1:  # it waits for news already when the loss happens
                    asyncio.get_running_loop().call_later(0.03, looker.offer, request(id=9), CLIENT, SERVER)
                if len(found) == 2:
                    return found
        return found

    assert asyncio.run(main()) == [(True, 7), (False, 1)]


def test_a_record_is_told_by_its_field_names_with_who_its_ends_are() -> None:
    (one,) = told(looked(node_pb2.TapRequest(), request(time_ns=5, duration_ns=1_500_000, status=200)))
    assert (one["time_ns"], one["duration_ns"], one["status"], one["path"]) == (5, 1_500_000, 200, "/a/b?c")
    assert one["source"] == {
        "namespace": "default",
        "pod": "frontend-1",
        "workload": "frontend",
        "kind": "Deployment",
    }
    assert one["destination"]["workload"] == "orders"


def test_more_than_the_rate_is_counted_and_a_request_that_began_is_told_to_its_end() -> None:
    now = [0.0]
    starts = [request(id=n, start=True) for n in range(5)]
    ends = [request(id=n) for n in range(5)]
    looker = looked(node_pb2.TapRequest(max_rate=3), *starts, *ends, clock=lambda: now[0])
    assert [(one.get("id", 0), one.get("start", False)) for one in told(looker)] == [
        (0, True), (1, True), (2, True), (0, False), (1, False), (2, False),
    ]  # fmt: skip
    assert looker.lost == 2
    now[0] = 1.0
    looker.offer(request(id=9), CLIENT, SERVER)
    assert len(told(looker)) == 7


def test_who_does_not_read_loses_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "QUEUE", 10)
    looker = looked(node_pb2.TapRequest(max_rate=1000), *(request(id=n) for n in range(25)))
    assert len(told(looker)) == 10 and looker.lost == 15


def play(act: Callable[[Taps, list[int]], Awaitable[None]]) -> None:
    switched: list[int] = []
    asyncio.run(act(Taps(Cluster(), switched.append), switched))


def test_looking_on_switches_starts_on_and_leaving_off_again() -> None:
    async def act(taps: Taps, switched: list[int]) -> None:
        taps.carried(request())
        stream = taps.look(node_pb2.TapRequest())
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        assert switched == [1]
        taps.carried(request())
        assert json.loads((await first).json)["source"]["pod"] == "frontend-1"
        await stream.aclose()  # type: ignore[attr-defined]
        assert switched == [1, -1]

    play(act)


def test_an_address_that_is_none_is_nobody() -> None:
    async def act(taps: Taps, switched: list[int]) -> None:
        stream = taps.look(node_pb2.TapRequest())
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        taps.carried(request(source_ip="garbage", upstream_ip=""))
        found = json.loads((await first).json)
        assert found["source"] == found["destination"] == {}
        await stream.aclose()  # type: ignore[attr-defined]

    play(act)
