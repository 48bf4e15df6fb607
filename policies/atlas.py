"""Where rules meet in (protocol, port): every cell that some rule names, and how the cells nest.

Sets of rules are bit masks over a rule book's numbering. Built once for a direction's rules, and once more for
each distinct way in which peers' named ports add cells of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weft.policies.ports import Cell, wider
from weft.policies.prepare import PreparedRule

#: Cells that a rule has for some peers only, through their named ports: (rule's number, cells).
Extra = tuple[tuple[int, tuple[Cell, ...]], ...]


class Atlas:
    """`own`: the rules that name exactly this cell. `reach`: the rules that name it or a wider one. `around`:
    the cell itself and the known wider ones, the narrowest first."""

    def __init__(self, rules: Sequence[PreparedRule], extra: Extra = ()) -> None:
        self._extra = {cell for _, cells in extra for cell in cells}
        self._of_rule: list[list[Cell]] = [list(rule.cells) for rule in rules]
        for index, cells in extra:
            self._of_rule[index] += cells
        self.own: dict[Cell, int] = {}
        for index, of_rule in enumerate(self._of_rule):
            for cell in of_rule:
                self.own[cell] = self.own.get(cell, 0) | 1 << index
        everyones = {cell for rule in rules if rule.everyone for cell in rule.cells}
        self._everyones: list[Cell] = sorted(everyones, key=_by_length)
        self.around: dict[Cell, tuple[Cell, ...]] = {}
        self.reach: dict[Cell, int] = {}
        self._inside: dict[Cell, list[Cell]] = {}
        for cell in self.own:
            self._place(cell)
        for cell in everyones:
            for outer in self.around[cell][1:]:
                self._inside.setdefault(outer, []).append(cell)

    def everyones_places(self) -> Iterable[Cell]:
        """Where the rules for everyone decide, the widest first."""
        return self._everyones

    def places(self, rules: Iterable[int]) -> Iterable[Cell]:
        """Where peers that `rules` name may be decided otherwise than everyone, the widest first."""
        found = set(self._extra)
        for index in rules:
            found.update(self._of_rule[index])
        for cell in tuple(found):
            found.update(self._inside.get(cell, ()))
        return sorted(found, key=_by_length)

    def _place(self, cell: Cell) -> None:
        around = (cell, *(outer for outer in wider(cell) if outer in self.own))
        self.around[cell] = around
        reach = 0
        for each in around:
            reach |= self.own[each]
        self.reach[cell] = reach


def _by_length(cell: Cell) -> tuple[int, Cell]:
    return cell.length, cell
