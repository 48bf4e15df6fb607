"""Slow start: an endpoint that joins others gets its share little by little, so that a cold cache or a just-in-time
compiler is not met by the full load at once.

Factor on its weight after t of d seconds, as Envoy's: max(minimum, (t / d) ** (1 / aggression)), and 1 from d on.
Aggression 1 is a straight line; above 1 the share grows fast at first and then slowly.
"""

from __future__ import annotations

from weft.policies.mesh.model import Warmup


def factor(setting: Warmup, age: float) -> float:
    """0 < factor <= 1. A `minimum_percent` of 0 is taken as one part in a thousand: a weight of 0 would be
    never."""
    if age >= setting.duration:
        return 1.0
    least = max(setting.minimum_percent / 100, 0.001)
    grown = max(age, 0.0) / setting.duration
    return min(1.0, max(least, grown ** (1 / setting.aggression) if setting.aggression > 0 else least))
