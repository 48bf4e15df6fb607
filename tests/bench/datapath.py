"""Pod to pod through the programs against the same veth without them: same node, and across two nodes.

The ways take turns, each time in another order; connections of the turn before are forgotten. Each ratio is that of
two medians.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import report, tools
from tests.bench.dataplane import Plane
from tests.bench.lab import Lab
from tests.bench.quiet import LIMIT, Patience
from tests.bench.report import Report, Section, median, spread
from tests.bench.tools import LOADS, Round

ENTRIES = (0, 100, 10_000)
TARGETS = {"near": "same node", "far": "two nodes"}
UNITS = {"keep-alive": "requests/s", "close": "requests/s", "throughput": "Mbit/s"}
BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@dataclass(frozen=True)
class Way:
    """`entries` None: no programs. `watched`: the daemon reads the records, else they are thrown away."""

    name: str
    entries: int | None
    watched: bool = False


BARE = Way("bare", None)
WAYS = (
    BARE,
    *(Way(f"weft, {entries:,} entries", entries) for entries in ENTRIES),
    Way("weft, 100 entries, daemon reading", 100, watched=True),
)
#: A stream makes next to no records: whether somebody reads them makes no difference.
UNWATCHED = ("throughput",)

Cell = tuple[str, str, Way]  # target, load, way
Measured = dict[Cell, list[Round]]


def bench(told: Report, rounds: int, patience: float) -> None:
    tools.install()
    loaded = report.load()
    with Lab() as lab:
        for pod in TARGETS:
            tools.serve(lab, pod)
        with Plane(lab) as plane:
            measured = take_turns(plane, rounds, Patience(patience))
            told.add(comparison(measured, rounds, loaded))
            told.add(program_times(plane))


def take_turns(plane: Plane, rounds: int, patience: Patience) -> Measured:
    measured: Measured = {}
    order = deque(WAYS)
    for _ in range(rounds):
        for way in order:
            with inforce(plane, way):
                for target, load in cells(way):
                    plane.forget_connections()
                    found = patience.measure(lambda target=target, load=load: LOADS[load](target))  # type: ignore[misc]
                    measured.setdefault((target, load, way), []).append(found)
        order.rotate(-1)
    return measured


def cells(way: Way) -> Iterator[tuple[str, str]]:
    return ((target, load) for target in TARGETS for load in LOADS if not (way.watched and load in UNWATCHED))


@contextmanager
def inforce(plane: Plane, way: Way) -> Iterator[None]:
    if way.entries is None:
        plane.off()
        yield
        return
    plane.on(way.entries)
    if not way.watched:
        yield
        return
    with plane.watched():
        yield


def comparison(measured: Measured, rounds: int, loaded: str) -> Section:
    disturbed = sum(each.others > LIMIT for found in measured.values() for each in found)
    every = sum(len(found) for found in measured.values())
    return Section(
        "Pod to pod",
        f"wrk with {tools.CONNECTIONS} connections against nginx (100 bytes), kept alive or one connection per"
        f" request; iperf3, one stream. {rounds} rounds of {tools.SECONDS} s each, in turns; median (lowest to"
        " highest). CPU is that of both pods with the packets they cause, microseconds per request or per"
        " megabyte. *Others*: CPUs that the rest of the machine used meanwhile, a daemon that reads among them:"
        f" more than {LIMIT} in {disturbed} of {every} rounds, which count only where there are no three others."
        f" {loaded}.",
        ["path", "load", "way", "rate", "of bare", "CPU", "of bare", "others"],
        [comparison_row(measured, cell) for cell in sorted(measured, key=place)],
    )


def place(cell: Cell) -> tuple[int, int, int]:
    target, load, way = cell
    return list(TARGETS).index(target), list(LOADS).index(load), WAYS.index(way)


def comparison_row(measured: Measured, cell: Cell) -> Sequence[str]:
    target, load, way = cell
    found, bare = counted(measured[cell]), counted(measured[target, load, BARE])
    rate, cpu = rates(found), [each.cpu_us for each in found]
    bare_cpu = median([each.cpu_us for each in bare])
    return [
        TARGETS[target],
        load,
        way.name,
        f"{spread(rate)} {UNITS[load]}",
        f"{median(rate) / median(rates(bare)):.3f}",
        spread(cpu, 1),
        f"{median(cpu) / bare_cpu:.2f}",
        f"{median([each.others for each in found]):.2f}",
    ]


def counted(found: Sequence[Round]) -> Sequence[Round]:
    undisturbed = [each for each in found if each.others <= LIMIT]
    return undisturbed if len(undisturbed) >= 3 else found


def rates(found: Iterable[Round]) -> list[float]:
    return [each.rate for each in found]


# what a run of a program takes


def program_times(plane: Plane) -> Section:
    rows: list[Sequence[str]] = []
    with statistics():
        for entries in ENTRIES:
            plane.on(entries)
            for load in LOADS:
                plane.forget_connections()
                before = plane.runs()
                done = LOADS[load]("near").done
                rows += program_rows(entries, load, done, before, plane.runs())
    return Section(
        "What a program takes",
        "kernel.bpf_stats_enabled, same node, one round each; counting itself costs some 20 ns a run. Per request,"
        " or per megabyte for the stream (of which a run sees up to 64 KiB at once).",
        ["load", "entries", "program", "runs", "ns a run", "ns in all"],
        sorted(rows, key=lambda row: (list(LOADS).index(row[0]), row[2])),
    )


def program_rows(
    entries: int, load: str, done: float, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> Iterator[Sequence[str]]:
    for name, (runs, spent) in after.items():
        more, nanoseconds = runs - before[name][0], spent - before[name][1]
        if more / done >= 0.01:  # else: only of opening the connections
            figures = f"{more / done:.2f}", f"{nanoseconds / more:,.0f}", f"{nanoseconds / done:,.0f}"
            yield [load, f"{entries:,}", f"`{name}`", *figures]


@contextmanager
def statistics() -> Iterator[None]:
    before = BPF_STATS.read_text()
    BPF_STATS.write_text("1")
    try:
        yield
    finally:
        BPF_STATS.write_text(before)
