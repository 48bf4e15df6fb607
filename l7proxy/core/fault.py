"""Injected faults (F19): the delay is drawn first, then the abort, independently of it."""

from __future__ import annotations

from collections.abc import Callable

from weft.policies.mesh.model import Fault

Draw = Callable[[], float]  # of [0, 1)


def delay(fault: Fault, draw: Draw) -> float:
    """Seconds to hold the request back; 0: none."""
    return fault.delay if fault.delay > 0 and hits(fault.delay_percent, draw) else 0.0


def aborts(fault: Fault, draw: Draw) -> bool:
    wanted = fault.abort_status or fault.abort_grpc is not None or fault.abort_h2 is not None
    return bool(wanted) and hits(fault.abort_percent, draw)


def hits(percent: float, draw: Draw) -> bool:
    """100 always and 0 never; what is certain draws nothing."""
    return percent >= 100.0 or (percent > 0.0 and draw() * 100.0 < percent)
