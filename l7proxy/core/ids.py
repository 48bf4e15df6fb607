"""Random ids from a pool: asking the kernel for 16 bytes costs more than all else that is done with them."""

from __future__ import annotations

import os
from collections.abc import Callable

_POOL = 8192


class Ids:
    """Hexadecimal, lower case. `entropy`: bytes of the kernel's."""

    __slots__ = ("_at", "_entropy", "_first", "_node_at", "_nodes", "_pool")

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self._pool, self._at = "", 0
        self._first, self._nodes, self._node_at = b"", b"", 0

    def take(self, digits: int) -> str:
        at = self._at
        if at + digits > len(self._pool):
            self._pool, at = self._entropy(_POOL).hex(), 0
        self._at = at + digits
        return self._pool[at : at + digits]

    def trace(self) -> str:
        return self.take(32)

    def span(self) -> str:
        return self.take(16)

    def request(self) -> bytes:
        """A version 4 UUID (RFC 9562). Its first half is drawn anew after some hundreds, told apart by 48 bits."""
        at = self._node_at
        if at >= len(self._nodes):
            d = self.take(20)
            self._first = f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{_VARIANT[d[16]]}{d[17:20]}-".encode()
            self._nodes, at = self._entropy(12 * _NODES // 2).hex().encode(), 0
        self._node_at = end = at + 12
        return self._first + self._nodes[at:end]


_NODES = 512
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
