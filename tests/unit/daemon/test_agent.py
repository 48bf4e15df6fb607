"""Updates arrive: on disk, in the kernel, acknowledged, in this order; and the names that follow from them."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from memory_kernel import MemoryKernel
from snapshots import NODE, pod, policy, service, snapshot
from weft.daemon.agent import Agent
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.datapath.rows import packed
from weft.daemon.state import SnapshotFile
from weft.policies import identity
from weft.policies.delta import OutOfOrder, Update, between, between_nodes, full_update
from weft.policies.snapshot import Snapshot
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2 as pb

A, B = pod("a", 1), pod("b", 2)
FACTS = Facts({packed(ip): 10 + n for n, p in ((1, A), (2, B)) for ip in p.ips}, {11: "wa", 12: "wb"}, frozenset())


def full(snap: Snapshot, epoch: str = "e1") -> pb.Update:
    return convert.to_update(full_update(snap, epoch))


def step(before: Snapshot, after: Snapshot, epoch: str = "e1") -> pb.Update:
    delta = between(before.cluster, after.cluster), between_nodes(before.own, after.own)
    return convert.to_update(Update(after.revision, epoch, False, *delta))


ONE = snapshot(1, (A, B))
TWO = snapshot(2, (A, B), (policy("p", B.identity, A.identity),))


def agent(tmp_path: Path, kernel: MemoryKernel | None = None) -> Agent:
    made = Agent(NODE, Reconciler(kernel or MemoryKernel(), NODE), SnapshotFile(tmp_path / "snapshot.bin"))
    made.datapath.take_facts(FACTS)
    return made


def test_updates_are_put_in_force_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        assert await one.update_arrived(full(ONE)) == {}
        assert await one.update_arrived(step(ONE, TWO)) == {}
        assert one.in_force == 2 and one.held().revision == 2 and one.held().epoch == "e1"
        assert SnapshotFile(tmp_path / "snapshot.bin").load(NODE) == (TWO, "e1")

    asyncio.run(main())


@pytest.mark.parametrize(
    "update",
    [step(TWO, snapshot(3)), step(ONE, TWO, epoch="e2"), step(snapshot(0), ONE)],
    ids=["a gap", "of another operator", "of the past"],
)
def test_a_difference_to_something_else_changes_nothing(tmp_path: Path, update: pb.Update) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        await one.update_arrived(full(ONE))
        with pytest.raises(OutOfOrder):
            await one.update_arrived(update)
        assert one.snapshot == ONE and one.in_force == 1

    asyncio.run(main())


def test_a_full_one_of_a_new_operator_replaces_everything_whatever_its_number(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        await one.update_arrived(full(TWO))
        await one.update_arrived(full(ONE, "e2"))
        assert one.in_force == 1 and one.held().epoch == "e2" and not one.snapshot.cluster.policies  # type: ignore[union-attr]

    asyncio.run(main())


def test_the_kernel_is_written_after_the_disk(tmp_path: Path) -> None:
    """A daemon killed in between starts with the newer snapshot, never with the older one."""

    async def main() -> None:
        kernel = MemoryKernel()
        one = agent(tmp_path, kernel)
        await one.update_arrived(full(ONE))
        kernel.fail_after = 0
        refused = await one.update_arrived(step(ONE, TWO))
        assert refused and one.in_force == 1
        assert SnapshotFile(tmp_path / "snapshot.bin").load(NODE) == (TWO, "e1")
        kernel.fail_after = None
        one.settle()
        assert one.in_force == 2 and one.refusals() == {}

    asyncio.run(main())


def test_a_daemon_starts_with_the_snapshot_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        kernel = MemoryKernel()
        one = agent(tmp_path, kernel)
        await one.update_arrived(full(ONE))
        await one.update_arrived(step(ONE, TWO))
        again = agent(tmp_path, kernel)
        assert again.restore() and again.in_force == 2 and again.snapshot == TWO
        three = snapshot(3, (A,))
        await again.update_arrived(step(TWO, three))
        assert again.snapshot == three

    asyncio.run(main())


def test_who_waits_is_woken_when_it_is_so(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        waiting = asyncio.create_task(one.wait_for(lambda: one.in_force >= 2))
        await one.update_arrived(full(ONE))
        await asyncio.sleep(0)
        assert not waiting.done()
        await one.update_arrived(step(ONE, TWO))
        assert await asyncio.wait_for(waiting, 1) is True

    asyncio.run(main())


# names


def told(tmp_path: Path, *snaps: Snapshot) -> Any:
    async def main() -> Agent:
        one = agent(tmp_path)
        await one.update_arrived(full(snaps[0]))
        for before, after in pairwise(snaps):
            await one.update_arrived(step(before, after))
        return one

    return asyncio.run(main())


def test_names_of_workloads_nodes_and_services(tmp_path: Path) -> None:
    one = told(tmp_path, snapshot(1, (A, B), (), (service("s", "10.96.0.1", ("10.244.1.2", 80)),)))
    directory = one.directory
    owner = directory.owner(packed("fd00:10:244:1::1"))
    assert (owner.namespace, owner.pod, owner.identity) == ("default", "a", A.identity)
    assert owner.labels == ("k8s:app=a",) and owner.endpoint_id == one.datapath.placed.places["default/a"].ep_id
    assert directory.endpoint(owner.endpoint_id) is not None
    assert directory.owner(packed("172.30.0.1")).identity == identity.HOST
    assert directory.owner(packed("172.30.0.2")).identity == identity.REMOTE_NODE
    assert directory.owner(packed("192.0.2.1")) is None
    assert directory.service(packed("10.96.0.1"), 80).name == "s" == directory.service(packed("10.96.0.1"), 0).name
    assert directory.service(packed("10.96.0.1"), 81) is None
    assert directory.names(packed("10.96.0.1")) == ("s.default.svc.cluster.local",)
    assert directory.identity_labels(identity.WORLD_IPV4) == ("reserved:world-ipv4",)
    assert directory.interface(11) == "wa"


def test_names_of_rules_and_prefixes(tmp_path: Path) -> None:
    one = told(tmp_path, snapshot(1, (A,), (policy("p", A.identity, cidrs=("192.0.2.0/24",)),)))
    table = one.datapath.tables.table("default/a")
    cookie = next(cookie for cookie in table.rule_sets if cookie)
    assert [(name.kind, name.name) for name in one.directory.policies(cookie)] == [("CiliumNetworkPolicy", "p")]
    assert one.directory.policies(12345) == ()
    number = next(n for n in one.datapath.cidrs.prefixes().values() if identity.is_local(n))
    assert one.directory.identity_labels(number) == ("cidr:192.0.2.0/24", "reserved:world-ipv4")


def test_what_did_not_change_is_the_same_object_and_what_is_gone_is_still_known(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        await one.update_arrived(full(ONE))
        before = one.directory.owner(packed("10.244.1.1"))
        await one.update_arrived(step(ONE, TWO))
        assert one.directory.owner(packed("10.244.1.1")) is before
        await one.update_arrived(step(TWO, snapshot(3, (B,))))
        assert one.directory.owner(packed("10.244.1.1")) is before
        assert one.directory.endpoint(before.endpoint_id) is None  # type: ignore[union-attr]

    asyncio.run(main())


def test_a_policy_that_the_proxy_names_is_known_by_its_object_and_only_where_it_has_a_say(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        await one.update_arrived(full(TWO))
        (ref,) = TWO.cluster.policies
        told = one.directory.policy(str(ref), egress=False)
        assert told is not None and (told.name, told.kind, told.revision) == (ref.name, ref.kind, 1)
        assert one.directory.policy(str(ref), egress=True) is None
        gone = one.directory.policy("CiliumClusterwideNetworkPolicy was-here", egress=True)
        assert gone is not None and (gone.namespace, gone.name) == ("", "was-here")

    asyncio.run(main())


def test_an_update_is_passed_on_as_it_came_once_it_is_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        one = agent(tmp_path)
        told: list[tuple[int, bool, bytes, int]] = []
        one.on_update = lambda revision, whole, raw: told.append((revision, whole, raw, one.in_force))
        messages = [full(ONE), step(ONE, TWO)]
        for message in messages:
            await one.update_arrived(message)
        assert told == [
            (1, True, messages[0].SerializeToString(), 1),
            (2, False, messages[1].SerializeToString(), 2),
        ]

    asyncio.run(main())
