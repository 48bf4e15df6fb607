"""The observer that tells nobody: it only sees to it that each request has an id.

The other observers stand behind `parties.Observer` too; this one is for tests, and for a proxy that nobody asks.
"""

from __future__ import annotations

from weft.l7proxy.core.ids import Ids
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Peer, Request


class SilentObserver:
    def __init__(self, ids: Ids | None = None) -> None:
        self._ids = ids or Ids()

    def begin(self, request: Request, peer: Peer, client: Workload, entry: Entry) -> None:
        for name, value in request.headers:
            if name == b"x-request-id" and value:
                entry.request_id = value
                return
        entry.request_id = made = self._ids.request()
        request.headers.append((b"x-request-id", made))

    def attempt(self, request: Request, entry: Entry) -> None:
        """Nothing is traced."""

    def carried(self, entry: Entry) -> None:
        """Nobody asks."""

    def over(self, entry: Entry) -> None:
        """Nobody asks."""
