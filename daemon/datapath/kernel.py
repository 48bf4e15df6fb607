"""The node's pinned maps, opened: rows in, rows out. Decides nothing.

`Kernel` is what the writer needs of it; tests hand in one that keeps its rows in memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from weft.bpf import layout, policytables, tables
from weft.bpf import sys as bpf
from weft.daemon.datapath import codec, images
from weft.daemon.datapath.images import Rows
from weft.daemon.datapath.plan import MapName
from weft.daemon.datapath.programs import Programs
from weft.daemon.datapath.rows import EndpointRow, State
from weft.policies.table import MAX_ENTRIES

#: Rows in one system call, and tables.
BATCH, PUBLISH_BATCH = 4096, 256
#: Of a table without entries.
EMPTY = images.digest({})

Codec = tuple[Callable[[Any], bytes], Callable[[Any], bytes]]
_CODECS: Final[dict[MapName, Codec]] = {
    "ipcache": (codec.prefix, codec.identity),
    "endpoints": (codec.number, codec.endpoint),
    "backends": (codec.number, codec.backend),
    "slots": (codec.slot, codec.slot_row),
}
_DECODERS: Final[dict[MapName, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]]] = {
    "ipcache": (codec.prefix_of, codec.identity_of),
    "endpoints": (codec.number_of, codec.endpoint_of),
    "backends": (codec.number_of, codec.backend_of),
    "slots": (codec.slot_of, codec.slot_row_of),
}
SPECS: Final[dict[MapName, layout.MapSpec]] = {
    "ipcache": layout.IPCACHE,
    "endpoints": layout.ENDPOINTS,
    "backends": layout.BACKENDS,
    "slots": layout.SERVICES,
}
#: layout.Config, layout.Proxy
CONFIG = struct.Struct("=QIIII")
PROXY = struct.Struct("=QIHH")


class ProxyRow(NamedTuple):
    """layout.Proxy. `port` 0: nobody listens."""

    host_netns: int = 0
    ifindex: int = 0
    port: int = 0
    first_port: int = 0


class Kernel(Protocol):
    def read(self) -> State: ...

    def put(self, name: MapName, rows: Mapping[Any, Any]) -> None: ...

    def remove(self, name: MapName, keys: Iterable[Any]) -> None: ...

    def fill(self, policy_id: int, rows: Rows) -> None: ...

    def publish(self, tables: Mapping[int, Rows]) -> None: ...

    def drop(self, policy_ids: Collection[int]) -> None: ...

    def attach(self, ifindex: int) -> None: ...

    def detach(self, ifindex: int) -> None: ...

    def bump(self) -> int: ...

    def mark(self, snapshot: int) -> None: ...

    def marked(self) -> int: ...


class Maps:
    """Descriptors of the pinned maps, by their name in the layout. Raises OSError, tables.OtherShape."""

    def __init__(self, pin_dir: Path) -> None:
        self.fds: dict[str, int] = {}
        for spec in layout.MAPS:
            fd = tables.open_pinned(pin_dir, spec)
            if fd is None:
                raise FileNotFoundError(f"{pin_dir / spec.pin}: the programs are not loaded")
            self.fds[spec.name] = fd

    def __getitem__(self, spec: layout.MapSpec) -> int:
        return self.fds[spec.name]

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


class PinnedKernel:
    def __init__(self, maps: Maps, programs: Programs) -> None:
        self.maps, self.programs = maps, programs

    def read(self) -> State:
        endpoints: dict[int, EndpointRow] = self._rows("endpoints")
        digests = {number: images.digest(rows) for number, rows in self._tables()}
        used = {row.policy_id for row in endpoints.values()}
        spares = {number for number, digest in digests.items() if digest == EMPTY and number not in used}
        return State(
            ipcache=self._rows("ipcache"),
            tables={number: digest for number, digest in digests.items() if number not in spares},
            spares=spares,
            endpoints=endpoints,
            attached=self.programs.attached(),
            backends=self._rows("backends"),
            slots=self._rows("slots"),
        )

    def table(self, policy_id: int) -> dict[bytes, bytes]:
        """The rows of one table; none if there is no such table."""
        with self._inner(policy_id) as fd:
            return {} if fd is None else read_rows(fd, policytables.KEY.size, policytables.VALUE.size)

    @contextlib.contextmanager
    def _inner(self, policy_id: int) -> Iterator[int | None]:
        value = bpf.map_lookup(self.maps[layout.POLICIES], codec.number(policy_id), codec.NUMBER.size)
        fd = None if value is None else bpf.map_by_id(codec.number_of(value))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def put(self, name: MapName, rows: Mapping[Any, Any]) -> None:
        key_of, value_of = _CODECS[name]
        write_rows(self.maps[SPECS[name]], {key_of(key): value_of(value) for key, value in rows.items()})

    def remove(self, name: MapName, keys: Iterable[Any]) -> None:
        raw = [_CODECS[name][0](key) for key in keys]
        for at in range(0, len(raw), BATCH):
            chunk = raw[at : at + BATCH]
            bpf.map_delete_batch(self.maps[SPECS[name]], b"".join(chunk), len(chunk))

    def fill(self, policy_id: int, rows: Rows) -> None:
        with self._inner(policy_id) as fd:
            if fd is None:
                raise OSError(f"policy table {policy_id} is not there")
            write_rows(fd, rows)

    def publish(self, contents: Mapping[int, Rows]) -> None:
        for at in range(0, len(contents), PUBLISH_BATCH):
            self._publish(dict(list(contents.items())[at : at + PUBLISH_BATCH]))

    def _publish(self, contents: Mapping[int, Rows]) -> None:
        fds: dict[int, int] = {}
        try:
            for number, rows in contents.items():
                fds[number] = tables.create_inner(MAX_ENTRIES)
                write_rows(fds[number], rows)
            pairs = {codec.number(number): codec.number(fd) for number, fd in fds.items()}
            write_rows(self.maps[layout.POLICIES], pairs)
        finally:
            for fd in fds.values():
                os.close(fd)

    def drop(self, policy_ids: Collection[int]) -> None:
        keys = b"".join(map(codec.number, policy_ids))
        bpf.map_delete_batch(self.maps[layout.POLICIES], keys, len(policy_ids))

    def attach(self, ifindex: int) -> None:
        self.programs.attach(ifindex)

    def detach(self, ifindex: int) -> None:
        self.programs.detach(ifindex)

    def bump(self) -> int:
        revision, *rest = self._config()
        self._write_config(revision + 1, *rest)
        return revision + 1

    def configure(self, *, audit: bool, trace_interval_ms: int) -> None:
        """Keeps the revision, which must never go back, and what is said of the proxy, which outlives us."""
        revision, flags, interval, mark, snapshot = self._config()
        wanted = flags & ~layout.ConfigFlag.AUDIT | (layout.ConfigFlag.AUDIT if audit else 0)
        if (flags, interval) != (wanted, trace_interval_ms):
            self._write_config(revision + 1, wanted, trace_interval_ms, mark, snapshot)

    # the way to the proxy: `steering` knows the order

    def proxy(self) -> ProxyRow:
        raw = bpf.map_lookup(self.maps[layout.PROXY], codec.number(0), PROXY.size)
        return ProxyRow(*PROXY.unpack(raw)) if raw else ProxyRow()

    def tell_proxy(self, row: ProxyRow) -> None:
        if self.proxy() != row:
            bpf.map_update(self.maps[layout.PROXY], codec.number(0), PROXY.pack(*row))

    def has_proxy(self, has: bool) -> None:
        revision, flags, *rest = self._config()
        wanted = flags & ~layout.ConfigFlag.PROXY | (layout.ConfigFlag.PROXY if has else 0)
        if wanted != flags:
            self._write_config(revision + 1, wanted, *rest)

    def mark_proxy(self, mark: int) -> None:
        """Connections are judged anew: what a proxy was wanting for may pass now, or not any more."""
        revision, flags, interval, before, snapshot = self._config()
        if before != mark:
            self._write_config(revision + 1, flags, interval, mark, snapshot)

    def mark(self, snapshot: int) -> None:
        """Which snapshot the maps follow from now on, as a digest: for a daemon to come."""
        *rest, before = self._config()
        if before != snapshot:
            self._write_config(*rest, snapshot)

    def marked(self) -> int:
        """0: none yet."""
        return self._config()[-1]

    def revision(self) -> int:
        return self._config()[0]

    def _config(self) -> tuple[int, ...]:
        raw = bpf.map_lookup(self.maps[layout.CONFIG], codec.number(0), CONFIG.size)
        return CONFIG.unpack(raw) if raw else (0, 0, 0, 0, 0)

    def _write_config(self, *fields: int) -> None:
        bpf.map_update(self.maps[layout.CONFIG], codec.number(0), CONFIG.pack(*fields))

    def _rows(self, name: MapName) -> dict[Any, Any]:
        key_of, value_of = _DECODERS[name]
        spec = SPECS[name]
        raw = read_rows(self.maps[spec], tables.key_size(spec), tables.value_size(spec))
        return {key_of(key): value_of(value) for key, value in raw.items()}

    def _tables(self) -> Iterable[tuple[int, dict[bytes, bytes]]]:
        key: bytes | None = None
        fd = self.maps[layout.POLICIES]
        while (key := bpf.map_next_key(fd, key, codec.NUMBER.size)) is not None:
            number = codec.number_of(key)
            yield number, self.table(number)


def read_rows(fd: int, key_size: int, value_size: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for keys, values, count in bpf.map_lookup_batch(fd, key_size, value_size, BATCH):
        for at in range(count):
            rows[keys[at * key_size : (at + 1) * key_size]] = values[at * value_size : (at + 1) * value_size]
    return rows


def write_rows(fd: int, rows: Rows) -> None:
    keys = list(rows)
    for at in range(0, len(keys), BATCH):
        chunk = keys[at : at + BATCH]
        bpf.map_update_batch(fd, b"".join(chunk), b"".join(rows[key] for key in chunk), len(chunk))
