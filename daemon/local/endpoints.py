"""What stands behind each Service: EndpointSlices from Services and pods. Pure.

One slice for each address family and set of resolved ports (a named target port may be a different number in
different pods). A Service without selector has slices that somebody else writes: nothing is made for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weft.daemon.local.addresses import is_service_address, node_port, service_addresses

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "weft-local"


@dataclass(frozen=True, slots=True)
class Backend:
    """A pod as a Service sees it. `ports`: of its containers, by name, with the protocol."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    node: str
    ready: bool
    ports: Mapping[tuple[str, str], int]  # (name, protocol) -> number


def slices(service: Mapping[str, Any], pods: Iterable[Backend]) -> list[dict[str, Any]]:
    """The EndpointSlices of one Service manifest, in a stable order. Unready pods are in them as not ready."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    selector = spec.get("selector") or {}
    if not selector or spec.get("type") == "ExternalName":
        return []
    always = spec.get("publishNotReadyAddresses") is True
    groups: dict[tuple[str, str], list[Backend]] = {}
    for pod in sorted(pods, key=lambda each: (each.namespace, each.name)):
        if pod.namespace == metadata["namespace"] and selector.items() <= pod.labels.items():
            ports = json.dumps(_ports(spec, pod))
            for ip in pod.ips:
                groups.setdefault(("IPv6" if ":" in ip else "IPv4", ports), []).append(pod)
    return [_slice(metadata, family, json.loads(ports), members, always) for (family, ports), members in sorted(
        groups.items(), key=lambda item: item[0]
    )]  # fmt: skip


def _ports(spec: Mapping[str, Any], pod: Backend) -> list[dict[str, Any]]:
    """A target port that the pod has no name for is left out: that port has no backend there."""
    found = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        target = port.get("targetPort", port.get("port"))
        number = pod.ports.get((target, protocol)) if isinstance(target, str) else target
        if number is not None:
            found.append({"name": port.get("name") or "", "port": number, "protocol": protocol})
    return found


def _slice(
    metadata: Mapping[str, Any], family: str, ports: list[dict[str, Any]], members: list[Backend], always: bool
) -> dict[str, Any]:
    suffix = hashlib.sha256(json.dumps(ports).encode()).hexdigest()[:5]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{family.lower()}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": {SERVICE_NAME: metadata["name"], MANAGED_BY: MANAGER},
        },
        "addressType": family,
        "ports": ports,
        "endpoints": [
            {
                "addresses": [ip],
                "conditions": {"ready": pod.ready or always, "serving": pod.ready, "terminating": False},
                "nodeName": pod.node,
                "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
            }
            for pod in members
            for ip in pod.ips
            if (":" in ip) == (family == "IPv6")
        ],
    }


def is_ours(manifest: Mapping[str, Any]) -> bool:
    return (manifest["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER


class ServiceAddresses:
    """Cluster addresses and node ports of all Services. An address once given stays with its Service's name, so
    that one that is declared again (a file that was saved) keeps what clients have open."""

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._node_ports: dict[str, int] = {}

    def complete(self, service: Mapping[str, Any]) -> dict[str, Any] | None:
        """The manifest with what a control plane fills in; None where nothing is missing. Raises Exhausted, and
        ValueError for an address that is not this cluster's."""
        spec: dict[str, Any] = dict(service.get("spec") or {})
        key = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        kind = spec.get("type") or "ClusterIP"
        before = json.dumps(spec, sort_keys=True)
        if kind != "ExternalName":
            self._cluster_ips(key, spec)
        if kind in ("NodePort", "LoadBalancer"):
            spec["ports"] = [self._port(key, port) for port in spec.get("ports") or ()]
        return None if json.dumps(spec, sort_keys=True) == before else {**service, "spec": spec}

    def forget(self, key: str) -> None:
        self._addresses.pop(key, None)
        for port in [port for port in self._node_ports if port.startswith(f"{key}/")]:
            del self._node_ports[port]

    def _cluster_ips(self, key: str, spec: dict[str, Any]) -> None:
        asked = tuple(spec.get("clusterIPs") or filter(None, [spec.get("clusterIP")]))
        if asked == ("None",):
            self._addresses.pop(key, None)
            return
        foreign = [ip for ip in asked if not is_service_address(ip)]
        others = {ip for other, ips in self._addresses.items() if other != key for ip in ips}
        if foreign or others.intersection(asked):
            raise ValueError(f"clusterIP {', '.join(foreign or asked)} is not in 10.96.0.0/16, or is taken")
        if not asked:
            given = self._addresses.get(key) or service_addresses(key, others)
            asked = tuple(ip for ip in given if family(ip) in families(spec))
        self._addresses[key] = asked
        spec["clusterIP"], spec["clusterIPs"] = asked[0], list(asked)

    def _port(self, key: str, port: dict[str, Any]) -> dict[str, Any]:
        name = f"{key}/{port.get('protocol') or 'TCP'}/{port.get('port')}"
        number = (
            port.get("nodePort") or self._node_ports.get(name) or node_port(name, set(self._node_ports.values()))
        )
        self._node_ports[name] = number
        return {**port, "nodePort": number}


def family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def families(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Both, unless the manifest says otherwise: a local cluster is dual-stack."""
    named = tuple(spec.get("ipFamilies") or ())
    if spec.get("ipFamilyPolicy") == "SingleStack":
        return named[:1] or ("IPv4",)
    return named if named and not spec.get("ipFamilyPolicy") else ("IPv4", "IPv6")
