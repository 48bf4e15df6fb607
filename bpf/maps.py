"""Weft's pinned maps with the types of their keys and values.

In: a pin directory. Out: `Maps`, one typed map each, as ctypes structures of `layout`; and the same maps as raw
bytes in batches, for writing thousands of entries. A per-CPU value is read as the sum over the CPUs. Policy tables,
which are maps in a map, are `policytables`.

Opening needs CAP_BPF and the right to the pin; an opened map works without.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from weft.bpf import layout, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import ANY, ENOTSUPP, MapKind
from weft.bpf.layout import MapSpec
from weft.bpf.policytables import PolicyTables

K = TypeVar("K", bound=ctypes.Structure | int)
V = TypeVar("V", bound=ctypes.Structure | int)

#: Entries in one system call.
BATCH: Final = 4096


def possible_cpus() -> int:
    """How many values a per-CPU map has: the CPUs that there may ever be, not those that run."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


class Map(Generic[K, V]):
    """Keys and values are ctypes structures, or int where the layout says so."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        """`fd` is closed with the map."""
        self.spec, self.fd = spec, fd
        self._key_size, self._one = tables.key_size(spec), tables.value_size(spec)
        self._cpus = possible_cpus() if MapKind.named(spec.kind).per_cpu else 0
        # each CPU's value is rounded up to 8 bytes
        self._value_size = (self._one + 7 & ~7) * self._cpus if self._cpus else self._one

    @classmethod
    def open(cls, spec: MapSpec, pin_dir: Path) -> Map[K, V]:
        """Raises FileNotFoundError (not loaded), tables.OtherShape, OSError."""
        fd = tables.open_pinned(pin_dir, spec)
        if fd is None:
            raise FileNotFoundError(f"{pin_dir / spec.pin}: the programs are not loaded")
        return cls(spec, fd)

    def get(self, key: K) -> V | None:
        value = bpf.map_lookup(self.fd, encoded(key), self._value_size)
        return None if value is None else self._value(value)

    def put(self, key: K, value: V, flags: int = ANY) -> None:
        """Raises OSError: E2BIG when the map is full, EEXIST and ENOENT as the flags say."""
        bpf.map_update(self.fd, encoded(key), self._for_all(value), flags)

    def delete(self, key: K) -> bool:
        return bpf.map_delete(self.fd, encoded(key))

    def items(self) -> Iterator[tuple[K, V]]:
        """Each entry once; those that come or go meanwhile may be missed, or come twice."""
        for key, value in self.rows():
            yield self._key(key), self._value(value)

    def keys(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def put_all(self, entries: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        self.write((encoded(key), self._for_all(value)) for key, value in pairs)

    def clear(self) -> None:
        keys = [key for key, _ in self.rows()]
        if MapKind.named(self.spec.kind) in (MapKind.ARRAY, MapKind.PERCPU_ARRAY):
            self.write((key, bytes(self._value_size)) for key in keys)  # an array's entries are always there
        else:
            self.remove(keys)

    # as bytes

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values as the kernel has them, a per-CPU value with all its parts."""
        try:
            for keys, values, count in bpf.map_lookup_batch(self.fd, self._key_size, self._value_size, BATCH):
                yield from zip(_cut(keys, count), _cut(values, count), strict=True)
        except OSError as failed:
            if failed.errno != ENOTSUPP:
                raise
            yield from self._rows_one_by_one()

    def write(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """In order, in batches. Raises OSError: some first part may have been written."""
        pending = list(rows)
        for at in range(0, len(pending), BATCH):
            chunk = pending[at : at + BATCH]
            keys, values = b"".join(key for key, _ in chunk), b"".join(value for _, value in chunk)
            bpf.map_update_batch(self.fd, keys, values, len(chunk))

    def remove(self, keys: Iterable[bytes]) -> None:
        pending = list(keys)
        for at in range(0, len(pending), BATCH):
            chunk = pending[at : at + BATCH]
            bpf.map_delete_batch(self.fd, b"".join(chunk), len(chunk))

    def close(self) -> None:
        os.close(self.fd)

    def _rows_one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        key: bytes | None = None
        while (key := bpf.map_next_key(self.fd, key, self._key_size)) is not None:
            value = bpf.map_lookup(self.fd, key, self._value_size)
            if value is not None:
                yield key, value

    def _key(self, raw: bytes) -> K:
        return cast(K, _decoded(self.spec.key, raw))

    def _value(self, raw: bytes) -> V:
        if not self._cpus:
            return cast(V, _decoded(self.spec.value, raw))
        return cast(V, _decoded(self.spec.value, _summed(raw, self._one)))

    def _for_all(self, value: V) -> bytes:
        """A per-CPU value is given to the first CPU, zero to the rest: so it is read back as it was written."""
        raw = encoded(value, 8 if self.spec.value is ctypes.c_uint64 else 4)
        return raw.ljust(self._value_size, b"\0") if self._cpus else raw


def encoded(value: ctypes.Structure | int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little") if isinstance(value, int) else bytes(value)


def _decoded(kind: Any, raw: bytes) -> Any:
    if issubclass(kind, ctypes.Structure):
        return kind.from_buffer_copy(raw)
    return int.from_bytes(raw[: ctypes.sizeof(kind)], "little")


def _summed(raw: bytes, one: int) -> bytes:
    """Every per-CPU value of the layout is made of 64-bit counters."""
    words = one // 8
    parts = struct.unpack(f"={len(raw) // 8}Q", raw)
    return struct.pack(f"={words}Q", *(sum(parts[at::words]) % (1 << 64) for at in range(words)))


def _cut(raw: bytes, count: int) -> list[bytes]:
    size = len(raw) // count
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@dataclass(slots=True)
class Maps:
    """All maps of one node. `policies`: the tables, which `policytables` explains; `events`: for ringbuf.Ring."""

    ipcache: Map[layout.IpcacheKey, layout.IpcacheValue]
    endpoints: Map[int, layout.Endpoint]
    policies: PolicyTables
    ct: Map[layout.CtKey, layout.CtValue]
    fragments: Map[layout.FragmentKey, layout.FragmentValue]
    services: Map[layout.ServiceKey, layout.ServiceValue]
    backends: Map[int, layout.Backend]
    reverse: Map[layout.ReverseKey, layout.ReverseValue]
    affinity: Map[layout.AffinityKey, layout.AffinityValue]
    counters: Map[layout.CounterKey, layout.CounterValue]
    rule_stats: Map[layout.RuleStatKey, layout.CounterValue]
    config: Map[int, layout.Config]
    proxy: Map[int, layout.Proxy]
    stats: Map[int, int]
    events: int

    @classmethod
    def open(cls, pin_dir: Path) -> Maps:
        """Raises FileNotFoundError (not loaded), tables.OtherShape, OSError."""
        specs = {spec.name: spec for spec in layout.MAPS}
        opened: dict[str, Map[Any, Any]] = {}
        try:
            for field in fields(cls):
                opened[field.name] = Map.open(specs[field.name], pin_dir)
        except BaseException:
            for found in opened.values():
                found.close()
            raise
        policies, events = opened.pop("policies"), opened.pop("events")
        return cls(**opened, policies=PolicyTables(policies.fd), events=events.fd)

    def close(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            os.close(value) if isinstance(value, int) else value.close()

    def __enter__(self) -> Maps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
