"""`weft stat`: golden metrics of workloads, services, namespaces and splits, in Linkerd's columns.

By itself a resource shows what it received (reporter destination); --to shows what it sent there, --from what it
received from there (reporter source, who also knows of requests that reached nobody). The metrics are kept by
workload, as Istio's are: a pod has figures of its own where it is the only one of its workload, else dashes. A
dash is: no requests in the window. TCP_CONN is what the kernel tracks, requests only what the proxy carried.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from weft.daemon.cli import client, times, traffic
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.resources import KINDS, Party, resource
from weft.daemon.cli.splits import Leaf, leaves, of_leaf
from weft.daemon.cli.table import columns
from weft.daemon.cli.traffic import Cast, Figures, Labels, Windows, Workload

HEADER: Final = ("NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN")
WIDE: Final = ("READ_BYTES/SEC", "WRITE_BYTES/SEC")
SPLIT_HEADER: Final = (
    "NAME", "APEX", "LEAF", "WEIGHT", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99",
)  # fmt: skip
QUANTILES: Final = (0.5, 0.95, 0.99)
#: Seconds between two tables of --watch.
EVERY: Final = 2.0
LONGEST: Final = 600

Key = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Row:
    """`meshed` "-": not a matter of pods. `connections` None: nobody counts them for this kind."""

    namespace: str
    kind: str
    name: str
    meshed: str
    figures: Figures
    connections: int | None = None
    leaf: Leaf | None = None


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "stat",
        help="success rate, requests per second and latency of workloads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("resource", nargs="+", metavar="KIND [NAME]", help=f"{', '.join(KINDS)}; also KIND/NAME")
    parser.add_argument("-n", "--namespace", default="default", help="(%(default)s)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    for word in ("from", "to"):
        parser.add_argument(f"--{word}", default="", metavar="KIND[/NAME]", help=f"only requests {word} there")
        parser.add_argument(f"--{word}-namespace", default="", metavar="NS", help=f"of --{word} (that of -n)")
    parser.add_argument("-t", "--time-window", default="1m", metavar="DURATION", help="at most 10m (%(default)s)")
    parser.add_argument("-o", "--output", choices=("table", "wide", "json"), default="table", help="(%(default)s)")
    parser.add_argument("-w", "--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    client.add_options(parser, output=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    seconds = window(options.time_window)
    kind, name = resource(options.resource)
    if not options.watch:
        print(told(options, kind, name, seconds))
        return 0
    try:
        while True:
            text = told(options, kind, name, seconds)
            print(f"\x1b[H\x1b[2J{text}" if sys.stdout.isatty() else f"{text}\n", flush=True)
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return 0


def window(text: str) -> int:
    """Whole seconds."""
    try:
        seconds = times.duration(text) // 1_000_000_000
    except ValueError as error:
        raise Failure(f"--time-window: {error}", 2) from None
    if not 1 <= seconds <= LONGEST:
        raise Failure(f"--time-window {text}: from 1s to 10m are kept", 2)
    return seconds


def told(options: argparse.Namespace, kind: str, name: str, seconds: int) -> str:
    cast, windows = traffic.cast(options), traffic.windows(options, seconds)
    found = rows(options, kind, name, cast, windows)
    if not found:
        where = "any namespace" if options.all_namespaces or kind == "ns" else f"namespace {options.namespace}"
        raise Failure(f"no {kind}{f' {name}' if name else ''} in {where}")
    return rendered(found, options.output, options.all_namespaces)


# the rows


def rows(options: argparse.Namespace, kind: str, name: str, cast: Cast, windows: Windows) -> list[Row]:
    """By namespace and name."""
    namespace = "" if options.all_namespaces or kind == "ns" else options.namespace
    source = party(options, "from", cast)
    target = party(options, "to", cast)
    if source and target:
        raise Failure("--from or --to, not both", 2)
    if kind == "ts":
        found = list(_splits(namespace, cast, windows, source, target))
    elif kind == "svc":
        found = list(_services(namespace, cast, windows, source, target))
    elif kind == "ns":
        found = list(_namespaces(options, cast, windows, source, target))
    else:
        found = list(_workloads(options, kind, namespace, cast, windows, source, target))
    return sorted((row for row in found if name in ("", row.name)), key=lambda row: (row.namespace, row.name))


def party(options: argparse.Namespace, word: str, cast: Cast) -> Party | None:
    """What --from or --to names."""
    text = getattr(options, word)
    if not text:
        return None
    namespace = getattr(options, f"{word}_namespace") or options.namespace
    return Party.read(text, namespace, cast)


def _by(windows: Windows, source: Party | None, target: Party | None) -> dict[Key, Figures]:
    """Figures by workload: of what it received, or, with a target, of what it sent there."""
    side = "source" if target else "destination"
    reporter = "source" if source or target else "destination"

    def key(labels: Labels) -> Key | None:
        if labels.get("reporter") != reporter:
            return None
        if (source and not source.sent(labels)) or (target and not target.received(labels)):
            return None
        return labels.get(f"{side}_workload_namespace", ""), labels.get(f"{side}_workload", "")

    return windows.by(key)


def _workloads(
    options: argparse.Namespace,
    kind: str,
    namespace: str,
    cast: Cast,
    windows: Windows,
    source: Party | None,
    target: Party | None,
) -> Iterator[Row]:
    by, open_to = _by(windows, source, target), _connections(options, cast, source, target)
    for workload in cast.workloads.values():
        if namespace not in ("", workload.namespace) or (kind not in ("po", workload_kind(workload))):
            continue
        figures = by.get(workload.key, Figures())
        if kind != "po":
            number = sum(open_to.get(item.ip, 0) for items in workload.pods.values() for item in items)
            meshed = workload.meshed(cast.cluster.nodes)
            yield Row(workload.namespace, kind, workload.name, meshed, figures, number)
            continue
        alone = len(workload.pods) == 1
        for pod, items in workload.pods.items():
            number = sum(open_to.get(item.ip, 0) for item in items)
            meshed = "1/1" if any(item.node in cast.cluster.nodes for item in items) else "0/1"
            yield Row(workload.namespace, kind, pod, meshed, figures if alone else Figures(), number)


def workload_kind(workload: Workload) -> str:
    return KINDS_OF.get(workload.kind, "")


KINDS_OF: Final = {kubernetes: short for short, (kubernetes, _) in KINDS.items() if short != "po"}


def _connections(
    options: argparse.Namespace, cast: Cast, source: Party | None, target: Party | None
) -> dict[str, int]:
    """By address of the workload that the row is of."""
    found: dict[str, int] = {}
    connections, more = traffic.connections(options)
    if more:
        print("weft stat: not all connections are counted, there are too many", file=sys.stderr)
    for connection in connections:
        one, other = cast.by_ip.get(connection.source), cast.by_ip.get(connection.destination)
        if (source and not (one and source.has(one))) or (target and not (other and target.has(other))):
            continue
        ip = connection.source if target else connection.destination
        found[ip] = found.get(ip, 0) + 1
    return found


def _namespaces(
    options: argparse.Namespace, cast: Cast, windows: Windows, source: Party | None, target: Party | None
) -> Iterator[Row]:
    by, open_to = _by(windows, source, target), _connections(options, cast, source, target)
    for namespace in {workload.namespace for workload in cast.workloads.values()}:
        figures, ips, pods, ours = Figures(), set[str](), 0, 0
        for workload in cast.workloads.values():
            if workload.namespace == namespace:
                ips |= {item.ip for items in workload.pods.values() for item in items}
                here, all_of_it = workload.meshed(cast.cluster.nodes).split("/")
                pods, ours = pods + int(all_of_it), ours + int(here)
        for (where, _), each in by.items():
            if where == namespace:
                figures.join(each)
        yield Row("", "ns", namespace, f"{ours}/{pods}", figures, sum(open_to.get(ip, 0) for ip in ips))


def _services(
    namespace: str, cast: Cast, windows: Windows, source: Party | None, target: Party | None
) -> Iterator[Row]:
    if target:
        raise Failure("a service receives: --from, not --to", 2)

    def key(labels: Labels) -> Key | None:
        if labels.get("reporter") != "source" or (source and not source.sent(labels)):
            return None
        return labels.get("destination_service_namespace", ""), labels.get("destination_service_name", "")

    by = windows.by(key)
    for service in cast.cluster.services.values():
        if namespace in ("", service.namespace):
            figures = by.get((service.namespace, service.name), Figures())
            yield Row(service.namespace, "svc", service.name, "-", figures)


def _splits(
    namespace: str, cast: Cast, windows: Windows, source: Party | None, target: Party | None
) -> Iterator[Row]:
    if target:
        raise Failure("a split receives: --from, not --to", 2)
    for leaf in leaves(cast.cluster):
        if namespace in ("", leaf.namespace):
            by = windows.by(_key_of(leaf, cast, source))
            yield Row(leaf.namespace, "ts", leaf.name, "-", by.get(leaf, Figures()), leaf=leaf)


def _key_of(leaf: Leaf, cast: Cast, source: Party | None) -> Callable[[Labels], Leaf | None]:
    belongs = of_leaf(leaf, cast)
    return lambda labels: leaf if belongs(labels) and (not source or source.sent(labels)) else None


# what is shown


def rendered(found: Iterable[Row], output: str, namespaces: bool) -> str:
    rows = list(found)
    if output == "json":
        return json.dumps([as_json(row) for row in rows], indent=2)
    split = any(row.leaf for row in rows)
    header = SPLIT_HEADER if split else HEADER + (WIDE if output == "wide" else ())
    cells = [_split_cells(row, row.leaf) if row.leaf else _cells(row, output == "wide") for row in rows]
    if namespaces and any(row.namespace for row in rows):
        header = ("NAMESPACE", *header)
        cells = [(row.namespace, *each) for row, each in zip(rows, cells, strict=True)]
    return columns(header, cells)


def _cells(row: Row, wide: bool) -> tuple[str, ...]:
    connections = "-" if row.connections is None else str(row.connections)
    cells = (row.name, row.meshed, *_golden(row.figures), connections)
    return (*cells, _bytes(row.figures.received), _bytes(row.figures.sent)) if wide else cells


def _split_cells(row: Row, leaf: Leaf) -> tuple[str, ...]:
    return row.name, leaf.apex, leaf.shown, str(leaf.weight), *_golden(row.figures)


def _golden(figures: Figures) -> tuple[str, ...]:
    success = figures.success_rate
    if success is None:
        return ("-",) * 5
    latencies = (figures.quantile(share) for share in QUANTILES)
    return f"{success:.2%}", f"{figures.rate:.1f}rps", *(latency(each) for each in latencies)


def latency(milliseconds: float | None) -> str:
    """Whole milliseconds, as Linkerd shows them; below one there is more to be seen."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f}ms" if milliseconds >= 1 else f"{milliseconds * 1000:.0f}µs"


def _bytes(rate: float) -> str:
    return f"{rate:.1f}B/s"


def as_json(row: Row) -> dict[str, Any]:
    """Linkerd's fields."""
    figures = row.figures
    found: dict[str, Any] = {"namespace": row.namespace, "kind": row.kind, "name": row.name}
    if row.leaf:
        found |= {"apex": row.leaf.apex, "leaf": row.leaf.shown, "weight": row.leaf.weight, "path": row.leaf.path}
    else:
        found |= {"meshed": row.meshed, "tcp_open_connections": row.connections}
        found |= {"tcp_read_bytes_rate": figures.received, "tcp_write_bytes_rate": figures.sent}
    found |= {"success": figures.success_rate, "rps": figures.rate if figures.rate else None}
    return found | {f"latency_ms_p{round(share * 100)}": figures.quantile(share) for share in QUANTILES}
