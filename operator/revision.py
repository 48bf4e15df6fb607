"""Revisions only grow, across restarts too, so that "wait for revision r" means one thing for ever.

They are reserved on the disk by the block, ahead of use: a killed operator skips the rest of its block.
"""

from __future__ import annotations

import logging
from pathlib import Path

from weft.operator import durable

log = logging.getLogger(__name__)

BLOCK = 1000


class Reservation:
    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._reserved = 0

    def start(self) -> int:
        """The revision to count on from. Raises OSError or ValueError when an earlier one cannot be read."""
        started = int(self._path.read_text()) if self._path.exists() else 0
        self._reserve(started + BLOCK)
        return started

    def reached(self, revision: int) -> None:
        if revision >= self._reserved:
            self._reserve(revision + BLOCK)

    def _reserve(self, revision: int) -> None:
        try:
            durable.write(self._path, f"{revision}\n".encode())
            durable.sync([self._path])
        except OSError as error:
            self.problem = f"revisions are not saved: {error.strerror}"
            log.error("%s: %s", self._path, self.problem)
        else:
            self._reserved, self.problem = revision, ""
