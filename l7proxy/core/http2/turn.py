"""One write for everything that a turn has to say.

While a connection handles what it received, others write, too: the client codec of the same request, say. Whoever
writes within a turn is noted and flushed when the outermost turn ends; outside of a turn, at once. All connections
of a process share the one `TURN`, for one thread drives them all.

Where there is a loop that calls soon (`later`), a few turns that follow each other share their writes: what many
clients ask, read in one go, is one write to their server. Not more than a few, so that the others have work while
we go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

_SHARED: Final = 8  # turns: with 16 clients on two cores more of them, or fewer, cost more and made it slower


class _Writer(Protocol):
    def flush(self) -> None: ...


class Turn:
    """`later`: calls what it is given once what can be read now was read; None: nobody does."""

    __slots__ = ("_awaited", "_held", "depth", "dirty", "later")

    def __init__(self) -> None:
        self.depth = self._held = 0
        self.dirty: deque[_Writer] = deque()
        self.later: Callable[[Callable[[], object]], object] | None = None
        self._awaited = False

    def leave(self) -> None:
        """`depth` is incremented by whoever begins one."""
        self.depth -= 1
        if self.depth or not self.dirty:
            return
        self._held += 1
        if self.later is None or self._held >= _SHARED:
            self._flush()
        elif not self._awaited:
            self._awaited = True
            self.later(self._now)

    def _now(self) -> None:
        self._awaited = False
        self._flush()

    def _flush(self) -> None:
        """May receive in turn, where transports are in memory. Should one fail, the others go out next time."""
        self._held, dirty = 0, self.dirty
        while dirty and not self.depth:
            dirty.popleft().flush()


TURN: Final = Turn()


def share_writes(later: Callable[[Callable[[], object]], object] | None) -> None:
    """For a process whose connections are driven by one loop: its `call_soon`."""
    TURN.later = later
