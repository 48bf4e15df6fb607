"""Endpoints and their policy as JSON values: what the snapshot names, what the kernel enforces, what it counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weft.bpf import layout
from weft.daemon import inspect
from weft.daemon.datapath.counters import Counted
from weft.policies.model import Direction
from weft.policies.snapshot import ClusterPart, EndpointItem, PolicyItem
from weft.policies.table import Verdict

if TYPE_CHECKING:
    from weft.daemon.node import Node


class NotFound(Exception):
    """There is no such thing to tell about."""


class EndpointViews:
    def __init__(self, node: Node) -> None:
        self._node = node

    def endpoints(self, arg: str = "") -> list[dict[str, Any]]:
        """`arg`: "ns/name", an endpoint id, or "" for all."""
        rows = [self._endpoint(key, item) for key, item in sorted(self._own().items())]
        if arg:
            rows = [row for row in rows if arg in (f"{row['namespace']}/{row['name']}", str(row["id"]))]
            if not rows:
                raise NotFound(f"no endpoint {arg} on this node")
        return rows

    def policies(self) -> list[dict[str, Any]]:
        refused = self._node.agent.refusals()
        own = self._own()
        return [
            {
                "kind": ref.kind,
                "namespace": ref.namespace,
                "name": ref.name,
                "revision": item.revision,
                "labels": list(item.labels),
                "rules": sum(len(spec.rules) for spec in item.specs),
                "endpoints": sorted(key for key, endpoint in own.items() if _selects(item, endpoint)),
                "refused": refused.get(f"policy {ref}", ""),
            }
            for ref, item in sorted(self._cluster().policies.items())
        ]

    def policy_table(self, arg: str) -> dict[str, Any]:
        """What the kernel enforces for the endpoint, with what each rule let pass or refused."""
        row = self.endpoints(arg)[0] if arg else None
        if row is None:
            raise NotFound("say which endpoint: policy-table NS/NAME")
        counted = {
            (key.cookie, Direction(key.direction).name.lower(), Verdict(key.verdict).name.lower()): value
            for key, value in self._node.counters.rules().items()
            if key.ep_id == row["id"]
        }
        entries = [
            self._entry(entry, counted) for entry in inspect.table(self._node.kernel.table(row["policy_id"]))
        ]
        return {"endpoint": f"{row['namespace']}/{row['name']}", **row, "entries": entries}

    def state(self, key: str) -> str:
        datapath = self._node.agent.datapath
        if key in datapath.placed.refused:
            return "refused"
        if datapath.tables is not None and key in datapath.tables.refused.denied:
            return "denied"
        if datapath.ready(key):
            return "ready"
        return "waiting-for-interface" if key in datapath.placed.waiting else "regenerating"

    def enforcement(self, key: str) -> str:
        """none, ingress, egress, both: the directions that are default deny."""
        datapath = self._node.agent.datapath
        flags = datapath.tables.image(key).flags if datapath.tables and datapath.tables.has(key) else 0
        ingress = bool(flags & layout.EndpointFlag.ENFORCE_INGRESS)
        egress = bool(flags & layout.EndpointFlag.ENFORCE_EGRESS)
        return {(True, True): "both", (True, False): "ingress", (False, True): "egress"}.get(
            (ingress, egress), "none"
        )

    def _endpoint(self, key: str, item: EndpointItem) -> dict[str, Any]:
        datapath = self._node.agent.datapath
        spot = datapath.placed.places.get(key)
        row = datapath.writer.have.endpoints.get(spot.ifindex) if spot else None
        enforced = self.enforcement(key)
        word = "Audit" if self._node.settings.audit else "Enabled"
        return {
            "id": spot.ep_id if spot else 0,
            "namespace": item.namespace,
            "name": item.name,
            "identity": item.identity,
            "labels": list(self._node.agent.directory.identity_labels(item.identity)),
            "ipv4": next((ip for ip in item.ips if ":" not in ip), ""),
            "ipv6": next((ip for ip in item.ips if ":" in ip), ""),
            "ingress": word if enforced in ("both", "ingress") else "Disabled",
            "egress": word if enforced in ("both", "egress") else "Disabled",
            "state": self.state(key),
            "reason": self._node.agent.refusals().get(f"endpoint {key}", ""),
            "interface": datapath.facts.links.get(spot.ifindex, "") if spot else "",
            "ifindex": spot.ifindex if spot else 0,
            "policy_id": row.policy_id if row else 0,
            "policy_revision": self._node.agent.in_force if datapath.ready(key) else 0,
            "policy_entries": len(datapath.tables.table(key).entries) if datapath.tables else 0,
            "conntrack_entries": self._node.sweeper.totals.by_endpoint.get(spot.ep_id, 0) if spot else 0,
            "workload": f"{item.workload_kind}/{item.workload_name}" if item.workload_name else "",
            "named_ports": [
                {"name": port.name, "protocol": inspect.protocol(port.protocol), "port": port.port}
                for port in item.named_ports
            ],
        }

    def _entry(self, entry: dict[str, Any], counted: Mapping[tuple[int, str, str], Counted]) -> dict[str, Any]:
        """`packets`, `bytes`: of all entries that the same rules stand behind, in this direction and verdict."""
        datapath = self._node.agent.datapath
        value = counted.get((entry["cookie"], entry["direction"], entry["verdict"]))
        rules = [{"policy": str(o.ref), "path": o.path} for o in datapath.cookies.origins(entry["cookie"])]
        return {
            **entry,
            "labels": list(self._node.agent.directory.identity_labels(entry["identity"]))
            if entry["identity"]
            else [],
            "rules": rules,
            "packets": value.packets if value else 0,
            "bytes": value.bytes if value else 0,
        }

    def _cluster(self) -> ClusterPart:
        return self._node.agent.snapshot.cluster if self._node.agent.snapshot else ClusterPart()

    def _own(self) -> Mapping[str, EndpointItem]:
        return self._node.agent.snapshot.own.endpoints if self._node.agent.snapshot else {}


def _selects(item: PolicyItem, endpoint: EndpointItem) -> bool:
    return any(endpoint.identity in spec.subjects for spec in item.specs)
