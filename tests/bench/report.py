"""Rows to a table; medians to rows. RESULTS.md is written whole at the end, so that it is of one run."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
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


def row(cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"  # type: ignore[attr-defined]


@dataclass
class Report:
    sections: list[Section] = field(default_factory=list)

    def add(self, section: Section) -> None:
        self.sections.append(section)
        print(section.markdown(), flush=True)

    def write(self) -> None:
        head = (
            "# Measurements\n\nWritten by `make bench`. Ratios are between ways that took turns in the same run;"
            f" absolute figures say little.\nKernel {platform.release()}, {cpus()} CPUs,"
            f" Python {platform.python_version()}.\n\n"
        )
        RESULTS.write_text(head + "\n".join(section.markdown() for section in self.sections))


def cpus() -> int:
    import os

    return os.cpu_count() or 1


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """median (lowest to highest)"""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
