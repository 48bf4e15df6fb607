"""Ways of doing the same thing, compared under one load: they take turns of some tenths of a second.

The speed of a shared machine drifts by a quarter within seconds, so a ratio is taken between neighbours in time: a
round is one run of the load in which each way has its turn, and a way's ratio is that to the yardstick of the same
round: the ways that are what the others are compared with, one or two of them. The median over the rounds is told,
and between which values half of them lie.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.lab import Lab
from tests.bench.quiet import LIMIT, Patience
from tests.bench.tools import Load, Sample, running, sample

#: Seconds from a switch to the sample: for caches to be warm, and queues to be as they are.
SETTLE = 0.05


@dataclass(frozen=True)
class Way:
    """`enter` makes it so that the way is in use; it may cut no connection. `yardstick`: the others' ratios are
    to this one, or to the mean of those that are."""

    name: str
    enter: Callable[[], None]
    yardstick: bool = False


@dataclass
class Series:
    """`rounds`: for each, one sample of each way."""

    ways: Sequence[Way]
    rounds: list[list[Sample]] = field(default_factory=list)
    disturbed: int = 0

    def rates(self, way: int) -> list[float]:
        return [each[way].rate for each in self.rounds]

    def cpu(self, way: int) -> list[float]:
        return [each[way].cpu_us for each in self.rounds]

    def rate_ratios(self, way: int) -> list[float]:
        return self._ratios(way, lambda sample: sample.rate)

    def cpu_ratios(self, way: int) -> list[float]:
        return self._ratios(way, lambda sample: sample.cpu_us)

    def _ratios(self, way: int, figure: Callable[[Sample], float]) -> list[float]:
        against = [at for at, each in enumerate(self.ways) if each.yardstick]
        return [
            figure(each[way]) / statistics.mean(figure(each[yardstick]) for yardstick in against)
            for each in self.rounds
        ]

    def others(self, way: int) -> float:
        return statistics.median(each[way].others for each in self.rounds)


def take(
    lab: Lab,
    ways: Sequence[Way],
    load: Load,
    target: str,
    rounds: int,
    patience: Patience,
    before: Callable[[], None] = lambda: None,
) -> Series:
    """`before`: done once for each round, with no load."""
    series = Series(ways)
    while len(series.rounds) < rounds:
        before()
        patience.wait()
        started = time.monotonic()
        found = one_round(lab, ways, load, target, first=len(series.rounds))
        disturbed = max(each.others for each in found) > LIMIT
        if disturbed and patience.spend(time.monotonic() - started):
            continue
        series.disturbed += disturbed
        series.rounds.append(found)
    return series


def one_round(lab: Lab, ways: Sequence[Way], load: Load, target: str, first: int) -> list[Sample]:
    """Another way begins each time, so that none profits from its place."""
    found: dict[int, Sample] = {}
    ways[first % len(ways)].enter()
    with running(lab, load, target):
        for turn in range(len(ways)):
            at = (first + turn) % len(ways)
            ways[at].enter()
            time.sleep(SETTLE)
            found[at] = sample(lab, load, target)
    return [found[at] for at in range(len(ways))]
