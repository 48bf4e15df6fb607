"""Names for numbers: what the observer asks of the daemon, answered from the snapshot in force.

Every lookup is a dict's. What is handed out is replaced when it changes, never changed: flows keep it. A workload
that is gone stays known by its address until somebody else has it, for its last records arrive after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from weft.daemon.datapath.endpoints import Place
from weft.daemon.datapath.rows import packed
from weft.daemon.observer.directory import Owner, PolicyName, ServiceName, policy_name
from weft.policies import identity
from weft.policies.cidr import CidrIdentities
from weft.policies.cookies import Cookies
from weft.policies.delta import ClusterDelta
from weft.policies.model import Direction, ObjectRef, Origin
from weft.policies.snapshot import AddressItem, ClusterPart, PolicyItem, ServiceItem

#: Owners that are gone, kept for late records.
REMEMBERED = 4096
K = TypeVar("K")
V = TypeVar("V")


class NodeDirectory:
    def __init__(self, node: str, cookies: Cookies, cidrs: CidrIdentities, interface: Callable[[int], str]) -> None:
        self._node, self._cookies, self._cidrs, self._interface = node, cookies, cidrs, interface
        self._cluster = ClusterPart()
        self._labels: dict[int, tuple[str, ...]] = {}
        self._owners: dict[bytes, Owner] = {}
        self._gone: OrderedDict[bytes, Owner] = OrderedDict()
        self._endpoints: dict[int, Owner] = {}
        self._services: dict[tuple[bytes, int], ServiceName] = {}
        self._names: dict[bytes, tuple[str, ...]] = {}
        self._policies: dict[int, tuple[PolicyName, ...]] = {}
        self._named: dict[tuple[str, bool], tuple[PolicyName | None]] = {}  # of the L7 proxy's texts
        self._own_hosts: frozenset[str] = frozenset()
        self._ep_ids: dict[str, int] = {}  # "ns/name" -> endpoint id

    # what the observer asks

    def owner(self, address: bytes) -> Owner | None:
        return self._owners.get(address) or self._gone.get(address)

    def endpoint(self, endpoint_id: int) -> Owner | None:
        return self._endpoints.get(endpoint_id)

    def workload(self, name: str) -> Owner | None:
        """ "namespace/pod" of this node."""
        return self._endpoints.get(self._ep_ids.get(name, 0))

    def identity_labels(self, number: int) -> tuple[str, ...]:
        found = self._labels.get(number)
        if found is None:
            found = self._labels[number] = self._labels_of(number)
        return found

    def policies(self, cookie: int) -> tuple[PolicyName, ...]:
        found = self._policies.get(cookie)
        if found is None:
            found = self._policies[cookie] = self._policy_names(self._cookies.origins(cookie))
        return found

    def policy(self, text: str, egress: bool) -> PolicyName | None:
        found = self._named.get((text, egress))
        if found is None:
            name = policy_name(text)
            item = self._cluster.policies.get(ObjectRef(name.kind, name.namespace, name.name))
            found = self._named[text, egress] = (name if item is None else _named(item, egress),)
        return found[0]

    def service(self, address: bytes, port: int) -> ServiceName | None:
        return self._services.get((address, port))

    def names(self, address: bytes) -> Sequence[str]:
        return self._names.get(address, ())

    def interface(self, index: int) -> str:
        return self._interface(index)

    # what the agent tells

    def take(
        self, cluster: ClusterPart, changed: ClusterDelta, places: Mapping[str, Place], hosts: frozenset[str]
    ) -> None:
        """A snapshot in force: `changed` is the difference to the one before, `hosts` the node's own addresses."""
        self._cluster = cluster
        if changed.identities or changed.identities_gone:
            for number in (*changed.identities, *changed.identities_gone):
                self._labels.pop(number, None)
        self._labels = {number: labels for number, labels in self._labels.items() if not identity.is_local(number)}
        self._policies.clear()
        self._named.clear()
        stale = {*changed.addresses, *changed.addresses_gone}
        if changed.identities:
            stale |= {item.ip for item in cluster.addresses.values() if item.identity in changed.identities}
        self._place(places, stale)
        for ip in stale:
            self._renew(ip)
        if hosts != self._own_hosts or changed.nodes or changed.nodes_gone:
            self._take_hosts(hosts)
        if changed.services or changed.services_gone:
            self._take_services(cluster.services.values())

    def _place(self, places: Mapping[str, Place], stale: set[str]) -> None:
        """Endpoint ids of workloads here; those whose id changed are told anew."""
        ids = {key: spot.ep_id for key, spot in places.items()}
        moved = ids.items() ^ self._ep_ids.items()
        self._ep_ids = ids
        touched = {key for key, _ in moved}
        stale |= {ip for key in touched if key in places for ip in places[key].item.ips}
        for ip in stale:
            self._renew(ip)
        firsts = {spot.ep_id: next(iter(spot.item.ips), "") for spot in places.values()}
        self._endpoints = {
            number: owner for number, ip in firsts.items() if ip and (owner := self._owners.get(packed(ip)))
        }

    def _renew(self, ip: str) -> None:
        raw = packed(ip)
        item = self._cluster.addresses.get(ip)
        if item is not None:
            self._owners[raw] = self._owner_of(item)
            self._gone.pop(raw, None)
        elif raw in self._owners:
            self._gone[raw] = self._owners.pop(raw)
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)

    def _owner_of(self, item: AddressItem) -> Owner:
        namespace, _, pod = item.pod.partition("/")
        return Owner(
            item.identity,
            self.identity_labels(item.identity),
            namespace,
            pod,
            item.workload_kind,
            item.workload_name,
            self._ep_ids.get(item.pod, 0),
        )

    def _take_hosts(self, hosts: frozenset[str]) -> None:
        for node in self._cluster.nodes.values():
            for ip in node.addresses:
                item = self._cluster.addresses.get(ip)  # by which a node that serves the API is known
                other = item.identity if item is not None and not item.pod else identity.REMOTE_NODE
                number = identity.HOST if node.name == self._node else other
                self._owners[packed(ip)] = Owner(number, self.identity_labels(number))
        owner = Owner(identity.HOST, self.identity_labels(identity.HOST))
        self._owners.update((packed(ip), owner) for ip in hosts)
        self._own_hosts = hosts

    def _take_services(self, services: Iterable[ServiceItem]) -> None:
        table: dict[tuple[bytes, int], ServiceName] = {}
        names: dict[bytes, tuple[str, ...]] = {}
        for item in services:
            name = ServiceName(item.namespace, item.name)
            for ip in item.cluster_ips:
                raw = packed(ip)
                names[raw] = (f"{item.name}.{item.namespace}.svc.cluster.local",)
                for port in (0, *(port.port for port in item.ports)):
                    table[raw, port] = name
        self._services, self._names = table, names

    def _labels_of(self, number: int) -> tuple[str, ...]:
        item = self._cluster.identities.get(number)
        if item is not None:
            return item.labels.strings()
        if number in identity.RESERVED:
            return identity.reserved_identity(number).labels.strings()
        if identity.is_local(number):
            prefix = next((prefix for prefix, n in self._cidrs.prefixes().items() if n == number), None)
            world = "reserved:world-ipv6" if prefix and prefix.version == 6 else "reserved:world-ipv4"
            return (f"cidr:{prefix}", world) if prefix else ()
        return ()

    def _policy_names(self, origins: Iterable[Origin]) -> tuple[PolicyName, ...]:
        names = []
        for ref in dict.fromkeys(origin.ref for origin in origins):
            item = self._cluster.policies.get(ref)
            names.append(
                PolicyName(
                    ref.kind, ref.namespace, ref.name, item.labels if item else (), item.revision if item else 0
                )
            )
        return tuple(names)


def _named(item: PolicyItem, egress: bool) -> PolicyName | None:
    """None: nothing of it is about this direction."""
    wanted = Direction.EGRESS if egress else Direction.INGRESS
    for spec in item.specs:
        denies = spec.default_deny_egress if egress else spec.default_deny_ingress
        if denies or any(rule.direction == wanted for rule in spec.rules):
            return PolicyName(item.ref.kind, item.ref.namespace, item.ref.name, item.labels, item.revision)
    return None
