"""What the operator tells every node: the cluster as numbers, and each node's own part.

Cluster part (the same for every node): identities, addresses, nodes, services, policies whose selectors are
resolved to identity sets. Node part: that node's endpoints. Items are keyed, so that a revision is a
difference: items put, keys removed. `wire/` turns these into protobuf and back without loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.policies.labels import Labels
from weft.policies.mesh.model import HostRouting, MeshSettings, Telemetry
from weft.policies.model import L7, Action, CidrPeer, Direction, ObjectRef, Origin, PortSpec, Protocol, Tier


@dataclass(frozen=True, slots=True)
class NamedPort:
    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class AddressItem:
    """One address the cluster knows. `pod` "ns/name" or "" (a node's own address)."""

    ip: str
    identity: int
    node: str
    pod: str = ""
    named_ports: tuple[NamedPort, ...] = ()
    workload_kind: str = ""
    workload_name: str = ""


@dataclass(frozen=True, slots=True)
class NodeItem:
    """`locality`: region/zone/sub-zone, from the node's topology labels; "" unknown."""

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...] = ()
    locality: str = ""


@dataclass(frozen=True, slots=True)
class BackendItem:
    """A ready endpoint of one service port. `port` is the target port, resolved. Of a pod, labels and locality are
    its identity's and its node's; `labels`, `locality` and `weight` here are those that a ServiceEntry's endpoint
    declares. Endpoints that are names stand in `HostRouting.entry` alone."""

    ip: str
    port: int
    node: str = ""
    pod: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    locality: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServicePortItem:
    name: str
    protocol: Protocol
    port: int
    node_port: int
    app_protocol: str
    backends: tuple[BackendItem, ...]


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """`cluster_ips` empty: headless; then DNS answers with the backends themselves. `type` "ServiceEntry": `name`
    is its host, and DNS answers for it with `cluster_ips`."""

    namespace: str
    name: str
    type: str
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePortItem, ...]
    headless: bool = False
    prefer: str = ""  # trafficDistribution: "zone" or "node"; "": none

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def host(self) -> str:
        """As `mesh.model` names it."""
        return self.name if self.type == "ServiceEntry" else f"{self.name}.{self.namespace}.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class ResolvedPeers:
    """Whom a rule means, as numbers. `any`: wildcard, the rest is then empty. `cidrs` are resolved on the node,
    where CIDR identities are made; `world_ipv4/6`: every address of the family that nothing in the cluster
    owns. All empty and `any` False: nobody."""

    any: bool = False
    identities: frozenset[int] = frozenset()
    cidrs: tuple[CidrPeer, ...] = ()
    world_ipv4: bool = False
    world_ipv6: bool = False


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    origin: Origin
    direction: Direction
    action: Action
    peers: ResolvedPeers
    ports: tuple[PortSpec, ...] | None = None
    l7: L7 | None = None
    tier: Tier = Tier.NORMAL
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    subjects: frozenset[int]
    default_deny_ingress: bool
    default_deny_egress: bool
    rules: tuple[ResolvedRule, ...]
    log: str = ""


@dataclass(frozen=True, slots=True)
class PolicyItem:
    ref: ObjectRef
    revision: int  # of the object, counted by the operator
    labels: tuple[str, ...]
    specs: tuple[ResolvedSpec, ...]


@dataclass(frozen=True, slots=True)
class IdentityItem:
    id: int
    labels: Labels


@dataclass(frozen=True, slots=True)
class EndpointItem:
    """A workload on the node that receives it: what the daemon attaches to."""

    namespace: str
    name: str
    ips: tuple[str, ...]
    identity: int
    named_ports: tuple[NamedPort, ...] = ()
    workload_kind: str = ""
    workload_name: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClusterPart:
    identities: Mapping[int, IdentityItem] = field(default_factory=dict)
    addresses: Mapping[str, AddressItem] = field(default_factory=dict)
    nodes: Mapping[str, NodeItem] = field(default_factory=dict)
    services: Mapping[str, ServiceItem] = field(default_factory=dict)  # by "ns/name"
    policies: Mapping[ObjectRef, PolicyItem] = field(default_factory=dict)
    routing: Mapping[str, HostRouting] = field(default_factory=dict)  # by host
    telemetry: Mapping[str, Telemetry] = field(default_factory=dict)  # by "ns/name"
    settings: Mapping[str, MeshSettings] = field(default_factory=dict)  # by "mesh": one or none


@dataclass(frozen=True, slots=True)
class NodePart:
    endpoints: Mapping[str, EndpointItem] = field(default_factory=dict)  # by "ns/name"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`revision` grows by one with every change the operator streams; 0 is "nothing yet"."""

    revision: int
    node: str
    cluster: ClusterPart
    own: NodePart
