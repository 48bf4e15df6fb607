"""The endpoints of one destination as clients see them that have the same subset, policy and place, and the choice.

In: the destination's endpoints. Out: one of them for each request. What is shared by those clients is here: who is
ejected, whose turn it is, the tables of consistent hashing. Sets are made anew only when somebody comes, goes, is
ejected or comes back, or warms up; a choice makes nothing.

1. Members: endpoints that bear the subset's labels, of the client's address family as far as there are any.
2. Ejected ones are left out, unless fewer than min_health_percent are left: then ejections are ignored. (Envoy
   1.40 waits until 1.4 times the healthy part is below 100 %, too: of 80 % it makes 71 %. Here the field is what
   it says.)
3. A level by its load (`localities`), in it a share by its weight, in it an endpoint by the balancer.
4. If none of them may be had (`allowed`), any other level and share that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from weft.bpf.shared import Rows
from weft.l7proxy.core import localities, warmup
from weft.l7proxy.core.balance import Draw, Fit, Hash, Picker, Random, picker, table
from weft.l7proxy.core.endpoints import Backend, Destination
from weft.l7proxy.core.hashring import Table
from weft.l7proxy.core.levels import bears
from weft.l7proxy.core.localities import Place
from weft.l7proxy.core.outlier import Detector
from weft.policies.mesh.model import Balance, LoadBalancer, Outlier

#: Seconds between two steps of who warms up.
WARMS: Final = 1.0

#: Of consistent hashing, that a group keeps: one for each share, and those that an endpoint's return brings back.
MOST_TABLES: Final = 4

#: Places that keys fall on between shares: a prime, so that it has nothing in common with the sizes of tables.
_GRAINS: Final = 10_007

_WEIGHED: Final = (Balance.LEAST_REQUEST, Balance.ROUND_ROBIN)


@dataclass(frozen=True, slots=True)
class Look:
    """What makes two clients see the same. `labels` None: no subset."""

    name: str
    labels: tuple[tuple[str, str], ...]
    balancer: LoadBalancer
    outlier: Outlier | None
    place: Place
    prefer: str
    ipv6: bool


class Group:
    """`members`: all; `available`: how many of them are not left out. `users`: views that hold it."""

    __slots__ = (
        "_arranged",
        "_bounds",
        "_draw",
        "_now",
        "_only",
        "_pickers",
        "_revision",
        "_rows",
        "_tables",
        "_warming",
        "available",
        "destination",
        "detector",
        "look",
        "members",
        "panic",
        "users",
    )

    def __init__(
        self, look: Look, destination: Destination, rows: Rows, now: Callable[[], float], draw: Draw
    ) -> None:
        self.look, self.destination = look, destination
        self._rows, self._now, self._draw = rows, now, draw
        self.users = 0
        self._tables: dict[tuple[tuple[Backend, int], ...], Table] = {}
        self.detector: Detector | None = None
        if look.outlier is not None:
            self.detector = Detector(look.outlier, look.name, rows, now, self._arrange)
        self._revision = -1
        self.members: list[Backend] = []
        self.refresh()

    @property
    def hashes(self) -> bool:
        return self.look.balancer.balance is Balance.HASH

    def pick(self, key: int | None, tried: Collection[object], allowed: Fit) -> Backend | None:
        only = self._only
        chosen = only.pick(key, allowed) if only is not None else self._choose(key, allowed)
        if chosen is None or not tried or self.hashes or chosen not in tried:
            return chosen
        return self._choose(key, lambda one: one not in tried and allowed(one)) or chosen

    def refresh(self) -> None:
        """The destination's endpoints may have changed."""
        if self._revision == self.destination.revision:
            return
        self._revision = self.destination.revision
        self.members = self._members()
        if self.detector is not None:
            self.detector.watch(self.members)
        self._arrange()

    def tick(self, now: float) -> None:
        if self.detector is not None:
            self.detector.tick(now)
        if self._warming and now - self._arranged >= WARMS:
            self._arrange()

    @property
    def restless(self) -> bool:
        """Whether `tick` may have anything to see to."""
        return self.detector is not None or self.look.balancer.warmup is not None

    def close(self) -> None:
        if self.detector is not None:
            self.detector.close()

    def _members(self) -> list[Backend]:
        wanted, ipv6 = self.look.labels, self.look.ipv6
        found = [one for one in self.destination.endpoints.values() if bears(one.labels, wanted)]
        return [one for one in found if (":" in one.ip) is ipv6] or found

    # the choice

    def _choose(self, key: int | None, fit: Fit) -> Backend | None:
        if self._only is not None:
            return self._only.pick(key, fit)
        if not self._pickers:
            return None
        first = self._drawn(key)
        chosen = self._pickers[first].pick(key, fit)
        if chosen is None:
            others = (one.pick(key, fit) for at, one in enumerate(self._pickers) if at != first)
            chosen = next((one for one in others if one is not None), None)
        return chosen

    def _drawn(self, key: int | None) -> int:
        """Of the shares. A key always meets the same, as long as their weights are what they are."""
        drawn = self._draw() if key is None else key % _GRAINS / _GRAINS
        at, point = 0, drawn * self._bounds[-1]
        while at + 1 < len(self._bounds) and point >= self._bounds[at]:
            at += 1
        return at

    # what it is made from

    def _arrange(self) -> None:
        balancer, out = self.look.balancer, self._out()
        levels = localities.levels(
            self.members, self.look.place, balancer, self.look.prefer, self.look.outlier is not None
        )
        self.available = len(self.members) - len(out)
        kept = [[[one for one in share.endpoints if one not in out] for share in level] for level in levels]
        counts = [
            (sum(map(len, alive)), sum(len(share.endpoints) for share in level))
            for alive, level in zip(kept, levels, strict=True)
        ]
        self._warming, self._arranged = False, self._now()
        if len(self._tables) > MOST_TABLES:
            self._tables.clear()
        self._pickers, shares = [], []
        for level, alive, load in zip(levels, kept, localities.loads(counts), strict=True):
            weights = [_effective(share, left) for share, left in zip(level, alive, strict=True)]
            for share, left, weight in zip(level, alive, weights, strict=True):
                if left:
                    self._pickers.append(self._picker(share.endpoints, left, out))
                    shares.append(load * weight / sum(weights))
        self._bounds = list(accumulate(shares))
        self._only = self._pickers[0] if len(self._pickers) == 1 else None

    def _out(self) -> set[Backend]:
        """Those that are left out now."""
        self.panic = False
        if self.detector is None or self.look.outlier is None:
            return set()
        out = {one for one in self.members if self.detector.out(one)}
        healthy = len(self.members) - len(out)
        self.panic = bool(out) and healthy * 100 < self.look.outlier.min_health_percent * len(self.members)
        return set() if self.panic else out

    def _picker(self, every: Sequence[Backend], left: Sequence[Backend], out: set[Backend]) -> Picker:
        """Tables of consistent hashing hold everybody, so that an ejection moves no key but the ejected one's."""
        setting = self.look.balancer
        if setting.balance is not Balance.HASH or setting.hash is None:
            return picker(setting, left, self._weights(left), self._draw, self._rows)
        made = tuple((one, one.weight) for one in every)
        found = self._tables.get(made)
        if found is None:
            found = self._tables[made] = table(setting.hash, every)
        hashing = Hash(found, Random(left, _weights(left), self._draw))
        return _Without(hashing, out) if out else hashing

    def _weights(self, endpoints: Sequence[Backend]) -> list[float]:
        setting, now = self.look.balancer.warmup, self._now()
        if setting is None or self.look.balancer.balance not in _WEIGHED:
            return _weights(endpoints)
        factors = [warmup.factor(setting, now - one.since) for one in endpoints]
        self._warming |= any(factor < 1 for factor in factors)
        return [one.weight * factor for one, factor in zip(endpoints, factors, strict=True)]


class _Without:
    __slots__ = ("_of", "_out")

    def __init__(self, of: Picker, out: set[Backend]) -> None:
        self._of, self._out = of, out

    def pick(self, key: int | None, fit: Fit) -> Backend | None:
        return self._of.pick(key, lambda one: one not in self._out and fit(one))


def _weights(endpoints: Sequence[Backend]) -> list[float]:
    return [float(one.weight) for one in endpoints]


def _effective(share: localities.Share, left: Sequence[Backend]) -> float:
    """A share loses weight as its endpoints fall ill, once they are less than 1 / 1.4 of it."""
    return share.weight * min(1.0, localities.OVERPROVISIONING * len(left) / len(share.endpoints))
