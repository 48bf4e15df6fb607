"""State for the command line, as JSON values. The shapes are in daemon/README; a field is never renamed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from weft.bpf import layout
from weft.daemon import inspect
from weft.daemon.datapath import services
from weft.daemon.datapath.counters import Counted
from weft.daemon.datapath.rows import BackendRow, Frontend, Prefix, Slot, text
from weft.daemon.endpoint_views import EndpointViews, NotFound
from weft.daemon.observer.names import drop_reason
from weft.policies import identity
from weft.policies.model import Direction
from weft.policies.snapshot import ClusterPart, EndpointItem
from weft.policies.table import WARN_ENTRIES

if TYPE_CHECKING:
    from weft.daemon.node import Node

#: Above this share a map's fill level is a warning.
WARN_PRESSURE = 0.8


class Queries:
    def __init__(self, node: Node) -> None:
        self._node = node
        self.endpoints = endpoints = EndpointViews(node)
        self._answers: dict[str, Callable[[str], Any]] = {
            "status": lambda _: self.status(),
            "endpoints": endpoints.endpoints,
            "identities": self.identities,
            "services": lambda _: self.services(),
            "policies": lambda _: endpoints.policies(),
            "policy-table": endpoints.policy_table,
            "addresses": lambda _: self.addresses(),
            "maps": lambda _: self.maps(),
            "metrics": lambda _: self.metrics(),
            "conntrack": self.conntrack,
        }

    async def answer(self, what: str, arg: str) -> Any:
        """NotFound, AskFailed (of the proxy)."""
        proxies = self._node.proxies
        elsewhere: dict[str, Callable[[str], Awaitable[Any]]] = {
            "proxy": proxies.answer,
            "metrics-families": proxies.families,
            "metrics-window": proxies.lately,
        }
        if what in elsewhere:
            return await elsewhere[what](arg)
        if what not in self._answers:
            raise NotFound(f"no query {what!r}: there are {', '.join([*self._answers, *elsewhere])}")
        return self._answers[what](arg)

    def status(self) -> dict[str, Any]:
        node, agent = self._node, self._node.agent
        cluster = self._cluster()
        problems = node.figures.problems()
        states = Counter(self.endpoints.state(key) for key in self._own())
        return {
            "ok": not problems,
            "node": agent.node,
            "version": node.version,
            "operator": self._operator(),
            "revision": {
                "in_force": agent.in_force,
                "held": agent.snapshot.revision if agent.snapshot else 0,
                "kernel": node.kernel.revision(),
            },
            "endpoints": {"total": len(self._own()), **states},
            "identities": len(cluster.identities),
            "policies": len(cluster.policies),
            "services": len(cluster.services),
            "flows": node.observer.status(),
            "conntrack": self._conntrack_totals(),
            "programs": {"attached": len(agent.datapath.writer.have.attached), "mode": node.programs.mode},
            "kernel": {"release": os.uname().release, "missing": node.missing},
            "dns": list(node.settings.dns) or "off",
            "pod_start": "guarded" if node.settings.pod_start_guarded else "not guarded",
            "snapshot_file": self._snapshot_file(),
            "memory": inspect.memory(),
            "uptime_seconds": int(time.monotonic() - node.started),
            "proxy": node.proxies.status(),
            "warnings": self._warnings(),
            "refused": [{"resource": what, "reason": why} for what, why in sorted(node.refusals().items())],
            "problems": problems,
            "maps": {row["name"]: row for row in self.maps()},
            "stats": {stat.name.lower(): count for stat, count in node.counters.stats().items()},
        }

    def identities(self, arg: str = "") -> list[dict[str, Any]]:
        users = Counter(item.identity for item in self._own().values())
        directory = self._node.agent.directory
        numbers = [
            *identity.RESERVED,
            *sorted(self._cluster().identities),
            *sorted(n for n in self._node.agent.datapath.cidrs.prefixes().values() if identity.is_local(n)),
        ]
        rows = [
            {"id": n, "labels": list(directory.identity_labels(n)), "kind": _kind(n), "endpoints": users[n]}
            for n in dict.fromkeys(numbers)
            if not arg or str(n) == arg
        ]
        if arg and not rows:
            raise NotFound(f"no identity {arg}")
        return rows

    def services(self) -> list[dict[str, Any]]:
        wanted, have = self._node.agent.datapath.services, self._node.agent.datapath.writer.have
        rows = []
        for item in sorted(self._cluster().services.values(), key=lambda item: item.key):
            for frontend, port in services.frontends(item):
                head = have.slots.get(Slot(frontend, 0))
                by_row = {(b.ip, b.port): b for b in port.backends}
                rows.append(
                    {
                        "id": head.service_id if head else 0,
                        "namespace": item.namespace,
                        "name": item.name,
                        "type": item.type,
                        "port_name": port.name,
                        "frontend": f"{frontend}/{inspect.protocol(frontend.protocol)}",
                        "backends": [
                            {
                                "id": number,
                                "address": f"{Frontend(*row)}/{inspect.protocol(row.protocol)}",
                                "pod": backend.pod
                                if (backend := by_row.get((text(row.address), row.port)))
                                else "",
                                "node": backend.node if backend else "",
                            }
                            for number, row in self._backends_of(frontend, head.backends if head else 0)
                        ],
                        "refused": wanted.refused.get(item.key, ""),
                    }
                )
        return rows

    def addresses(self) -> list[dict[str, Any]]:
        have = self._node.agent.datapath.writer.have
        directory = self._node.agent.directory
        rows = []
        for prefix, number in sorted(have.ipcache.items(), key=lambda pair: (len(pair[0].address), pair[0])):
            owner = directory.owner(prefix.address) if prefix.bits == len(prefix.address) * 8 else None
            rows.append(
                {
                    "prefix": str(prefix),
                    "identity": number,
                    "labels": list(directory.identity_labels(number)),
                    "pod": f"{owner.namespace}/{owner.pod}" if owner and owner.pod else "",
                    "source": self._source(prefix, number),
                }
            )
        return rows

    def maps(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "entries": entries,
                "max_entries": most,
                "pressure": round(entries / most, 4),
                "warning": entries > most * WARN_PRESSURE,
            }
            for name, (entries, most) in self._node.figures.fill_levels().items()
        ]

    def metrics(self) -> dict[str, Any]:
        traffic = self._node.counters.traffic()
        forwarded = {d.name.lower(): Counted(0, 0) for d in Direction}
        drops: dict[tuple[str, str], Counted] = {}
        for key, value in traffic.items():
            direction = Direction(key.direction).name.lower()
            if key.reason:
                at = (drop_reason(key.reason), direction)
                drops[at] = _sum(drops.get(at, Counted(0, 0)), value)
            else:
                forwarded[direction] = _sum(forwarded[direction], value)
        return {
            "forwarded_packets": sum(value.packets for value in forwarded.values()),
            "forwarded_bytes": sum(value.bytes for value in forwarded.values()),
            "dropped_packets": sum(value.packets for value in drops.values()),
            "dropped_bytes": sum(value.bytes for value in drops.values()),
            "forwarded": [
                {"direction": direction, "packets": value.packets, "bytes": value.bytes}
                for direction, value in forwarded.items()
            ],
            "drops": [
                {"reason": reason, "direction": direction, "packets": value.packets, "bytes": value.bytes}
                for (reason, direction), value in sorted(drops.items())
            ],
            "stats": {stat.name.lower(): count for stat, count in self._node.counters.stats().items()},
        }

    def conntrack(self, arg: str) -> dict[str, Any]:
        """`arg`: an endpoint, or "" for all; at most inspect.CONNTRACK_LIMIT entries."""
        wanted = self.endpoints.endpoints(arg)[0]["id"] if arg else None
        names = {row["id"]: f"{row['namespace']}/{row['name']}" for row in self.endpoints.endpoints()}
        entries, more = inspect.conntrack(self._node.maps[layout.CT], wanted)
        return {
            "entries": [{**entry, "endpoint": names.get(entry["endpoint_id"], "")} for entry in entries],
            "more": more,
        }

    def _backends_of(self, frontend: Frontend, count: int) -> list[tuple[int, BackendRow]]:
        have = self._node.agent.datapath.writer.have
        ids = [
            have.slots[slot].backend_id for n in range(1, count + 1) if (slot := Slot(frontend, n)) in have.slots
        ]
        return [(number, have.backends[number]) for number in ids if number in have.backends]

    def _operator(self) -> dict[str, Any] | str:
        upstream = self._node.upstream
        if upstream is None:
            return "none"
        link = upstream.link
        out: dict[str, Any] = {"connected": link.connected, "since": int(link.since), "reconnects": link.reconnects}
        return out if link.connected else {**out, "problem": link.problem}

    def _conntrack_totals(self) -> dict[str, Any]:
        totals = self._node.sweeper.totals
        return {"entries": totals.entries, "expired": totals.expired, "evicted": totals.evicted}

    def _snapshot_file(self) -> dict[str, Any]:
        health = self._node.agent.file.health
        return {
            "written": health.written,
            "failed": health.failed,
            "problem": health.problem,
            "found": health.found,
        }

    def _warnings(self) -> list[str]:
        told = [f"map {row['name']} is {row['pressure']:.0%} full" for row in self.maps() if row["warning"]]
        tables = self._node.agent.datapath.tables
        for key, entries in sorted(tables.nearly_full().items()) if tables else ():
            told.append(f"endpoint {key}: {entries} policy entries, the warning is at {WARN_ENTRIES}")
        return told + self._node.proxies.warnings()

    def _source(self, prefix: Prefix, number: int) -> str:
        if identity.is_local(number):
            return "policy"
        if number in (identity.WORLD_IPV4, identity.WORLD_IPV6):
            return "world"
        if prefix.bits == len(prefix.address) * 8 and text(prefix.address) in self._cluster().addresses:
            return "snapshot"
        return "node"

    def _cluster(self) -> ClusterPart:
        return self._node.agent.snapshot.cluster if self._node.agent.snapshot else ClusterPart()

    def _own(self) -> Mapping[str, EndpointItem]:
        return self._node.agent.snapshot.own.endpoints if self._node.agent.snapshot else {}


def _kind(number: int) -> str:
    if identity.is_local(number):
        return "cidr"
    return "reserved" if identity.is_reserved(number) else "workload"


def _sum(one: Counted, other: Counted) -> Counted:
    return Counted(one.packets + other.packets, one.bytes + other.bytes)
