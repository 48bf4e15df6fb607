"""The difference between what the kernel holds and what it should, as writes in an order in which every moment
in between is safe. Pure: `plan(have, want)` of two equal states is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from weft.daemon.datapath.moves import arrivals, moves
from weft.daemon.datapath.rows import State

MapName = Literal["ipcache", "endpoints", "backends", "slots"]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Put:
    map: MapName
    rows: Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Remove:
    map: MapName
    keys: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """A spare table gets its content before anything points to it; it is never written again."""

    policy_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """Tables for which there was no spare, filled and then published together: the kernel lets a write to the map
    of tables wait until no program uses what was there, some 20 ms, but once for all of them."""

    tables: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Attach:
    ifindex: int


@dataclass(frozen=True, slots=True)
class Detach:
    ifindex: int


@dataclass(frozen=True, slots=True)
class Bump:
    """Connections are judged anew from here on."""


Write = Put | Remove | Fill | Publish | Attach | Detach | Bump


def assign(have: State, digests: Iterable[bytes], fresh: Iterator[int]) -> dict[int, bytes]:
    """Policy ids for the wanted tables: that of an equal table in the kernel, a spare one's, or a new one."""
    wanted = set(digests)
    by_digest = {digest: n for n, digest in sorted(have.tables.items(), reverse=True) if digest in wanted}
    spares = sorted(have.spares, reverse=True)
    for digest in sorted(wanted - by_digest.keys()):
        by_digest[digest] = spares.pop() if spares else next(fresh)
    return {number: digest for digest, number in by_digest.items()}


#: Spare tables kept: a change that concerns so many different policies is in force without waiting.
SPARES = 32


@dataclass(frozen=True, slots=True)
class Tidy:
    """Done after a change, when nobody waits: `drop` what no endpoint uses, `make` so many spares."""

    drop: frozenset[int]
    make: int


def tidy(have: State) -> Tidy | None:
    used = {row.policy_id for row in have.endpoints.values()}
    unused = frozenset(have.tables.keys() - used)
    missing = SPARES - len(have.spares)
    return Tidy(unused, missing) if unused or missing > SPARES // 2 else None


def plan(have: State, want: State) -> list[Write]:
    return [*_additions(have, want), *_removals(have, want)]


def _additions(have: State, want: State) -> list[Write]:
    writes: list[Write] = []
    # 1. Who is who, before any table speaks of it; until all do, everybody who changes is judged as both. (Where
    #    there is no endpoint yet nobody is judged.)
    on_the_way = moves(have.ipcache, want.ipcache) if have.endpoints else _changed(have.ipcache, want.ipcache)
    writes += _put("ipcache", on_the_way)
    # 2. New tables, whole, under numbers that nothing points to yet.
    new_tables = want.tables.keys() - have.tables.keys()
    writes += [Fill(number, want.tables[number]) for number in sorted(new_tables & have.spares)]
    if unforeseen := {number: want.tables[number] for number in sorted(new_tables - have.spares)}:
        writes.append(Publish(unforeseen))
    # 3. One row flips an endpoint's table and flags together.
    writes += _put("endpoints", new_rows := _changed(have.endpoints, want.endpoints))
    # 4. Programs last: the first packet they see finds its endpoint known. (Unknown ones are dropped.)
    writes += [Attach(ifindex) for ifindex in sorted(want.attached - have.attached)]
    # 5. Backends before the slots that name them, slots before the count that makes them reachable.
    writes += _put("backends", _changed(have.backends, want.backends))
    slots = _changed(have.slots, want.slots)
    writes += _put("slots", {slot: row for slot, row in slots.items() if slot.number})
    writes += _put("slots", {slot: row for slot, row in slots.items() if not slot.number})
    # 6. Now everybody is who he is, alone.
    writes += _put("ipcache", arrivals(on_the_way))
    # 7. Only now are open connections judged anew: before, half of the answer would have been the old one.
    if on_the_way or new_rows:
        writes.append(Bump())
    return writes


def _removals(have: State, want: State) -> list[Write]:
    writes: list[Write] = []
    gone = have.slots.keys() - want.slots.keys()
    # 1. In reverse: a service's head first, so that nobody looks for its slots; backends when no slot is left.
    writes += _remove("slots", sorted(slot for slot in gone if not slot.number))
    writes += _remove("slots", sorted(slot for slot in gone if slot.number))
    writes += _remove("backends", sorted(have.backends.keys() - want.backends.keys()))
    # 2. The row before the program: in between nothing passes. The other way round everything would.
    writes += _remove("endpoints", sorted(have.endpoints.keys() - want.endpoints.keys()))
    writes += [Detach(ifindex) for ifindex in sorted(have.attached - want.attached)]
    # 3. Addresses last: no table in use speaks of their identities now. What was judged meanwhile under an
    #    identity that is gone must not stay judged so. (Tables that no row points to go later: `tidy`.)
    strangers = sorted(have.ipcache.keys() - want.ipcache.keys())
    writes += _remove("ipcache", strangers)
    if strangers:
        writes.append(Bump())
    return writes


def _changed(have: Mapping[K, V], want: Mapping[K, V]) -> dict[K, V]:
    if have is want:
        return {}
    return {key: value for key, value in want.items() if have.get(key) != value}


def _put(name: MapName, rows: Mapping[Any, Any]) -> list[Write]:
    return [Put(name, rows)] if rows else []


def _remove(name: MapName, keys: Iterable[Any]) -> list[Write]:
    listed = tuple(keys)
    return [Remove(name, listed)] if listed else []
