"""Neighbours: whether somebody else keeps the machine busy, and for how long we wait for them.

Rule: a round counts when the rest of the machine was idle, or when the patience of the whole bench is used up; what
the others used meanwhile stands beside the result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench.tools import machine_seconds

#: CPUs that others may use in a round that counts as undisturbed.
LIMIT = 0.25
SAMPLE = 0.3


@dataclass
class Patience:
    """Seconds left for waiting and for rounds that are measured again."""

    seconds: float

    def wait(self) -> None:
        while self.seconds > 0 and busy() > LIMIT:
            self.seconds -= SAMPLE

    def spend(self, seconds: float) -> bool:
        """False: there was nothing left, so what was measured has to do."""
        left = self.seconds > 0
        self.seconds -= seconds
        return left


def busy() -> float:
    """CPUs in use right now, ours aside: we sleep."""
    before, started = machine_seconds(), time.monotonic()
    time.sleep(SAMPLE)
    return (machine_seconds() - before) / (time.monotonic() - started)
