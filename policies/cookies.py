"""Cookies: one number for the set of rules that decided a table's cell. The kernel hands it back in events.

The number is a digest of the set, so it is the same after a restart of the daemon, when the kernel's entries,
statistics and events still carry those of the run before. Two sets with one digest are told apart by counting
on. 0 is "no rule": a default, or one of Weft's own exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2s

from weft.policies.model import Origin

#: Sets that no table uses any more are remembered for events still under way, up to this many in all.
REMEMBERED = 65536


@dataclass(frozen=True, slots=True, order=True)
class Credit:
    """An Origin with its text and digest at hand: sets of them are made by the hundred thousand."""

    text: str
    origin: Origin = field(compare=False)
    digest: int = field(compare=False)

    @classmethod
    def to(cls, origin: Origin) -> Credit:
        text = "\0".join((origin.ref.kind, origin.ref.namespace, origin.ref.name, origin.path))
        return cls(text, origin, int.from_bytes(blake2s(text.encode(), digest_size=8).digest(), "little"))


class Cookies:
    """Node-wide: shared by all tables of a node."""

    def __init__(self) -> None:
        self._numbers: dict[frozenset[int], int] = {}  # by the digests of the set
        self._sets: dict[int, tuple[Origin, ...]] = {}
        self._digests: dict[int, frozenset[int]] = {}

    def intern(self, credits: Iterable[Credit]) -> int:
        """The number of this set; 0 for the empty one."""
        by_digest = {credit.digest: credit for credit in credits}
        if not by_digest:
            return 0
        wanted = frozenset(by_digest)
        number = self._numbers.get(wanted)
        if number is None:
            number = self._free(sum(wanted))
            self._numbers[wanted], self._digests[number] = number, wanted
            ordered = sorted(by_digest.values(), key=lambda credit: credit.text)
            self._sets[number] = tuple(credit.origin for credit in ordered)
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
            del self._sets[number]
            del self._numbers[self._digests.pop(number)]

    def _free(self, digest: int) -> int:
        number = (digest ^ digest >> 32) & 0xFFFFFFFF
        while number == 0 or number in self._sets:
            number = (number + 1) & 0xFFFFFFFF
        return number
