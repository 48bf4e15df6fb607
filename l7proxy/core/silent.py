"""The observer that tells nobody: it only sees to it that each request has an id.

The other observers stand behind `parties.Observer` too; this one is for tests, and for a proxy that nobody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Peer, Request

_POOL = 4096


class RequestIds:
    """Random UUIDs (RFC 9562, version 4), from a pool of the system's randomness: one call for 256 of them."""

    __slots__ = ("_at", "_pool", "_random")

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random, self._pool, self._at = random, "", 0

    def make(self) -> bytes:
        if self._at >= len(self._pool):
            self._pool, self._at = self._random(_POOL).hex(), 0
        at = self._at
        text, self._at = self._pool[at : at + 32], at + 32
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}".encode()


class SilentObserver:
    def __init__(self, ids: RequestIds | None = None) -> None:
        self._ids = ids or RequestIds()

    def begin(self, request: Request, peer: Peer, client: Workload, entry: Entry) -> None:
        for name, value in request.headers:
            if name == b"x-request-id" and value:
                entry.request_id = value
                return
        entry.request_id = made = self._ids.make()
        request.headers.append((b"x-request-id", made))

    def attempt(self, request: Request, entry: Entry) -> None:
        """Nothing is traced."""

    def carried(self, entry: Entry) -> None:
        """Nobody asks."""

    def over(self, entry: Entry) -> None:
        """Nobody asks."""
