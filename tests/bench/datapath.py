"""Pod to pod through the programs against the same veth without them: same node, and across two nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import report, tools, turns
from tests.bench.dataplane import Plane
from tests.bench.lab import Lab
from tests.bench.quiet import LIMIT, Patience
from tests.bench.report import Report, Section, median, middle, spread
from tests.bench.tools import LOADS, Load
from tests.bench.turns import Series, Way

ENTRIES = (0, 100, 10_000)
TARGETS = {"near": "same node", "far": "two nodes"}
BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
HEADER = ("path", "load", "way", "rate", "of bare", "half of the rounds", "CPU", "of bare", "others")

Measured = dict[tuple[str, Load], Series]


def bench(told: Report, rounds: int, patience: float) -> None:
    tools.install()
    loaded, waiting = report.load(), Patience(patience)
    with Lab() as lab:
        for pod in TARGETS:
            tools.serve(lab, pod)
        with Plane(lab) as plane:
            told.add(comparison(programs_alone(plane, rounds, waiting), rounds, loaded))
            told.add(program_times(plane))
            told.add(with_daemon(daemon_reading(plane, rounds, waiting)))


def programs_alone(plane: Plane, rounds: int, patience: Patience) -> Measured:
    ways = [Way("bare", plane.off, yardstick=True)]
    ways += [Way(f"weft, {entries:,} entries", partial(plane.on, entries)) for entries in ENTRIES]
    ways.append(Way("bare again", plane.off, yardstick=True))
    return {
        (target, load): turns.take(plane.lab, ways, load, target, rounds, patience, plane.forget_connections)
        for target in TARGETS
        for load in LOADS
    }


def daemon_reading(plane: Plane, rounds: int, patience: Patience) -> Measured:
    """A stream makes next to no records: whether somebody reads them makes no difference."""
    plane.on(100)
    ways = [
        Way("bare", plane.bare, yardstick=True),
        Way("weft, 100 entries", plane.back),
        Way("bare again", plane.bare, yardstick=True),
    ]
    waiting = Patience(0)  # the daemon itself is among the others
    with plane.watched():
        return {
            (target, load): turns.take(plane.lab, ways, load, target, rounds, waiting, patience.wait)
            for target in TARGETS
            for load in LOADS
            if load.name != "throughput"
        }


def comparison(measured: Measured, rounds: int, loaded: str) -> Section:
    disturbed = sum(series.disturbed for series in measured.values())
    return Section(
        "Pod to pod",
        f"wrk with {tools.CONNECTIONS} connections against nginx (100 bytes), kept alive or one connection per"
        f" request; iperf3, one stream. {rounds} rounds of some 2 s, in each of which the ways take turns: rates"
        " are medians (lowest to highest), ratios those to the mean of both *bare* turns of the same round, as a"
        " median and as what the middle half of the rounds lies between: what the bare ones differ is noise. CPU"
        " is that of both pods with the packets they cause, microseconds per request or per megabyte. *Others*:"
        f" CPUs that the rest of the machine used meanwhile; more than {LIMIT} in {disturbed} of"
        f" {rounds * len(measured)} rounds. Records are thrown away. {loaded}.",
        HEADER,
        [*rows(measured)],
    )


def with_daemon(measured: Measured) -> Section:
    return Section(
        "Pod to pod with the daemon reading",
        "The same, while a daemon on each node turns the programs' records into flows: a connection per request is"
        " some ten records a request, more than it can read; what the ring has no room for is counted as lost."
        " *Others* is now its work.",
        HEADER,
        [*rows(measured)],
    )


def rows(measured: Measured) -> Iterator[Sequence[str]]:
    for (target, load), series in measured.items():
        for at, way in enumerate(series.ways):
            ratios = series.rate_ratios(at)
            yield [
                TARGETS[target],
                load.name,
                way.name,
                f"{spread(series.rates(at))} {load.unit}",
                f"{median(ratios):.3f}",
                middle(ratios, 3),
                f"{median(series.cpu(at)):.1f}",
                f"{median(series.cpu_ratios(at)):.2f}",
                f"{series.others(at):.2f}",
            ]


# what a run of a program takes


def program_times(plane: Plane) -> Section:
    found: list[Sequence[str]] = []
    with counting():
        for load in LOADS:
            for entries in ENTRIES:
                plane.on(entries)
                plane.forget_connections()
                found += program_rows(plane, load, entries)
    return Section(
        "What a program takes",
        f"kernel.bpf_stats_enabled, same node, {tools.SECONDS} s each; counting itself costs some 20 ns a run. Per"
        " request, or per megabyte for the stream (of which a run sees up to 64 KiB at once).",
        ["load", "entries", "program", "runs", "ns a run", "ns in all"],
        found,
    )


def program_rows(plane: Plane, load: Load, entries: int) -> Iterator[Sequence[str]]:
    with tools.running(plane.lab, load, "near"):
        before = plane.runs()
        found = tools.sample(plane.lab, load, "near")
        after = plane.runs()
    done = found.rate * tools.SECONDS / (8 if load.name == "throughput" else 1)
    for name, (runs, spent) in after.items():
        more, nanoseconds = runs - before[name][0], spent - before[name][1]
        if more / done >= 0.01:  # else: only of opening the connections
            figures = f"{more / done:.2f}", f"{nanoseconds / more:,.0f}", f"{nanoseconds / done:,.0f}"
            yield [load.name, f"{entries:,}", f"`{name}`", *figures]


@contextmanager
def counting() -> Iterator[None]:
    before = BPF_STATS.read_text()
    BPF_STATS.write_text("1")
    try:
        yield
    finally:
        BPF_STATS.write_text(before)
