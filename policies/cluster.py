"""The cluster as numbers: objects and policies in, snapshots and differences out. Pure and incremental.

`put` and `remove` only note what changed; `delta` reconciles everything noted since the last call at once and
counts one revision if anything came of it. So a batch of a thousand objects costs one reconciliation, and one
new policy touches only itself. The order inside `delta` is that of dependence: what peers mean, identities of
pods, addresses and endpoints, policies, services.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import chain
from typing import TypeVar

from weft.policies.backends import service_item
from weft.policies.catalog import Catalog, canonical
from weft.policies.delta import ClusterDelta, NodeDelta, Step, apply_cluster, apply_node, between_items
from weft.policies.identity import RESERVED, reserved_identity
from weft.policies.mesh import locality
from weft.policies.mesh.bind import Mesh
from weft.policies.mesh.model import Declared, Model
from weft.policies.mesh.services import Services
from weft.policies.model import ObjectRef, Policy
from weft.policies.numbers import Allocator, Exhausted, Numbers
from weft.policies.objects import CidrGroup, EndpointSlice, Namespace, Node, Object, Pod, Service
from weft.policies.peers import check_entities
from weft.policies.population import Population
from weft.policies.resolve import Resolver
from weft.policies.selection import Index
from weft.policies.snapshot import (
    ClusterPart,
    EndpointItem,
    IdentityItem,
    NodeItem,
    NodePart,
    ServiceItem,
    Snapshot,
)

__all__ = ["Allocator", "Cluster", "Exhausted", "Numbers"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cluster:
    """`revision`: where counting starts, for an operator that goes on after another. `part`: as of the last
    `delta()`; a value, never changed in place."""

    def __init__(self, allocator: Allocator, revision: int = 0) -> None:
        self.revision = revision
        self.part = ClusterPart()
        self._nodes: dict[str, NodePart] = {}
        self._homes: dict[str, str] = {}  # pod -> the node that its endpoint item is on
        self._catalog = Catalog()
        self._population = Population(self._catalog, allocator)
        self._index = Index()
        self._resolver = Resolver(self._index, self._catalog)
        self._dirty_nodes: set[str] = set()
        self._dirty_services: set[str] = set()
        self._services = Services(self._catalog)
        self.mesh = Mesh(self._services.key_of, self._services.hosts)
        self._services.mesh = self.mesh
        for number in RESERVED:
            self._index.add(number, reserved_identity(number).labels)

    def put(self, thing: Policy | Object | Declared, generation: int = 0) -> None:
        """`generation` becomes PolicyItem.revision; 0: counted here. Raises Invalid, and changes nothing, for what
        no manifest that the dialects let pass can contain (an address that is none, an unknown entity)."""
        if isinstance(thing, Policy):
            self._resolver.put(thing, generation or self._resolver.generation(thing.ref) + 1)
        elif isinstance(thing, Model):
            self._dirty_services |= self._services.touched(self.mesh.put(thing))
        else:
            self._put_object(canonical(thing))

    @staticmethod
    def check(thing: Policy | Object | Declared) -> None:
        """Raises the Invalid that `put` would."""
        if isinstance(thing, Policy):
            check_entities(thing)
        elif not isinstance(thing, Model):
            canonical(thing)

    def remove(self, ref: ObjectRef) -> None:
        """What is not there is not missed."""
        key = f"{ref.namespace}/{ref.name}"
        match ref.kind:
            case "Pod":
                self._pod_changed(key, self._catalog.remove_pod(key), None)
            case "Service":
                self._service_changed(key, self._catalog.remove_service(key), None)
            case "EndpointSlice":
                self._slices_changed(self._catalog.remove_slice(key))
            case "Node":
                self._catalog.nodes.pop(ref.name, None)
                self._node_changed(ref.name)
            case "Namespace":
                self._namespace_changed(ref.name, self._catalog.namespaces.pop(ref.name, None), None)
            case "CiliumCIDRGroup":
                self._catalog.groups.pop(ref.name, None)
                self._resolver.groups_changed()
            case _ if self.mesh.holds(ref):
                self._dirty_services |= self._services.touched(self.mesh.remove(ref))
            case _:
                self._resolver.remove(ref)

    def delta(self) -> Step | None:
        """What changed since the last call; None: nothing that a node could notice."""
        part, population, mesh = self.part, self._population, self.mesh
        identities = self._identities()
        self._services.settle()
        cluster = ClusterDelta(
            *identities,
            *_differences(part.addresses, {ip: population.address_item(ip) for ip in population.touched}),
            *_differences(part.nodes, {name: self._node_item(name) for name in self._dirty_nodes}),
            *_differences(part.services, {key: self._service_item(key) for key in self._dirty_services}),
            *_differences(part.policies, self._resolver.resolve()),
            *_differences(part.routing, mesh.settle()),
            *between_items(part.telemetry, mesh.telemetry),
            *between_items(part.settings, mesh.settings),
        )
        nodes = self._endpoints()
        population.clear()
        self._dirty_nodes.clear()
        self._dirty_services.clear()
        return self._step(cluster, nodes) if cluster or nodes else None

    def snapshot(self, node: str) -> Snapshot:
        """As of the last `delta()`. A node that is not known has no endpoints."""
        return Snapshot(self.revision, node, self.part, self._nodes.get(node, NodePart()))

    def problems(self) -> dict[ObjectRef, str]:
        """Objects that are not in force, wholly or in part, and why."""
        return self.mesh.problems() | self._population.problems()

    def warnings(self) -> dict[ObjectRef, str]:
        """Objects that are in force and yet lead nowhere, and why."""
        return self.mesh.warnings()

    # noting what changed

    def _put_object(self, thing: Object) -> None:
        catalog = self._catalog
        match thing:
            case Pod():
                self._pod_changed(f"{thing.namespace}/{thing.name}", catalog.put_pod(thing), thing)
            case Service():
                self._service_changed(f"{thing.namespace}/{thing.name}", catalog.put_service(thing), thing)
            case EndpointSlice():
                self._slices_changed(catalog.put_slice(thing))
            case Node():
                catalog.nodes[thing.name] = thing
                self._node_changed(thing.name)
            case Namespace():
                before = catalog.namespaces.get(thing.name)
                catalog.namespaces[thing.name] = thing
                self._namespace_changed(thing.name, before, thing)
            case CidrGroup():
                catalog.groups[thing.name] = thing
                self._resolver.groups_changed()

    def _pod_changed(self, key: str, before: Pod | None, after: Pod | None) -> None:
        if before != after:
            self._population.pod_changed(key)
            for pod in (before, after):
                if pod:
                    self._dirty_services |= self._catalog.services_selecting(pod)
                    self._dirty_services |= self._services.touched(self.mesh.selecting(pod.namespace))

    def _node_changed(self, name: str) -> None:
        self._dirty_nodes.add(name)
        self._population.node_changed(name)

    def _service_changed(self, key: str, before: Service | None, after: Service | None) -> None:
        if before != after:
            self._dirty_services.add(key)
            self._services.changed(key, before, after)
            self._resolver.service_changed(before, after)

    def _slices_changed(self, services: set[str]) -> None:
        self._dirty_services |= services
        for key in services:
            self._resolver.service_changed(self._catalog.services.get(key))

    def _namespace_changed(self, name: str, before: Namespace | None, after: Namespace | None) -> None:
        if (before.labels if before else {}) != (after.labels if after else {}):
            self._population.pod_changed(*self._catalog.pods_in(name))

    # the stages of delta

    def _identities(self) -> tuple[dict[int, IdentityItem], frozenset[int]]:
        resolver = self._resolver
        resolver.settle()
        mentioned = chain(self._index.mentioned, self.mesh.mentioned())
        came, gone = self._population.settle(mentioned, resolver.prefixes())
        for number in gone:
            resolver.selections_changed(self._index.remove(number))
        for number, labels in came.items():
            resolver.selections_changed(self._index.add(number, labels))
        return {number: IdentityItem(number, labels) for number, labels in came.items()}, frozenset(gone)

    def _endpoints(self) -> dict[str, NodeDelta]:
        fresh: dict[str, dict[str, EndpointItem | None]] = {}
        for key in self._population.pods:
            home = self._homes.pop(key, None)
            if home is not None:
                fresh.setdefault(home, {})[key] = None
            placed = self._population.endpoint(key)
            if placed:
                self._homes[key], item = placed
                fresh.setdefault(placed[0], {})[key] = item
        held = {node: self._nodes.get(node, NodePart()).endpoints for node in fresh}
        deltas = {node: NodeDelta(*_differences(held[node], items)) for node, items in fresh.items()}
        return {node: delta for node, delta in deltas.items() if delta}

    def _node_item(self, name: str) -> NodeItem | None:
        node = self._catalog.nodes.get(name)
        return NodeItem(name, node.addresses, node.pod_cidrs, locality.of_labels(node.labels)) if node else None

    def _service_item(self, key: str) -> ServiceItem | None:
        service = self._catalog.services.get(key)
        return service_item(self._catalog, service) if service else self._services.of_entry(key)

    def _step(self, cluster: ClusterDelta, nodes: dict[str, NodeDelta]) -> Step:
        self.revision += 1
        self.part = apply_cluster(self.part, cluster)
        for name, delta in nodes.items():
            part = apply_node(self._nodes.get(name, NodePart()), delta)
            self._nodes[name] = part
            if not part.endpoints:
                del self._nodes[name]
        return Step(self.revision, cluster, nodes)


def _differences(held: Mapping[K, V], fresh: Mapping[K, V | None]) -> tuple[dict[K, V], frozenset[K]]:
    """Of items derived anew (None: no more) those that differ from what is held."""
    put = {key: item for key, item in fresh.items() if item is not None and held.get(key) != item}
    return put, frozenset(key for key, item in fresh.items() if item is None and key in held)
