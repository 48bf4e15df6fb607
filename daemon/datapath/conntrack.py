"""Old connections leave the conntrack map: the programs only write it, this sweeps it.

The map forgets the least recently used by itself when it is full; that would take a long-lived quiet connection
for a burst of short ones, so what is over is removed early. What the map forgot on its own (evictions) cannot be
seen, only reckoned: made, minus removed here, minus there.
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from weft.bpf import layout
from weft.bpf import sys as bpf
from weft.policies.model import Protocol

#: Seconds of silence after which an entry is over. 8000 is Cilium's two hours and some for what may idle.
ESTABLISHED, OPENING, CLOSED, OTHER = 8000, 60, 10, 60
NS: Final = 1_000_000_000
#: Entries in one turn: about a millisecond.
CHUNK: Final = 1024

KEY_SIZE, VALUE_SIZE = ctypes.sizeof(layout.CtKey), ctypes.sizeof(layout.CtValue)
_FIN = layout.CtFlag.FIN_IN | layout.CtFlag.FIN_OUT


def _fields(struct: type[ctypes.Structure], form: str, first: str, second: str) -> Struct:
    """Reads two fields of a struct, the first in `form[0]`, and steps over the rest."""
    one, other = getattr(struct, first), getattr(struct, second)
    gap, rest = other.offset - one.offset - one.size, ctypes.sizeof(struct) - other.offset - other.size
    return Struct(f"={one.offset}x{form[0]}{gap}x{form[1]}{rest}x")


_KEY: Final = _fields(layout.CtKey, "IB", "ep_id", "protocol")
_VALUE: Final = _fields(layout.CtValue, "QB", "seen_ns", "state")


def lifetime(protocol: int, state: int) -> int:
    """Seconds, by what was seen of the connection."""
    if protocol != Protocol.TCP:
        return OTHER
    if state & layout.CtFlag.RST or state & _FIN == _FIN:
        return CLOSED
    if state & (layout.CtFlag.SEEN_REPLY | layout.CtFlag.MIDSTREAM):
        return ESTABLISHED
    return OPENING


@dataclass(slots=True)
class Totals:
    """As of the last whole sweep. `evicted` is an estimate that never goes back."""

    entries: int = 0
    by_endpoint: dict[int, int] = field(default_factory=dict)
    expired: int = 0
    evicted: int = 0
    seconds: float = 0.0


class Sweeper:
    def __init__(self, fd: int, created: Callable[[], int], now: Callable[[], int] = time.monotonic_ns) -> None:
        """`created`: how many entries the programs have made, ever. `now`: the programs' clock."""
        self._fd, self._created, self._now = fd, created, now
        self._base: int | None = None
        self.totals = Totals()

    def sweep(self, endpoints: Collection[int]) -> Iterator[None]:
        """One pass, a chunk at a time, so that the caller can do something else in between. Entries of endpoints
        that are not in `endpoints` go, too."""
        started, now = time.monotonic(), self._now()
        made_before = self._created()
        counts: Counter[int] = Counter()
        expired = 0
        for keys, values, _ in bpf.map_lookup_batch(self._fd, KEY_SIZE, VALUE_SIZE, CHUNK):
            over: list[bytes] = []
            for at, ep_id, old in _judged(keys, values, now):
                if old or ep_id not in endpoints:
                    over.append(keys[at * KEY_SIZE : (at + 1) * KEY_SIZE])
                else:
                    counts[ep_id] += 1
            if over:
                bpf.map_delete_batch(self._fd, b"".join(over), len(over))
                expired += len(over)
            yield
        entries = counts.total()
        self._reckon(made_before, entries, expired)
        self.totals.entries, self.totals.by_endpoint = entries, dict(counts)
        self.totals.expired += expired
        self.totals.seconds = time.monotonic() - started

    def _reckon(self, made: int, entries: int, expired: int) -> None:
        gone = made - entries - self.totals.expired - expired
        if self._base is None:  # what a daemon before us removed is not known
            self._base = gone
        self.totals.evicted = max(self.totals.evicted, gone - self._base)


_TCP: Final = int(Protocol.TCP)
#: Nanoseconds, by state, of TCP.
_TCP_LIFETIMES: Final = [lifetime(Protocol.TCP, state) * NS for state in range(256)]


def _judged(keys: bytes, values: bytes, now: int) -> Iterator[tuple[int, int, bool]]:
    """(place in the chunk, endpoint, over)."""
    pairs = zip(_KEY.iter_unpack(keys), _VALUE.iter_unpack(values), strict=True)
    for at, ((ep_id, protocol), (seen, state)) in enumerate(pairs):
        limit = _TCP_LIFETIMES[state] if protocol == _TCP else OTHER * NS
        yield at, ep_id, now - seen > limit
