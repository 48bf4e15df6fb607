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

RESETS: Final = "resets of unanswered streams"
ERRORS: Final = "stream errors"
SETTINGS: Final = "SETTINGS"
PINGS: Final = "PINGs"
EMPTY: Final = "empty DATA frames"
UPDATES: Final = "WINDOW_UPDATEs and PRIORITYs"

_ALLOWED: Final = {  # times the limit, and how many for each that is earned
    RESETS: (1, 1),  # by answers: a client whose deadlines pass now and then is no attacker
    ERRORS: (1, 0),
    SETTINGS: (1, 0),
    PINGS: (1, 1),  # by useful frames
    EMPTY: (1, 0),
    UPDATES: (10, 4),  # by useful frames
}


class Guard:
    __slots__ = ("_counts", "_limit", "_now", "_since")

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit, self._now = limit, now
        self._counts: dict[str, list[int]] = {}  # how often, and what was earned before
        self._since = now()

    def count(self, what: str, earned: int = 0) -> None:
        """`earned`: since the connection began, what earns more of it (see `_ALLOWED`)."""
        now = self._now()
        if now - self._since >= PERIOD:
            self._since = now
            self._counts.clear()
        seen = self._counts.setdefault(what, [0, earned])
        seen[0] += 1
        if seen[0] > self._limit:
            base, each = _ALLOWED[what]
            if seen[0] > base * self._limit + each * (earned - seen[1]):
                raise Fault(Reset.ENHANCE_YOUR_CALM, f"too many {what}")
