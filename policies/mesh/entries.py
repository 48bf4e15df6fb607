"""ServiceEntries: each of their hosts becomes a service of the snapshot, with an address of its own.

1. A host has the addresses that its entry names; else one from 240.240.0.0/16 and one from the ULA prefix below,
   which Weft's DNS answers with. Where a host stands in that range is told by its name, so that operators agree
   and a restart changes nothing; of two names that fall on one place, the later one takes the next that is free.
2. Endpoints that are addresses are backends; those that are names are looked up by the proxy (`HostRouting.entry`).
3. What cannot be reached through an address is not in force, and says why: wildcard hosts, prefixes as addresses,
   resolution NONE without addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from weft.policies.mesh.hosts import is_address, is_wildcard
from weft.policies.mesh.model import EntryEndpoint, EntryPort, Resolution, ServiceEntry, WorkloadEntry
from weft.policies.model import Protocol
from weft.policies.objects import Pod
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

TYPE = "ServiceEntry"
_FIRST4, _FIRST6 = int(IPv4Address("240.240.0.0")), int(IPv6Address("fd00:240:240::"))
_PLACES = 65534


class Addresses:
    """Places in the two ranges. A host keeps its place as long as it is not released."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._owner: dict[int, str] = {}

    def of(self, host: str) -> tuple[str, str]:
        place = self._place.get(host)
        if place is None:
            place = self._free(host)
            self._place[host], self._owner[place] = place, host
        return str(IPv4Address(_FIRST4 + place)), str(IPv6Address(_FIRST6 + place))

    def release(self, host: str) -> None:
        place = self._place.pop(host, None)
        if place is not None:
            del self._owner[place]

    def _free(self, host: str) -> int:
        start = int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest())
        places = (1 + (start + step) % _PLACES for step in range(_PLACES))
        return next(place for place in places if place not in self._owner)


def problem(entry: ServiceEntry, host: str) -> str:
    """Why this host of the entry is not in force; "": it is."""
    if is_wildcard(host):
        return f"host {host}: a wildcard has no address that could be answered"
    prefixes = [address for address in entry.addresses if "/" in address]
    if prefixes:
        return f"host {host}: prefixes as addresses are not served ({', '.join(prefixes)})"
    if not entry.addresses and entry.resolution is Resolution.NONE:
        return f"host {host}: resolution NONE needs addresses, for the connection's own address is its destination"
    return ""


def service_item(
    entry: ServiceEntry,
    host: str,
    addresses: tuple[str, ...],
    pods: Iterable[Pod],
    workloads: Iterable[WorkloadEntry],
) -> ServiceItem:
    """`pods`, `workloads`: those that `entry.selector` means, ready ones."""
    chosen, endpoints = list(pods), [*entry.endpoints, *(workload.endpoint for workload in workloads)]
    ports = tuple(_port(port, chosen, endpoints) for port in entry.ports)
    return ServiceItem(entry.ref.namespace, host, TYPE, addresses, ports)


def _port(port: EntryPort, pods: list[Pod], endpoints: list[EntryEndpoint]) -> ServicePortItem:
    backends = tuple(_backends(port, pods, endpoints))
    return ServicePortItem(port.name, Protocol.TCP, port.number, 0, port.protocol.lower(), backends)


def _backends(port: EntryPort, pods: list[Pod], endpoints: list[EntryEndpoint]) -> Iterator[BackendItem]:
    target = port.target_port or port.number
    for pod in pods:
        for ip in pod.ips:
            yield BackendItem(ip, target, pod.node, f"{pod.namespace}/{pod.name}")
    for endpoint in endpoints:
        if is_address(endpoint.address):
            yield _backend(endpoint, dict(endpoint.ports).get(port.name, target))


def _backend(endpoint: EntryEndpoint, port: int) -> BackendItem:
    ip = str(ip_address(endpoint.address))
    return BackendItem(ip, port, "", "", endpoint.labels, endpoint.locality, endpoint.weight)
