"""Addresses whose identity changes: for the time of the change they are both, who they were and who they become.

Tables and addresses cannot change in one moment. Whichever comes first, there would be one in which an address is
looked up under an identity that the table in force does not know, and where a policy only denies, that passes. So
rows are written as `moving` before the tables, which are judged for both identities, and settled after them.
"""

from __future__ import annotations

from collections.abc import Mapping

from weft.daemon.datapath.rows import Prefix, former, moving, settled
from weft.policies import identity

Rows = Mapping[Prefix, int]


def moves(have: Rows, want: Rows) -> dict[Prefix, int]:
    """The rows to write first. Prefixes that go are among them: they become what is found without them."""
    if have is want:
        return {}
    changed = [prefix for prefix, number in want.items() if have.get(prefix) != number]
    changed += have.keys() - want.keys()
    if not changed:
        return {}
    before, after = Finder(have), Finder(want)
    return {prefix: _move(have.get(prefix), before.find(prefix), after.find(prefix)) for prefix in changed}


def arrivals(moves: Rows) -> dict[Prefix, int]:
    """The rows to write when tables know who everybody is."""
    return {prefix: settled(number) for prefix, number in moves.items() if former(number)}


def _move(row: int | None, was: int, becomes: int) -> int:
    # Who died in the middle of a change left a row that moves: who it was before counts, until it has arrived.
    was = former(row or 0) or was
    return moving(becomes, was) if was != becomes else becomes


class Finder:
    """The longest prefix among `rows`, as the kernel's map finds it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        lengths = {(len(prefix.address), prefix.bits) for prefix in rows}
        self._lengths = {
            size: sorted((bits for at, bits in lengths if at == size), reverse=True) for size in (4, 16)
        }

    def find(self, prefix: Prefix) -> int:
        size = len(prefix.address)
        whole = int.from_bytes(prefix.address, "big")
        for bits in self._lengths[size]:
            if bits <= prefix.bits:
                rest = size * 8 - bits
                found = self._rows.get(Prefix((whole >> rest << rest).to_bytes(size, "big"), bits))
                if found is not None:
                    return settled(found)
        return identity.WORLD_IPV4 if size == 4 else identity.WORLD_IPV6
