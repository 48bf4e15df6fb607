"""Workload manifests to the Pods they stand for, without a controller: the same manifest always gives the same
names, so that applying it twice changes nothing and a changed template gives new Pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weft.policies.yamldoc import Document

KINDS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController")


def pods(document: Document, default_namespace: str, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """Pod manifests of a workload; a Pod gives itself; any other kind gives none. `nodes`: for DaemonSets, one Pod
    each (with `spec.nodeName`); Pods of the others are not placed."""
    raise NotImplementedError
