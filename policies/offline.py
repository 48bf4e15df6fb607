"""Manifests to a World, with no operator: what the cluster would be if these were all there is.

In: documents (`yamldoc`). Namespaces that nobody declares exist; workloads (Deployment, ...) become the Pods they
stand for. A Pod with no address yet gets a made-up one, so that an `ipBlock` of everything means it and one of
everything but the private addresses does not; more than that nobody can say of a pod that runs nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from weft.policies import workloads
from weft.policies.cluster import Cluster, Numbers
from weft.policies.dialects import registry
from weft.policies.errors import Invalid
from weft.policies.identify import EXTERNAL_ANNOTATION
from weft.policies.mesh import model as mesh
from weft.policies.model import ObjectRef, Policy
from weft.policies.objects import EndpointSlice, Node, Object, Pod, Service
from weft.policies.world import Surroundings, World
from weft.policies.yamldoc import Document

#: From the end of 10.0.0.0/8 backwards, where addresses of pods often are, though few of these.
_LAST = int(IPv4Address("10.255.255.254"))


@dataclass(frozen=True, slots=True)
class Declared:
    """What the documents come to. `routing`: what `mesh.model` calls declared. `refused`: those that are wrong,
    each with its reason."""

    policies: tuple[Policy, ...]
    objects: tuple[Object, ...]
    refused: tuple[Invalid, ...]
    routing: tuple[mesh.Declared, ...] = ()


def read(documents: Sequence[Document], default_namespace: str = "default") -> Declared:
    """Reads every document, the wrong ones too: whoever asked decides whether the others count. Of two
    documents about one object the later counts, as if one had been applied after the other."""
    found: dict[ObjectRef, registry.Parsed] = {}
    refused: list[Invalid] = []
    nodes = sorted({str(ref.name) for ref in _refs(documents, default_namespace) if ref.kind == "Node"})
    for document in documents:
        try:
            for one in _pods_of(document, default_namespace, nodes):
                thing = registry.parse(one, default_namespace)
                if thing is not None:
                    found[registry.ref_of(one, default_namespace)] = thing
        except Invalid as error:
            refused.append(error)
    policies = tuple(thing for thing in found.values() if isinstance(thing, Policy))
    routing = tuple(thing for thing in found.values() if isinstance(thing, mesh.Model))
    objects = tuple(thing for thing in found.values() if not isinstance(thing, Policy | mesh.Model))
    return Declared(policies, objects, tuple(refused), routing)


def _refs(documents: Iterable[Document], default_namespace: str) -> Iterable[ObjectRef]:
    for document in documents:
        try:
            yield registry.ref_of(document, default_namespace)
        except Invalid:
            continue  # told when it is read


def _pods_of(document: Document, default_namespace: str, nodes: Sequence[str]) -> Iterable[Document]:
    if document.value.get("kind") not in workloads.KINDS:
        return [document]
    pods = workloads.pods(document, default_namespace, nodes)
    return [replace(document, value=pod) for pod in pods]


def build(declared: Declared, dns: tuple[str, ...] = ()) -> tuple[World, dict[ObjectRef, str]]:
    """The world, and the objects that are not in it, wholly or in part, with the reason. Raises Invalid."""
    cluster = Cluster(Numbers())
    made_up: set[str] = set()
    on_host: dict[str, str] = {}
    outside: dict[str, tuple[str, ...]] = {}
    free = _made_up(declared.objects)
    hosts = {ip: thing.name for thing in declared.objects if isinstance(thing, Node) for ip in thing.addresses}
    for thing in declared.objects:
        if isinstance(thing, Pod):
            key = f"{thing.namespace}/{thing.name}"
            if external := thing.annotations.get(EXTERNAL_ANNOTATION, ""):
                outside[key] = tuple(part.strip() for part in external.split(",") if part.strip())
            elif thing.host_network:
                on_host[key] = thing.node or next((hosts[ip] for ip in thing.ips if ip in hosts), "")
            elif not thing.ips:
                thing = replace(thing, ips=(next(free),))
                made_up.update(thing.ips)
        cluster.put(thing)
    for policy in declared.policies:
        cluster.put(policy)
    for route in declared.routing:
        cluster.put(route)
    cluster.delta()
    around = Surroundings(on_host, outside, frozenset(made_up), dns)
    return World(cluster.part, around), dict(cluster.problems())


def _made_up(objects: Iterable[Object]) -> Iterator[str]:
    """Addresses that nobody who is declared has."""
    taken: set[str] = set()
    for thing in objects:
        if isinstance(thing, Pod):
            taken.update(thing.ips)
        elif isinstance(thing, Node):
            taken.update(thing.addresses)
        elif isinstance(thing, Service):
            taken.update((*thing.cluster_ips, *thing.external_ips))
        elif isinstance(thing, EndpointSlice):
            taken.update(ip for endpoint in thing.endpoints for ip in endpoint.addresses)
    numbers = (str(IPv4Address(number)) for number in range(_LAST, 0, -1))
    return (ip for ip in numbers if ip not in taken)
