"""From a MapSpec to a map in the kernel: making it, and opening the pinned one. `maps` gives it types."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from weft.bpf import layout
from weft.bpf import sys as bpf
from weft.bpf.abi import F_NO_PREALLOC, MapKind
from weft.bpf.layout import MapSpec

#: Tries have no other way. Plain hashes are written by user space alone, which may wait for memory: they take what
#: they hold and no more. What programs write to (lru, per CPU) is allocated when the map is made.
_ON_DEMAND: Final = (MapKind.LPM_TRIE, MapKind.HASH)


class OtherShape(Exception):
    """The pinned map is not what this release's layout says."""

    def __init__(self, path: Path, have: bpf.MapInfo, want: str) -> None:
        super().__init__(
            f"{path} is a map of kind {have.kind} with {have.key_size}-byte keys, {have.value_size}-byte values "
            f"and {have.max_entries} entries; layout {layout.LAYOUT} wants {want}: detach, and remove the pins"
        )


def key_size(spec: MapSpec) -> int:
    """0 for a ring buffer, which has neither keys nor values."""
    return 0 if spec.kind == "ringbuf" else ctypes.sizeof(spec.key)


def value_size(spec: MapSpec) -> int:
    """Of one CPU's value, where each has its own."""
    return 0 if spec.kind == "ringbuf" else ctypes.sizeof(spec.value)


def create(spec: MapSpec) -> int:
    """A new map's descriptor. Raises OSError."""
    kind = MapKind.named(spec.kind)
    flags = F_NO_PREALLOC if kind in _ON_DEMAND else 0
    sizes = (key_size(spec), value_size(spec), spec.max_entries)
    if kind is not MapKind.HASH_OF_MAPS:
        return bpf.map_create(kind, *sizes, flags=flags, name=spec.pin)
    template = create_inner(1)
    try:
        return bpf.map_create(kind, *sizes, name=spec.pin, inner=template)
    finally:
        os.close(template)


def create_inner(entries: int) -> int:
    """One policy table. The kernel compares inner maps in everything but how many entries they hold."""
    sizes = ctypes.sizeof(layout.PolicyKey), ctypes.sizeof(layout.PolicyValue)
    return bpf.map_create(MapKind.LPM_TRIE, *sizes, max(entries, 1), flags=F_NO_PREALLOC, name="policy")


def open_pinned(pin_dir: Path, spec: MapSpec) -> int | None:
    """The pinned map's descriptor; None: there is no pin. Raises OtherShape, OSError."""
    path = pin_dir / spec.pin
    try:
        fd = bpf.obj_get(path)
    except FileNotFoundError:
        return None
    have = bpf.map_info(fd)
    want = (MapKind.named(spec.kind), key_size(spec), value_size(spec), spec.max_entries)
    if (have.kind, have.key_size, have.value_size, have.max_entries) != want:
        os.close(fd)
        raise OtherShape(path, have, f"{spec.kind}, {want[1]}, {want[2]} and {want[3]}")
    return fd
