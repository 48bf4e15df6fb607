"""The objects of the cluster as declared, with the indexes that reconciling them needs. No derivation here.

Addresses are canonical inside (`FD00::0001` is `fd00::1`), so that they can be keys; what is no address is Invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TypeVar

from weft.policies.errors import Invalid, Where
from weft.policies.labels import Labels
from weft.policies.model import CidrGroupPeer, ObjectRef, ServicePeer
from weft.policies.objects import CidrGroup, EndpointSlice, Namespace, Node, Object, Pod, Service

#: Where the control plane tells its own addresses.
API_SERVICE = "default/kubernetes"

K = TypeVar("K", bound=Hashable)
LabelKey = tuple[str, str, str]  # namespace, key, value


def ref_of(thing: Object) -> ObjectRef:
    namespaced = thing.namespace if isinstance(thing, Pod | Service | EndpointSlice) else ""
    kind = "CiliumCIDRGroup" if isinstance(thing, CidrGroup) else type(thing).__name__
    return ObjectRef(kind, namespaced, thing.name)


class Catalog:
    """Pods and services are keyed "ns/name", as in the snapshot."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {}
        self.pods: dict[str, Pod] = {}
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        self.groups: dict[str, CidrGroup] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}  # by service, then by name
        self._service_of_slice: dict[str, str] = {}
        self._pods_of: dict[str, set[str]] = {}
        self._pods_by_label: dict[LabelKey, set[str]] = {}
        self._services_by_label: dict[LabelKey, set[str]] = {}

    def pods_in(self, namespace: str) -> Iterable[str]:
        return self._pods_of.get(namespace, ())

    def pods_selected(self, service: Service) -> list[Pod]:
        return self.pods_with(service.namespace, service.selector)

    def pods_with(self, namespace: str, labels: Mapping[str, str]) -> list[Pod]:
        """Sorted by name: equal clusters give equal backends. No labels: none."""
        sets = [self._pods_by_label.get((namespace, key, value), set()) for key, value in labels.items()]
        return [self.pods[key] for key in sorted(set.intersection(*sets))] if sets else []

    def services_selecting(self, pod: Pod) -> set[str]:
        found: set[str] = set()
        for key, value in pod.labels.items():
            found |= self._services_by_label.get((pod.namespace, key, value), set())
        return {key for key in found if self.services[key].selector.items() <= pod.labels.items()}

    def slices_of(self, service: str) -> list[EndpointSlice]:
        slices = self._slices.get(service, {})
        return [slices[name] for name in sorted(slices)]

    def api_servers(self) -> frozenset[str]:
        """The addresses of the ready endpoints of the Service `default/kubernetes`, whoever has them."""
        endpoints = (endpoint for piece in self.slices_of(API_SERVICE) for endpoint in piece.endpoints)
        return frozenset(ip for endpoint in endpoints if endpoint.ready for ip in endpoint.addresses)

    def every_node_serves_api(self) -> bool:
        servers = self.api_servers()
        nodes = self.nodes.values()
        return bool(servers and nodes) and not any(servers.isdisjoint(node.addresses) for node in nodes)

    def services_meant(self, peer: ServicePeer) -> list[Service]:
        if peer.selector is None and peer.namespace:
            found = self.services.get(f"{peer.namespace}/{peer.name}")
            return [found] if found else []
        return [self.services[key] for key in sorted(self.services) if means(peer, self.services[key])]

    def groups_meant(self, peer: CidrGroupPeer) -> list[CidrGroup]:
        if peer.selector is None:
            return [self.groups[peer.name]] if peer.name in self.groups else []
        groups = (self.groups[name] for name in sorted(self.groups))
        return [group for group in groups if peer.selector.matches(Labels.k8s(group.labels))]

    # the three kinds that are indexed; put and remove return what was there before

    def put_pod(self, pod: Pod) -> Pod | None:
        key = f"{pod.namespace}/{pod.name}"
        before = self.remove_pod(key)
        self.pods[key] = pod
        self._pods_of.setdefault(pod.namespace, set()).add(key)
        for item in pod.labels.items():
            self._pods_by_label.setdefault((pod.namespace, *item), set()).add(key)
        return before

    def remove_pod(self, key: str) -> Pod | None:
        pod = self.pods.pop(key, None)
        if pod:
            _discard(self._pods_of, pod.namespace, key)
            for item in pod.labels.items():
                _discard(self._pods_by_label, (pod.namespace, *item), key)
        return pod

    def put_service(self, service: Service) -> Service | None:
        key = f"{service.namespace}/{service.name}"
        before = self.remove_service(key)
        self.services[key] = service
        for item in service.selector.items():
            self._services_by_label.setdefault((service.namespace, *item), set()).add(key)
        return before

    def remove_service(self, key: str) -> Service | None:
        service = self.services.pop(key, None)
        if service:
            for item in service.selector.items():
                _discard(self._services_by_label, (service.namespace, *item), key)
        return service

    def put_slice(self, piece: EndpointSlice) -> set[str]:
        """The services whose endpoints this may have changed."""
        key = f"{piece.namespace}/{piece.name}"
        touched = self.remove_slice(key)
        service = f"{piece.namespace}/{piece.service}"
        self._service_of_slice[key] = service
        self._slices.setdefault(service, {})[key] = piece
        return touched | {service}

    def remove_slice(self, key: str) -> set[str]:
        service = self._service_of_slice.pop(key, None)
        if service is None:
            return set()
        del self._slices[service][key]
        if not self._slices[service]:
            del self._slices[service]
        return {service}


def means(peer: ServicePeer, service: Service) -> bool:
    """A peer that names no namespace means every one, as in Cilium."""
    if peer.namespace not in ("", service.namespace):
        return False
    if peer.selector is None:
        return peer.name == service.name
    return peer.selector.matches(Labels.k8s(service.labels))


def canonical(thing: Object) -> Object:
    """The same object with canonical addresses. Raises Invalid where one is none."""
    if isinstance(thing, Pod):
        return replace(thing, ips=_checked(thing, "status.podIPs", ip_address, thing.ips))
    if isinstance(thing, Node):
        addresses = _checked(thing, "status.addresses", ip_address, thing.addresses)
        return replace(thing, addresses=addresses, pod_cidrs=_networks(thing, "spec.podCIDRs", thing.pod_cidrs))
    if isinstance(thing, Service):
        return replace(thing, cluster_ips=_checked(thing, "spec.clusterIPs", ip_address, thing.cluster_ips))
    if isinstance(thing, CidrGroup):
        return replace(thing, cidrs=_networks(thing, "spec.externalCIDRs", thing.cidrs))
    if isinstance(thing, EndpointSlice):
        return _canonical_slice(thing)
    return thing


def _canonical_slice(piece: EndpointSlice) -> EndpointSlice:
    if piece.address_type == "FQDN":  # names, which nothing here can be sent to
        return replace(piece, endpoints=())
    endpoints = tuple(
        replace(e, addresses=_checked(piece, f"endpoints[{i}].addresses", ip_address, e.addresses))
        for i, e in enumerate(piece.endpoints)
    )
    return replace(piece, endpoints=endpoints)


def _networks(thing: Object, path: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    return _checked(thing, path, lambda text: ip_network(text, strict=False), texts)


def _checked(thing: Object, path: str, parse: Callable[[str], object], texts: tuple[str, ...]) -> tuple[str, ...]:
    canonical = []
    for i, text in enumerate(texts):
        try:
            canonical.append(str(parse(text)))
        except ValueError as error:
            raise Invalid(Where(object=str(ref_of(thing)), path=f"{path}[{i}]"), str(error)) from None
    return tuple(dict.fromkeys(canonical))


def _discard(index: dict[K, set[str]], key: K, item: str) -> None:
    index[key].discard(item)
    if not index[key]:
        del index[key]
