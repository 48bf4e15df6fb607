"""Rows to a table; medians to rows. Each section is of one run; what a run did not measure stays in RESULTS.md."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.text, "", row(self.header), row("---" for _ in self.header)]
        return "\n".join([*lines, *(row(each) for each in self.rows), ""])


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@dataclass
class Report:
    sections: list[Section] = field(default_factory=list)

    def add(self, section: Section) -> None:
        self.sections.append(section)
        print(section.markdown(), flush=True)

    def write(self, path: Path = RESULTS) -> None:
        head = (
            "# Measurements\n\nWritten by `make bench`. Ratios are between ways that took turns in the same run;"
            f" absolute figures say little.\nKernel {platform.release()}, {os.cpu_count()} CPUs,"
            f" Python {platform.python_version()}.\n\n"
        )
        sections = _sections(path) | {section.title: section.markdown() for section in self.sections}
        path.write_text(head + "\n".join(sections.values()))


def _sections(path: Path) -> dict[str, str]:
    """Of a file that was written before, by title."""
    text = path.read_text() if path.exists() else ""
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: "## " + part.rstrip("\n") + "\n" for part in parts}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """median (lowest to highest)"""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def middle(values: Sequence[float], digits: int) -> str:
    """Between which values the middle half lies."""
    if len(values) < 2:
        return ""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{low:,.{digits}f} to {high:,.{digits}f}"


def load() -> str:
    """Of the machine at this moment, for the text of a section: neighbours are part of a measurement."""
    return "Load average before: " + ", ".join(f"{value:.1f}" for value in os.getloadavg())
