"""From snapshots to a kernel that holds what they say, at every moment safe. The kernel is one in memory that
checks itself after each write (tests/support/memory_kernel)."""

from __future__ import annotations

import contextlib
import random

import pytest

from memory_kernel import MemoryKernel
from snapshots import NODE, pod, policy, service, snapshot
from weft.bpf.layout import EndpointFlag
from weft.bpf.policytables import decode
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.datapath.rows import Prefix, host_prefix, packed
from weft.policies import identity, table
from weft.policies.delta import between, between_nodes
from weft.policies.snapshot import Snapshot

A, B, C = pod("a", 1), pod("b", 2), pod("c", 3)
BOTH = EndpointFlag.ENFORCE_INGRESS | EndpointFlag.ENFORCE_EGRESS


def facts(*pods: object, own: tuple[str, ...] = ("172.30.0.1",)) -> Facts:
    """Pod number n is behind interface 10 + n."""
    routes = {packed(ip): 10 + int(item.ips[0].rpartition(".")[2]) for item in pods for ip in item.ips}  # type: ignore[attr-defined]
    return Facts(routes, {index: f"veth{index}" for index in set(routes.values())}, frozenset(own))


class Daemon:
    """One daemon's life over a kernel that outlives it."""

    def __init__(self, kernel: MemoryKernel, known: Facts) -> None:
        self.kernel, self.datapath = kernel, Reconciler(kernel, NODE, ("10.96.0.10",))
        self.datapath.take_facts(known)
        self.before: Snapshot | None = None

    def take(self, *parts: object, **more: object) -> dict[str, str]:
        after = snapshot(1 if self.before is None else self.before.revision + 1, *parts, **more)  # type: ignore[arg-type]
        before = self.before or after
        self.datapath.take_snapshot(
            after, between(before.cluster, after.cluster), between_nodes(before.own, after.own)
        )
        self.before = after
        self.kernel.log.clear()
        self.datapath.apply()
        return self.datapath.refusals()

    def tidy(self) -> None:
        if work := self.datapath.tidy():
            self.datapath.tidied(work())

    def row(self, number: int) -> object:
        return self.kernel.maps["endpoints"][10 + number]

    def entries(self, number: int) -> int:
        return len(self.kernel.tables[self.kernel.maps["endpoints"][10 + number].policy_id])


@pytest.fixture
def daemon() -> Daemon:
    return Daemon(MemoryKernel(), facts(A, B, C))


def what(daemon: Daemon, *words: str) -> list[str]:
    """The log in short: only calls named, and for maps the map's name."""
    named = [entry[1] if entry[0] in ("put", "remove") else entry[0] for entry in daemon.kernel.log]
    short = [word for word, follows in zip(named, [*named[1:], None], strict=True) if word != follows]
    return [word for word in short if not words or word in words]


def test_nothing_is_written_before_there_is_a_snapshot(daemon: Daemon) -> None:
    assert daemon.datapath.apply() == 0 and daemon.kernel.log == []


def test_applying_twice_writes_once(daemon: Daemon) -> None:
    daemon.take((A, B), (policy("p", B.identity, A.identity),), (service("s", "10.96.0.1", ("10.244.1.2", 80)),))
    daemon.kernel.log.clear()
    assert daemon.datapath.apply() == 0 and daemon.kernel.log == []


def test_addresses_tables_rows_programs_services_then_the_revision(daemon: Daemon) -> None:
    daemon.take((A, B), (policy("p", B.identity, A.identity),), (service("s", "10.96.0.1", ("10.244.1.2", 80)),))
    assert what(daemon) == ["ipcache", "publish", "endpoints", "attach", "backends", "slots", "bump"]


def test_a_row_is_there_before_its_program_and_goes_before_it(daemon: Daemon) -> None:
    daemon.take((A, B))
    daemon.datapath.take_facts(facts(A))
    daemon.take((A,))
    assert what(daemon, "endpoints", "detach") == ["endpoints", "detach"]


def test_who_has_which_address(daemon: Daemon) -> None:
    daemon.take((A,), (policy("p", A.identity, cidrs=("192.0.2.0/24",)),))
    rows = daemon.kernel.maps["ipcache"]
    number = rows[Prefix(packed("192.0.2.0"), 24)]
    assert identity.is_local(number)
    told = {
        "10.244.1.1": A.identity,
        "fd00:10:244:1::1": A.identity,
        "172.30.0.1": identity.HOST,
        "169.254.1.1": identity.HOST,
        "fe80::1": identity.HOST,
        "172.30.0.2": identity.REMOTE_NODE,
        "10.96.0.10": identity.DNS,
    }
    assert {ip: rows[host_prefix(ip)] for ip in told} == told
    assert rows[Prefix(packed("0.0.0.0"), 0)] == identity.WORLD_IPV4
    assert rows[Prefix(packed("::"), 0)] == identity.WORLD_IPV6


def test_a_workload_wins_over_a_prefix_that_is_just_its_address(daemon: Daemon) -> None:
    daemon.take((A,), (policy("p", A.identity, cidrs=("10.244.1.1/32",)),))
    assert daemon.kernel.maps["ipcache"][host_prefix("10.244.1.1")] == A.identity


def test_a_prefix_nobody_names_any_more_goes_last_and_verdicts_are_made_anew(daemon: Daemon) -> None:
    daemon.take((A,), (policy("p", A.identity, cidrs=("192.0.2.0/24",)),))
    daemon.take((A,))
    assert Prefix(packed("192.0.2.0"), 24) not in daemon.kernel.maps["ipcache"]
    assert what(daemon)[-2:] == ["ipcache", "bump"]


def test_equal_policies_share_a_table(daemon: Daemon) -> None:
    twins = (pod("a", 1, 500), pod("b", 2, 500))
    daemon.take(twins, (policy("p", 500, 501),))
    assert daemon.row(1).policy_id == daemon.row(2).policy_id  # type: ignore[attr-defined]


def test_a_change_of_policy_is_one_flip_of_the_row(daemon: Daemon) -> None:
    daemon.take((A, B), (policy("p", B.identity, A.identity),))
    daemon.tidy()
    daemon.take((A, B), (policy("p", B.identity, A.identity, ports=(81,)),))
    assert what(daemon) == ["fill", "endpoints", "bump"]


def test_without_spares_all_new_tables_are_published_together() -> None:
    pods = tuple(pod(f"p{n}", n) for n in range(1, 60))
    daemon = Daemon(MemoryKernel(), facts(*pods))
    daemon.take(pods, tuple(policy(f"p{n}", p.identity, 1000 + n) for n, p in enumerate(pods)))
    assert what(daemon).count("publish") == 1


def test_tidying_drops_what_is_not_used_and_keeps_a_stock(daemon: Daemon) -> None:
    for port in range(80, 120):
        daemon.take((B,), (policy("p", B.identity, 300, ports=(port,)),))
        daemon.tidy()
    used = {row.policy_id for row in daemon.kernel.maps["endpoints"].values()}
    filled = {number for number, rows in daemon.kernel.tables.items() if rows}
    assert filled == used and len(daemon.kernel.tables) < 40


def test_an_endpoint_without_interface_waits_and_is_guarded_when_it_comes(daemon: Daemon) -> None:
    daemon.datapath.take_facts(facts(A))
    daemon.take((A, B))
    assert daemon.datapath.placed.waiting == {"default/b"} and not daemon.datapath.ready("default/b")
    daemon.datapath.take_facts(facts(A, B))
    daemon.datapath.apply()
    assert daemon.datapath.ready("default/b")


def test_an_interface_that_vanishes_under_our_hands_stops_nobody_else(daemon: Daemon) -> None:
    daemon.kernel.vanished.add(11)
    daemon.take((A, B))
    assert daemon.datapath.ready("default/b") and not daemon.datapath.ready("default/a")
    assert 11 in daemon.datapath.writer.problems
    daemon.datapath.take_facts(facts(B))
    daemon.datapath.apply()
    assert not daemon.datapath.writer.problems


def test_an_interface_that_lost_our_programs_gets_them_again(daemon: Daemon) -> None:
    daemon.take((A, B))
    daemon.kernel.log.clear()
    one = min(daemon.kernel.links)
    daemon.datapath.forget_attached({one})
    daemon.datapath.apply()
    assert daemon.kernel.log == [("attach", one)]


def test_a_workload_no_longer_named_is_cut_off_and_let_go_with_its_interface(daemon: Daemon) -> None:
    daemon.take((A, B))
    daemon.take((A,))
    assert 12 in daemon.kernel.links and 12 not in daemon.kernel.maps["endpoints"]
    daemon.datapath.take_facts(facts(A))
    daemon.datapath.apply()
    assert 12 not in daemon.kernel.links


# a daemon that comes back


def test_a_new_daemon_finds_everything_as_it_left_it_and_writes_nothing_but_the_revision(daemon: Daemon) -> None:
    policies = (
        policy("p", B.identity, A.identity),
        policy("q", C.identity, cidrs=("192.0.2.0/24", "2001:db8::/32")),
    )
    services = (service("s", "10.96.0.1", ("10.244.1.2", 80), ("10.244.1.3", 80)),)
    daemon.take((A, B, C), policies, services)
    again = Daemon(daemon.kernel, facts(A, B, C))
    again.take((A, B, C), policies, services)
    assert again.kernel.log == [("bump",)]


def test_prefixes_keep_their_numbers_whatever_order_policies_come_in(daemon: Daemon) -> None:
    one, other = (
        policy(name, A.identity, cidrs=(cidr,)) for name, cidr in (("x", "192.0.2.0/24"), ("y", "198.51.100.0/24"))
    )
    daemon.take((A,), (one,))
    daemon.take((A,), (one, other))
    before = dict(daemon.kernel.maps["ipcache"])
    again = Daemon(daemon.kernel, facts(A))
    again.take((A,), (other, one))
    assert again.kernel.maps["ipcache"] == before


@pytest.mark.parametrize("writes", range(0, 60, 3))
def test_killed_after_any_write_the_next_daemon_finishes(writes: int) -> None:
    """Between any two writes the kernel is consistent (it checks itself), and from any of them we get there."""
    kernel = MemoryKernel()
    first = Daemon(kernel, facts(A, B, C))
    first.take((A, B), (policy("p", B.identity, A.identity),), (service("s", "10.96.0.1", ("10.244.1.2", 80)),))
    first.tidy()
    goal = (
        (A, B, C),
        (policy("p", B.identity, A.identity, ports=(81,)), policy("q", C.identity, 9, cidrs=("192.0.2.0/24",))),
        (service("s", "10.96.0.1", ("10.244.1.3", 80)), service("t", "10.96.0.2", ("10.244.1.2", 80))),
    )
    kernel.fail_after = writes
    with contextlib.suppress(OSError):
        first.take(*goal)
    kernel.fail_after = None
    again = Daemon(kernel, facts(A, B, C))
    again.take(*goal)
    again.tidy()
    fresh = Daemon(MemoryKernel(), facts(A, B, C))
    fresh.take(*goal)
    fresh.tidy()
    assert content(kernel) == content(fresh.kernel) and kernel.links == fresh.kernel.links
    assert not unused(kernel)


def test_a_write_that_fails_is_made_good_by_the_same_daemon(daemon: Daemon) -> None:
    daemon.kernel.fail_after = 5
    with pytest.raises(OSError):
        daemon.take((A, B), (policy("p", B.identity, A.identity),))
    daemon.kernel.fail_after = None
    daemon.datapath.apply()
    fresh = Daemon(MemoryKernel(), facts(A, B))
    fresh.take((A, B), (policy("p", B.identity, A.identity),))
    assert content(daemon.kernel) == content(fresh.kernel)


def content(kernel: MemoryKernel) -> tuple[object, ...]:
    """What the programs see: without the numbers that stand for things. (CIDR identities are numbered in the
    order in which they were first seen: told by their prefixes here.)"""
    names = {n: str(prefix) for prefix, n in kernel.maps["ipcache"].items() if identity.is_local(n)}
    ipcache = {prefix: names.get(n, n) for prefix, n in kernel.maps["ipcache"].items()}

    def rules(policy_id: int) -> set[tuple[object, ...]]:
        decoded = (decode(key, value) for key, value in kernel.tables[policy_id].items())
        return {
            (names.get(k.identity, k.identity), k.direction, k.protocol, k.port, k.port_bits, v) for k, v in decoded
        }

    endpoints = {
        ifindex: (row.identity, row.flags, row.ipv4, row.ipv6, rules(row.policy_id))
        for ifindex, row in kernel.maps["endpoints"].items()
    }
    services = {
        slot.frontend: sorted(
            kernel.maps["backends"][other.backend_id]
            for at, other in kernel.maps["slots"].items()
            if at.frontend == slot.frontend and 1 <= at.number <= row.backends
        )
        for slot, row in kernel.maps["slots"].items()
        if not slot.number
    }
    return ipcache, endpoints, services, sorted(kernel.maps["backends"].values())


def unused(kernel: MemoryKernel) -> set[int]:
    used = {row.policy_id for row in kernel.maps["endpoints"].values()}
    return {number for number, rows in kernel.tables.items() if rows and number not in used}


def test_any_walk_through_snapshots_ends_where_a_fresh_daemon_would() -> None:
    lots = random.Random(5)
    kernel = MemoryKernel()
    daemon = Daemon(kernel, facts(A, B, C))
    for _ in range(120):
        pods = tuple(lots.sample((A, B, C), lots.randrange(4)))
        policies = tuple(
            policy(name, lots.choice((A, B, C)).identity, lots.randrange(300, 304), cidrs=lots.sample(CIDRS, 1))  # type: ignore[arg-type]
            for name in lots.sample("pqrs", lots.randrange(4))
        )
        services = tuple(
            service(name, f"10.96.0.{at}", *lots.sample(BACKENDS, lots.randrange(5)))
            for at, name in enumerate(lots.sample("stu", lots.randrange(4)), 1)
        )
        if lots.random() < 0.2:
            daemon = Daemon(kernel, facts(A, B, C))
        daemon.take(pods, policies, services)
        if lots.random() < 0.5:
            daemon.tidy()
        fresh = Daemon(MemoryKernel(), facts(A, B, C))
        fresh.take(pods, policies, services)
        assert content(kernel) == content(fresh.kernel)
        assert kernel.links >= fresh.kernel.links, "what was attached stays attached: its interface is still there"
    daemon.tidy()
    assert not unused(kernel)


CIDRS = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]
BACKENDS = [("10.244.1.1", 80), ("10.244.1.2", 80), ("10.244.1.3", 80), ("10.244.1.3", 81), ("10.244.1.1", 82)]


# what does not fit


LARGE = tuple(range(1000, 1000 + table.MAX_ENTRIES // 2))


def large(name: str, subject: int) -> object:
    return policy(name, subject, *LARGE, ports=(80, 81, 82))


def test_a_policy_that_does_not_fit_is_refused_alone(daemon: Daemon) -> None:
    daemon.take((A, B), (policy("good", B.identity, A.identity),))
    before = daemon.row(2)
    refused = daemon.take(
        (A, B), (policy("good", B.identity, A.identity), large("big", B.identity), policy("new", A.identity, 300))
    )
    assert list(refused) == ["policy CiliumNetworkPolicy default/big"]
    assert "entries, the map holds 16384" in next(iter(refused.values()))
    assert daemon.row(2) == before and daemon.entries(1) == 2


def test_its_last_good_version_stays_in_force_and_goes_when_it_is_deleted(daemon: Daemon) -> None:
    small = policy("p", B.identity, A.identity)
    daemon.take((A, B), (small,))
    before = daemon.row(2)
    assert daemon.take((A, B), (large("p", B.identity),))
    assert daemon.row(2) == before
    assert daemon.take((A, B), (policy("p", B.identity, A.identity, ports=(90,)),)) == {}
    assert daemon.row(2) != before
    daemon.take((A, B), (large("p", B.identity),))
    assert daemon.take((A, B), ()) == {}
    assert daemon.entries(2) == 0


def test_a_refused_policy_is_tried_again_when_room_is_made(daemon: Daemon) -> None:
    half = table.MAX_ENTRIES * 2 // 3
    one = policy("one", B.identity, *range(1000, 1000 + half), ports=(80,))
    other = policy("other", B.identity, *range(1000, 1000 + half), ports=(90,))
    daemon.take((B,), (one,))
    assert list(daemon.take((B,), (one, other))) == ["policy CiliumNetworkPolicy default/other"]
    assert daemon.take((B,), (other,)) == {}


def test_a_new_endpoint_whose_policy_does_not_fit_is_shut(daemon: Daemon) -> None:
    refused = daemon.take((B,), (large("big", B.identity),))
    assert list(refused) == ["endpoint default/b"] and "nothing passes" in refused["endpoint default/b"]
    row = daemon.row(2)
    assert row.flags == BOTH and daemon.entries(2) == 0  # type: ignore[attr-defined]
    assert daemon.take((B,), (policy("big", B.identity, 300),)) == {}
    assert daemon.row(2).flags == EndpointFlag.ENFORCE_INGRESS | EndpointFlag.HAS_INGRESS  # type: ignore[attr-defined]


def test_after_a_restart_an_endpoint_whose_policy_does_not_fit_keeps_what_the_kernel_has(daemon: Daemon) -> None:
    daemon.take((A, B), (policy("p", B.identity, A.identity),))
    before = daemon.row(2)
    again = Daemon(daemon.kernel, facts(A, B))
    refused = again.take((A, B), (large("p", B.identity),))
    assert list(refused) == ["endpoint default/b"] and again.row(2) == before


def test_a_table_that_is_nearly_full_is_told(daemon: Daemon) -> None:
    daemon.take((B,), (policy("p", B.identity, *range(1000, 1000 + table.WARN_ENTRIES + 1)),))
    assert daemon.datapath.tables is not None
    assert list(daemon.datapath.tables.nearly_full()) == ["default/b"]
