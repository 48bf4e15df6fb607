"""Pods and nodes -> identities, addresses and endpoints. Keeps who has which; says what a change touches.

An identity belongs to an address: a pod's addresses share one, unless an ipBlock in force contains some of them and
not others (then its IPv4 and IPv6 addresses are told apart, as the policy does).
"""

from __future__ import annotations

from collections.abc import Iterable

from weft.policies.addresses import Addresses, Claim
from weft.policies.catalog import Catalog
from weft.policies.identify import EXCLUDED, Prefixes, is_workload, pod_labels
from weft.policies.identity import KUBE_APISERVER, REMOTE_NODE
from weft.policies.labels import Label, Labels
from weft.policies.model import Network, ObjectRef
from weft.policies.numbers import Allocator, Census, Exhausted
from weft.policies.objects import Pod
from weft.policies.snapshot import AddressItem, EndpointItem, NamedPort

CLUSTER_NAME = "default"


class Population:
    """Note changes, then `settle`; `touched` (addresses) and `pods` say what that touched, until `clear`."""

    def __init__(self, catalog: Catalog, allocator: Allocator) -> None:
        self.pods: set[str] = set()
        self.touched: set[str] = set()
        self._nodes: set[str] = set()
        self._catalog = catalog
        self._census = Census(allocator)
        self._addresses = Addresses()
        self._prefixes = Prefixes()
        self._api_servers: frozenset[str] = frozenset()
        self._mentioned: frozenset[str] = frozenset()
        self._identities: dict[str, dict[str, int]] = {}  # pod -> address -> identity, as counted
        self._starved: dict[str, str] = {}  # pods without an identity, and why

    def pod_changed(self, *keys: str) -> None:
        self.pods.update(keys)

    def node_changed(self, name: str) -> None:
        self._nodes.add(name)

    def clear(self) -> None:
        self.pods.clear()
        self.touched.clear()
        self._nodes.clear()

    def problems(self) -> dict[ObjectRef, str]:
        found = {ref: f"its address {ip} belongs to {owner}" for ip, owner, ref in self._addresses.contested()}
        return found | {_pod_ref(key): reason for key, reason in self._starved.items()}

    def settle(self, mentioned: Iterable[str], prefixes: set[Network]) -> tuple[dict[int, Labels], set[int]]:
        """The identities that came and went. `mentioned`: label keys that selectors in force name; `prefixes`:
        those of the ipBlocks in force."""
        self._distinguish_by_labels(EXCLUDED.intersection(mentioned))
        self._distinguish_by_prefix(prefixes)
        self._recognise_api_servers()
        self.pods.update(self._starved)
        self._claim()
        released = [self._identities.pop(key, {}) for key in self.pods]
        for key in sorted(self.pods):  # who replays the same objects gives the same numbers
            self._identify(key)
        for identities in released:
            for number in identities.values():
                self._census.release(number)
        return self._census.settle()

    def address_item(self, ip: str) -> AddressItem | None:
        owner = self._addresses.owner(ip)
        if owner is None:
            return None
        if owner.kind == "Node":
            return AddressItem(ip, KUBE_APISERVER if ip in self._api_servers else REMOTE_NODE, owner.name)
        key = f"{owner.namespace}/{owner.name}"
        number = self._identities.get(key, {}).get(ip)
        if number is None:
            return None
        pod = self._catalog.pods[key]
        return AddressItem(ip, number, pod.node, key, named_ports(pod), *_workload(pod))

    def endpoint(self, key: str) -> tuple[str, EndpointItem] | None:
        """With the node that it is on. None: not placed, or no workload of ours. Its identity is that of its
        first address."""
        pod = self._catalog.pods.get(key)
        identities = self._identities.get(key)
        if pod is None or not pod.node or not identities:
            return None
        number = next(iter(identities.values()))
        return pod.node, EndpointItem(
            pod.namespace, pod.name, tuple(identities), number, named_ports(pod), *_workload(pod)
        )

    # what tells pods apart

    def _distinguish_by_labels(self, mentioned: frozenset[str]) -> None:
        if keys := mentioned ^ self._mentioned:
            pods = self._catalog.pods.items()
            self.pods.update(key for key, pod in pods if not keys.isdisjoint(pod.labels))
            self._mentioned = mentioned

    def _distinguish_by_prefix(self, networks: set[Network]) -> None:
        if changed := self._prefixes.networks ^ networks:
            concerned = Prefixes(changed)
            for key, pod in self._catalog.pods.items():
                if any(label for ip in pod.ips for label in concerned.labels(ip)):
                    self.pods.add(key)
            self._prefixes = Prefixes(networks)

    def _recognise_api_servers(self) -> None:
        """Among nodes; a pod keeps its identity, and what is outside is a matter of CIDRs (`peers`)."""
        servers = self._catalog.api_servers()
        self.touched |= servers ^ self._api_servers
        self._api_servers = servers

    # who has which address, and which identity

    def _claim(self) -> None:
        for name in self._nodes:
            node = self._catalog.nodes.get(name)
            claim = Claim(False, False, ObjectRef("Node", "", name))
            self.touched |= self._addresses.claim(claim, node.addresses if node else ())
        for key in self.pods:
            pod = self._catalog.pods.get(key)
            claim = Claim(True, pod is not None and not pod.ready, _pod_ref(key))
            self.touched |= self._addresses.claim(claim, pod.ips if pod and is_workload(pod) else ())
        for ref in {ref for ip in self.touched for ref in self._addresses.claimants(ip)}:
            key = f"{ref.namespace}/{ref.name}"
            if ref.kind == "Pod" and key not in self.pods:
                self.pods.add(key)
                self.touched.update(self._catalog.pods[key].ips)

    def _identify(self, key: str) -> None:
        self._starved.pop(key, None)
        pod = self._catalog.pods.get(key)
        if pod is None or not is_workload(pod):
            return
        taken: dict[str, int] = {}
        try:
            for ip, labels in self._labels(key, pod):
                taken[ip] = self._census.acquire(labels)
        except Exhausted as error:
            self._starved[key] = str(error)
            for number in taken.values():
                self._census.release(number)
        else:
            self._identities[key] = taken

    def _labels(self, key: str, pod: Pod) -> Iterable[tuple[str, Labels]]:
        ref = _pod_ref(key)
        base = pod_labels(pod, self._catalog.namespaces.get(pod.namespace), self._mentioned, CLUSTER_NAME)
        made: dict[tuple[Label, ...], Labels] = {}
        for ip in pod.ips:
            if self._addresses.owner(ip) == ref:
                extra = tuple(self._prefixes.labels(ip))
                if extra not in made:
                    made[extra] = Labels((*base, *extra))
                yield ip, made[extra]


def named_ports(pod: Pod) -> tuple[NamedPort, ...]:
    """In lower case, as policies name them (P3)."""
    return tuple(NamedPort(port.name.lower(), port.protocol, port.port) for port in pod.ports if port.name)


def _workload(pod: Pod) -> tuple[str, str]:
    return (pod.owner.kind, pod.owner.name) if pod.owner else ("", "")


def _pod_ref(key: str) -> ObjectRef:
    namespace, _, name = key.partition("/")
    return ObjectRef("Pod", namespace, name)
