"""From instructions to a pinned data plane. The order of steps keeps a running one whole (see the package)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weft.bpf import layout, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import Attach, ProgKind
from weft.bpf.loader import cache, compiler, pins

SOURCES: Final = Path(layout.__file__).resolve().parent


class LoadError(Exception):
    """Nothing was changed; the text says what is in the way."""


@dataclass(slots=True)
class Report:
    """What the loader prints. `programs` and `maps` by name; an untouched data plane has `changed` false."""

    pin_dir: str
    layout: int = layout.LAYOUT
    changed: bool = True
    compile_seconds: float = 0.0
    compiled: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(
    pin_dir: Path,
    *,
    upgrade: bool = False,
    defines: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    kept: Path | None = cache.DEFAULT,
    sources: Path = SOURCES,
) -> Report:
    """Makes `pin_dir` hold every map and program (`only`: just those programs, in development).

    A data plane that is already complete is left as it is, unless `upgrade`: then its programs are replaced.
    Raises LoadError, compiler.CompileError, bpf.VerifierError, OSError, ImportError (bcc is missing).
    """
    names = [name for name in layout.PROGRAMS if not only or name in only]
    report = Report(str(pin_dir))
    pins.ensure_bpffs()
    with pins.locked(pin_dir), ExitStack() as stack:
        if not upgrade and _complete(pin_dir, names):
            report.changed = False
            _describe_pinned(pin_dir, names, report)
            return report
        code = _compile(sources, defines or {}, kept, names, report)
        with _maps(pin_dir, report) as (maps, fresh):
            programs = {name: _load(name, compiler.link(code[name], maps), report, stack) for name in names}
            # maps first: a program that is found has its maps beside it
            pins.publish(pin_dir, fresh)
            pins.publish(pin_dir, {f"prog_{name}": fd for name, fd in programs.items()})
    return report


def _complete(pin_dir: Path, names: Collection[str]) -> bool:
    wanted = [*(spec.pin for spec in layout.MAPS), *(f"prog_{name}" for name in names)]
    return all((pin_dir / name).exists() for name in wanted)


def _compile(
    sources: Path, defines: Mapping[str, str], kept: Path | None, names: Collection[str], report: Report
) -> cache.Programs:
    code: cache.Programs = {}
    started = time.monotonic()
    for source in sorted(sources.glob("*.c")):
        key = cache.digest(source, defines)
        found = cache.read(kept, key) if kept else None
        (report.compiled if found is None else report.cached).append(source.name)
        if found is None:
            found = compiler.compile_file(source, defines)
            if kept:
                cache.write(kept, key, found)
        code |= found
    report.compile_seconds = round(time.monotonic() - started, 3)
    missing = [name for name in names if name not in code]
    if missing:
        raise LoadError(f"no source in {sources} has the programs {', '.join(missing)}")
    return code


@contextmanager
def _maps(pin_dir: Path, report: Report) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """Descriptors of all maps by name, and by pin those that were made now. Closed at the end: pins keep them."""
    maps: dict[str, int] = {}
    fresh: dict[str, int] = {}
    try:
        for spec in layout.MAPS:
            fd = tables.open_pinned(pin_dir, spec)
            if fd is None:
                fd = fresh[spec.pin] = tables.create(spec)
            maps[spec.name] = fd
            report.maps[spec.name] = {"id": bpf.map_info(fd).id, "reused": spec.pin not in fresh}
        yield maps, fresh
    finally:
        for fd in maps.values():
            os.close(fd)


def _load(name: str, instructions: bytes, report: Report, stack: ExitStack) -> int:
    kind, where = layout.PROGRAMS[name]
    attach = Attach[where.upper()] if where.upper() in Attach.__members__ else 0
    started = time.monotonic()
    fd = bpf.prog_load(ProgKind[kind.upper()], instructions, name=kernel_name(name), attach=attach)
    stack.callback(os.close, fd)
    report.programs[name] = _described(fd) | {"seconds": round(time.monotonic() - started, 3)}
    return fd


def kernel_name(name: str) -> str:
    """15 characters are all that the kernel keeps: weft_getpeername4 and 6 would be one."""
    return name.removeprefix("weft_")


def _described(fd: int) -> dict[str, Any]:
    info = bpf.prog_info(fd)
    return {"id": info.id, "tag": info.tag, "verified": info.verified}


def _describe_pinned(pin_dir: Path, names: Collection[str], report: Report) -> None:
    with ExitStack() as stack:
        for spec in layout.MAPS:
            fd = bpf.obj_get(pin_dir / spec.pin)
            stack.callback(os.close, fd)
            report.maps[spec.name] = {"id": bpf.map_info(fd).id, "reused": True}
        for name in names:
            fd = bpf.obj_get(pin_dir / f"prog_{name}")
            stack.callback(os.close, fd)
            report.programs[name] = _described(fd)
