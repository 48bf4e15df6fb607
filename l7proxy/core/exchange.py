"""The engine: the handler of every connection, and what all requests under way share.

In: requests (`Handler.request`) and time (`tick`). Out: exchanges, each of which ends by itself. Deadlines
are swept over the dict of active exchanges; only back-offs and injected delays, which are few, have timers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from weft.l7proxy.core import revocation
from weft.l7proxy.core.attempt import Attempts
from weft.l7proxy.core.decide import Exchange
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.mirror import Mirror
from weft.l7proxy.core.parties import Clusters, Observer, World
from weft.l7proxy.core.sight import Sight
from weft.l7proxy.core.stream import Downstream, Handler, Peer, Request, RequestSink
from weft.l7proxy.core.streaming import Streaming
from weft.policies.errors import Invalid
from weft.policies.mesh.choose import Chooser

__all__ = ["Engine", "Exchange", "Schedule", "Timer"]

log = logging.getLogger(__name__)

REMEMBERED = 10_000  # choosers, sights; more than that are made again when they are asked for


class Timer(Protocol):
    def cancel(self) -> None: ...


Schedule = Callable[[float, Callable[[], None]], Timer]


class Engine:
    """What all exchanges share. `draw`: uniform in [0, 1). `active` and
    `mirrors` are what is under way; `tick` judges their deadlines."""

    def __init__(
        self,
        world: World,
        clusters: Clusters,
        observer: Observer,
        now: Callable[[], float],
        wall: Callable[[], float],
        schedule: Schedule,
        random: Callable[[], float],
        limits: Limits = DEFAULTS,
    ) -> None:
        self.world, self.clusters, self.observer = world, clusters, observer
        self.now, self.wall, self.schedule, self.draw, self.limits = now, wall, schedule, random, limits
        self.active: dict[Streaming, None] = {}
        self.mirrors: dict[Mirror, None] = {}
        self.errors = self.revoked = 0
        self.refused: dict[str, list[Invalid]] = {}  # by host: routes that are left out, and why
        self._choosers: dict[str, Chooser] = {}
        self._generation: object = None  # of the sights
        self._sights: dict[tuple[str, tuple[str, int]], Sight] = {}

    def handler(self, peer: Peer) -> Handler:
        return Caller(self)

    def sight(self, peer: Peer) -> Sight:
        """What the client of a connection sees now."""
        generation = self.world.generation
        if self._generation is not generation or len(self._sights) >= REMEMBERED:
            self._generation = generation
            self._sights.clear()
        key = peer.source[0], peer.destination
        sight = self._sights.get(key)
        if sight is None:
            sight = self._sights[key] = Sight(self, self.world.workload(key[0]), peer.destination)
        return sight

    def tick(self, now: float) -> None:
        """Some twenty times a second: one look at each deadline costs less than a timer for each request."""
        for exchange in [one for one in self.active if one.deadline <= now]:
            self.guard(exchange, exchange.due, now)
        for mirror in [one for one in self.mirrors if one.deadline <= now]:
            mirror.abandon()

    def policy_changed(self, addresses: Collection[str] | None) -> None:
        """Or who has these addresses; None: anybody's policy."""
        revocation.policy_changed(self, addresses)

    def guard(self, exchange: Attempts, action: Callable[..., None], *given: object) -> None:
        """A fault of ours ends the request that met it, with 500, and nothing else. What a codec calls needs no
        guard: a fault closes its connection."""
        try:
            action(*given)
        except Exception:
            self.fault(exchange)

    def fault(self, exchange: Attempts) -> None:
        """Called where an exception is at hand."""
        self.errors += 1
        log.exception("a request met a fault")
        exchange.crash()

    def chooser(self, host: str) -> Chooser | None:
        """Of the routing in force for this host; made anew when that is another object."""
        routing = self.world.routing(host)
        if routing is None:
            return None
        chooser = self._choosers.get(host)
        if chooser is None or chooser.routing is not routing:
            if len(self._choosers) >= REMEMBERED:
                self._choosers.clear()
            chooser = self._choosers[host] = Chooser(routing)
            if chooser.refused:
                self.refused[host] = chooser.refused
            else:
                self.refused.pop(host, None)
        return chooser


class Caller:
    """The Handler of one connection: it remembers what its client sees."""

    __slots__ = ("_engine", "_sight")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sight: Sight | None = None

    def request(self, request: Request, downstream: Downstream, end: bool) -> RequestSink:
        engine, sight = self._engine, self._sight
        exchange = Exchange(engine, request, downstream)
        engine.active[exchange] = None
        try:
            if sight is None or sight.generation is not engine.world.generation:
                exchange.start(end, None)
                self._sight = exchange.sight
            else:
                exchange.start(end, sight)
        except Exception:
            engine.fault(exchange)
        return exchange
