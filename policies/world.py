"""The cluster as a verdict sees it: who stands behind a name or an address, and every workload's table.

In: the cluster part of a snapshot, made from manifests (`offline`) or handed out by a node. The tables are those
of `compile.Compiler`, the ones that fill the kernel's maps; here every workload of the cluster has one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from weft.policies import identity
from weft.policies.cidr import CidrIdentities
from weft.policies.compile import Compiler
from weft.policies.cookies import Cookies
from weft.policies.l4 import PeerView
from weft.policies.mesh.hosts import is_address
from weft.policies.snapshot import (
    AddressItem,
    ClusterPart,
    EndpointItem,
    NamedPort,
    PolicyItem,
    ResolvedSpec,
    ServiceItem,
)
from weft.policies.table import Table


class Kind(enum.Enum):
    WORKLOAD = "workload"
    NODE = "node"
    RESERVED = "reserved"  # the node's DNS, the API server: what an identity of their own stands for
    OUTSIDE = "outside"


class Unknown(LookupError):
    """Nobody has this name or address."""


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a flow. `endpoint`: only a workload's traffic is judged. `node` "": not placed. `number`: the
    identity of RESERVED."""

    label: str
    kind: Kind
    addresses: tuple[str, ...]
    endpoint: EndpointItem | None = None
    node: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a ClusterPart does not hold. `on_host`: pods on the host network, with their node. `outside`: pods
    that play hosts of the outside world, with their addresses. `made_up`: addresses that stand for pods which
    have none yet, never shown. `dns`: where nodes serve names."""

    on_host: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    made_up: frozenset[str] = frozenset()
    dns: tuple[str, ...] = ()


class World:
    def __init__(self, part: ClusterPart, around: Surroundings | None = None) -> None:
        self.part = part
        self.around = around or Surroundings()
        self.cidrs = CidrIdentities()
        self.endpoints = _endpoints(part.addresses.values())
        self._workloads = _first_pods(self.endpoints.values())
        self._compiler = Compiler(self.cidrs, Cookies())
        self._compiler.update(part, self.endpoints)
        self._policies = [part.policies[ref] for ref in sorted(part.policies)]  # so that equal worlds answer alike
        self._specs: dict[int, list[tuple[PolicyItem, ResolvedSpec]]] = {}
        self._named = _named_ports(part.addresses.values())
        self._nodes = {address: node.name for node in part.nodes.values() for address in node.addresses}
        self._services = {ip: service for service in part.services.values() for ip in service.cluster_ips}
        self._pods = _pods_by_identity(part.addresses.values())

    def table(self, endpoint: EndpointItem) -> Table:
        return self._compiler.table(endpoint)

    def selecting(self, number: int) -> list[tuple[PolicyItem, ResolvedSpec]]:
        """The specs that select an identity."""
        if number not in self._specs:
            self._specs[number] = [(p, spec) for p in self._policies for spec in p.specs if number in spec.subjects]
        return self._specs[number]

    def pods_of(self, number: int) -> tuple[str, ...]:
        """The names of the workloads of an identity, sorted."""
        return self._pods.get(number, ())

    # who it is

    def find_source(self, text: str) -> Party:
        """As `find`, but nothing starts at a Service: `NS/NAME` is a pod, else a workload's first pod."""
        found = self.find(text)
        if isinstance(found, ServiceItem):
            pod = self._workload(text if "/" in text else f"default/{text}")
            if pod is None:
                raise Unknown(f"{text} is a Service: a flow starts at a pod or an address")
            return pod
        return found

    def find(self, text: str) -> Party | ServiceItem:
        """`NS/NAME`: a pod if there is one, else a Service, else a workload's first pod; `svc/NS/NAME` is the
        Service; a bare NAME is in `default`; an address is whoever has it. Raises Unknown."""
        parts = text.split("/")
        if len(parts) == 3 and parts[0] in ("svc", "service"):
            service = self.part.services.get(f"{parts[1]}/{parts[2]}")
            if service is None:
                raise Unknown(f"there is no Service {parts[1]}/{parts[2]}")
            return service
        if len(parts) == 1 and is_address(text):
            return self.at(text)
        if len(parts) == 3 and parts[0] in ("pod", "po"):
            return self._pod("/".join(parts[1:])) or self._nobody("/".join(parts[1:]))
        if len(parts) > 2 or not all(parts):
            raise Unknown(f"{text!r} is neither NS/NAME nor an address")
        key = text if len(parts) == 2 else f"default/{text}"
        return self._pod(key) or self.part.services.get(key) or self._workload(key) or self._nobody(key)

    def at(self, text: str) -> Party | ServiceItem:
        """Whoever has the address; what nobody in the cluster has is outside."""
        ip = str(ip_address(text))
        item = self.part.addresses.get(ip) if ip not in self.around.made_up else None
        if ip in self.around.dns:
            return Party(f"{ip} (the node's DNS)", Kind.RESERVED, (ip,), number=identity.DNS)
        if item is not None and item.pod in self.endpoints:
            return self._workload_at(item)
        if ip in self._nodes or item is not None:
            node = self._nodes.get(ip) or (item.node if item else "")
            return Party(f"{ip} (node {node})", Kind.NODE, (ip,), node=node)
        if ip in self._services:
            return self._services[ip]
        label = f"{ip} (kube-apiserver)" if ip in self._api_servers() else ip
        return Party(label, Kind.OUTSIDE, (ip,))

    def pod(self, key: str, ip: str = "") -> Party | None:
        """A workload by "ns/name", as seen at one of its addresses."""
        endpoint = self.endpoints.get(key)
        if endpoint is None:
            return None
        item = self.part.addresses[ip or endpoint.ips[0]]
        addresses = (ip,) if ip else endpoint.ips
        return Party(key, Kind.WORKLOAD, addresses, endpoint, item.node)

    def _workload_at(self, item: AddressItem) -> Party:
        party = self.pod(item.pod, item.ip)
        assert party is not None
        return party

    def _pod(self, key: str) -> Party | None:
        if key in self.around.on_host:
            node = self.around.on_host[key]
            addresses = self.part.nodes[node].addresses if node in self.part.nodes else ()
            return Party(f"{key} (on the host network)", Kind.NODE, addresses, node=node)
        if key in self.around.outside:
            return Party(f"{key} (outside)", Kind.OUTSIDE, self.around.outside[key])
        return self.pod(key)

    def _workload(self, key: str) -> Party | None:
        return self.pod(self._workloads[key]) if key in self._workloads else None

    def _nobody(self, key: str) -> Party:
        raise Unknown(f"there is no pod, Service or workload {key}")

    def _api_servers(self) -> set[str]:
        service = self.part.services.get("default/kubernetes")
        return {backend.ip for port in service.ports for backend in port.backends} if service else set()

    # how one end sees the other

    def seen(self, peer: Party, subject: Party) -> tuple[int, PeerView]:
        """The identity that `subject`'s node gives `peer`, and the same for the oracle."""
        if peer.kind is Kind.OUTSIDE:
            address = self._in_family(peer, subject)
            return self.cidrs.lookup(address), PeerView(address=ip_address(address))
        if peer.kind is Kind.WORKLOAD:
            number = self.part.addresses[self._in_family(peer, subject)].identity
        elif peer.kind is Kind.NODE:
            number = identity.HOST if self._same_node(peer, subject) else self._of_node(peer, subject)
        else:
            number = peer.number
        return number, PeerView(number, None, self._named.get(number, ()))

    def _in_family(self, peer: Party, subject: Party) -> str:
        """The peer's first address of a family that both have: what they talk over."""
        families = {ip_address(ip).version for ip in subject.addresses if ip not in self.around.made_up}
        fitting = (ip for ip in peer.addresses if ip_address(ip).version in families)
        return next(fitting, peer.addresses[0])

    def _of_node(self, node: Party, subject: Party) -> int:
        """Another node is a remote node, or one that serves the API, by its address."""
        item = self.part.addresses.get(self._in_family(node, subject)) if node.addresses else None
        return item.identity if item is not None and not item.pod else identity.REMOTE_NODE

    def _same_node(self, node: Party, subject: Party) -> bool:
        """A workload that is not placed may be on any node: with one node it is on that."""
        if subject.node and node.node:
            return subject.node == node.node
        return len(self.part.nodes) <= 1


def _endpoints(addresses: Iterable[AddressItem]) -> dict[str, EndpointItem]:
    """Every workload, with the identity of its first address, as a node's part has its own."""
    of_pod: dict[str, list[AddressItem]] = {}
    for item in addresses:
        if item.pod:
            of_pod.setdefault(item.pod, []).append(item)
    found = {}
    for key, items in sorted(of_pod.items()):
        items.sort(key=lambda item: (ip_address(item.ip).version, item.ip))
        namespace, _, name = key.partition("/")
        first, ips = items[0], tuple(item.ip for item in items)
        found[key] = EndpointItem(
            namespace, name, ips, first.identity, first.named_ports, first.workload_kind, first.workload_name
        )
    return found


def _first_pods(endpoints: Iterable[EndpointItem]) -> dict[str, str]:
    """A pod for each workload, by "ns/name"."""
    owned = [(e.key, f"{e.namespace}/{e.workload_name}") for e in endpoints if e.workload_name]
    return {workload: key for key, workload in sorted(owned, reverse=True)}


def _named_ports(addresses: Iterable[AddressItem]) -> dict[int, tuple[NamedPort, ...]]:
    found: dict[int, dict[NamedPort, None]] = {}
    for item in addresses:
        for port in item.named_ports:
            found.setdefault(item.identity, {})[port] = None
    return {number: tuple(ports) for number, ports in found.items()}


def _pods_by_identity(addresses: Iterable[AddressItem]) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    for item in addresses:
        if item.pod:
            found.setdefault(item.identity, set()).add(item.pod)
    return {number: tuple(sorted(pods)) for number, pods in found.items()}
