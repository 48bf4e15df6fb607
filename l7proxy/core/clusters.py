"""All destinations, as all clients see them: `parties.Clusters`.

In: the world (services, routing, who has an address), a connector, names' addresses. Out: `ClientCluster`s.
Nothing is made before it is asked for, but names to look up; a change of the snapshot touches the hosts that it
names and no other. What nobody asked for lately is let go, so strangers' addresses and departed clients cost
nothing for long.

Three layers: `Destination` (host and port: endpoints and their load, of all clients), `Group` (clients that see the
same: ejections, turns, tables), `ClientCluster` (one client address: limits, connections).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from weft.bpf.shared import Private, Rows
from weft.l7proxy.core import levels
from weft.l7proxy.core.catalog import Catalog
from weft.l7proxy.core.circuit import Circuit
from weft.l7proxy.core.cluster import ClientCluster
from weft.l7proxy.core.endpoints import Backend, Destination, protocol
from weft.l7proxy.core.group import Group, Look
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.localities import place_of
from weft.l7proxy.core.parties import Workload, World
from weft.l7proxy.upstream.codecs import CODECS
from weft.l7proxy.upstream.connection import Connector, MakeCodec, Plumbing
from weft.l7proxy.upstream.names import Names, Resolve
from weft.policies.mesh.model import TrafficPolicy

PASSTHROUGH: Final = "PassthroughCluster"
#: Seconds between two looks at the same view: what was not asked for since the one before is let go.
FORGET: Final = 60.0
#: Views that are looked at in one second at least: letting one go takes 10 us.
_AT_ONCE: Final = 200
#: Views that are kept at most, before the oldest of those that hold nothing go at once.
MOST_VIEWS: Final = 50_000

_Key = tuple[str, int, str, str]  # host, port, subset, client's address


class ClusterMap:
    """`random`: uniform draws, 0 <= draw < 1. `rows`: counters shared with other workers."""

    def __init__(
        self,
        world: World,
        connector: Connector,
        now: Callable[[], float],
        random: Callable[[], float],
        *,
        resolve: Resolve,
        rows: Rows | None = None,
        limits: Limits = DEFAULTS,
        codecs: Mapping[str, MakeCodec] = CODECS,
    ) -> None:
        self._world, self._now, self._draw = world, now, random
        self.rows: Rows = rows if rows is not None else Private()
        self._plumbing = Plumbing(connector, codecs, limits, now)
        self._busy: dict[ClientCluster, None] = {}  # those that have connections
        self.names = Names(resolve, now, self._renamed)
        self.catalog = Catalog(world, self.names, self.rows)
        self.views: dict[_Key, ClientCluster] = {}
        self._groups: dict[tuple[Look, Destination], Group] = {}
        self._restless: dict[Group, None] = {}  # those that time changes
        self._circuits: dict[tuple[str, str], Circuit] = {}
        self._by_host: dict[str, set[_Key]] = {}
        self._to_look_at: list[_Key] = []
        self._swept = now()
        self._next_look = self._swept + FORGET

    # parties.Clusters

    def cluster(self, host: str, port: int, subset: str, client: Workload) -> ClientCluster | None:
        view = self.views.get((host, port, subset, client.ip))
        if view is not None and view.client is client:
            return view
        return self._seen(host, port, subset, client)

    def original(self, destination: tuple[str, int], client: Workload) -> ClientCluster:
        ip, port = destination
        key = ("", port, ip, client.ip)  # no host is called ""
        view = self.views.get(key)
        if view is not None and view.client is not client and view.client != client:
            self._dismiss(key)  # as in `_seen`
            view = None
        if view is None:
            view = self._passthrough(key, destination, client)
        view.used = True
        return view

    # the snapshot

    def changed(self, hosts: Iterable[str]) -> None:
        """Ports, backends, routing of these hosts, or the workloads behind them, may be others than before."""
        now = self._now()
        for host in hosts:
            self.catalog.watch(host)
            ports = {port for _, port, _, _ in self._by_host.get(host, ())}
            gone = {port: self.catalog.update(host, port, now) for port in ports}
            for key in list(self._by_host.get(host, ())):
                self._review(key, gone[key[1]])
        self.names.tick(now)

    # time

    def tick(self, now: float) -> None:
        """As often as ejections and returns shall be exact, ten times a second say; the rest is done once a
        second."""
        for group in self._restless:
            group.tick(now)
        if now - self._swept < 1.0:
            return
        self._swept = now
        self.rows.look_around()
        self.names.tick(now)
        for view in list(self._busy):
            view.sweep(now)
            if not view.holds:
                del self._busy[view]
        self._forget_unused(max(_AT_ONCE, int(len(self.views) / FORGET) + 1))

    def close(self) -> None:
        """The worker ends: every connection is cut."""
        for view in list(self._busy):
            view.close()

    # making

    def _seen(self, host: str, port: int, subset: str, client: Workload) -> ClientCluster | None:
        key = (host, port, subset, client.ip)
        view = self.views.get(key)
        if view is not None and view.client != client:
            self._dismiss(key)  # the address has passed to another workload
            view = None
        item = self.catalog.port(host, port)
        policy = levels.in_force(self._world.routing(host), client)
        if item is None or (subset and levels.subset_named(policy, subset) is None):
            return None
        if view is None:
            view = self._made(key, client)
            self._by_host.setdefault(host, set()).add(key)
            self._review(key, ())
        view.client = client
        return view

    def _made(self, key: _Key, client: Workload, name: str = "") -> ClientCluster:
        if len(self.views) >= MOST_VIEWS:
            self._make_room()
        host, port, subset, _ = key
        name = name or f"outbound|{port}|{subset}|{host}"
        circuit = self._circuits.get((client.key, name))
        if circuit is None:
            circuit = self._circuits[client.key, name] = Circuit(self.rows, self.rows.row(client.key, name, ""))
        circuit.users += 1
        view = self.views[key] = ClientCluster(name, key[:3], client, circuit, self._plumbing, self._busy)
        return view

    def _passthrough(self, key: _Key, address: tuple[str, int], client: Workload) -> ClientCluster:
        """One destination for each address: nothing of it is shared with a service that happens to have it, too."""
        view = self._made(key, client, PASSTHROUGH)
        destination = self.catalog.fixed(address)
        self._put(view, levels.DEFAULT, "", destination, (), "")
        return view

    def _review(self, key: _Key, gone: Iterable[Backend]) -> None:
        """What the snapshot says now of a view that there is."""
        host, port, name, _ = key
        view, routing, item = self.views[key], self._world.routing(host), self.catalog.port(host, port)
        chosen = levels.in_force(routing, view.client)
        subset = levels.subset_named(chosen, name)
        view.drain(gone)
        if item is None or (name and subset is None):
            self._dismiss(key)
            return
        service = self._world.service(host)
        policy = levels.effective(chosen, subset, port)
        labels, prefer = subset.labels if subset else (), service.prefer if service else ""
        destination = self.catalog.destination(host, port, self._now())
        self._put(view, policy, protocol(item), destination, labels, prefer)

    def _put(
        self,
        view: ClientCluster,
        policy: TrafficPolicy,
        speaks: str,
        destination: Destination,
        labels: tuple[tuple[str, str], ...],
        prefer: str,
    ) -> None:
        balancer = policy.load_balancer
        assert balancer is not None
        place = place_of(view.client, balancer, prefer, policy.outlier is not None)
        look = Look(view.name, labels, balancer, policy.outlier, place, prefer, ":" in view.source)
        group = self._group(look, destination)
        group.users += 1
        self._let_go(view)
        view.adopt(policy, speaks, destination, group)

    def _group(self, look: Look, destination: Destination) -> Group:
        group = self._groups.get((look, destination))
        if group is None:
            group = Group(look, destination, self.rows, self._now, self._draw)
            self._groups[look, destination] = group
            destination.users += 1
            if group.restless:
                self._restless[group] = None
        group.refresh()
        return group

    # letting go

    def _dismiss(self, key: _Key) -> None:
        """The view is no more; what is under way in it ends as it would."""
        view = self.views.pop(key)
        if (keys := self._by_host.get(key[0])) is not None:
            keys.discard(key)
            if not keys:
                del self._by_host[key[0]]
        view.retire()
        self._let_go(view)
        circuit = view.circuit
        circuit.users -= 1
        if not circuit.users:
            del self._circuits[view.client.key, view.name]
            circuit.close()

    def _let_go(self, view: ClientCluster) -> None:
        """Of its group, and of the destination with the last group."""
        group = view.group
        if group is None:
            return
        group.users -= 1
        if group.users:
            return
        del self._groups[group.look, group.destination]
        self._restless.pop(group, None)
        group.close()
        self.catalog.release(group.destination)

    def _forget_unused(self, most: int) -> None:
        """Looks at so many views in turn: nobody waits while all of them are gone through."""
        if not self._to_look_at and self._next_look <= self._swept:
            self._to_look_at = list(self.views)
            self._next_look = self._swept + FORGET
        for _ in range(min(most, len(self._to_look_at))):
            key = self._to_look_at.pop()
            view = self.views.get(key)
            if view is not None and not view.used and not view.holds:
                self._dismiss(key)
            elif view is not None:
                view.used = False

    def _make_room(self) -> None:
        for key, view in list(self.views.items()):
            if not view.holds:
                self._dismiss(key)

    def _renamed(self, name: str) -> None:
        self.changed(self.catalog.named(name))
