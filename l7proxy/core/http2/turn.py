"""One write for everything that a turn has to say.

While a connection handles what it received, others write, too: the client codec of the same request, say. Whoever
writes within a turn is noted and flushed when the outermost turn ends; outside of a turn, at once. All connections
of a process share the one `TURN`, for one thread drives them all.
"""

from __future__ import annotations

from typing import Protocol


class _Writer(Protocol):
    def flush(self) -> None: ...


class Turn:
    __slots__ = ("depth", "dirty")

    def __init__(self) -> None:
        self.depth = 0
        self.dirty: list[_Writer] = []

    def leave(self) -> None:
        """`depth` is incremented by whoever begins one. A flush may receive in turn, where transports are in
        memory."""
        self.depth -= 1
        while self.dirty and not self.depth:
            dirty, self.dirty = self.dirty, []
            for writer in dirty:
                writer.flush()


TURN = Turn()
