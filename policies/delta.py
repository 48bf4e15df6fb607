"""What changed: the differences that turn one snapshot into the next.

The operator makes them (`cluster.Cluster.delta`), `wire/` carries them, the daemon applies them. Items are whole:
a changed item is put again under its key, a vanished one is named by its key in `*_gone`. A key never stands in
both. Rule: `apply(before, between(before, after)) == after`, and applying twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from weft.policies.mesh.model import HostRouting, MeshSettings, Telemetry
from weft.policies.model import ObjectRef
from weft.policies.snapshot import (
    AddressItem,
    ClusterPart,
    EndpointItem,
    IdentityItem,
    NodeItem,
    NodePart,
    PolicyItem,
    ServiceItem,
    Snapshot,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ClusterDelta:
    """Keys as in `ClusterPart`. Empty: nothing changed for the cluster."""

    identities: Mapping[int, IdentityItem] = field(default_factory=dict)
    identities_gone: frozenset[int] = frozenset()
    addresses: Mapping[str, AddressItem] = field(default_factory=dict)
    addresses_gone: frozenset[str] = frozenset()
    nodes: Mapping[str, NodeItem] = field(default_factory=dict)
    nodes_gone: frozenset[str] = frozenset()
    services: Mapping[str, ServiceItem] = field(default_factory=dict)
    services_gone: frozenset[str] = frozenset()
    policies: Mapping[ObjectRef, PolicyItem] = field(default_factory=dict)
    policies_gone: frozenset[ObjectRef] = frozenset()
    routing: Mapping[str, HostRouting] = field(default_factory=dict)
    routing_gone: frozenset[str] = frozenset()
    telemetry: Mapping[str, Telemetry] = field(default_factory=dict)
    telemetry_gone: frozenset[str] = frozenset()
    settings: Mapping[str, MeshSettings] = field(default_factory=dict)
    settings_gone: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class NodeDelta:
    endpoints: Mapping[str, EndpointItem] = field(default_factory=dict)
    endpoints_gone: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.endpoints or self.endpoints_gone)


@dataclass(frozen=True, slots=True)
class Step:
    """Everything that happened between revision - 1 and `revision`; `nodes` holds only nodes with a change."""

    revision: int
    cluster: ClusterDelta
    nodes: Mapping[str, NodeDelta]


@dataclass(frozen=True, slots=True)
class Update:
    """What one node is told. `full`: the deltas are against nothing and replace everything; else they are against
    revision - 1 of the same `epoch` (the operator incarnation)."""

    revision: int
    epoch: str
    full: bool
    cluster: ClusterDelta
    node: NodeDelta


class OutOfOrder(ValueError):
    """A difference against a revision that the receiver does not hold."""


def full_update(snapshot: Snapshot, epoch: str) -> Update:
    """The update that gives a node with nothing exactly `snapshot`; also what the daemon keeps on disk."""
    cluster = between(ClusterPart(), snapshot.cluster)
    return Update(snapshot.revision, epoch, True, cluster, NodeDelta(snapshot.own.endpoints))


def apply(held: Snapshot | None, update: Update, node: str) -> Snapshot:
    """The snapshot that `update` turns `held` into; `held` itself is not touched."""
    if update.full:
        held = Snapshot(0, node, ClusterPart(), NodePart())
    elif held is None or held.revision != update.revision - 1:
        have = held.revision if held else 0
        raise OutOfOrder(f"revision {update.revision} is a difference to {update.revision - 1}, not to {have}")
    return Snapshot(
        update.revision, node, apply_cluster(held.cluster, update.cluster), apply_node(held.own, update.node)
    )


def apply_cluster(part: ClusterPart, delta: ClusterDelta) -> ClusterPart:
    """Shares with `part` every mapping that `delta` leaves alone."""
    if not delta:
        return part
    return replace(
        part,
        identities=_patched(part.identities, delta.identities, delta.identities_gone),
        addresses=_patched(part.addresses, delta.addresses, delta.addresses_gone),
        nodes=_patched(part.nodes, delta.nodes, delta.nodes_gone),
        services=_patched(part.services, delta.services, delta.services_gone),
        policies=_patched(part.policies, delta.policies, delta.policies_gone),
        routing=_patched(part.routing, delta.routing, delta.routing_gone),
        telemetry=_patched(part.telemetry, delta.telemetry, delta.telemetry_gone),
        settings=_patched(part.settings, delta.settings, delta.settings_gone),
    )


def apply_node(part: NodePart, delta: NodeDelta) -> NodePart:
    return NodePart(_patched(part.endpoints, delta.endpoints, delta.endpoints_gone)) if delta else part


def between(before: ClusterPart, after: ClusterPart) -> ClusterDelta:
    """Also how a receiver learns what a full update really changed."""
    return ClusterDelta(
        *between_items(before.identities, after.identities),
        *between_items(before.addresses, after.addresses),
        *between_items(before.nodes, after.nodes),
        *between_items(before.services, after.services),
        *between_items(before.policies, after.policies),
        *between_items(before.routing, after.routing),
        *between_items(before.telemetry, after.telemetry),
        *between_items(before.settings, after.settings),
    )


def between_nodes(before: NodePart, after: NodePart) -> NodeDelta:
    return NodeDelta(*between_items(before.endpoints, after.endpoints))


def _patched(held: Mapping[K, V], put: Mapping[K, V], gone: frozenset[K]) -> Mapping[K, V]:
    if not put and not gone:
        return held
    patched = {**held, **put}
    for key in gone:
        patched.pop(key, None)
    return patched


def between_items(before: Mapping[K, V], after: Mapping[K, V]) -> tuple[dict[K, V], frozenset[K]]:
    """What was put, and the keys that are gone."""
    if before is after:
        return {}, frozenset()
    put = {key: item for key, item in after.items() if before.get(key) != item}
    return put, frozenset(key for key in before if key not in after)
