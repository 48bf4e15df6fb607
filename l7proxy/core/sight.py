"""What one client sees at one address while a snapshot is in force: asked of the world once, known from then on.

In: a client's address and what it addressed. Out: who it is, which host it means by an authority, the routes of
that host, clusters and permits as they are met. Rule: nothing here outlives its `generation`; whoever holds a sight
compares that with the world's before he uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.policies.mesh.choose import Chooser, Chosen

if TYPE_CHECKING:
    from weft.l7proxy.core.exchange import Engine
    from weft.l7proxy.core.named import Named
    from weft.l7proxy.core.parties import Cluster, Endpoint, Permit, Workload
    from weft.l7proxy.core.plan import Target
    from weft.l7proxy.core.stream import Request

#: Of heads, clusters, authorities that are remembered: what a client can make us keep.
_MOST: Final = 256


class Way:
    """What an authority means there. `host` "": nothing that has routing; `service`: its key. `clusters`: by
    target, with the key of the service that each belongs to."""

    __slots__ = ("_chooser", "_chosen", "_client", "clusters", "host", "port", "service")

    def __init__(self, host: str, port: int, service: str, chooser: Chooser | None, client: Workload) -> None:
        self.host, self.port, self.service = host, port, service
        self._chooser, self._client = chooser, client
        self._chosen: dict[Named, Chosen | None] = {}
        self.clusters: dict[Target, tuple[Cluster, str]] = {}

    def choose(self, request: Request) -> Chosen | None:
        """The routes' answer, which is the same for the same head. None: no route is for the client."""
        chooser, named = self._chooser, request.named
        if chooser is None:
            return None
        if named is None or not named.steady or not chooser.steady:
            return chooser.rule(request, self._client, request.authority, self.port)
        try:
            return self._chosen[named]
        except KeyError:
            if len(self._chosen) >= _MOST:
                self._chosen.clear()
            chosen = self._chosen[named] = chooser.rule(request, self._client, request.authority, self.port)
            return chosen


class Sight:
    """`pod`: what was addressed is a workload's own address."""

    __slots__ = ("_engine", "_ways", "client", "destination", "generation", "permits", "pod")

    def __init__(self, engine: Engine, client: Workload, destination: tuple[str, int]) -> None:
        world = engine.world
        self._engine, self.generation = engine, world.generation
        self.client, self.destination = client, destination
        self.pod = bool(world.workload(destination[0]).namespace)
        self.permits: dict[Endpoint, Permit] = {}
        self._ways: dict[bytes, Way] = {}

    def way(self, authority: bytes) -> Way:
        return self._ways.get(authority) or self._way(authority)

    def _way(self, authority: bytes) -> Way:
        engine = self._engine
        host, port = engine.world.addressed(self.destination, authority)
        service = engine.world.service_key(host) if host else ""
        if len(self._ways) >= _MOST:
            self._ways.clear()
        way = self._ways[authority] = Way(host, port, service, engine.chooser(host) if host else None, self.client)
        return way

    def permit(self, endpoint: Endpoint) -> Permit:
        found = self.permits.get(endpoint)
        if found is None:
            permit = self._engine.world.permit(self.client, endpoint.workload, endpoint.port)
            found = self.permits[endpoint] = permit
        return found
