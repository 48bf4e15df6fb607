"""The workload half of what people declare, reduced to what the mesh needs of it. Made by `dialects.kubernetes`
from Kubernetes objects; the operator reconciles them, `policy verdict` reads them offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.policies.model import Protocol


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str  # "" unnamed
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Owner:
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Pod:
    """`ips` empty: not scheduled yet. `host_network` pods have the node's identity, not one of their own."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    node: str = ""
    ips: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    host_network: bool = False
    ready: bool = True
    owner: Owner | None = (
        None  # the workload: Deployment, StatefulSet, ... ("ReplicaSet x-hash" resolved to Deployment x)
    )


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    protocol: Protocol
    port: int
    target_port: int | str  # number, or the name of a container port
    node_port: int = 0
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """`cluster_ips` empty: headless, or none assigned yet. `selector` empty: backends come from EndpointSlices
    that somebody else writes."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[str, ...] = ()
    traffic_distribution: str = ""  # PreferClose, PreferSameZone, PreferSameNode; "": none


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    addresses: tuple[str, ...]
    ready: bool = True
    node: str = ""
    target_pod: tuple[str, str] | None = None  # (namespace, name)
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class SlicePort:
    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str  # label kubernetes.io/service-name
    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """CiliumCIDRGroup: `spec.externalCIDRs`; cluster-scoped."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    cidrs: tuple[str, ...] = ()


Object = Namespace | Pod | Service | EndpointSlice | Node | CidrGroup
