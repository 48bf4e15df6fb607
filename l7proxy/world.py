"""The snapshot in force, as the exchange asks it: `parties.World`.

In: updates of the daemon's feed. Out: who has an address, which host was meant, what is declared for it, what
policy says. Answers are made when they are first asked for and forgotten when what they rest on changes: a snapshot
of 5,000 pods and 1,000 policies costs what it holds and little more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from weft.l7proxy.core.parties import Permit, Workload
from weft.l7proxy.hosts import Hosts
from weft.l7proxy.permits import Permits
from weft.l7proxy.refusals import Refusals
from weft.policies import delta, identity, l7
from weft.policies.labels import SERVICE_ACCOUNT_KEY, Labels
from weft.policies.mesh.model import HostRouting, MeshSettings
from weft.policies.snapshot import AddressItem, ClusterPart, NodePart, ServiceItem, Snapshot

#: Addresses outside the cluster that are remembered.
REMEMBERED = 20_000
_DERIVED = ("io.kubernetes.", "io.cilium.")


@dataclass(frozen=True, slots=True)
class Changed:
    """What an update changed, for those that keep something made of it. `hosts`: routing, ports or backends."""

    hosts: frozenset[str]
    addresses: frozenset[str]
    settings: bool
    telemetry: bool
    policies: bool
    permits: bool  # may be others, also between addresses that did not change


class SnapshotWorld:
    def __init__(self) -> None:
        self.node = ""
        self.settings = MeshSettings()
        self.generation = object()
        self.snapshot = Snapshot(0, "", ClusterPart(), NodePart())
        self.refusals = Refusals()
        self._own: frozenset[str] = frozenset()
        self._permits = Permits()
        self._hosts = Hosts()
        self._workloads: dict[str, Workload] = {}
        self._outside: dict[str, Workload] = {}
        self._labels: dict[int, tuple[Mapping[str, str], str]] = {}  # by identity, with the service account

    @property
    def revision(self) -> int:
        return self.snapshot.revision

    def place(self, node: str, addresses: Iterable[str]) -> None:
        """Which node this is, and its addresses."""
        self.node, self._own = node, frozenset(addresses)
        self.generation = object()
        self._workloads.clear()
        self._outside.clear()

    def update(self, update: delta.Update) -> Changed:
        """Raises `delta.OutOfOrder`. What cannot be taken is in `refusals`; the rest is in force."""
        self.generation = object()  # whatever becomes of it
        held = self.snapshot
        try:
            return self._update(held, update)
        except Exception:
            self.snapshot = held  # so that the next one is taken in whole, with all that is missing of this
            raise

    def _update(self, held: Snapshot, update: delta.Update) -> Changed:
        new = delta.apply(held if held.revision else None, update, self.node)
        change = delta.between(held.cluster, new.cluster) if update.full else update.cluster
        cluster = self._acceptable(new.cluster, change)
        self.snapshot = replace(new, cluster=cluster)
        self.settings = cluster.settings.get("mesh", MeshSettings())
        hosts = self._touched_hosts(held.cluster, cluster, change)
        services = change.services.keys() | change.services_gone
        self._hosts.update(cluster.services, cluster.routing, services)
        ips = change.addresses.keys() | change.addresses_gone
        refs = change.policies.keys() | change.policies_gone
        self._forget(change, ips, self._permits.update(cluster.policies, cluster.addresses, refs, ips))
        settings = bool(change.settings or change.settings_gone)
        telemetry = bool(change.telemetry or change.telemetry_gone)
        return Changed(hosts, frozenset(ips), settings, telemetry, bool(refs), self._permits.unsettled)

    # parties.World

    def workload(self, ip: str) -> Workload:
        found = self._workloads.get(ip) or self._outside.get(ip)
        return found if found is not None else self._recognise(ip)

    def twin(self, ip: str) -> str:
        """The address of the other family that the same pod has; "": none."""
        addresses = self.snapshot.cluster.addresses
        item, six = addresses.get(ip), ":" in ip
        if item is None or not item.pod:
            return ""
        return next((o.ip for o in addresses.values() if o.pod == item.pod and (":" in o.ip) is not six), "")

    def addressed(self, destination: tuple[str, int], authority: bytes = b"") -> tuple[str, int]:
        return self._hosts.addressed(destination, authority)

    def routing(self, host: str) -> HostRouting | None:
        return self.snapshot.cluster.routing.get(host)

    def service(self, host: str) -> ServiceItem | None:
        return self._hosts.service(host)

    def behind(self, ip: str, port: int) -> ServiceItem | None:
        """The service that an endpoint stands behind, for who tells of it."""
        return self._hosts.behind(ip, port)

    def service_key(self, host: str) -> str:
        service = self._hosts.service(host)
        return service.key if service else ""

    def permit(self, client: Workload, server: Workload, port: int) -> Permit:
        return self._permits.permit(client, server, port)

    def judge(self, limits: l7.HttpLimits, request: l7.Request) -> l7.HttpAnswer:
        return l7.judge(limits, request)

    # what an update means

    def _acceptable(self, cluster: ClusterPart, change: delta.ClusterDelta) -> ClusterPart:
        held = self.snapshot.cluster
        routing = {
            host: self.refusals.routing(item, held.routing.get(host)) for host, item in change.routing.items()
        }
        policies = {
            ref: self.refusals.policy(item, held.policies.get(ref)) for ref, item in change.policies.items()
        }
        for key in (*change.routing_gone, *change.policies_gone):
            self.refusals.forget(key)
        return replace(
            cluster,
            routing={**cluster.routing, **routing} if routing else cluster.routing,
            policies={**cluster.policies, **policies} if policies else cluster.policies,
        )

    def _touched_hosts(self, held: ClusterPart, new: ClusterPart, change: delta.ClusterDelta) -> frozenset[str]:
        hosts = set(change.routing) | change.routing_gone
        for key in (*change.services, *change.services_gone):
            hosts.update(part.services[key].host for part in (held, new) if key in part.services)
        if change.nodes or change.nodes_gone:  # their localities
            return frozenset(hosts.union(service.host for service in new.services.values()))
        moved = {ip for ip, item in change.addresses.items() if _elsewhere(held.addresses.get(ip), item)}
        if moved:
            hosts.update(
                s.host for s in new.services.values() if any(b.ip in moved for p in s.ports for b in p.backends)
            )
        return frozenset(hosts)

    def _forget(self, change: delta.ClusterDelta, ips: Iterable[str], renumbered: bool) -> None:
        changed_labels = change.identities.keys() | change.identities_gone
        if not changed_labels.isdisjoint(self._labels) or change.nodes or change.nodes_gone:
            self._workloads.clear()
        for number in changed_labels:
            self._labels.pop(number, None)
        if renumbered:
            self._outside.clear()
        for ip in ips:
            self._workloads.pop(ip, None)
            self._outside.pop(ip, None)

    # who has an address

    def _recognise(self, ip: str) -> Workload:
        item = self.snapshot.cluster.addresses.get(ip)
        if item is not None and item.pod:
            found = self._workloads[ip] = self._pod(item)
            return found
        if len(self._outside) >= REMEMBERED:
            self._outside.clear()
        found = self._outside[ip] = self._other(ip, item)
        return found

    def _pod(self, item: AddressItem) -> Workload:
        namespace, _, pod = item.pod.partition("/")
        labels, account = self._identity_labels(item.identity)
        return Workload(
            item.ip,
            item.identity,
            namespace,
            pod,
            labels,
            item.workload_kind,
            item.workload_name,
            account,
            item.node,
            item.node == self.node,
            self._locality(item.node),
        )

    def _other(self, ip: str, item: AddressItem | None) -> Workload:
        if ip in self._own:  # as a client somebody from outside, masqueraded, whom we do not route
            return Workload(ip, identity.HOST, node=self.node, locality=self._locality(self.node))
        if item is None and ip_address(ip).is_loopback:
            return Workload(ip, identity.HOST, node=self.node, local=True, locality=self._locality(self.node))
        if item is not None:
            return Workload(ip, item.identity, node=item.node, locality=self._locality(item.node))
        return Workload(ip, self._permits.cidrs.lookup(ip))

    def _locality(self, node: str) -> str:
        item = self.snapshot.cluster.nodes.get(node)
        return item.locality if item else ""

    def _identity_labels(self, number: int) -> tuple[Mapping[str, str], str]:
        """One mapping for all pods of an identity."""
        if number not in self._labels:
            item = self.snapshot.cluster.identities.get(number)
            labels = item.labels if item else Labels(())
            own = {x.key: x.value for x in labels if x.source == "k8s" and not x.key.startswith(_DERIVED)}
            self._labels[number] = own, labels.get(SERVICE_ACCOUNT_KEY) or ""
        return self._labels[number]


def _elsewhere(before: AddressItem | None, after: AddressItem) -> bool:
    """Whether the address stands for another workload, in the eyes of a cluster of endpoints."""
    return before is None or (before.identity, before.node, before.pod) != (after.identity, after.node, after.pod)
