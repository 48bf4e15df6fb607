"""Outlier detection: an endpoint that fails again and again is left out for a while.

As Envoy's detector, for each of a cluster's endpoints (tests/unit/l7proxy/clusters/test_outlier.py is the table):
1. Three series are counted: 5xx, gateway errors (502, 503, 504), local origin (no connection, connection lost). One
   that reaches its threshold ejects and starts anew; a response that is none of its kind ends it. Without
   `split_local` a failure of local origin counts as a 503, a timeout as a 504; with it, as local origin alone.
2. At most floor(endpoints x max_ejection_percent) are out at once, none if that is 0: 10 % of 9 endpoints is none,
   of 10 one. Seen with Envoy 1.40, which has `always_eject_one_host` besides, and Istio no field for it.
3. What is ejected comes back at the first interval's end after base_ejection x multiplier (at most max_ejection,
   or base_ejection if that is greater). The multiplier grows by one with each ejection, and falls by one with
   each interval that the endpoint is not ejected in.
4. Workers count series for themselves; an ejection is written to the shared row, and holds for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from weft.bpf.shared import EJECTED, Row, Rows
from weft.l7proxy.core.endpoints import Backend
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import Outlier

#: Said of the client or of our own limits, not of the endpoint.
_BLAMELESS: Final = frozenset((Failure.OVERFLOW, Failure.LOCAL_CLOSE))
_GATEWAY: Final = frozenset((502, 503, 504))


class Series:
    """What is known of one endpoint. `ejected` until `tick` finds that its time is over; `elsewhere`: by another
    worker."""

    __slots__ = ("ejected", "ejections", "elsewhere", "five_xx", "gateway", "local", "multiplier", "row", "since")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.five_xx = self.gateway = self.local = 0
        self.ejected = self.elsewhere = False
        self.multiplier = self.ejections = 0
        self.since = 0.0

    @property
    def out(self) -> bool:
        return self.ejected or self.elsewhere


class Detector:
    """`changed` is called when somebody was ejected or came back. `overflows`: ejections that the percentage did
    not allow."""

    def __init__(
        self, settings: Outlier, name: str, rows: Rows, now: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self.settings, self._name, self._rows, self._now, self._changed = settings, name, rows, now, changed
        self._series: dict[Backend, Series] = {}
        self._due = now() + settings.interval
        self._elsewhere = False  # whether another worker's ejection was seen the last time
        self.overflows = 0

    def watch(self, endpoints: Iterable[Backend]) -> None:
        """These are the endpoints now. Those that stay keep what is known of them."""
        before, self._series = self._series, {}
        for endpoint in endpoints:
            series = before.pop(endpoint, None)
            self._series[endpoint] = series or Series(self._rows.row("", self._name, endpoint.address))
        for series in before.values():
            self._rows.release(series.row)

    def close(self) -> None:
        self.watch(())

    def out(self, endpoint: Backend) -> bool:
        return self._series[endpoint].out

    def series(self, endpoint: Backend) -> Series | None:
        return self._series.get(endpoint)

    def until(self, series: Series) -> float:
        """When the ejection is over, at the earliest; 0.0: not ejected here."""
        return series.since + self._time(series) if series.ejected else 0.0

    def report(self, endpoint: Backend, status: int, failure: Failure | None) -> None:
        """One try is over. Neither a status nor a failure: the client went away, which says nothing."""
        series = self._series.get(endpoint)
        if series is None or series.ejected:
            return
        if failure is not None and status == 0:
            self._failed(endpoint, series, failure)
        elif status:
            self._answered(endpoint, series, status)

    def _answered(self, endpoint: Backend, series: Series, status: int) -> None:
        series.local = 0
        if status < 500:
            series.five_xx = series.gateway = 0
        else:
            self._count(endpoint, series, status)

    def _failed(self, endpoint: Backend, series: Series, failure: Failure) -> None:
        if failure in _BLAMELESS:
            return
        if not self.settings.split_local:
            self._count(endpoint, series, 504 if failure is Failure.CONNECT_TIMEOUT else 503)
            return
        series.local += 1
        if series.local == self.settings.consecutive_local:
            series.local = 0
            self._eject(endpoint, series)

    def _count(self, endpoint: Backend, series: Series, status: int) -> None:
        settings = self.settings
        series.gateway = series.gateway + 1 if status in _GATEWAY else 0
        series.five_xx += 1
        gateway = series.gateway > 0 and series.gateway == settings.consecutive_gateway
        five_xx = series.five_xx == settings.consecutive_5xx
        if gateway:
            series.gateway = 0
        if five_xx:
            series.five_xx = 0
        if gateway or five_xx:
            self._eject(endpoint, series)

    def _eject(self, endpoint: Backend, series: Series) -> None:
        out = sum(known.out for known in self._series.values())
        if series.out or (out + 1) * 100 > self.settings.max_ejection_percent * len(self._series):
            self.overflows += not series.out
            return
        series.ejected, series.since = True, self._now()
        series.ejections += 1
        if self.settings.base_ejection * series.multiplier < self._longest:
            series.multiplier += 1
        series.row.mine[EJECTED] = int(self.until(series) * 1000)
        self._changed()

    def tick(self, now: float) -> None:
        """At any time; acts once in an interval."""
        moved = self._look_elsewhere(now) if self._elsewhere or not self._rows.alone else False
        if now >= self._due:
            self._due = max(self._due + self.settings.interval, now)
            for series in self._series.values():
                moved |= self._aged(series, now)
        if moved:
            self._changed()

    def _aged(self, series: Series, now: float) -> bool:
        if not series.ejected:
            series.multiplier = max(0, series.multiplier - 1)
        elif now - series.since >= self._time(series):
            series.ejected = False
            series.five_xx = series.gateway = series.local = 0
            series.row.mine[EJECTED] = 0
            return True
        return False

    def _look_elsewhere(self, now: float) -> bool:
        moved = self._elsewhere = False
        for series in self._series.values():
            elsewhere = not series.ejected and series.row.greatest(EJECTED) > now * 1000
            moved |= elsewhere is not series.elsewhere
            series.elsewhere = elsewhere
            self._elsewhere |= elsewhere
        return moved

    @property
    def _longest(self) -> float:
        return max(self.settings.max_ejection, self.settings.base_ejection)

    def _time(self, series: Series) -> float:
        return min(self.settings.base_ejection * series.multiplier, self._longest)
