"""Which of several endpoints gets the next request. One picker for each set of endpoints, made anew when it
changes.

LEAST_REQUEST takes the less loaded of two drawn at random (power of two choices): the load is what all workers
have under way there, divided by the weight. ROUND_ROBIN takes turns in proportion to the weights, RANDOM draws by
them, HASH asks a table. `fit` says who may be taken at all; who may not is passed over without changing the
shares of the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from itertools import accumulate
from typing import Protocol

from weft.bpf.shared import ACTIVE, Rows
from weft.l7proxy.core.endpoints import Backend
from weft.l7proxy.core.hashring import Maglev, Ring, Table
from weft.policies.mesh.model import Balance, HashKey, LoadBalancer

Fit = Callable[[Backend], bool]
Draw = Callable[[], float]  # uniform, 0 <= draw < 1


class Picker(Protocol):
    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        """None: nobody is fit. `key`: for HASH."""


class Random:
    """In proportion to the weights; those that are equal cost nothing more."""

    __slots__ = ("_bounds", "_draw", "_of", "_weights")

    def __init__(self, of: Sequence[Backend], weights: Sequence[float], draw: Draw) -> None:
        self._of, self._weights, self._draw = of, weights, draw
        self._bounds = None if _equal(weights) else list(accumulate(weights))

    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        if not self._of:
            return None
        chosen = self.draw()
        if fit(chosen):
            return chosen
        rest = self.fitting(fit)
        return rest.draw() if rest is not None else None

    def draw(self) -> Backend:
        """Anybody, fit or not. There must be somebody."""
        if self._bounds is None:
            return self._of[int(self._draw() * len(self._of))]
        # a draw close to 1 times the sum may round up to the sum itself
        at = bisect_right(self._bounds, self._draw() * self._bounds[-1])
        return self._of[min(at, len(self._of) - 1)]

    def fitting(self, fit: Fit) -> Random | None:
        kept = [(one, weight) for one, weight in zip(self._of, self._weights, strict=True) if fit(one)]
        return Random([one for one, _ in kept], [weight for _, weight in kept], self._draw) if kept else None

    def __len__(self) -> int:
        return len(self._of)


class LeastRequest:
    __slots__ = ("_draw", "_of", "_rows", "_weight", "_weighted", "_weights")

    def __init__(self, of: Sequence[Backend], weights: Sequence[float], draw: Draw, rows: Rows) -> None:
        self._of, self._draw, self._rows = of, draw, rows
        self._weights = weights
        self._weighted = None if _equal(weights) else Random(of, weights, draw)
        self._weight = dict(zip(of, weights, strict=True)) if self._weighted is not None else {}

    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        of = self._of
        size = len(of)
        if size < 2:
            return of[0] if size and fit(of[0]) else None
        if self._weighted is None:
            first = int(self._draw() * size)
            second = int(self._draw() * (size - 1))
            one, other = of[first], of[second if second < first else second + 1]
        else:
            one, other = self._weighted.draw(), self._weighted.draw()
        if fit(one) and fit(other):
            return self._lighter(one, other)
        rest = (self._weighted or Random(of, self._weights, self._draw)).fitting(fit)
        return self._lighter(rest.draw(), rest.draw()) if rest is not None else None

    def _lighter(self, one: Backend, other: Backend) -> Backend:
        """Of two with the same load the first drawn: so idle endpoints share by their weights."""
        if self._rows.alone:
            load, against = one.active, other.active
        else:
            load, against = one.row.total(ACTIVE), other.row.total(ACTIVE)
        if self._weighted is None:
            return other if against < load else one
        weight = self._weight
        return other if (against + 1) / weight[other] < (load + 1) / weight[one] and against < load else one


class RoundRobin:
    """Equal weights: in turn, from a random start. Else earliest deadline first: whose turn it was is due again
    after 1 / weight."""

    __slots__ = ("_deadlines", "_next", "_of", "_weights")

    def __init__(self, of: Sequence[Backend], weights: Sequence[float], draw: Draw) -> None:
        self._of, self._weights = of, weights
        self._next = int(draw() * len(of))
        self._deadlines: list[tuple[float, int]] = []
        if not _equal(weights):
            # everybody starts somewhere within a turn of its own, or each new picker would favour the heavy ones
            self._deadlines = [((1 - draw()) / weight, index) for index, weight in enumerate(weights)]
            heapify(self._deadlines)

    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        turn = self._heaviest if self._deadlines else self._in_turn
        refused: set[int] = set()
        while len(refused) < len(self._of):
            at = turn()
            if fit(self._of[at]):
                return self._of[at]
            refused.add(at)
        return None

    def _in_turn(self) -> int:
        at = self._next
        self._next = at + 1 if at + 1 < len(self._of) else 0
        return at

    def _heaviest(self) -> int:
        deadline, at = self._deadlines[0]
        heapreplace(self._deadlines, (deadline + 1 / self._weights[at], at))
        return at


class Hash:
    """Without a key: at random."""

    __slots__ = ("_random", "_table")

    def __init__(self, table: Table, random: Random) -> None:
        self._table, self._random = table, random

    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        return self._random.pick(None, fit) if key is None else self._table.pick(key, fit)


def table(setting: HashKey, of: Sequence[Backend]) -> Table:
    return Maglev(of, setting.table_size) if setting.maglev else Ring(of, setting.ring_size)


def picker(
    setting: LoadBalancer, of: Sequence[Backend], weights: Sequence[float], draw: Draw, rows: Rows
) -> Picker:
    """For all but HASH, whose tables outlive changes of who is available."""
    if setting.balance is Balance.ROUND_ROBIN:
        return RoundRobin(of, weights, draw)
    if setting.balance is Balance.LEAST_REQUEST:
        return LeastRequest(of, weights, draw, rows)
    return Random(of, weights, draw)


def _equal(weights: Sequence[float]) -> bool:
    return not weights or min(weights) == max(weights)
