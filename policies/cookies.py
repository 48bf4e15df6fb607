"""Cookies: one number for the set of rules that decided a table's cell. The kernel hands it back in events.

The number is a digest of the set, so it is the same after a restart of the daemon, when the kernel's entries,
statistics and events still carry those of the run before. Two sets with one digest are told apart by counting
on. 0 is "no rule": a default, or one of Weft's own exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s

from weft.policies.model import Origin

#: Sets that no table uses any more are remembered for events still under way, up to this many in all.
REMEMBERED = 65536


class Cookies:
    """Node-wide: shared by all tables of a node."""

    def __init__(self) -> None:
        self._numbers: dict[frozenset[Origin], int] = {}
        self._sets: dict[int, tuple[Origin, ...]] = {}

    def intern(self, origins: Iterable[Origin]) -> int:
        """The number of this set; 0 for the empty one."""
        wanted = frozenset(origins)
        if not wanted:
            return 0
        number = self._numbers.get(wanted)
        if number is None:
            ordered = tuple(sorted(wanted))
            number = digest(ordered)
            while number == 0 or number in self._sets:
                number = (number + 1) & 0xFFFFFFFF
            self._numbers[wanted] = number
            self._sets[number] = ordered
        return number

    def origins(self, number: int) -> tuple[Origin, ...]:
        """Sorted; empty for 0 and for a number nobody remembers."""
        return self._sets.get(number, ())

    def retain(self, used: Iterable[int]) -> None:
        """Forgets the oldest sets that are not `used`, once there are more than we care to remember."""
        excess = len(self._sets) - REMEMBERED
        if excess <= 0:
            return
        kept = set(used)
        for number in [number for number in self._sets if number not in kept][:excess]:
            del self._numbers[frozenset(self._sets.pop(number))]


def digest(origins: tuple[Origin, ...]) -> int:
    text = "\n".join(f"{o.ref.kind}\0{o.ref.namespace}\0{o.ref.name}\0{o.path}" for o in origins)
    return int.from_bytes(blake2s(text.encode(), digest_size=4).digest(), "little")
