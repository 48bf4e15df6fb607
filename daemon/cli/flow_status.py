"""The observer in one line, for `weft status`, as Cilium's status has Hubble:
`Current/Max Flows: 4095/4095 (100.00%), Flows/s: 164.21`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line(flows: Mapping[str, Any]) -> str:
    """`flows` as Query("status") has it: what `Observer.status` returned. Losses show when there are any."""
    current, most = int(flows.get("current_flows", 0)), int(flows.get("max_flows", 0))
    share = f" ({current / most:.2%})" if most else ""
    text = f"Current/Max Flows: {current}/{most}{share}, Flows/s: {float(flows.get('flows_per_second', 0)):.2f}"
    lost = {name: count for name, count in dict(flows.get("lost", {})).items() if count}
    if not lost:
        return text
    return text + ", Lost: " + ", ".join(f"{count} ({name.replace('_', ' ')})" for name, count in lost.items())
