"""Where a node is, as region/zone/sub-zone: Kubernetes' topology labels, and Istio's for what lies below a zone."""

from __future__ import annotations

from collections.abc import Mapping

_LEVELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def of_labels(labels: Mapping[str, str]) -> str:
    """ "" where nothing is known; what lies below an unknown level is left out."""
    parts: list[str] = []
    for key in _LEVELS:
        if not labels.get(key):
            break
        parts.append(labels[key])
    return "/".join(parts)
