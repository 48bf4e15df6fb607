"""What the programs count, added up over CPUs: packets and bytes by endpoint, direction and reason; events.

Nothing here is ever set back: the counters of an endpoint that is gone are added to those of "no endpoint" (0).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from typing import NamedTuple

from weft.bpf import layout
from weft.bpf import sys as bpf
from weft.bpf.maps import possible_cpus
from weft.daemon.datapath import codec
from weft.daemon.datapath.kernel import Maps

KEY = struct.Struct("=IBBH")  # layout.CounterKey
RULE_KEY = struct.Struct("=IIII")  # layout.RuleStatKey
PAIR = ctypes.sizeof(layout.CounterValue)


class Counted(NamedTuple):
    packets: int
    bytes: int


class CounterKey(NamedTuple):
    ep_id: int
    direction: int
    reason: int


class RuleKey(NamedTuple):
    ep_id: int
    cookie: int
    direction: int
    verdict: int


class Counters:
    def __init__(self, maps: Maps, cpus: int | None = None) -> None:
        self._maps = maps
        self._cpus = possible_cpus() if cpus is None else cpus

    def traffic(self) -> dict[CounterKey, Counted]:
        rows = self._pairs(layout.COUNTERS, KEY.size)
        return {CounterKey(*KEY.unpack(key)[:3]): counted for key, counted in rows.items()}

    def rules(self) -> dict[RuleKey, Counted]:
        rows = self._pairs(layout.RULE_STATS, RULE_KEY.size)
        return {RuleKey(*RULE_KEY.unpack(key)): counted for key, counted in rows.items()}

    def stats(self) -> dict[layout.Stat, int]:
        return {stat: self.stat(stat) for stat in layout.Stat}

    def stat(self, stat: layout.Stat) -> int:
        raw = bpf.map_lookup(self._maps[layout.STATS_MAP], codec.number(stat), 8 * self._cpus)
        return sum(struct.unpack(f"={self._cpus}Q", raw)) if raw else 0

    def retire(self, living: Collection[int]) -> None:
        """Folds the counters of endpoints that are gone, so that numbers used again start from nothing."""
        gone: dict[bytes, Counted] = {
            key: counted
            for key, counted in self._pairs(layout.COUNTERS, KEY.size).items()
            if (ep_id := KEY.unpack(key)[0]) and ep_id not in living
        }
        fd = self._maps[layout.COUNTERS]
        for key, counted in gone.items():
            _, direction, reason, _ = KEY.unpack(key)
            self._add(fd, KEY.pack(0, direction, reason, 0), counted)
            bpf.map_delete(fd, key)

    def _add(self, fd: int, key: bytes, counted: Counted) -> None:
        """To this CPU's share; a packet that another CPU counts in the same moment is not lost by it."""
        cpu = os.sched_getaffinity(0).copy().pop() % self._cpus
        raw = bpf.map_lookup(fd, key, PAIR * self._cpus) or bytes(PAIR * self._cpus)
        values = list(struct.unpack(f"={2 * self._cpus}Q", raw))
        values[2 * cpu] += counted.packets
        values[2 * cpu + 1] += counted.bytes
        bpf.map_update(fd, key, struct.pack(f"={2 * self._cpus}Q", *values))

    def _pairs(self, spec: layout.MapSpec, key_size: int) -> dict[bytes, Counted]:
        out: dict[bytes, Counted] = {}
        size = PAIR * self._cpus
        form = struct.Struct(f"={2 * self._cpus}Q")
        for keys, values, count in bpf.map_lookup_batch(self._maps[spec], key_size, size):
            for at in range(count):
                numbers = form.unpack_from(values, at * size)
                key = keys[at * key_size : (at + 1) * key_size]
                out[key] = Counted(sum(numbers[::2]), sum(numbers[1::2]))
        return out
