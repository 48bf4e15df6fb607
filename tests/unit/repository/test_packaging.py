"""The layout's traps: folders without `__init__.py`, links, and names that shadow the standard library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("bpf", "daemon", "l7proxy", "operator", "policies")


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_is_a_regular_package(room: str) -> None:
    assert not (ROOT / room / "__init__.py").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_linked_into_the_source_tree(room: str) -> None:
    assert (ROOT / ".src" / "weft" / room).resolve() == ROOT / room


def test_python_started_in_the_root_finds_the_standard_operator() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import operator; print(operator.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in done.stdout


def test_every_folder_of_modules_below_a_room_is_a_package() -> None:
    bare = [
        folder
        for room in ROOMS
        for folder in (ROOT / room).rglob("*")
        if folder.is_dir()
        and folder.name != "__pycache__"
        and any(folder.glob("*.py"))
        and not (folder / "__init__.py").exists()
    ]
    assert bare == []


def test_every_c_file_names_its_licence() -> None:
    sources = [*(ROOT / "bpf").rglob("*.c"), *(ROOT / "bpf").rglob("*.h")]
    assert sources
    for source in sources:
        if source.is_symlink():
            continue
        head = source.read_text().splitlines()[:1]
        assert head and "SPDX-License-Identifier:" in head[0], source
