"""`weft top`: the requests of now, by source, destination, method and path, the most frequent first.

In a terminal it is drawn anew each second until Ctrl-C; piped it looks for as long as --duration says and
prints one table. A request that the proxies of two nodes carry is counted where its client is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from weft.daemon.cli import taps
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.stat import window
from weft.daemon.cli.table import columns
from weft.daemon.cli.taps import Record
from weft.daemon.cli.traffic import FAULTS
from weft.daemon.cli.units import count

HEADER: Final = ("Source", "Destination", "Method", "Path", "Count", "Best", "Worst", "Last", "Success_Rate")
#: Rows that are remembered; of more, the rarest goes.
MOST: Final = 5000
PATH: Final = 60  # characters
ALTERNATE, BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"

Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Row:
    """Durations in nanoseconds."""

    count: int = 0
    best: int = 0
    worst: int = 0
    last: int = 0
    successes: int = 0

    def add(self, duration: int, success: bool) -> None:
        self.best = min(self.best, duration) if self.count else duration
        self.worst = max(self.worst, duration)
        self.last = duration
        self.count += 1
        self.successes += success

    def cells(self) -> tuple[str, ...]:
        times = (span(self.best), span(self.worst), span(self.last))
        return str(self.count), *times, f"{self.successes / self.count:.2%}"


class Table:
    def __init__(self, hide_sources: bool = False) -> None:
        self.rows: dict[Key, Row] = {}
        self._hide_sources = hide_sources

    def add(self, record: Record) -> None:
        """Ends of requests count; what was told of before, by the proxy before, does not."""
        if record.get("start") or record.get("protocol") == "TCP" or taps.again(record):
            return
        source = "-" if self._hide_sources else taps.end(record, "source")
        path = str(record.get("path", "")).partition("?")[0]
        key = (source, taps.end(record, "destination"), str(record.get("method", "")), path)
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= MOST:
                del self.rows[min(self.rows, key=lambda key: self.rows[key].count)]
            row = self.rows[key] = Row()
        row.add(int(record.get("duration_ns", 0)), succeeded(record))

    def shown(self, most: int | None = None) -> str:
        """`most`: rows, as many as the terminal has lines for."""
        ordered = sorted(self.rows.items(), key=lambda item: (-item[1].count, item[0]))[:most]
        return columns(HEADER, (_cells(key, row) for key, row in ordered))


def _cells(key: Key, row: Row) -> tuple[str, ...]:
    source, destination, method, path = key
    return source, destination, method, path if len(path) <= PATH else path[: PATH - 1] + "…", *row.cells()


def succeeded(record: Record) -> bool:
    if "grpc_status" in record:
        return str(record["grpc_status"]) not in FAULTS
    return 0 < int(record.get("status", 0)) < 500


def span(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds // 1000}µs"
    return f"{nanoseconds // 1_000_000}ms" if nanoseconds < 10_000_000_000 else f"{nanoseconds / 1e9:.0f}s"


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "top",
        help="requests as they happen, by source, destination, method and path",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    taps.add_options(parser)
    parser.add_argument("--hide-sources", action="store_true", help="one row for all sources")
    parser.add_argument("--duration", default="", metavar="DURATION", help="ends then (piped: 5s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    live = sys.stdout.isatty()
    seconds = window(options.duration) if options.duration else None if live else 5
    table, stream = Table(options.hide_sources), taps.Stream(options)
    until = time.monotonic() + seconds if seconds else None
    try:
        with stream:
            if live:
                _live(table, stream, until)
            else:
                for record in stream.records(until):
                    if record is not None:
                        table.add(record)
    except KeyboardInterrupt:
        pass
    print(table.shown())
    if stream.lost:
        print(f"weft top: {count(stream.lost, 'request')} not counted, more than --max-rps", file=sys.stderr)
    return 0


def _live(table: Table, stream: taps.Stream, until: float | None) -> None:
    """In the terminal's other screen, so that what was there comes back."""
    if not os.environ.get("TERM"):
        raise Failure("TERM is not set: pipe it, or set it", 2)
    sys.stdout.write(ALTERNATE)
    try:
        drawn = 0.0
        for record in stream.records(until):
            if record is not None:
                table.add(record)
            if time.monotonic() - drawn >= 1.0:
                drawn = time.monotonic()
                _draw(table, stream.lost)
    finally:
        sys.stdout.write(BACK)
        sys.stdout.flush()


def _draw(table: Table, lost: int) -> None:
    width, height = shutil.get_terminal_size()
    lines = table.shown(height - 3).split("\n")
    notice = f"(Ctrl-C to quit)   {count(lost, 'request')} not counted" if lost else "(Ctrl-C to quit)"
    shown = [notice[:width], "", *(line[:width] for line in lines)]
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown[: height - 1]) + "\x1b[J")
    sys.stdout.flush()
