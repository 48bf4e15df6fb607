"""One worker of the L7 proxy: everything wired together, from the feed's first word to the last stream's end.

```
feed: Setup, Update -> world -> clusters, engine         listener -> connection -> codec -> engine -> clusters
                                                                     connection -> tunnel          -> connector
```

States: starting (no snapshot: nothing is accepted), serving, draining (nothing new is accepted; streams may end),
over. A worker that takes over accepts from its predecessor's sockets as soon as it has a snapshot of its own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from weft.bpf.shared import NoColumn, OtherShape, Private, Rows, Shared, pinned
from weft.l7proxy import handover, queries
from weft.l7proxy.connection import Accepted, HttpConnection
from weft.l7proxy.connector import Connector, Sockets
from weft.l7proxy.core import http1, http2
from weft.l7proxy.core.clusters import ClusterMap
from weft.l7proxy.core.exchange import Engine
from weft.l7proxy.core.stream import Peer
from weft.l7proxy.detect import Declared
from weft.l7proxy.feed import Feed
from weft.l7proxy.listener import Listener, listening, transparent_listeners
from weft.l7proxy.observe.live import Telling
from weft.l7proxy.overload import Overload
from weft.l7proxy.reports import Counts
from weft.l7proxy.resolver import Resolver
from weft.l7proxy.shell import MOST_OF_ONE, Shell
from weft.l7proxy.tcp import Tunnel
from weft.l7proxy.world import SnapshotWorld
from weft.policies import delta
from weft.policies.wire.pb import proxy_pb2 as pb

log = logging.getLogger("weft.l7proxy")

VERSION: Final = "0.1.0"
#: Seconds between two looks at deadlines of requests; at clusters with every second one, connections every 20th.
TICK: Final = 0.05
DRAIN: Final = 60.0
#: Seconds that a draining worker keeps idle connections whose last response promised that they stay.
PROMISED: Final = 5.0
#: Seconds without a daemon and without the run directory, after which nobody will come back for this worker.
ABANDONED: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plain:
    """A listener without transparency, for tests and benches: what it accepts counts as addressed to
    `destination`."""

    listen: tuple[str, int]
    destination: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Options:
    """`counters`: where the map is pinned that workers count in together; None: each counts for itself."""

    daemon: str
    run_dir: Path
    worker: int = 0
    generation: int = 0
    takeover: bool = False
    counters: Path | None = None
    plain: tuple[Plain, ...] = field(default=())


class Worker:
    """`feed.Owner`."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self.options = options
        self.counts = Counts()
        self.counters_problem = ""
        self.world = SnapshotWorld()
        self.connector = Connector(loop)
        self.connector.twin = self.world.twin
        self.resolver = Resolver(time.monotonic)
        self.telling = Telling(self.world, self.resolver.resolve, self.counts)
        observer = self.telling.observer
        draws = random.Random()
        self.clusters = ClusterMap(
            self.world,
            self.connector,
            time.monotonic,
            draws.random,
            resolve=self.resolver.resolve,
            rows=self._rows(options),
        )
        self.engine = Engine(
            self.world, self.clusters, observer, time.monotonic, time.time, loop.call_later, draws.random
        )
        self.shell = Shell(
            loop,
            self.world,
            self.clusters,
            self.engine.handler,
            self.connector,
            observer,
            time.monotonic,
            time.time,
            draws,
            http1.Server,
            http2.Server,
        )
        self.overload = Overload(self.shell, lambda: [one.client.ip for one in self.engine.active])
        self.shell.most_of_one = min(MOST_OF_ONE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self.feed = Feed(options.daemon, self, self.counts, self.telling.ring)
        self.setup = pb.Setup()
        self.started = self._abandoned = self._drained = time.monotonic()
        self.ready = False
        self._listeners: list[Listener] = []
        self._giver: handover.Giver | None = None
        self._over: asyncio.Future[int] = loop.create_future()
        self._deadline: float | None = None
        self._turn = 0
        self._failure = ""
        self._register()

    def _rows(self, options: Options) -> Rows:
        """Limits that are counted apart are told of, and better than no proxy."""
        if options.counters is None:
            return Private()
        try:
            fd = pinned(options.counters)
            try:
                return Shared(fd, options.run_dir / "proxy-counters.lock")
            finally:
                os.close(fd)
        except (OSError, OtherShape, NoColumn) as error:
            self.counters_problem = f"{options.counters}: {error}"
            log.warning("limits are counted by this worker alone: %s", self.counters_problem)
            return Private()

    async def run(self) -> int:
        """The exit status. OSError: it cannot listen."""
        loop = self.shell.loop
        for number, action in ((signal.SIGTERM, self._terminate), (signal.SIGINT, self._interrupt)):
            loop.add_signal_handler(number, action)
        feeding = loop.create_task(self.feed.run())
        feeding.add_done_callback(self._feed_failed)
        self.telling.start(loop)
        self._tick()
        try:
            return await self._over
        finally:
            self._stop_listening()
            for connection in list(self.shell.open):
                connection.reset()
            self.clusters.close()
            await asyncio.sleep(0)
            await self.telling.finish()
            self.feed.flush()
            await self.feed.drained()
            feeding.cancel()

    # feed.Owner

    @property
    def revision(self) -> int:
        return self.world.revision

    def hello(self) -> pb.Hello:
        return pb.Hello(
            version=VERSION, pid=os.getpid(), worker=self.options.worker, generation=self.options.generation
        )

    async def set_up(self, setup: pb.Setup) -> None:
        """Again after a daemon's restart: sockets that are open stay as they are, unless port or mark changed."""
        before, self.setup = self.setup, setup
        own = frozenset(setup.addresses)
        self.world.place(setup.node, own)
        first, last = setup.first_port or 61000, setup.last_port or 65535
        plain = bool(self.options.plain)
        self.connector.sockets = Sockets(0 if plain else setup.mark, first, last, not plain, own)
        self.shell.first_port = first
        self.resolver.servers = tuple(setup.dns)
        if self._listeners and (before.port, before.mark) != (setup.port, setup.mark) and not plain:
            self._stop_listening()
            await self._listen(self._bound())

    async def updated(self, update: delta.Update) -> None:
        changed = self.world.update(update)
        if changed.permits or changed.addresses:
            self._policy_changed(None if changed.permits else changed.addresses)
        self.clusters.changed(changed.hosts)
        self.telling.changed(self.world.snapshot.cluster, bool(changed.addresses))
        if update.full:
            gc.collect()
            gc.freeze()  # the snapshot lives long: the collector need not walk through it
        if not self.ready and not self.shell.draining:
            await self._open()

    def _policy_changed(self, addresses: frozenset[str] | None) -> None:
        """What is open is judged again. None: all of it."""
        self.engine.policy_changed(addresses)
        for tunnel in [one for one in self.shell.open if isinstance(one, Tunnel)]:
            try:
                tunnel.policy_changed(addresses)
            except Exception:  # it cannot be judged: then it does not go on
                log.exception("a tunnel met a fault")
                tunnel.reset()

    def refusals(self) -> Mapping[str, str]:
        return self.world.refusals.all()

    def answer(self, what: str, arg: str) -> object:
        return queries.answer(self, what, arg)

    def drain(self, seconds: float) -> None:
        if self.shell.draining:
            return
        log.info("draining: %d connections, %g s", len(self.shell.open), seconds)
        self.shell.draining, self._drained = True, time.monotonic()
        self._deadline = time.monotonic() + seconds
        self._stop_listening()
        for connection in list(self.shell.open):
            connection.drain()

    def tap(self, on: bool) -> None:
        self.telling.observer.tapped = on

    # accepting

    async def _open(self) -> None:
        """The first snapshot is in force."""
        path = handover.socket_path(self.options.run_dir, self.options.worker)
        idle: Sequence[handover.Given] = ()
        if self.options.takeover:
            try:
                idle = await handover.take(path, self._accept_from)
            except handover.Refused as error:
                log.warning("no take-over: %s", error)
        if not self._listeners:
            await self._listen(self._bound())
        for given in idle:
            await self._adopt(given)
        self._giver = handover.Giver(path, self._give_listeners, self._stop_listening, self._give_idle, self._leave)
        self._giver.start()
        self.ready = True
        log.info("serving: %s", ", ".join(f"{ip} port {port}" for ip, port in self.addresses()))

    def addresses(self) -> list[tuple[str, int]]:
        return [listener.address for listener in self._listeners]

    def _bound(self) -> list[tuple[socket.socket, tuple[str, int] | None]]:
        if self.options.plain:
            return [
                (listening(_family(each.listen[0]), *each.listen), each.destination) for each in self.options.plain
            ]
        return [(sock, None) for sock in transparent_listeners(self.setup.port, self.setup.mark)]

    async def _listen(self, socks: Sequence[tuple[socket.socket, tuple[str, int] | None]]) -> None:
        for sock, destination in socks:
            listener = Listener(self.shell, sock, destination)
            await listener.start()
            self._listeners.append(listener)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self._listeners = []

    # handing over

    async def _accept_from(self, given: Sequence[handover.Given]) -> None:
        await self._listen(
            [(each.sock, tuple(at) if (at := each.about["destination"]) else None) for each in given]
        )

    def _give_listeners(self) -> list[handover.Given]:
        return [handover.Given(each.sock, {"destination": each.destination}) for each in self._listeners]

    def _give_idle(self) -> list[handover.Given]:
        """HTTP/1.1 between two requests, and those that have not spoken yet."""
        given = []
        for connection in list(self.shell.open):
            sock = connection.give_away() if isinstance(connection, HttpConnection | Accepted) else None
            if sock is not None:
                peer = connection.peer
                about = {"source": peer.source, "destination": peer.destination, "http": bool(peer.protocol)}
                given.append(handover.Given(sock, about))
        self.shell.counted["handed_over"] += len(given)
        return given

    async def _adopt(self, given: handover.Given) -> None:
        shell = self.shell
        shell.accepted += 1
        peer = Peer(tuple(given.about["source"]), tuple(given.about["destination"]), shell.accepted)
        says = Declared.HTTP if given.about["http"] else None
        try:
            await shell.loop.connect_accepted_socket(lambda: Accepted(shell, peer, says), given.sock)
        except OSError:  # its client has gone meanwhile
            return
        shell.counted["taken_over"] += 1

    def _leave(self) -> None:
        self._giver = None
        self.drain(DRAIN)

    # time and signals

    def _tick(self) -> None:
        now = time.monotonic()
        self._turn += 1
        self.engine.tick(now)
        if self._turn % 2 == 0:
            self.clusters.tick(now)
            self.telling.tick()
        if self._turn % 20 == 0:
            self._each_second(now)
        if self._deadline is not None:
            self._draining(now, self._deadline)
        if not self._over.done():
            self.shell.loop.call_later(TICK, self._tick)

    def _each_second(self, now: float) -> None:
        self.shell.count_clients()
        self.overload.tick()
        for connection in list(self.shell.open):
            connection.tick(now)
            if self.shell.draining and now - self._drained > PROMISED:
                connection.drain()
        if self.feed.connected or self.options.run_dir.is_dir():
            self._abandoned = now
        elif now - self._abandoned > ABANDONED and not self.shell.draining:
            log.warning("%s is gone, and the daemon with it: ending", self.options.run_dir)
            self.drain(DRAIN)

    def _draining(self, now: float, deadline: float) -> None:
        if self.shell.open and now < deadline:
            return
        if cut := len(self.shell.open):
            self.shell.counted["drain_cut"] += cut
            log.warning("%d connections were still open at the end of the drain time: cut", cut)
        self._end(0)

    def _terminate(self) -> None:
        if self._giver is not None:
            self._giver.stop()
            self._giver = None
        self.drain(DRAIN)

    def _interrupt(self) -> None:
        self._end(0)

    def _end(self, status: int) -> None:
        if self._giver is not None:
            self._giver.stop()
            self._giver = None
        if not self._over.done():
            self._over.set_result(status)

    def _feed_failed(self, task: asyncio.Task[None]) -> None:
        """The feed's task ends only by an error that nothing can be done about: above all, a port that is taken."""
        if not task.cancelled() and not self._over.done():
            error = task.exception()
            self._over.set_exception(error if error is not None else RuntimeError("the feed ended"))

    def _register(self) -> None:
        """What the worker tells of itself, beside what observers tell of requests."""
        shell, labels = self.shell, {"worker": str(self.options.worker)}
        gauge = self.counts.gauge
        gauge("weft_proxy_connections", lambda: len(shell.open), labels)
        gauge("weft_proxy_requests_active", lambda: len(self.engine.active), labels)
        gauge("weft_proxy_snapshot_revision", lambda: self.revision, labels)
        gauge("weft_proxy_refused_resources", lambda: len(self.refusals()), labels)


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
