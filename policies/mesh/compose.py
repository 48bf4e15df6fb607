"""All that is declared for one host -> `HostRouting`, and what of it is not in force.

Routes, in the order in which they are asked:
1. dialects: Gateway API, then Istio, then SMI; what stands behind one that is for the same clients is Conflicted;
2. inside Gateway API: consumer routes (for the clients of one namespace) before producer routes; the routes for the
   same clients are one, their rules in the order of `precedence`;
3. inside Istio: an exact host before a wildcard, the longer wildcard first, then the older; the first that is for a
   client is the only one for it;
4. inside SMI: the older.

Policies (DestinationRules): those of the client's namespace, of the service's, of the mesh's root namespace; in one
namespace those for chosen workloads first, then exact hosts before wildcards, then the older. Several for one host
in one namespace are one: the oldest one's policy, the subsets of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from weft.policies.mesh.delegates import inlined
from weft.policies.mesh.hosts import namespace_of, specificity
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    RequestMatch,
    Route,
    RouteGroup,
    Rule,
    ServiceEntry,
)
from weft.policies.mesh.precedence import merged
from weft.policies.model import ObjectRef

Notes = dict[ObjectRef, str]
_LAST = "9999"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What other objects say. `delegate`: "ns/name" -> the VirtualService without hosts. `group`: "ns/name" ->
    SMI's HTTPRouteGroup. `permits`: whether (kind, namespace) of a route may name a host of another
    namespace."""

    delegate: Callable[[str], Route | None]
    group: Callable[[str], RouteGroup | None]
    permits: Callable[[tuple[str, str], str], bool]
    root: str = "istio-system"


def compose(
    host: str,
    service: str,
    routes: Iterable[Route],
    policies: Iterable[DestinationPolicy],
    entry: ServiceEntry | None,
    around: Surroundings,
) -> tuple[HostRouting, Notes]:
    notes: Notes = {}
    ordered = _ordered(list(routes), host, notes)
    bound = tuple(_bound(route, around, notes) for route in ordered)
    own = entry.ref.namespace if entry is not None else namespace_of(host)
    return HostRouting(host, service, bound, _policies(list(policies), host, own, around.root), entry), notes


# routes


def _ordered(routes: list[Route], host: str, notes: Notes) -> list[Route]:
    gateway = [_attached(route, host) for route in routes if route.dialect is Dialect.GATEWAY]
    istio = sorted((r for r in routes if r.dialect is Dialect.ISTIO), key=lambda r: _istio_place(r, host))
    smi = sorted((r for r in routes if r.dialect is Dialect.SMI), key=_age)
    kept: list[Route] = []
    for route in [*_gateway(gateway), *istio, *smi]:
        before = next((other for other in kept if _leaves_nothing(other, route)), None)
        if before is None:
            kept.append(route)
        elif host in route.hosts:
            notes[route.ref] = f"Conflicted: {before.ref} speaks for {host} already"
    return kept


def _attached(route: Route, host: str) -> Route:
    """A route of the service's own namespace is for all clients, of another for the clients of that one."""
    if not route.parents:
        return route
    ports = {port for parent, port in route.parents if parent == host}
    clients = None if namespace_of(host) == route.ref.namespace else (route.ref.namespace,)
    return msgspec.structs.replace(
        route, clients=clients, ports=() if 0 in ports else tuple(sorted(ports)), parents=()
    )


def _leaves_nothing(first: Route, second: Route) -> bool:
    """Whether every client that `second` is for has `first`."""
    if first.ports:
        return False
    return first.clients is None or (second.clients is not None and set(second.clients) <= set(first.clients))


def _gateway(routes: list[Route]) -> list[Route]:
    """One for each set of clients; consumers before producers."""
    groups: dict[tuple[str, ...] | None, list[Route]] = {}
    for route in sorted(routes, key=_age):
        groups.setdefault(route.clients, []).append(route)
    found = []
    for clients in sorted(groups, key=lambda clients: (clients is None, clients or ())):
        group = groups[clients]
        ports = (
            () if any(not route.ports for route in group) else tuple(sorted({p for r in group for p in r.ports}))
        )
        grpc = all(route.grpc for route in group)
        found.append(msgspec.structs.replace(group[0], http=merged(group), ports=ports, grpc=grpc))
    return found


def _istio_place(route: Route, host: str) -> tuple[bool, int, tuple[str, str, str]]:
    exact, length = max(specificity(pattern) for pattern in route.hosts)
    return not (exact and host in route.hosts), -length, _age(route)


def _age(thing: Route | DestinationPolicy) -> tuple[str, str, str]:
    return thing.created or _LAST, thing.ref.namespace, thing.ref.name


# what the rules of a route name


def _bound(route: Route, around: Surroundings, notes: Notes) -> Route:
    rules = tuple(_rules(route, around, notes))
    return msgspec.structs.replace(route, http=rules, warnings=())


def _rules(route: Route, around: Surroundings, notes: Notes) -> Iterable[Rule]:
    for rule in route.http:
        if rule.delegate and around.delegate(rule.delegate) is None:
            notes[route.ref] = f"{rule.origin.path}: delegates to {rule.delegate}, which is not there"
    for rule in inlined(route.http, around.delegate):
        if rule.groups:
            rule = _with_groups(rule, around, notes, route.ref)
        if route.dialect is Dialect.GATEWAY:
            rule = _granted(rule, around)
        yield rule


def _with_groups(rule: Rule, around: Surroundings, notes: Notes, ref: ObjectRef) -> Rule:
    matches: list[RequestMatch] = []
    for name, match in rule.groups:
        group = around.group(f"{rule.origin.namespace}/{name}")
        if group is None:
            notes[ref] = f"{rule.origin.path}: there is no HTTPRouteGroup {rule.origin.namespace}/{name}"
            continue
        matches += [each for each in group.matches if match in ("", each.name)]
    # Groups that match nothing leave nothing to route: never "every request".
    return msgspec.structs.replace(rule, matches=tuple(matches) or (NOTHING,), groups=())


#: A port that no service has.
NOTHING = RequestMatch(port=-1)


def _granted(rule: Rule, around: Surroundings) -> Rule:
    source = (rule.origin.kind, rule.origin.namespace)
    destinations = tuple(_checked(d, source, around) for d in rule.destinations)
    mirrors = tuple(
        msgspec.structs.replace(m, destination=_checked(m.destination, source, around)) for m in rule.mirrors
    )
    return msgspec.structs.replace(rule, destinations=destinations, mirrors=mirrors)


def _checked(destination: Destination, source: tuple[str, str], around: Surroundings) -> Destination:
    namespace = namespace_of(destination.host)
    if destination.refused or namespace in ("", source[1]) or around.permits(source, destination.host):
        return destination
    return msgspec.structs.replace(destination, refused=f"RefNotPermitted: no ReferenceGrant in {namespace}")


# policies


def _policies(policies: list[DestinationPolicy], host: str, own: str, root: str) -> tuple[DestinationPolicy, ...]:
    placed = sorted(policies, key=lambda policy: (not policy.selector, policy.host != host, *_age(policy)))
    theirs = [_for_clients_of(policy) for policy in placed if policy.ref.namespace != own]
    levels = [
        [policy for policy in theirs if policy is not None],
        [policy for policy in placed if policy.ref.namespace == own],
        [policy for policy in placed if policy.ref.namespace == root != own],
    ]
    return tuple(policy for level in levels for policy in _joined(level))


def _for_clients_of(policy: DestinationPolicy) -> DestinationPolicy | None:
    """As the clients of its own namespace see it."""
    namespace = policy.ref.namespace
    if policy.clients is not None and namespace not in policy.clients:
        return None
    return msgspec.structs.replace(policy, clients=(namespace,))


def _joined(level: list[DestinationPolicy]) -> list[DestinationPolicy]:
    """Several of one namespace for the same host and clients are one."""
    found: dict[tuple[object, ...], DestinationPolicy] = {}
    for policy in level:
        key = (policy.ref.namespace, policy.host, policy.clients, policy.selector)
        first = found.get(key)
        if first is None:
            found[key] = policy
        else:
            known = {subset.name for subset in first.subsets}
            more = tuple(subset for subset in policy.subsets if subset.name not in known)
            found[key] = msgspec.structs.replace(first, subsets=first.subsets + more)
    return list(found.values())


def subsets_of(routing: HostRouting | None) -> Mapping[str, None]:
    """The names of all subsets that somebody defines for the host."""
    return {s.name: None for policy in (routing.policies if routing else ()) for s in policy.subsets}
