"""README shows only what `make bench` produced: each row of its tables of figures stands in RESULTS.md."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_every_figure_of_the_readme_is_one_that_the_bench_wrote() -> None:
    section = (ROOT / "README.md").read_text().split("## Figures")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line]
    results = (ROOT / "tests" / "bench" / "RESULTS.md").read_text().splitlines()
    assert rows
    assert [row for row in rows if row not in results] == []
