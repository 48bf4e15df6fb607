"""Weighted routes of a snapshot, leaf by leaf: of a TrafficSplit, a VirtualService or an HTTPRoute.

The metrics name the service that a request was sent to in the end, and its workload, not the one that the client
asked for: requests that came to a leaf by another way are in its figures too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from weft.daemon.cli.traffic import Cast, Labels
from weft.policies.mesh.model import HostRouting, Rule
from weft.policies.snapshot import ClusterPart


@dataclass(frozen=True, slots=True)
class Leaf:
    """`apex`: the service that is asked for. `weight` as it was declared; `path`: where."""

    namespace: str
    name: str
    path: str
    apex: str
    host: str
    subset: str
    weight: int

    @property
    def shown(self) -> str:
        """A service of the same namespace by its name alone."""
        name, _, rest = self.host.partition(".")
        host = name if rest == f"{self.namespace}.svc.cluster.local" else self.host
        return f"{host} subset {self.subset}" if self.subset else host


def leaves(cluster: ClusterPart) -> Iterator[Leaf]:
    """In the order of hosts, rules and destinations."""
    told: set[Leaf] = set()
    for _, routing in sorted(cluster.routing.items()):
        for rule in (rule for route in routing.routes for rule in route.http):
            for leaf in _leaves(routing, rule):
                if leaf not in told:
                    told.add(leaf)
                    yield leaf


def _leaves(routing: HostRouting, rule: Rule) -> Iterator[Leaf]:
    """A rule with one destination splits nothing, unless it is of a TrafficSplit."""
    origin = rule.origin
    if len(rule.destinations) > 1 or (rule.destinations and origin.kind == "TrafficSplit"):
        for each in rule.destinations:
            apex = _apex(routing)
            yield Leaf(origin.namespace, origin.name, origin.path, apex, each.host, each.subset, each.weight)


def _apex(routing: HostRouting) -> str:
    return routing.service.partition("/")[2] or routing.host


def of_leaf(leaf: Leaf, cast: Cast) -> Callable[[Labels], bool]:
    """Whether a series counts what was sent there. A subset is the workloads that bear its labels."""
    routing = cast.cluster.routing.get(leaf.host)
    subsets = [each for policy in (routing.policies if routing else ()) for each in policy.subsets]
    chosen = next((each for each in subsets if each.name == leaf.subset), None) if leaf.subset else None
    namespace = routing.service.partition("/")[0] if routing else leaf.namespace
    workloads = cast.chosen_by(namespace, chosen.labels) if chosen is not None else None

    def belongs(labels: Labels) -> bool:
        if labels.get("reporter") != "source" or labels.get("destination_service") != leaf.host:
            return False
        who = labels.get("destination_workload_namespace", ""), labels.get("destination_workload", "")
        return workloads is None or who in workloads

    return belongs
