"""Which hosts there are, and the services of those that ServiceEntries declare.

A host is a Kubernetes Service's, else a ServiceEntry's: where both declare it, the Service does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from weft.policies.catalog import Catalog
from weft.policies.mesh import entries
from weft.policies.mesh.bind import Mesh
from weft.policies.mesh.hosts import fqdn
from weft.policies.mesh.model import ServiceEntry, WorkloadEntry
from weft.policies.objects import Pod, Service
from weft.policies.snapshot import ServiceItem


class Services:
    """`mesh` is set once, by who makes both."""

    mesh: Mesh

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._addresses = entries.Addresses()
        self._keys: dict[str, str] = {}  # host -> service key, of Kubernetes Services
        self._entry_keys: dict[str, str] = {}  # host -> service key, of ServiceEntries, as last told
        self._hosts_of: dict[str, str] = {}  # and back
        self._fresh: set[str] = set()  # hosts of entries without their addresses yet

    def key_of(self, host: str) -> str:
        return self._keys.get(host) or self._entry_keys.get(host, "")

    def hosts(self) -> Iterable[str]:
        return {**self._entry_keys, **self._keys}

    def changed(self, key: str, before: Service | None, after: Service | None) -> None:
        """A Kubernetes Service came, changed or went."""
        namespace, _, name = key.partition("/")
        host = fqdn(name, namespace)
        if (before is None) != (after is None):
            self.mesh.hosts_changed([host])
        if after is None:
            self._keys.pop(host, None)
        else:
            self._keys[host] = key

    def touched(self, hosts: Iterable[str]) -> set[str]:
        """Keys of the services that ServiceEntries declare under these hosts, or did: to be made anew."""
        keys: set[str] = set()
        for host in hosts:
            entry = self.mesh.entry_of(host)
            before = self._entry_keys.pop(host, "")
            if before:
                keys.add(before)
                self._hosts_of.pop(before, None)
            if entry is None:
                self._addresses.release(host)
                continue
            key = f"{entry.ref.namespace}/{host}"
            self._entry_keys[host], self._hosts_of[key] = key, host
            keys.add(key)
            self._fresh.add(host)
        return keys

    def settle(self) -> None:
        """Gives addresses to hosts that are new, in the order of their names: who replays the same entries gives
        the same addresses."""
        for host in sorted(self._fresh):
            if host in self._entry_keys:
                self._addresses.of(host)
        self._fresh.clear()

    def of_entry(self, key: str) -> ServiceItem | None:
        host = self._hosts_of.get(key, "")
        entry = self.mesh.entry_of(host)
        if entry is None or host in self._keys:
            return None
        addresses = entry.addresses or self._addresses.of(host)
        return entries.service_item(entry, host, addresses, self._pods(entry), self._workloads(entry))

    def _pods(self, entry: ServiceEntry) -> Iterator[Pod]:
        if entry.selector:
            for pod in self._catalog.pods_with(entry.ref.namespace, dict(entry.selector)):
                if pod.ready and pod.ips:
                    yield pod

    def _workloads(self, entry: ServiceEntry) -> Iterator[WorkloadEntry]:
        """Nothing without a selector."""
        wanted = set(entry.selector)
        for workload in self.mesh.workloads.values() if wanted else ():
            same = workload.ref.namespace == entry.ref.namespace
            if same and wanted <= set(workload.endpoint.labels):
                yield workload
