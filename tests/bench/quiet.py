"""Neighbours: whether somebody else keeps the machine busy, and for how long we wait for them.

Rule: a round is measured when the rest of the machine is idle, or when the patience of the whole section is used
up; what the others used during a round stands beside the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.tools import Round, machine_seconds

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

    def measure(self, once: Callable[[], Round]) -> Round:
        """The first undisturbed round, or the least disturbed of those that there was time for."""
        tried: list[Round] = []
        while True:
            self.wait()
            started = time.monotonic()
            tried.append(once())
            if tried[-1].others <= LIMIT or self.seconds <= 0:
                return min(tried, key=lambda each: each.others)
            self.seconds -= time.monotonic() - started


def busy() -> float:
    """CPUs in use right now, ours aside: we sleep."""
    before, started = machine_seconds(), time.monotonic()
    time.sleep(SAMPLE)
    return (machine_seconds() - before) / (time.monotonic() - started)
