"""Runs the loader, a process of its own: compiling takes 120 MB that this one shall not keep."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any


class LoadFailed(Exception):
    """What the loader said."""


async def load(pin_dir: Path, *, upgrade: bool = True) -> dict[str, Any]:
    """Pins maps and programs; programs that are there are replaced by this release's. Returns its report."""
    words = [sys.executable, "-m", "weft.bpf.loader", "--pin-dir", str(pin_dir)]
    if upgrade:
        words.append("--upgrade")
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, said = await process.communicate()
    if process.returncode:
        raise LoadFailed(said.decode(errors="replace").strip() or f"the loader ended with {process.returncode}")
    report: dict[str, Any] = json.loads(out)
    return report
