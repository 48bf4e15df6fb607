"""A number never changes its meaning while a program may be using it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from memory_kernel import MemoryKernel
from snapshots import NODE, service
from weft.bpf.layout import ServiceFlag
from weft.daemon.datapath import services
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.datapath.rows import Slot, SlotRow, text
from weft.policies.delta import NodeDelta, between
from weft.policies.mesh.model import Dialect, HostRouting, Route
from weft.policies.model import ObjectRef, Protocol
from weft.policies.snapshot import ClusterPart, NodePart, Snapshot

ROOM = (1000, 1000)


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ([], [1, 2], [1, 2]),
        ([1, 2, 3], [1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [3, 2, 1], [1, 2, 3]),
        ([1, 2, 3], [1, 3, 4], [1, 4, 3]),
        ([1, 2, 3], [2, 3], [3, 2]),
        ([1, 2, 3], [3], [3]),
        ([1, 2, 3], [], []),
        ([1, 2], [1, 2, 5, 6], [1, 2, 5, 6]),
        ([1, 2, 3], [7], [7]),
    ],
)
def test_backends_keep_their_slots(before: list[int], wanted: list[int], after: list[int]) -> None:
    assert services.arrange(before, wanted) == after


def test_arranging_loses_and_invents_nothing() -> None:
    lots = random.Random(7)
    for _ in range(500):
        before = lots.sample(range(1, 20), lots.randrange(10))
        wanted = lots.sample(range(1, 20), lots.randrange(10))
        after = services.arrange(before, wanted)
        assert sorted(after) == sorted(wanted)
        kept = [at for at, number in enumerate(before[: len(wanted)]) if number in wanted]
        assert all(after[at] == before[at] for at in kept)


def test_ids_are_those_in_the_kernel() -> None:
    first = services.wanted({"a": service("a", "10.96.0.1", ("10.0.0.1", 80), ("10.0.0.2", 80))}, {}, {}, *ROOM)
    again = services.wanted(
        {"a": service("a", "10.96.0.1", ("10.0.0.2", 80), ("10.0.0.3", 80))}, first.backends, first.slots, *ROOM
    )
    ids = {text(row.address): number for number, row in first.backends.items()}
    later = {text(row.address): number for number, row in again.backends.items()}
    assert later["10.0.0.2"] == ids["10.0.0.2"] and later["10.0.0.3"] not in ids.values()
    heads = [next(row for slot, row in made.slots.items() if not slot.number) for made in (first, again)]
    assert heads[0].service_id == heads[1].service_id


def test_a_service_without_backends_is_there_and_empty() -> None:
    made = services.wanted({"a": service("a", "10.96.0.1")}, {}, {}, *ROOM)
    ((slot, row),) = made.slots.items()
    assert slot.number == 0 and row == SlotRow(0, 0, 1)


def test_backends_of_the_other_family_are_not_used() -> None:
    made = services.wanted({"a": service("a", "10.96.0.1", ("fd00::1", 80))}, {}, {}, *ROOM)
    assert not made.backends


def test_two_services_with_one_address_the_second_is_refused() -> None:
    both = {name: service(name, "10.96.0.1", ("10.0.0.1", 80)) for name in "ab"}
    made = services.wanted(both, {}, {}, *ROOM)
    assert made.refused == {"default/b": "10.96.0.1:80 belongs to service default/a"}


def test_what_does_not_fit_is_refused_whole_and_what_is_in_force_goes_first() -> None:
    old = services.wanted({"z": service("z", "10.96.0.9", ("10.0.0.1", 80))}, {}, {}, *ROOM)
    both = {
        "a": service("a", "10.96.0.1", *((f"10.0.1.{n}", 80) for n in range(1, 9))),
        "z": service("z", "10.96.0.9", ("10.0.0.1", 80)),
    }
    made = services.wanted(both, old.backends, old.slots, 5, 100)
    assert set(made.refused) == {"default/a"} and set(made.owners.values()) == {"default/z"}
    assert "does not fit" in made.refused["default/a"]
    assert all(isinstance(slot, Slot) and slot.frontend.address[3] == 9 for slot in made.slots)


# What is routed is the proxy's, where there is one.

ROUTED = "a.default.svc.cluster.local"


def routing(host: str = ROUTED) -> dict[str, HostRouting]:
    ref = ObjectRef("VirtualService", "default", "a")
    return {host: HostRouting(host, "default/a", (Route(ref, Dialect.ISTIO, (host,)),))}


def flagged(made: services.Wanted) -> dict[str, ServiceFlag]:
    return {str(slot.frontend): ServiceFlag(row.flags) for slot, row in made.slots.items() if not slot.number}


def test_a_routed_service_is_the_proxys_and_so_are_its_backends_addresses() -> None:
    items = {"default/a": service("a", "10.96.0.1", ("10.0.0.1", 8080), ("fd00::1", 8080))}
    made = services.wanted(items, {}, {}, *ROOM, routing())
    assert flagged(made) == {
        "10.96.0.1:80": ServiceFlag.PROXY,
        "10.0.0.1:8080": services.BACKEND,
        "[fd00::1]:8080": services.BACKEND,
    }
    assert [row for slot, row in made.slots.items() if slot.number], "the node's own sockets are balanced"


def test_a_service_that_shares_a_backend_with_a_routed_one_is_not_taken_for_it() -> None:
    items = {
        "default/a": service("a", "10.96.0.1", ("10.0.0.1", 8080)),
        "default/b": service("b", "10.96.0.2", ("10.0.0.2", 8080), ("10.0.0.1", 8080)),
        "default/c": service("c", "10.96.0.3", ("10.0.0.2", 8080)),
        "default/d": service("d", "10.96.0.4", ("10.0.0.1", 9090)),
    }
    assert flagged(services.wanted(items, {}, {}, *ROOM, routing())) == {
        "10.96.0.1:80": ServiceFlag.PROXY,
        "10.96.0.2:80": ServiceFlag.PROXY,
        "10.96.0.3:80": ServiceFlag(0),
        "10.96.0.4:80": ServiceFlag(0),
        "10.0.0.1:8080": services.BACKEND,
    }


def test_a_service_without_routes_stays_in_the_kernel() -> None:
    items = {"default/a": service("a", "10.96.0.1", ("10.0.0.1", 8080))}
    assert flagged(services.wanted(items, {}, {}, *ROOM, routing("b.default.svc.cluster.local"))) == {
        "10.96.0.1:80": ServiceFlag(0)
    }
    unrouted = {ROUTED: HostRouting(ROUTED, "default/a")}
    assert flagged(services.wanted(items, {}, {}, *ROOM, unrouted)) == {"10.96.0.1:80": ServiceFlag(0)}


def test_udp_is_balanced_beside_routes() -> None:
    item = service("a", "10.96.0.1", ("10.0.0.1", 8080))
    both = replace(item, ports=(*item.ports, replace(item.ports[0], protocol=Protocol.UDP)))
    made = services.wanted({"default/a": both}, {}, {}, *ROOM, routing())
    flags = {(slot.frontend.protocol, row.flags) for slot, row in made.slots.items() if not slot.number}
    assert flags == {(Protocol.TCP, ServiceFlag.PROXY), (Protocol.UDP, 0), (Protocol.TCP, services.BACKEND)}


def test_numbers_stay_when_routes_come_and_go() -> None:
    items = {"default/a": service("a", "10.96.0.1", ("10.0.0.1", 80), ("10.0.0.2", 80))}
    plain = services.wanted(items, {}, {}, *ROOM)
    routed = services.wanted(items, plain.backends, plain.slots, *ROOM, routing())
    again = services.wanted(items, routed.backends, routed.slots, *ROOM)
    assert routed.backends == plain.backends == again.backends and again.slots == plain.slots
    kept = {slot: row._replace(flags=0) for slot, row in routed.slots.items() if slot in plain.slots}
    assert kept == plain.slots


def test_a_services_address_is_never_a_backends() -> None:
    """An entry whose endpoint is another service's address: that one's row stays what it is."""
    entry = service("a", "10.96.0.1", ("10.96.0.2", 80))
    other = service("b", "10.96.0.2", ("10.0.0.1", 80))
    made = services.wanted({"default/a": entry, "default/b": other}, {}, {}, *ROOM, routing())
    assert flagged(made) == {"10.96.0.1:80": ServiceFlag.PROXY, "10.96.0.2:80": ServiceFlag(0)}


def test_a_backend_that_is_a_name_is_only_the_proxys() -> None:
    entry = replace(service("db1.example.com", "240.240.0.1", ("db1", 80), ("192.0.2.1", 80)), type="ServiceEntry")
    entries = {"db1.example.com": msgspec.structs.replace(routing()[ROUTED], host="db1.example.com")}
    made = services.wanted({"default/db1.example.com": entry}, {}, {}, *ROOM, entries)
    assert flagged(made) == {"240.240.0.1:80": ServiceFlag.PROXY}, "who asks for an endpoint asks for no entry"
    assert [text(row.address) for row in made.backends.values()] == ["192.0.2.1"]


def test_backends_addresses_that_do_not_fit_are_told() -> None:
    items = {"default/a": service("a", "10.96.0.1", ("10.0.0.1", 80), ("10.0.0.2", 80))}
    made = services.wanted(items, {}, {}, 4, 100, routing())
    assert set(made.refused) == {"default/a"}
    assert flagged(made) == {"10.96.0.1:80": ServiceFlag.PROXY}


def test_a_change_of_routes_costs_the_services_nothing_until_one_is_routed_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    wanted = services.wanted

    def counted(*given: Any, **more: Any) -> services.Wanted:
        made.append(given)
        return wanted(*given, **more)

    monkeypatch.setattr(services, "wanted", counted)
    datapath = Reconciler(MemoryKernel(), NODE)
    datapath.proxied = True
    datapath.take_facts(Facts({}, {}, frozenset()))
    item = routing()[ROUTED]
    later = msgspec.structs.replace(item.routes[0], created="later")
    other = {ROUTED: msgspec.structs.replace(item, routes=(later,))}
    before = Snapshot(0, NODE, ClusterPart(), NodePart())
    for number, part in enumerate((routing(), other, {}, routing()), start=1):
        after = Snapshot(number, NODE, ClusterPart(routing=part), NodePart())
        datapath.take_snapshot(after, between(before.cluster, after.cluster), NodeDelta())
        datapath.apply()
        before = after
    assert len(made) == 3
