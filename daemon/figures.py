"""The daemon's own account: what is wrong, how full the maps are, and the numbers that metrics show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from weft.bpf import layout
from weft.daemon import inspect
from weft.daemon.datapath.counters import Counted, CounterKey
from weft.daemon.datapath.kernel import SPECS
from weft.daemon.observer.store import L7_PROXY
from weft.policies.snapshot import ClusterPart
from weft.policies.table import MAX_ENTRIES

if TYPE_CHECKING:
    from weft.daemon.node import Node


class Figures:
    """One node's numbers, read when they are asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def problems(self) -> list[str]:
        """What keeps this node from being as it should; empty: nothing."""
        node, agent, upstream = self._node, self._node.agent, self._node.upstream
        told = [f"{part}: {what}" for part, what in node.trouble.items()]
        if forgotten := node.agent.forgotten:
            names = ", ".join(sorted(map(str, forgotten))[:5])
            told.append(
                f"the operator lost its state, and with it {len(forgotten)} policies that were in force: {names}"
            )
        told += [f"{resource}: {why}" for resource, why in sorted(node.refusals().items())]
        if agent.snapshot is None:
            told.append("no snapshot yet: what the kernel held before is in force")
        if upstream is not None and not upstream.link.connected:
            told.append(f"operator {node.settings.operator}: {upstream.link.problem}")
        told += node.proxies.problems()
        told += [f"snapshot file: {what}" for what in (agent.file.health.problem, agent.file.health.found) if what]
        return told

    def traffic(self) -> Mapping[CounterKey, Counted]:
        return self._node.counters.traffic()

    def stats(self) -> Mapping[layout.Stat, int]:
        return self._node.counters.stats()

    def fill_levels(self) -> dict[str, tuple[int, int]]:
        """Entries and room, by map. `policy_table`: the fullest one."""
        node = self._node
        have, tables = node.agent.datapath.writer.have, node.agent.datapath.tables
        levels = {SPECS[name].name: (len(getattr(have, name)), SPECS[name].max_entries) for name in SPECS}
        levels["policies"] = (len(have.tables) + len(have.spares), layout.POLICIES.max_entries)
        levels["policy_table"] = (tables.largest() if tables else 0, MAX_ENTRIES)
        levels["ct"] = (node.sweeper.totals.entries, layout.CT.max_entries)
        levels["counters"] = (len(self.traffic()), layout.COUNTERS.max_entries)
        return levels

    def endpoint_states(self) -> Mapping[str, int]:
        return Counter(self._node.queries.endpoints.state(key) for key in self._own())

    def enforcement(self) -> Mapping[str, int]:
        """Endpoints by the directions that are default deny: none, ingress, egress, both."""
        return Counter(self._node.queries.endpoints.enforcement(key) for key in self._own())

    def gauges(self) -> Mapping[str, float]:
        node, agent = self._node, self._node.agent
        cluster = agent.snapshot.cluster if agent.snapshot else ClusterPart()
        return {
            "policy": len(cluster.policies),
            "policy_max_revision": agent.in_force,
            "policy_map_revision": node.kernel.revision(),
            "identity": len(cluster.identities),
            "services": len(cluster.services),
            "conntrack_entries": node.sweeper.totals.entries,
            "refused_resources": len(agent.refusals()),
            "upstream_connected": int(node.upstream is not None and node.upstream.link.connected),
            "process_anonymous_bytes": inspect.memory()["anonymous"],
            "proxy_workers": len(node.proxies.feed.serving()),
            "proxy_series": node.proxies.ledger.series,
            "proxy_refused_resources": len(node.proxies.feed.refusals()),
        }

    def counts(self) -> Mapping[str, float]:
        node, agent = self._node, self._node.agent
        totals, health = node.sweeper.totals, agent.file.health
        return {
            "conntrack_expired": totals.expired,
            "conntrack_evicted": totals.evicted,
            "snapshot_writes": health.written,
            "snapshot_write_failures": health.failed,
            "map_write_failures": agent.datapath.writer.failed,
            "upstream_reconnects": node.upstream.link.reconnects if node.upstream else 0,
            "netlink_resyncs": node.watch.resyncs,
            "flow_records": node.pump.records,
            "proxy_restarts": sum(slot.restarts for slot in node.proxies.supervisor.slots),
            "proxy_connections_cut": node.proxies.feed.cut_off,
            "proxy_series_overflow": node.proxies.ledger.overflow,
            "proxy_series_dropped": node.proxies.ledger.dropped,
            "proxy_records_lost": node.observer.lost_by[L7_PROXY],
        }

    def _own(self) -> Mapping[str, object]:
        snapshot = self._node.agent.snapshot
        return snapshot.own.endpoints if snapshot else {}
