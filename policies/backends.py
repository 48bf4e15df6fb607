"""A Service and what stands behind it -> `ServiceItem`.

1. EndpointSlices (label `kubernetes.io/service-name`) say who the backends are, if there is one at all;
2. else, a Service with a selector has the ready pods that it selects, so that a plain folder of manifests works
   without anybody who writes slices.

Only ready endpoints are backends. Order is that of address and port: equal clusters give equal items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from weft.policies.catalog import Catalog
from weft.policies.objects import EndpointSlice, Pod, Service, ServicePort
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem


def service_item(catalog: Catalog, service: Service) -> ServiceItem:
    slices = catalog.slices_of(f"{service.namespace}/{service.name}")
    pods = [] if slices else [pod for pod in catalog.pods_selected(service) if pod.ready and pod.ips]
    ports = []
    for port in service.ports:
        found = _from_slices(slices, port, service.namespace) if slices else _from_pods(pods, port)
        ports.append(_port_item(port, found))
    return ServiceItem(
        service.namespace, service.name, service.type, service.cluster_ips, tuple(ports), service.headless
    )


def _port_item(port: ServicePort, found: Iterable[BackendItem]) -> ServicePortItem:
    backends = tuple(sorted(set(found), key=_order))
    return ServicePortItem(port.name, port.protocol, port.port, port.node_port, port.app_protocol, backends)


def _order(backend: BackendItem) -> tuple[int, int, int]:
    address = ip_address(backend.ip)
    return address.version, int(address), backend.port


def _from_slices(slices: list[EndpointSlice], port: ServicePort, namespace: str) -> Iterator[BackendItem]:
    """Slice ports answer to the name of the service port, and to its protocol."""
    for piece in slices:
        numbers = [p.port for p in piece.ports if (p.name, p.protocol) == (port.name, port.protocol)]
        for endpoint in piece.endpoints:
            if endpoint.ready:
                pod = "/".join(endpoint.target_pod) if endpoint.target_pod else ""
                for ip in endpoint.addresses:
                    yield from (BackendItem(ip, number, endpoint.node, pod) for number in numbers)


def _from_pods(pods: list[Pod], port: ServicePort) -> Iterator[BackendItem]:
    for pod in pods:
        number = _target(pod, port)
        if number:
            for ip in pod.ips:
                yield BackendItem(ip, number, pod.node, f"{pod.namespace}/{pod.name}")


def _target(pod: Pod, port: ServicePort) -> int:
    """0: the port is named and this pod has no such port, so it is no backend of it."""
    if isinstance(port.target_port, int):
        return port.target_port
    named = (c.port for c in pod.ports if (c.name, c.protocol) == (port.target_port, port.protocol))
    return next(named, 0)
