"""Counts what costs us more than it costs the sender (RFC 9113, 10.5) over ten seconds; too much of it ends the
connection with ENHANCE_YOUR_CALM.

Allowances follow what peers really do: a gRPC client pings and gives windows back for the data that it gets, so
useful frames (headers, and data that is some) earn pings and window updates; settings, resets and empty frames earn
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.l7proxy.core.http2.frames import Fault
from weft.l7proxy.core.stream import Reset

PERIOD: Final = 10.0  # seconds
_UPDATES: Final = 10  # times as many window updates and priorities as resets

RESETS: Final = "resets of unanswered streams"
ERRORS: Final = "stream errors"
SETTINGS: Final = "SETTINGS"
PINGS: Final = "PINGs"
EMPTY: Final = "empty DATA frames"
UPDATES: Final = "WINDOW_UPDATEs and PRIORITYs"


class Guard:
    __slots__ = ("_counts", "_limit", "_now", "_since", "_useful")

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit, self._now = limit, now
        self._counts: dict[str, int] = {}
        self._since = now()
        self._useful = 0

    def count(self, what: str, useful: int = 0) -> None:
        """`useful`: how many useful frames this connection has carried since it began, both ways."""
        now = self._now()
        if now - self._since >= PERIOD:
            self._since, self._useful = now, useful
            self._counts.clear()
        number = self._counts[what] = self._counts.get(what, 0) + 1
        if number > self._limit and number > self._allowed(what, useful - self._useful):
            raise Fault(Reset.ENHANCE_YOUR_CALM, f"too many {what}")

    def _allowed(self, what: str, useful: int) -> int:
        if what == PINGS:
            return self._limit + useful
        if what == UPDATES:
            return _UPDATES * self._limit + 4 * useful
        return self._limit
