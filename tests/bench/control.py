"""What a large cluster costs to work out, step by step: from text to maps, and one policy more.

The kernel's maps are real and pinned; nothing is attached, so the endpoints' interfaces are numbers made up. All
steps run in this process, which in the product are the operator's (parse, reconcile) and the daemon's (compile,
write).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench import report, town
from tests.bench.report import Report, Section, median, spread

from weft.bpf import layout
from weft.daemon import loading
from weft.daemon.datapath import programs
from weft.daemon.datapath.kernel import Maps, PinnedKernel
from weft.daemon.datapath.programs import Programs
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.datapath.rows import packed
from weft.policies import yamldoc
from weft.policies.cluster import Cluster, Numbers
from weft.policies.delta import NodeDelta, Step, between, between_nodes
from weft.policies.dialects import registry
from weft.policies.snapshot import ClusterPart, NodePart, Snapshot

PINS = Path("/sys/fs/bpf/weft-bench-control")
NODE = town.node_name(0)
MORE = 20  # policies, one after another
AIM_ALL, AIM_ONE = 5.0, 0.050
T = TypeVar("T")


class Unattached(PinnedKernel):
    """The kernel's maps, and interfaces that do not exist."""

    def attach(self, ifindex: int) -> None:
        pass

    def detach(self, ifindex: int) -> None:
        pass


@dataclass
class Timed:
    """Seconds by step."""

    steps: dict[str, float]

    def __call__(self, step: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self.steps[step] = self.steps.get(step, 0.0) + time.perf_counter() - started
        return result


def bench(told: Report, rounds: int, patience: float) -> None:
    loaded = report.load()
    gc.set_threshold(5000, 20, 20)  # as the daemon and the operator do
    objects, policies = town.text(town.objects()), town.text(town.policies())
    timed = Timed({})
    cluster = Cluster(Numbers())
    parsed_objects = timed("parse objects", lambda: parse(objects))
    parsed_policies = timed("parse policies", lambda: parse(policies))
    timed("reconcile objects", lambda: reconcile(cluster, parsed_objects))
    step = timed("reconcile policies", lambda: reconcile(cluster, parsed_policies))
    gc.freeze()
    own = {"a crowded node": crowd(cluster), "a node": cluster.snapshot(NODE).own}
    sides = {name: node_side(cluster.snapshot(NODE), part) for name, part in own.items()}
    told.add(whole(timed, sides, step, loaded))
    told.add(one_more(cluster, own))
    gc.unfreeze()


def parse(text: str) -> list[registry.Parsed]:
    found = [registry.parse(document) for document in yamldoc.documents(text, "town.yaml")]
    return [thing for thing in found if thing is not None]


def reconcile(cluster: Cluster, things: list[registry.Parsed]) -> Step:
    for thing in things:
        cluster.put(thing)
    step = cluster.delta()
    assert step is not None
    return step


def crowd(cluster: Cluster) -> NodePart:
    """As many of the pods as one node can hold, of all workloads, as if they were on one."""
    nodes = [cluster.snapshot(town.node_name(number)).own.endpoints for number in range(town.NODES)]
    items = sorted(((key, item) for part in nodes for key, item in part.items()), key=lambda pair: pair[0][::-1])
    return NodePart(dict(items[: layout.ENDPOINTS.max_entries]))


def facts(own: NodePart) -> Facts:
    numbered = enumerate(own.endpoints.values(), start=1000)
    routes = {packed(ip): ifindex for ifindex, item in numbered for ip in item.ips}
    return Facts(routes, {ifindex: f"veth{ifindex}" for ifindex in routes.values()}, frozenset({"172.30.0.1"}))


@contextlib.contextmanager
def pinned(own: NodePart) -> Iterator[Reconciler]:
    """A node's maps, and who writes them."""
    programs.remove(PINS)
    try:
        asyncio.run(loading.load(PINS))
        maps = Maps(PINS)
        try:
            reconciler = Reconciler(Unattached(maps, Programs(PINS)), NODE)
            reconciler.take_facts(facts(own))
            yield reconciler
        finally:
            maps.close()
    finally:
        programs.remove(PINS)


@dataclass
class NodeSide:
    """Seconds. `again`: another apply, which finds nothing to write."""

    compile: float
    write: float
    again: float
    endpoints: int
    rows: int
    tables: int
    largest: int


def node_side(snapshot: Snapshot, own: NodePart) -> NodeSide:
    snapshot = Snapshot(snapshot.revision, NODE, snapshot.cluster, own)
    cluster, delta = between(ClusterPart(), snapshot.cluster), between_nodes(NodePart(), own)
    timed = Timed({})
    with pinned(own) as reconciler:
        timed("compile", lambda: reconciler.take_snapshot(snapshot, cluster, delta))
        timed("write", reconciler.apply)
        timed("again", reconciler.apply)
        check(reconciler)
        assert reconciler.tables is not None
        return NodeSide(
            compile=timed.steps["compile"],
            write=timed.steps["write"],
            again=timed.steps["again"],
            endpoints=len(own.endpoints),
            rows=reconciler.writer.written,
            tables=len(reconciler.writer.have.tables),
            largest=reconciler.tables.largest(),
        )


def check(reconciler: Reconciler) -> None:
    """A bench of what does not work says nothing."""
    refused = reconciler.refusals()
    if refused or reconciler.apply():
        raise RuntimeError(f"not in force: {len(refused)} refused, {next(iter(refused.items()), '')}")


def whole(timed: Timed, sides: dict[str, NodeSide], step: Step, loaded: str) -> Section:
    seconds = timed.steps
    worst = next(iter(sides.values()))
    rows = [
        ["operator", "parse 5,070 objects of YAML", f"{seconds['parse objects']:.2f} s", ""],
        ["operator", "parse 1,000 policies of YAML", f"{seconds['parse policies']:.2f} s", ""],
        ["operator", "reconcile the objects", f"{seconds['reconcile objects']:.2f} s", ""],
        ["operator", "reconcile the policies", f"{seconds['reconcile policies']:.2f} s", ""],
    ]
    for name, side in sides.items():
        size = f"{side.endpoints:,} endpoints: {side.tables} tables, the largest of {side.largest:,} entries"
        rows.append([f"daemon, {name}", "compile", f"{side.compile:.2f} s", size])
        rows.append([f"daemon, {name}", "write to the maps", f"{side.write:.2f} s", f"{side.rows:,} rows"])
        rows.append([f"daemon, {name}", "apply again, nothing to do", f"{side.again * 1e3:.0f} ms", ""])
    total = seconds["parse policies"] + seconds["reconcile policies"] + worst.compile + worst.write
    rows.append(
        ["**all policies**", "parse, reconcile, compile, write", f"**{total:.2f} s**", f"aim: {AIM_ALL:.0f} s"]
    )
    return Section(
        "1,000 policies over 5,000 pods",
        f"{town.NAMESPACES} namespaces, {town.NAMESPACES * town.WORKLOADS} workloads, {town.NODES} nodes;"
        f" {len(step.cluster.policies):,} policies of {len(town.SHAPES) + 1} shapes. One run each. *Crowded*: with"
        " pods of all workloads, as many as a node can hold. The last row is what 1,000 policies cost a cluster"
        f" whose pods are known, from their text to the maps of its crowded node. {loaded}.",
        ["who", "step", "takes", "of what"],
        rows,
    )


# one more


def one_more(cluster: Cluster, own: dict[str, NodePart]) -> Section:
    rows: list[list[str]] = []
    for at, (name, part) in enumerate(own.items()):
        runs = additions(cluster, part, first=1000 + at * MORE)
        for step in runs[0].steps:
            rows.append([name, step, spread([run.steps[step] * 1e3 for run in runs], 1)])
        totals = [sum(run.steps.values()) * 1e3 for run in runs]
        rows.append([name, "**all**", f"**{median(totals):.1f}** ({min(totals):.1f} to {max(totals):.1f})"])
    return Section(
        "One more policy",
        f"{MORE} policies of all shapes, one after another, each by itself and in force before the next."
        f" Milliseconds, median (lowest to highest). Aim: {AIM_ONE * 1e3:.0f} ms in all.",
        ["for", "step", "ms"],
        rows,
    )


def additions(cluster: Cluster, own: NodePart, first: int) -> list[Timed]:
    """The policies stay: the next node starts with them."""
    runs: list[Timed] = []
    with pinned(own) as reconciler:
        start = Snapshot(cluster.revision, NODE, cluster.part, own)
        reconciler.take_snapshot(start, between(ClusterPart(), start.cluster), between_nodes(NodePart(), own))
        reconciler.apply()
        for number in range(first, first + MORE):
            tidy(reconciler)
            text = town.text([town.policy(number % town.NAMESPACES, number)])
            runs.append(addition(cluster, reconciler, own, text))
        check(reconciler)
    return runs


def addition(cluster: Cluster, reconciler: Reconciler, own: NodePart, text: str) -> Timed:
    timed = Timed({})
    things = timed("parse", lambda: parse(text))
    step = timed("reconcile", lambda: reconcile(cluster, things))
    snapshot = Snapshot(step.revision, NODE, cluster.part, own)
    timed("compile", lambda: reconciler.take_snapshot(snapshot, step.cluster, NodeDelta()))
    timed("write", reconciler.apply)
    return timed


def tidy(reconciler: Reconciler) -> None:
    """As the daemon does in the quiet after a change."""
    work = reconciler.tidy()
    if work is not None:
        reconciler.tidied(work())
