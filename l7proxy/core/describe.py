"""What `weft proxy clusters` and `weft proxy endpoints` show: plain values, as JSON has them."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.bpf.shared import ACTIVE
from weft.l7proxy.core.cluster import ClientCluster
from weft.l7proxy.core.clusters import ClusterMap
from weft.l7proxy.core.endpoints import Backend
from weft.l7proxy.core.group import Group

Facts = dict[str, Any]


def clusters(of: ClusterMap, wanted: str = "") -> list[Facts]:
    """One for each destination that a client asked for lately. `wanted`: part of its name, or of its client's."""
    rows = [_cluster(view) for view in of.views.values()]
    rows = [row for row in rows if wanted in row["name"] or wanted in row["client"]]
    return sorted(rows, key=lambda row: (row["host"], row["port"], row["subset"], row["client"], row["source"]))


def endpoints(of: ClusterMap, wanted: str = "") -> list[Facts]:
    """One for each endpoint of each of them; clients that see the same are shown once."""
    rows: list[Facts] = []
    for group in {id(view.group): view.group for view in of.views.values()}.values():
        rows += [_endpoint(group, one, of.rows.alone) for one in group.members]
    found = [row for row in rows if wanted in row["cluster"] or wanted in row["address"]]
    return sorted(found, key=lambda row: (row["cluster"], row["address"]))


def names(of: ClusterMap) -> list[Facts]:
    """Names that destinations are declared by."""
    return [
        {
            "name": name,
            "addresses": list(known.addresses),
            "failures": known.failures,
            "error": known.last_error,
        }
        for name, known in sorted(of.names.known().items())
    ]


def _cluster(view: ClientCluster) -> Facts:
    circuit, group, pools = view.circuit, view.group, view.pools
    return {
        "name": view.name,
        "host": view.host,
        "port": view.port,
        "subset": view.subset,
        "client": view.client.key,
        "source": view.source,
        "protocol": view.protocol or "sniffed",
        "endpoints": len(group.members),
        "available": group.available,
        "panic": group.panic,
        "problem": view.problem,
        "policy": msgspec.to_builtins(view.policy),
        "requests": circuit.requests,
        "pending": circuit.pending,
        "connections": circuit.connections,
        "retries": circuit.retries,
        "overflows": circuit.overflows,
        "idle_connections": sum(pool.idle for pool in pools),
        "ejections_not_allowed": group.detector.overflows if group.detector is not None else 0,
    }


def _endpoint(group: Group, backend: Backend, alone: bool) -> Facts:
    series = group.detector.series(backend) if group.detector is not None else None
    out = series is not None and series.out
    workload = backend.workload
    return {
        "cluster": group.look.name,
        "address": backend.address,
        "workload": f"{workload.namespace}/{workload.pod}" if workload.namespace else "",
        "health": "ejected" if out else "healthy",
        "ejected_until": group.detector.until(series) if group.detector is not None and series is not None else 0.0,
        "ejections": series.ejections if series is not None else 0,
        "consecutive_5xx": series.five_xx if series is not None else 0,
        "weight": backend.weight,
        "locality": backend.locality,
        "active": backend.active if alone else backend.row.total(ACTIVE),
        "connections": backend.connections,
        "rq_total": backend.total,
        "rq_success": backend.successes,
        "rq_error": backend.failures,
    }
