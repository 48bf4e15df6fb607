"""The metric families of the proxy: what all workers counted over their lives, added up.

In: Counts of each worker's connection, the workloads that the snapshot knows. Out: families, for `exposition`.

Rules: 1. A worker sends what it counted since its last message, so nothing is counted twice, whoever restarts.
2. A series whose source or destination workload is gone for `GRACE` seconds is dropped. 3. There are at most
`max_series`; what would make one more is counted, never silently lost. 4. What makes no sense (a sample of a series
that was not described, another shape under the same name) is refused before anything of it is added.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final

from weft.daemon.proxy.frames import BadFrame
from weft.policies.wire.pb import proxy_pb2 as pb

#: Series of all families together. One of a histogram with 20 buckets is about 3 KB here and in a scrape.
MAX_SERIES: Final = 10_000
#: Seconds for which a series outlives its workload: a scrape or two see its last values.
GRACE: Final = 60.0
#: Series that one connection may describe: what it counts nowhere any more is described anew after a reconnect.
MAX_DESCRIBED: Final = 8 * MAX_SERIES
MAX_FAMILIES: Final = 256
#: Labels that name a workload, and where its namespace stands.
WORKLOADS: Final = (
    ("source_workload", "source_workload_namespace"),
    ("destination_workload", "destination_workload_namespace"),
)
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}")

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


@dataclass(slots=True)
class Family:
    kind: str  # counter, gauge, histogram
    bounds: tuple[float, ...] = ()
    series: dict[Labels, Total] = field(default_factory=dict)


@dataclass(slots=True)
class Total:
    """`labels`: as they are written in a scrape. `value`: of a histogram the sum. `buckets`: not cumulative; the
    last is what lies above all bounds. `shares`: of a gauge, by connection; it is their sum."""

    labels: str
    value: float = 0.0
    count: int = 0
    buckets: list[int] = field(default_factory=list)
    shares: dict[object, float] = field(default_factory=dict)
    gone_since: float | None = None  # its workloads are there
    dropped: bool = False


@dataclass(slots=True)
class Described:
    """A series as one connection knows it, by number."""

    key: Key
    family: Family
    total: Total | None


class Counts:
    """The ledger of a node."""

    def __init__(self, max_series: int = MAX_SERIES, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_series = max_series
        self.overflow = 0  # samples that found no room
        self.dropped = 0  # series, for their workloads are gone
        self.series = 0
        self.families: dict[str, Family] = {}
        self._clock = clock
        self._described: dict[object, dict[int, Described]] = {}

    # what workers tell

    def add(self, source: object, counts: pb.Counts) -> None:
        """`source`: whose series numbers these are, one connection. BadFrame."""
        known = self._described.setdefault(source, {})
        for series in counts.series:
            if len(known) >= MAX_DESCRIBED:
                raise BadFrame(f"more than {MAX_DESCRIBED} series described")
            known[series.id] = self._describe(series)
        samples = [(_checked(sample, known.get(sample.id)), sample) for sample in counts.samples]
        for described, sample in samples:
            total = described.total
            if total is None or total.dropped:
                total = described.total = self._total(described.key, described.family)
                if total is None:
                    self.overflow += 1
                    continue
            _add(total, described.family, sample, source)

    def forget(self, source: object) -> None:
        """The connection is gone: what it counted stays, what it measured does not."""
        self._described.pop(source, None)
        for family in self.families.values():
            if family.kind == "gauge":
                for total in family.series.values():
                    total.shares.pop(source, None)

    # what the daemon does

    def retire(self, living: Container[tuple[str, str]]) -> None:
        """`living`: (namespace, name) of the workloads that there are."""
        now = self._clock()
        for family in self.families.values():
            for labels, total in [*family.series.items()]:
                if _lives(dict(labels), living):
                    total.gone_since = None
                elif total.gone_since is None:
                    total.gone_since = now
                elif now - total.gone_since >= GRACE:
                    del family.series[labels]
                    total.dropped = True
                    self.series -= 1
                    self.dropped += 1

    def as_json(self, prefix: str = "") -> dict[str, Any]:
        """For Query("metrics-families"): {family: {type, bounds, series: [{labels, value, count, buckets}]}}."""
        return {
            name: {
                "type": family.kind,
                "bounds": list(family.bounds),
                "series": [_series_json(labels, total, family) for labels, total in family.series.items()],
            }
            for name, family in sorted(self.families.items())
            if name.startswith(prefix)
        }

    def _describe(self, series: pb.Series) -> Described:
        kind = "histogram" if series.bounds else "gauge" if series.gauge else "counter"
        bounds = tuple(series.bounds)
        family = self.families.get(series.family)
        if family is None:
            family = self._new_family(series.family, kind, bounds)
        if (family.kind, family.bounds) != (kind, bounds):
            raise BadFrame(f"{series.family} is a {family.kind} with other bounds, or of another kind")
        labels = tuple(sorted(series.labels.items()))
        if not all(_NAME.fullmatch(name) for name, _ in labels):
            raise BadFrame(f"{series.family}: bad label name")
        return Described((series.family, labels), family, family.series.get(labels))

    def _new_family(self, name: str, kind: str, bounds: tuple[float, ...]) -> Family:
        if not _NAME.fullmatch(name) or len(self.families) >= MAX_FAMILIES:
            raise BadFrame(f"bad family name {name[:80]!r}, or too many families")
        if any(not math.isfinite(bound) for bound in bounds) or list(bounds) != sorted(set(bounds)):
            raise BadFrame(f"{name}: bounds do not grow")
        if name.endswith("_total") != (kind == "counter"):
            raise BadFrame(f"{name}: counters end in _total, and nothing else does")
        family = self.families[name] = Family(kind, bounds)
        return family

    def _total(self, key: Key, family: Family) -> Total | None:
        total = family.series.get(key[1])
        if total is None:
            if self.series >= self.max_series:
                return None
            buckets = [0] * (len(family.bounds) + 1) if family.bounds else []
            total = family.series[key[1]] = Total(written(key[1]), buckets=buckets)
            self.series += 1
        return total


def _checked(sample: pb.Sample, described: Described | None) -> Described:
    if described is None:
        raise BadFrame(f"a sample of series {sample.id}, which was not described")
    family = described.family
    if not math.isfinite(sample.value) or (family.kind == "counter" and sample.value < 0):
        raise BadFrame(f"{described.key[0]}: value {sample.value}")
    if family.kind == "histogram" and len(sample.buckets) != len(family.bounds) + 1:
        raise BadFrame(f"{described.key[0]}: {len(sample.buckets)} buckets, not {len(family.bounds) + 1}")
    return described


def _add(total: Total, family: Family, sample: pb.Sample, source: object) -> None:
    if family.kind == "gauge":
        total.shares[source] = sample.value
        return
    total.value += sample.value
    if family.kind == "histogram":
        total.count += sum(sample.buckets)
        total.buckets = [have + more for have, more in zip(total.buckets, sample.buckets, strict=True)]


def _lives(labels: dict[str, str], living: Container[tuple[str, str]]) -> bool:
    for name, namespace in WORKLOADS:
        who = (labels.get(namespace, ""), labels.get(name, ""))
        if "" not in who and "unknown" not in who and who not in living:
            return False
    return True


def written(labels: Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)


def _series_json(labels: Labels, total: Total, family: Family) -> dict[str, Any]:
    if family.kind == "gauge":
        return {"labels": dict(labels), "value": sum(total.shares.values())}
    found: dict[str, Any] = {"labels": dict(labels), "value": total.value}
    if family.kind == "histogram":
        found |= {"count": total.count, "buckets": list(total.buckets)}
    return found
