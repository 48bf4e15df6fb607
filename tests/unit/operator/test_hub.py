"""A node gets what it misses, and whoever follows ends where a newcomer starts."""

from __future__ import annotations

import asyncio

import pytest

from weft.operator import hub as hub_module
from weft.operator.hub import Hub
from weft.policies.cluster import Cluster, Numbers
from weft.policies.delta import apply
from weft.policies.objects import Node, Pod
from weft.policies.snapshot import Snapshot
from weft.policies.wire.convert import from_update


class Source:
    """A cluster that publishes a pod per step, on nodes n0 and n1 in turn."""

    def __init__(self, revision: int = 0) -> None:
        self.cluster = Cluster(Numbers(), revision)
        self.hub = Hub("this")
        self.step(0)

    def step(self, number: int) -> None:
        self.cluster.put(
            Pod("d", f"p{number}", {"app": str(number)}, node=f"n{number % 2}", ips=(f"10.0.{number}.1",))
        )
        step = self.cluster.delta()
        assert step
        self.hub.publish(step, self.cluster.part)

    def follow(
        self, node: str, held: Snapshot | None = None, epoch: str = ""
    ) -> tuple[Snapshot | None, list[bool]]:
        """Everything the hub has to tell, and which of it was full."""
        fulls = []
        while message := self.hub.next(node, epoch, held.revision if held else 0):
            held, epoch = apply(held, from_update(message), node), message.epoch
            fulls.append(message.full)
        return held, fulls


def test_a_newcomer_gets_everything_at_once() -> None:
    source = Source(5000)
    source.step(1)
    held, fulls = source.follow("n0")
    assert held == source.cluster.snapshot("n0") and fulls == [True]


def test_a_follower_gets_every_difference_and_ends_where_a_newcomer_starts() -> None:
    source = Source()
    first, _ = source.follow("n1")
    for number in range(1, 9):
        source.step(number)
    held, fulls = source.follow("n1", first, "this")
    assert fulls == [False] * 8
    assert held == source.cluster.snapshot("n1") == source.follow("n1")[0]


def test_a_node_of_another_incarnation_gets_everything_whatever_it_holds() -> None:
    source = Source()
    held, _ = source.follow("n0")
    assert source.follow("n0", held, "another")[1] == [True]


def test_a_node_that_has_all_gets_nothing() -> None:
    source = Source()
    held, _ = source.follow("n0")
    assert source.follow("n0", held, "this") == (held, [])


def test_a_node_from_the_future_gets_everything() -> None:
    source = Source()
    message = source.hub.next("n0", "this", 999)
    assert message and message.full and message.revision == source.hub.revision


@pytest.mark.parametrize("limit", ["HISTORY_STEPS", "HISTORY_BYTES"])
def test_a_node_that_is_too_far_behind_gets_everything(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    held, _ = source.follow("n0")
    monkeypatch.setattr(hub_module, limit, 3 if limit == "HISTORY_STEPS" else 100)
    for number in range(1, 6):
        source.step(number)
    after, fulls = source.follow("n0", held, "this")
    assert fulls == [True] and after == source.cluster.snapshot("n0")


def test_nobody_gets_a_difference_across_a_gap() -> None:
    source = Source()
    held, _ = source.follow("n0")
    source.cluster.put(Node("lost", ("172.30.0.9",)))
    assert source.cluster.delta(), "a step that was never published"
    source.step(1)
    after, fulls = source.follow("n0", held, "this")
    assert fulls == [True] and after == source.cluster.snapshot("n0")


def test_the_cluster_part_is_the_same_bytes_for_every_node() -> None:
    source = Source()
    source.step(1)
    one, two = source.hub.next("n0", "this", 1), source.hub.next("n1", "this", 1)
    assert one and two and one.cluster == two.cluster
    assert not one.node.endpoints and len(two.node.endpoints) == 1


def test_waiting_for_news_ends_with_the_news() -> None:
    async def scenario() -> None:
        source = Source()
        waiter = asyncio.ensure_future(source.hub.beyond(source.hub.revision))
        await asyncio.sleep(0)
        assert not waiter.done()
        source.step(1)
        await asyncio.wait_for(waiter, 1)
        await asyncio.wait_for(source.hub.beyond(0), 1)

    asyncio.run(scenario())
