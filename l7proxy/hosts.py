"""Which host and service port an address means: services by their own addresses, routed ones by their backends'.

A client that addressed a service means it, with routes or without. One that addressed a pod means the service
behind which it stands only where that has routes; else it means the pod. Of several, the authority picks; if it
names none of them, the first by name. If it names another service of the pod's, one without routes (a headless one
has no address to tell it by), it means the pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from weft.policies.mesh.hosts import CLUSTER_DOMAIN, fqdn, namespace_of
from weft.policies.mesh.model import HostRouting
from weft.policies.model import Protocol
from weft.policies.snapshot import ServiceItem

Meant = tuple[str, int]
NOBODY: Meant = ("", 0)
_TCP = (Protocol.TCP, Protocol.ANY)


class Hosts:
    def __init__(self) -> None:
        self._services: Mapping[str, ServiceItem] = {}
        self._routing: Mapping[str, HostRouting] = {}
        self._of_host: dict[str, ServiceItem] = {}
        self._of_ip: dict[str, list[ServiceItem]] = {}
        self._behind: dict[tuple[str, int], ServiceItem] = {}
        self._pods: dict[tuple[str, int], list[Meant]] | None = None
        self._met: dict[tuple[str, int], tuple[Meant, ...]] = {}

    def update(
        self, services: Mapping[str, ServiceItem], routing: Mapping[str, HostRouting], changed: Iterable[str]
    ) -> None:
        """`changed`: keys of services."""
        for key in changed:
            if old := self._services.get(key):
                self._remove(old)
            if new := services.get(key):
                self._add(new)
        self._services, self._routing = services, routing
        self._pods = None
        self._met.clear()

    def service(self, host: str) -> ServiceItem | None:
        return self._of_host.get(host)

    def behind(self, ip: str, port: int) -> ServiceItem | None:
        """A service that the endpoint stands behind, for whoever tells of requests: of several, any."""
        return self._behind.get((ip, port))

    def addressed(self, destination: tuple[str, int], authority: bytes) -> Meant:
        found = self._met.get(destination)
        if found is None:
            found = self._met[destination] = self._meant(*destination)
        if not found or (
            authority and destination[0] not in self._of_ip and self._elsewhere(destination, authority)
        ):
            return NOBODY
        return found[0] if len(found) == 1 else self._picked(found, authority)

    def _elsewhere(self, place: tuple[str, int], authority: bytes) -> bool:
        """Whether the authority names a service without routes that the pod stands behind, or the pod by it."""
        namespace = namespace_of(self._met[place][0][0])
        for host in _called(split_authority(authority)[0], namespace):
            service, routing = self._of_host.get(host), self._routing.get(host)
            if service is not None and (routing is None or not routing.routes) and place in _backends(service):
                return True
        return False

    def _meant(self, ip: str, port: int) -> tuple[Meant, ...]:
        services = self._of_ip.get(ip)
        if services is None:
            return tuple(self._routed_pods().get((ip, port), ()))
        return tuple(sorted((s.host, port) for s in services if any(p.port == port for p in s.ports)))

    def _picked(self, found: tuple[Meant, ...], authority: bytes) -> Meant:
        name, port = split_authority(authority)
        named = [meant for meant in found if name in self._names(meant[0])]
        return next((meant for meant in named if meant[1] == port), (named or found)[0])

    def _names(self, host: str) -> tuple[str, ...]:
        service = self._of_host.get(host)
        if service is None or service.type == "ServiceEntry":
            return (host,)
        short = f"{service.name}.{service.namespace}"
        return host, service.name, short, f"{short}.svc"

    def _routed_pods(self) -> dict[tuple[str, int], list[Meant]]:
        if self._pods is None:
            self._pods = {}
            for host in sorted(self._routing):
                service = self._of_host.get(host)
                if service is not None and self._routing[host].routes:
                    self._place(service, self._pods)
        return self._pods

    @staticmethod
    def _place(service: ServiceItem, pods: dict[tuple[str, int], list[Meant]]) -> None:
        for port in service.ports:
            if port.protocol in _TCP:
                for backend in port.backends:
                    pods.setdefault((backend.ip, backend.port), []).append((service.host, port.port))

    def _add(self, service: ServiceItem) -> None:
        self._of_host[service.host] = service
        for ip in service.cluster_ips:
            self._of_ip.setdefault(ip, []).append(service)
        for place in _backends(service):
            self._behind.setdefault(place, service)

    def _remove(self, service: ServiceItem) -> None:
        self._of_host.pop(service.host, None)
        for place in _backends(service):
            if self._behind.get(place) is service:
                del self._behind[place]
        for ip in service.cluster_ips:
            left = [other for other in self._of_ip.get(ip, ()) if other is not service]
            if left:
                self._of_ip[ip] = left
            else:
                self._of_ip.pop(ip, None)


def _backends(service: ServiceItem) -> set[tuple[str, int]]:
    return {(b.ip, b.port) for port in service.ports if port.protocol in _TCP for b in port.backends}


def _called(name: str, namespace: str) -> Iterator[str]:
    """The services that a name may mean to a client in that namespace; a pod is named by its service."""
    parts = name.removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc").split(".")
    if len(parts) == 1:
        yield fqdn(name, namespace)
    elif len(parts) == 2:
        yield fqdn(parts[0], parts[1])
        yield fqdn(parts[1], namespace)
    elif len(parts) == 3:
        yield fqdn(parts[1], parts[2])


def split_authority(authority: bytes) -> tuple[str, int]:
    """`orders:80` -> ("orders", 80); port 0: none given. Lower case, without a trailing dot."""
    text = authority.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        name, port = text, ""
    return name.rstrip("."), int(port[:5] or 0) if port else 0
