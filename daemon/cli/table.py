"""Columns as kubectl and Cilium print them: padded, three spaces apart, no lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A cell that holds newlines takes as many lines; the other cells of its row stay empty below."""
    lines: list[list[str]] = [list(header)]
    for row in rows:
        cells = [str(cell).split("\n") for cell in row]
        for at in range(max(len(cell) for cell in cells)):
            lines.append([cell[at] if at < len(cell) else "" for cell in cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def show(value: Any, form: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints `value` as JSON (`-o json`) or YAML (`-o yaml`), or the rows as a table."""
    if form == "json":
        json.dump(value, sys.stdout, indent=2, sort_keys=True)
        print()
    elif form == "yaml":
        import yaml

        yaml.safe_dump(value, sys.stdout, sort_keys=True)
    else:
        print(columns(header, rows))


def labels_cell(labels: Sequence[str] | Mapping[str, str]) -> str:
    return "\n".join(labels) if labels else "-"
