"""A Service and what stands behind it -> `ServiceItem`.

1. EndpointSlices (label `kubernetes.io/service-name`) say who the backends are, if there is one at all;
2. else, a Service with a selector has the ready pods that it selects, so that a plain folder of manifests works
   without anybody who writes slices.

A headless Service may have no ports at all: its backends then stand under one that says nothing (PORTLESS).
Only ready endpoints are backends. Order is that of address and port: equal clusters give equal items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from weft.policies.catalog import Catalog
from weft.policies.model import Protocol
from weft.policies.objects import EndpointSlice, Pod, Service, ServicePort
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

PREFER: Final = {"PreferClose": "zone", "PreferSameZone": "zone", "PreferSameNode": "node"}
PORTLESS: Final = ServicePort("", Protocol.ANY, 0, 0)


def service_item(catalog: Catalog, service: Service) -> ServiceItem:
    slices = catalog.slices_of(f"{service.namespace}/{service.name}")
    pods = [] if slices else [pod for pod in catalog.pods_selected(service) if pod.ready and pod.ips]
    ports = []
    for port in service.ports:
        found = _from_slices(slices, port) if slices else _from_pods(pods, port)
        ports.append(_port_item(port, found))
    if service.headless and not service.ports:
        ports.append(_port_item(PORTLESS, _ready(slices) if slices else _from_pods(pods, PORTLESS)))
    prefer = PREFER.get(service.traffic_distribution, "")
    addresses = service.cluster_ips
    return ServiceItem(
        service.namespace, service.name, service.type, addresses, tuple(ports), service.headless, prefer
    )


def _port_item(port: ServicePort, found: Iterable[BackendItem]) -> ServicePortItem:
    backends = tuple(sorted(set(found), key=_order))
    return ServicePortItem(port.name, port.protocol, port.port, port.node_port, port.app_protocol, backends)


def _order(backend: BackendItem) -> tuple[int, int, int]:
    address = ip_address(backend.ip)
    return address.version, int(address), backend.port


def _from_slices(slices: Iterable[EndpointSlice], port: ServicePort) -> Iterator[BackendItem]:
    """Slice ports answer to the name of the service port, and to its protocol."""
    for piece in slices:
        numbers = [p.port for p in piece.ports if (p.name, p.protocol) == (port.name, port.protocol)]
        for backend in _ready([piece]):
            yield from (replace(backend, port=number) for number in numbers)


def _ready(slices: Iterable[EndpointSlice]) -> Iterator[BackendItem]:
    """Without a port."""
    for endpoint in (endpoint for piece in slices for endpoint in piece.endpoints if endpoint.ready):
        pod = "/".join(endpoint.target_pod) if endpoint.target_pod else ""
        for ip in endpoint.addresses:
            yield BackendItem(ip, 0, endpoint.node, pod)


def _from_pods(pods: list[Pod], port: ServicePort) -> Iterator[BackendItem]:
    for pod in pods:
        number = _target(pod, port)
        if number or port is PORTLESS:
            for ip in pod.ips:
                yield BackendItem(ip, number, pod.node, f"{pod.namespace}/{pod.name}")


def _target(pod: Pod, port: ServicePort) -> int:
    """0: the port is named and this pod has no such port, so it is no backend of it."""
    if isinstance(port.target_port, int):
        return port.target_port
    named = (c.port for c in pod.ports if (c.name, c.protocol) == (port.target_port, port.protocol))
    return next(named, 0)
