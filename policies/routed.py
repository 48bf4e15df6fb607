"""Where routes send what is addressed to a Service: the same choice as the proxy's, made offline.

In: a World, a client, the Service and port that it addresses, perhaps a request. Out: the destinations that the
rule in charge may send it to, each with its ready backends, or what the proxy answers itself. Without a request it
is every rule that could be in charge: the connection goes to the proxy, whatever is sent on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weft.policies.l7 import Request
from weft.policies.mesh.choose import Asked, Chooser
from weft.policies.mesh.model import Destination, HostRouting, Origin, Rule, Subset
from weft.policies.snapshot import BackendItem, EndpointItem, ServiceItem, ServicePortItem
from weft.policies.world import Party, World


@dataclass(frozen=True, slots=True)
class Client:
    """`matching.Client`: whom routes tell apart."""

    namespace: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One destination. `backends` empty: `why` says what a request gets."""

    destination: Destination
    backends: tuple[BackendItem, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """`origin` None: no route is for this client; then `targets` is empty, too, and the Service's own backends are
    meant. `answer`: what the proxy answers by itself, with its status; "": it sends the request on."""

    origin: Origin | None = None
    targets: tuple[Target, ...] = ()
    answer: str = ""
    status: int = 0

    def __str__(self) -> str:
        if self.origin is None:
            return "the proxy, and no route is for this client"
        if self.answer:
            return f"{self.origin}: {self.answer}"
        total = sum(target.destination.weight for target in self.targets)
        return f"{self.origin}: " + ", ".join(_named(target.destination, total) for target in self.targets)


def _named(destination: Destination, total: int) -> str:
    subset = f" subset {destination.subset}" if destination.subset else ""
    share = f" {100 * destination.weight / total:g} %" if total > destination.weight else ""
    return f"{destination.host}{subset}{share}"


class Router:
    """Follows routes in one World; remembers what it compiled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._choosers: dict[str, Chooser] = {}
        self._hosts = {service.host: service for service in world.part.services.values()}

    def follow(self, start: Party, service: ServiceItem, port: int, request: Request | None) -> Routed | None:
        """None: nothing is declared for the Service, so the kernel carries it."""
        routing = self._world.part.routing.get(service.host)
        if routing is None or not routing.needs_proxy:
            return None
        client = self._client(start.endpoint)
        if request is None:
            rules = self._rules(routing, client, port)
            return self._targets(rules, port, client) if rules else Routed()
        authority = request.host.encode() or service.host.encode()
        chosen = self._chooser(routing).rule(_asked(request), client, authority, port)
        if chosen is None:
            return Routed()
        if chosen.rule is None:
            ref = chosen.route.ref
            origin = Origin(ref.kind, ref.namespace, ref.name)
            return Routed(origin, (), "404, no rule of it matches", 404)
        return self._answered(chosen.rule) or self._targets([chosen.rule], port, client)

    def _chooser(self, routing: HostRouting) -> Chooser:
        found = self._choosers.get(routing.host)
        if found is None:
            found = self._choosers[routing.host] = Chooser(routing)
        return found

    def _client(self, endpoint: EndpointItem | None) -> Client:
        if endpoint is None:
            return Client("", {})
        item = self._world.part.identities.get(endpoint.identity)
        labels = {label.key: label.value for label in item.labels} if item is not None else {}
        return Client(endpoint.namespace, labels)

    def _rules(self, routing: HostRouting, client: Client, port: int) -> list[Rule]:
        for route in routing.routes:
            for_client = route.clients is None or client.namespace in route.clients
            if for_client and (not route.ports or port in route.ports):
                return list(route.http)
        return []

    @staticmethod
    def _answered(rule: Rule) -> Routed | None:
        if rule.redirect is not None:
            return Routed(rule.origin, (), f"{rule.redirect.status}, redirected", rule.redirect.status)
        if rule.direct is not None:
            return Routed(rule.origin, (), f"{rule.direct.status}, answered by the route", rule.direct.status)
        if not rule.destinations:
            return Routed(rule.origin, (), "500, it names no destination", 500)
        return None

    def _targets(self, rules: Iterable[Rule], port: int, client: Client) -> Routed:
        listed = [rule for rule in rules if rule.destinations]
        targets: dict[tuple[str, int, str], Target] = {}
        for rule in listed:
            only = len(rule.destinations) == 1
            for destination in rule.destinations:
                if destination.weight or only:
                    key = destination.host, destination.port, destination.subset
                    targets.setdefault(key, self._target(destination, port, client))
        origin = listed[0].origin if listed else None
        return Routed(origin, tuple(targets.values()))

    def _target(self, destination: Destination, port: int, client: Client) -> Target:
        service = self._hosts.get(destination.host)
        if destination.refused or service is None:
            why = destination.refused or f"there is no service {destination.host}"
            return Target(destination, (), f"{destination.missing}, {why}")
        item = _port_of(service, destination.port, port)
        if item is None:
            return Target(destination, (), f"{destination.missing}, {destination.host} has no such port")
        if not destination.subset:
            return Target(destination, item.backends, "" if item.backends else "503, no backend is ready")
        subset = self._subset(destination, client)
        if subset is None:
            return Target(destination, (), f"503, {destination.host} has no subset {destination.subset}")
        found = tuple(backend for backend in item.backends if self._is_in(subset, backend))
        return Target(destination, found, "" if found else f"503, nobody is in subset {destination.subset}")

    def _subset(self, destination: Destination, client: Client) -> Subset | None:
        routing = self._world.part.routing.get(destination.host)
        policy = self._chooser(routing).policy(client) if routing is not None else None
        subsets = policy.subsets if policy is not None else ()
        return next((subset for subset in subsets if subset.name == destination.subset), None)

    def _is_in(self, subset: Subset, backend: BackendItem) -> bool:
        labels = dict(backend.labels)
        item = self._world.part.addresses.get(backend.ip)
        identity = self._world.part.identities.get(item.identity) if item is not None else None
        if identity is not None:
            labels |= {label.key: label.value for label in identity.labels}
        return dict(subset.labels).items() <= labels.items()


def _asked(request: Request) -> Asked:
    headers = [(name.encode(), value.encode()) for name, values in request.headers.items() for value in values]
    return Asked(request.method.encode(), request.path.encode(), request.host.encode(), b"http", headers)


def _port_of(service: ServiceItem, wanted: int, addressed: int) -> ServicePortItem | None:
    """As the proxy does: the port that is named, else the one addressed, else the only one."""
    numbers = {item.port: item for item in service.ports}
    if wanted:
        return numbers.get(wanted)
    return numbers.get(addressed) or (service.ports[0] if len(service.ports) == 1 else None)
