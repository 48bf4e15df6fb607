"""What the kernel's maps and this process look like to a person: rows decoded into JSON values."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from pathlib import Path
from socket import ntohs
from typing import Any

from weft.bpf import layout, policytables
from weft.bpf import sys as bpf
from weft.daemon.datapath.rows import text
from weft.daemon.observer import names
from weft.policies.model import Direction, Protocol
from weft.policies.table import Key, Value, Verdict

#: Entries of one answer: some 3 MB of JSON.
CONNTRACK_LIMIT = 10_000


def memory(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """Bytes: `anonymous` is what this process alone costs, `resident` counts shared files as well."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return {
        "anonymous": int(fields["RssAnon"].split()[0]) * 1024,
        "resident": int(fields["VmRSS"].split()[0]) * 1024,
    }


def protocol(number: int) -> str:
    return Protocol(number).name if number in set(Protocol) else str(number)


def table(rows: Mapping[bytes, bytes]) -> list[dict[str, Any]]:
    """Sorted as a person reads it: by direction, identity, protocol, port."""
    entries = dict(policytables.decode(key, value) for key, value in rows.items())
    return [_entry(key, entries[key]) for key in sorted(entries, key=_order)]


def _order(key: Key) -> tuple[int, ...]:
    return key.direction, key.identity, key.protocol, key.port, key.port_bits


def _entry(key: Key, value: Value) -> dict[str, Any]:
    return {
        "direction": key.direction.name.lower(),
        "identity": key.identity,
        "protocol": protocol(key.protocol),
        "port": key.port if key.port_bits else 0,
        "end_port": key.port | (0xFFFF >> key.port_bits) if key.port_bits else 0,
        "prefix": key.prefix_len,
        "verdict": value.verdict.name.lower(),
        "match": names.match(value.match),
        "bypass": value.bypass,
        "cookie": value.cookie,
    }


def conntrack(fd: int, ep_id: int | None) -> tuple[list[dict[str, Any]], bool]:
    """Entries, of one endpoint or all; True: there are more than are told."""
    key_size, value_size = ctypes.sizeof(layout.CtKey), ctypes.sizeof(layout.CtValue)
    now = time.monotonic_ns()
    out: list[dict[str, Any]] = []
    for keys, values, count in bpf.map_lookup_batch(fd, key_size, value_size):
        for at in range(count):
            key = layout.CtKey.from_buffer_copy(keys, at * key_size)
            if ep_id is not None and key.ep_id != ep_id:
                continue
            if len(out) == CONNTRACK_LIMIT:
                return out, True
            out.append(_connection(key, layout.CtValue.from_buffer_copy(values, at * value_size), now))
    return out, False


def _connection(key: Any, value: Any, now: int) -> dict[str, Any]:
    size = 4 if key.family == layout.Family.IPV4 else 16
    flags = [flag.name.lower() for flag in layout.CtFlag if value.state & flag and flag.name]
    return {
        "endpoint_id": key.ep_id,
        "protocol": protocol(key.protocol),
        "local": text(bytes(key.local)[:size]),
        "local_port": ntohs(key.local_port),
        "remote": text(bytes(key.remote)[:size]),
        "remote_port": ntohs(key.remote_port),
        "remote_identity": value.remote_identity,
        "origin": Direction(value.origin).name.lower(),
        "verdict": Verdict(value.verdict).name.lower(),
        "flags": flags,
        "packets": list(value.packets),
        "bytes": list(value.bytes),
        "age_seconds": round((now - value.created_ns) / 1e9, 1),
        "idle_seconds": round((now - value.seen_ns) / 1e9, 1),
        "revision": value.revision,
        "cookie": value.cookie,
    }
