"""Compiled programs kept between runs, so that a second node, a restart and a test need no compiler.

An entry's name is a hash of all that the instructions depend on: sources, headers, macros, the shim, the versions
of compiler and UAPI. An entry that cannot be read, or that others than root could have written, is as
if it were not there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weft.bpf.loader import compiler, headers

DEFAULT: Final = Path("/var/cache/weft/programs")

#: Entries: three sources of the last releases, and of a developer's last hour.
KEPT: Final = 48

#: Program name -> instructions.
Programs = dict[str, bytes]


def digest(source: Path, defines: Mapping[str, str]) -> str:
    """Of one .c file, and of every header that it may include."""
    told = hashlib.sha256()
    for path in (source, *sorted((source.parent / "lib").glob("*.h")), headers.UAPI / "linux/version.h"):
        told.update(f"{path.name}\0".encode() + path.read_bytes())
    parts = [*headers.stubs(), *compiler.map_flags(), *(f"-D{k}={v}" for k, v in sorted(defines.items()))]
    told.update("\0".join((*parts, _compiler_version(), os.uname().machine, os.uname().release)).encode())
    return told.hexdigest()[:32]


def _compiler_version() -> str:
    """Without importing bcc, which is what the cache is to spare."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return "none"
    return (Path(spec.origin).parent / "version.py").read_text()


def read(folder: Path, name: str) -> Programs | None:
    path = folder / name
    try:
        if not (_only_root_writes(folder) and _only_root_writes(path)):
            return None
        kept = json.loads(path.read_text())
        return {program: bytes.fromhex(code) for program, code in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def write(folder: Path, name: str, programs: Programs) -> None:
    """Whole or not at all. A disk that refuses costs the next run its compile, no more."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            json.dump({program: code.hex() for program, code in programs.items()}, file)
        os.replace(file.name, folder / name)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def _only_root_writes(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
