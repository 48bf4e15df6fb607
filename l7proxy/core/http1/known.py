"""Heads, and lines of them, that are known by heart: a client asks the same again, a server answers the same.

Rule: a head is kept when it comes a second time, so heads that differ from each other (ids, cookies) cost one mark
each and no memory. What all strangers together can make us keep is bounded, and small.
"""

from __future__ import annotations

from typing import Final, TypeVar

T = TypeVar("T")

_MOST: Final = 512
_SHORT: Final = 2048  # bytes of a head that is kept
_MARKS: Final = 4096


class Heads(dict[bytes, T]):
    """By their bytes."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        super().__init__()
        self._marks: set[int] = set()

    def worth(self, head: bytes) -> bool:
        """Whether to keep it: it came before."""
        if len(head) > _SHORT:
            return False
        mark = hash(head)
        if mark in self._marks:
            return True
        if len(self._marks) >= _MARKS:
            self._marks.clear()
        self._marks.add(mark)
        return False

    def keep(self, head: bytes, made: T) -> None:
        if len(self) >= _MOST:
            self.clear()
        self[head] = made
