"""Declared routing resources in, `HostRouting` for each host out. Pure and incremental, as `cluster.Cluster` is.

`put`, `remove` and `hosts_changed` only note which hosts may now be routed differently; `settle` composes those
again. A host is routed if it exists (a Service or a ServiceEntry declares it) and somebody says something of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from weft.policies.mesh import entries
from weft.policies.mesh.compose import Notes, Surroundings, compose, subsets_of
from weft.policies.mesh.hosts import covers, is_wildcard
from weft.policies.mesh.model import (
    Declared,
    DestinationPolicy,
    HostRouting,
    MeshSettings,
    ReferenceGrant,
    Route,
    RouteGroup,
    Rule,
    ServiceEntry,
    Telemetry,
    WorkloadEntry,
)
from weft.policies.model import ObjectRef

SETTINGS = "mesh"
H = TypeVar("H", bound=Route | DestinationPolicy)


class Mesh:
    """`known`: host -> key of its service, "" where there is none. Hosts of ServiceEntries are `entries`'."""

    def __init__(self, known: Callable[[str], str], every_host: Callable[[], Iterable[str]]) -> None:
        self.routing: dict[str, HostRouting] = {}
        self.telemetry: dict[str, Telemetry] = {}
        self.settings: dict[str, MeshSettings] = {}
        self.entries: dict[ObjectRef, ServiceEntry] = {}
        self.workloads: dict[ObjectRef, WorkloadEntry] = {}
        self._known, self._every_host = known, every_host
        self._things: dict[ObjectRef, Declared] = {}
        self._routes: _ByHost[Route] = _ByHost()
        self._policies: _ByHost[DestinationPolicy] = _ByHost()
        self._delegates: dict[str, Route] = {}
        self._groups: dict[str, RouteGroup] = {}
        self._grants: dict[ObjectRef, ReferenceGrant] = {}
        self._entry_of: dict[str, ServiceEntry] = {}
        self._dirty: set[str] = set()
        self._notes: dict[str, Notes] = {}

    # what is declared

    def put(self, thing: Declared) -> set[str]:
        """The hosts that a ServiceEntry gave up or declares now: they are services of the snapshot."""
        touched = self.remove(thing.ref) if thing.ref in self._things else set()
        self._things[thing.ref] = thing
        return touched | self._index(thing)

    def remove(self, ref: ObjectRef) -> set[str]:
        thing = self._things.pop(ref, None)
        return self._unindex(thing) if thing is not None else set()

    def holds(self, ref: ObjectRef) -> bool:
        return ref in self._things

    def hosts_changed(self, hosts: Iterable[str]) -> None:
        """They came or went."""
        self._dirty.update(hosts)

    def entry_hosts(self) -> Iterable[str]:
        return self._entry_of

    def entry_of(self, host: str) -> ServiceEntry | None:
        return self._entry_of.get(host)

    # what comes of it

    def settle(self) -> dict[str, HostRouting | None]:
        """The routing of each host that may have changed since the last call; None: nothing is said of it."""
        dirty, self._dirty = self._dirty, set()
        return {host: self._compose(host) for host in sorted(dirty)}

    def mentioned(self) -> Iterator[str]:
        """Label keys that routing in force tells workloads apart by."""
        for thing in self._things.values():
            if isinstance(thing, DestinationPolicy):
                yield from (key for subset in thing.subsets for key, _ in subset.labels)
                yield from (key for key, _ in thing.selector)
            elif isinstance(thing, Route):
                matches = (match for rule in thing.http for match in rule.matches)
                yield from (key for match in matches for key, _ in match.source_labels)

    def problems(self) -> dict[ObjectRef, str]:
        """What is not in force, wholly or in part, and why; the first reason of each object."""
        found: dict[ObjectRef, str] = {}
        for notes in self._notes.values():
            for ref, reason in notes.items():
                found.setdefault(ref, reason)
        for entry in self.entries.values():
            reasons = (entries.problem(entry, host) or self._declared_by(entry, host) for host in entry.hosts)
            reason = next(filter(None, reasons), "")
            if reason:
                found.setdefault(entry.ref, reason)
        return found

    def warnings(self) -> dict[ObjectRef, str]:
        """What is in force and leads nowhere, as far as can be told now."""
        found: dict[ObjectRef, str] = {}
        for thing in self._things.values():
            reason = ""
            if isinstance(thing, Route):
                reason = self._nowhere(thing)
            elif (
                isinstance(thing, DestinationPolicy) and not is_wildcard(thing.host) and not self._known(thing.host)
            ):
                reason = f"host {thing.host}: there is no such service"
            if reason:
                found[thing.ref] = reason
        return found

    # indexes

    def _index(self, thing: Declared) -> set[str]:
        match thing:
            case Route():
                self._dirty |= self._routes.add(thing, thing.hosts, self._every_host)
                if not thing.hosts:
                    self._delegates[_key(thing.ref)] = thing
                    self._dirty |= self._parents_of(thing.ref)
            case DestinationPolicy():
                self._dirty |= self._policies.add(thing, (thing.host,), self._every_host)
            case ServiceEntry():
                self.entries[thing.ref] = thing
                return self._claim(thing.hosts)
            case WorkloadEntry():
                self.workloads[thing.ref] = thing
                return self.selecting(thing.ref.namespace)
            case RouteGroup():
                self._groups[_key(thing.ref)] = thing
                self._dirty |= self._routes.hosts_in(thing.ref.namespace, self._every_host)
            case ReferenceGrant():
                self._grants[thing.ref] = thing
                self._dirty.update(self.routing)
            case Telemetry():
                self.telemetry[_key(thing.ref)] = thing
            case MeshSettings():
                self.settings[SETTINGS] = thing
                self._dirty.update(self.routing)
        return set()

    def _unindex(self, thing: Declared) -> set[str]:
        match thing:
            case Route():
                self._dirty |= self._routes.discard(thing, thing.hosts, self._every_host)
                if self._delegates.pop(_key(thing.ref), None) is not None:
                    self._dirty |= self._parents_of(thing.ref)
            case DestinationPolicy():
                self._dirty |= self._policies.discard(thing, (thing.host,), self._every_host)
            case ServiceEntry():
                del self.entries[thing.ref]
                return self._claim(thing.hosts)
            case WorkloadEntry():
                del self.workloads[thing.ref]
                return self.selecting(thing.ref.namespace)
            case RouteGroup():
                del self._groups[_key(thing.ref)]
                self._dirty |= self._routes.hosts_in(thing.ref.namespace, self._every_host)
            case ReferenceGrant():
                del self._grants[thing.ref]
                self._dirty.update(self.routing)
            case Telemetry():
                del self.telemetry[_key(thing.ref)]
            case MeshSettings():
                del self.settings[SETTINGS]
                self._dirty.update(self.routing)
        return set()

    def _claim(self, hosts: Iterable[str]) -> set[str]:
        """Of several entries for a host the oldest declares it."""
        for host in hosts:
            claims = [entry for entry in self.entries.values() if host in entry.hosts]
            claims.sort(key=lambda entry: (entry.created or "9999", entry.ref))
            self._entry_of.pop(host, None)
            if claims and not entries.problem(claims[0], host):
                self._entry_of[host] = claims[0]
        self._dirty.update(hosts)
        return set(hosts)

    def selecting(self, namespace: str) -> set[str]:
        """Hosts whose endpoints are chosen by label in the namespace."""
        return {
            host for host, entry in self._entry_of.items() if entry.selector and entry.ref.namespace == namespace
        }

    def _parents_of(self, child: ObjectRef) -> set[str]:
        parents = self._routes.those(lambda route: any(rule.delegate == _key(child) for rule in route.http))
        return {host for route in parents for host in self._routes.hosts(route.hosts, self._every_host)}

    # composing

    def _compose(self, host: str) -> HostRouting | None:
        self.routing.pop(host, None)
        self._notes.pop(host, None)
        service = self._known(host)
        if not service:
            return None
        entry = self._entry_of.get(host)
        routes, policies = self._routes.of(host), self._policies.of(host)
        if not routes and not policies and entry is None:
            return None
        routing, notes = compose(host, service, routes, policies, entry, self._surroundings())
        self.routing[host] = routing
        if notes:
            self._notes[host] = notes
        return routing

    def _surroundings(self) -> Surroundings:
        root = self.settings.get(SETTINGS, MeshSettings()).root_namespace
        return Surroundings(self._delegates.get, self._groups.get, self._permitted, root)

    def _permitted(self, source: tuple[str, str], host: str) -> bool:
        name, namespace = host.split(".")[:2]
        return any(
            source in grant.sources
            and any(target in (("Service", name), ("Service", "")) for target in grant.targets)
            for grant in self._grants.values()
            if grant.ref.namespace == namespace
        )

    # what people should know

    def _declared_by(self, entry: ServiceEntry, host: str) -> str:
        other = self._entry_of.get(host)
        return f"Conflicted: {other.ref} declares {host} already" if other and other.ref != entry.ref else ""

    def _nowhere(self, route: Route) -> str:
        unknown = [host for host in route.hosts if not is_wildcard(host) and not self._known(host)]
        if unknown:
            return f"host {unknown[0]}: there is no such service, so nothing is routed for it"
        for rule in route.http:
            reason = self._missing(rule)
            if reason:
                return f"{rule.origin.path}: {reason}"
        return ""

    def _missing(self, rule: Rule) -> str:
        for destination in rule.destinations:
            if not self._known(destination.host):
                return f"there is no service {destination.host}: requests get {destination.missing}"
            subset = destination.subset
            if subset and subset not in subsets_of(self.routing.get(destination.host)):
                return f"no DestinationRule gives {destination.host} a subset {subset}: requests get 503"
        return ""


class _ByHost(Generic[H]):
    """Objects by the hosts that they name; wildcards apart."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[ObjectRef, H]] = {}
        self._wildcards: dict[str, dict[ObjectRef, H]] = {}

    def add(self, thing: H, patterns: Iterable[str], every_host: Callable[[], Iterable[str]]) -> set[str]:
        """The hosts that this concerns."""
        for pattern in patterns:
            self._shelf(pattern).setdefault(pattern, {})[thing.ref] = thing
        return self.hosts(patterns, every_host)

    def discard(self, thing: H, patterns: Iterable[str], every_host: Callable[[], Iterable[str]]) -> set[str]:
        for pattern in patterns:
            shelf = self._shelf(pattern)
            things = shelf.get(pattern, {})
            things.pop(thing.ref, None)
            if not things:
                shelf.pop(pattern, None)
        return self.hosts(patterns, every_host)

    def of(self, host: str) -> list[H]:
        found = dict(self._exact.get(host, {}))
        for pattern, things in self._wildcards.items():
            if covers(pattern, host):
                found.update(things)
        return [found[ref] for ref in sorted(found)]

    def those(self, wanted: Callable[[H], bool]) -> list[H]:
        shelves = (*self._exact.values(), *self._wildcards.values())
        return [thing for things in shelves for thing in things.values() if wanted(thing)]

    def hosts(self, patterns: Iterable[str], every_host: Callable[[], Iterable[str]]) -> set[str]:
        found = {pattern for pattern in patterns if not is_wildcard(pattern)}
        wild = [pattern for pattern in patterns if is_wildcard(pattern)]
        if wild:
            found |= {host for host in every_host() if any(covers(pattern, host) for pattern in wild)}
        return found

    def hosts_in(self, namespace: str, every_host: Callable[[], Iterable[str]]) -> set[str]:
        """Those that objects of the namespace speak of."""
        shelves = (*self._exact.items(), *self._wildcards.items())
        patterns = {pattern for pattern, things in shelves if any(ref.namespace == namespace for ref in things)}
        return self.hosts(patterns, every_host)

    def _shelf(self, pattern: str) -> dict[str, dict[ObjectRef, H]]:
        return self._wildcards if is_wildcard(pattern) else self._exact


def _key(ref: ObjectRef) -> str:
    return f"{ref.namespace}/{ref.name}"
