"""One node's daemon, put together: the kernel below, the operator above, the people who ask beside it.

The order of `start` is the rule of this file: programs and maps are there before anything is asked of them, the
last snapshot is in force before the operator answers, and we answer questions last of all. `stop` ends this
process's part only: what is pinned goes on judging.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import time
from collections.abc import Collection, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc.aio
from prometheus_client import CollectorRegistry

from weft.bpf import layout
from weft.bpf.ringbuf import Ring
from weft.daemon import cgroups, dns, inspect, loading, netlink
from weft.daemon.agent import Agent
from weft.daemon.datapath.conntrack import Sweeper
from weft.daemon.datapath.counters import Counters
from weft.daemon.datapath.kernel import Maps, PinnedKernel
from weft.daemon.datapath.programs import Programs
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.figures import Figures
from weft.daemon.metrics import AgentMetrics, Exposition
from weft.daemon.node_api import NodeService, serve
from weft.daemon.observer.service import Observer
from weft.daemon.observer.workload_cgroups import WorkloadCgroups
from weft.daemon.proxy.processes import command
from weft.daemon.proxy.proxies import Proxies
from weft.daemon.pump import LOSS_INTERVAL, Pump
from weft.daemon.queries import Queries
from weft.daemon.settings import Settings
from weft.daemon.state import SnapshotFile
from weft.daemon.steering import Steering
from weft.daemon.upstream import Upstream
from weft.policies.snapshot import ClusterPart
from weft.policies.wire.pb import proxy_pb2

log = logging.getLogger("weft.daemon")

#: Seconds between two sweeps of the conntrack map: half of the shortest lifetime would do; a sweep of a full map
#: (262,144 entries) takes under a second, in turns of some milliseconds.
SWEEP_INTERVAL = 15.0
#: Seconds between two looks whether our programs are where they were attached.
GUARD_INTERVAL = 2.0
#: Seconds between two attempts to write a snapshot that could not be kept.
KEEP_INTERVAL = 5.0
#: Source ports of connections that the proxy makes in a client's name: above those that kernels give out.
PROXY_PORTS = (61000, 65535)
#: The pin of the map in which its workers count limits together; another layout is another name.
PROXY_COUNTERS = "proxy_counters_v1"
#: As Istio calls a cluster that nobody named: `source_cluster` of its metrics.
CLUSTER_NAME = "Kubernetes"
#: Seconds that a daemon waits for the one before it to end.
PATIENCE = 5.0


class Node:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.version = metadata.version("weft")
        self.started = time.monotonic()
        self.missing: list[str] = []
        self.trouble: dict[str, str] = {}  # what works less well than it should, by part
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[grpc.aio.Server] = []
        self._dns: dns.Server | None = None
        self.upstream: Upstream | None = None

    async def start(self) -> None:
        """Raises OSError, loading.LoadFailed: this node cannot be served."""
        self._locks = [await only_one(self.settings.run_dir)]
        await self._open_kernel()
        self._build()
        await self._learn_facts()
        self._forget_the_dead()
        await self.proxies.prepare()
        self.agent.restore()
        await self._serve()
        if self.settings.operator:
            self.upstream = Upstream(
                self.settings.operator,
                self.settings.node,
                self.version,
                self.agent.held,
                self.agent.update_arrived,
                self._settled,
            )
            self.proxies.feed.on_refusals = self.upstream.tell
            self._spawn(self.upstream.run())
        self._spawn(self._sweep())
        self._spawn(self._guard())
        self._spawn(self._watch_losses())
        self._spawn(self._keep_snapshot())
        # What was made so far stays for good: it need not be looked at by every collection to come.
        gc.collect()
        gc.freeze()
        log.info("node %s: ready, %s", self.settings.node, inspect.memory())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.agent.stop()
        await self.proxies.stop()
        self.pump.stop(asyncio.get_running_loop())
        if self._dns is not None:
            await asyncio.to_thread(self._dns.stop)
        await self.exposition.stop()
        await self.observer.stop()
        for server in self._servers:
            await server.stop(0.2)
        self.settings.socket.unlink(missing_ok=True)
        self._ring.close()
        self.programs.close()
        self.maps.close()
        for lock in self._locks:
            os.close(lock)

    # start, step by step

    async def _open_kernel(self) -> None:
        from weft.bpf import probe

        self.missing = probe.missing()
        log.info("kernel: %s", f"lacks {', '.join(self.missing)}" if self.missing else "has everything")
        try:
            await loading.load(self.settings.pin_dir)
        except loading.LoadFailed as failed:
            # A data plane of an earlier daemon goes on as it is; without one there is nothing to go on with.
            if not (self.settings.pin_dir / layout.CONFIG.pin).exists():
                raise
            self.trouble["programs"] = f"not upgraded: {failed}"
            log.error("the programs could not be upgraded: %s", failed)
        # The run directory is somebody's choice; what two daemons would fight over is this.
        self._locks.append(await locked(self.settings.pin_dir, f"another daemon serves {self.settings.pin_dir}"))
        self.maps = Maps(self.settings.pin_dir)
        self.programs = Programs(self.settings.pin_dir)
        if self.settings.cgroup is not None:
            self.programs.attach_cgroup(cgroups.ensure(self.settings.cgroup))
        self.kernel = PinnedKernel(self.maps, self.programs)
        self.kernel.configure(audit=self.settings.audit, trace_interval_ms=self.settings.trace_interval_ms)

    def _build(self) -> None:
        self.counters = Counters(self.maps)
        self.agent = Agent(
            self.settings.node,
            Reconciler(self.kernel, self.settings.node, self.settings.dns),
            SnapshotFile(self.settings.snapshot),
        )
        # From the first snapshot on: what is routed is refused until the proxy serves, never sent past its routes.
        self.agent.datapath.proxied = self.settings.proxy_workers > 0
        self.sweeper = Sweeper(self.maps[layout.CT], created=lambda: self.counters.stat(layout.Stat.CT_CREATED))
        self.figures = Figures(self)
        self.registry = CollectorRegistry()
        self.observer = Observer(
            self.settings.node,
            self.agent.directory,
            capacity=self.settings.flows,
            version=self.version,
            registry=self.registry,
            workload_of=WorkloadCgroups(self.settings.cgroup, self.agent.directory.workload),
        )
        self.proxies = self._proxies()
        metrics = AgentMetrics(self.registry, self.figures)
        self.agent.on_update = self.proxies.feed.update
        self.agent.on_change = metrics.changed
        self._ring = Ring(self.maps[layout.EVENTS])
        self.pump = Pump(self._ring, self.observer, lambda: self.counters.stat(layout.Stat.EVENT_LOST))
        self.queries = Queries(self)
        self.exposition = Exposition(self.registry, lambda: not self.agent.problem, self.proxies.scraped)

    async def _learn_facts(self) -> None:
        """Interfaces, routes and addresses; and programs that hang on interfaces from before."""
        self.watch = netlink.Watch(lambda: self.agent.facts_changed(self._facts()))
        ready = asyncio.Event()
        self._spawn(self.watch.run(ready))
        await ready.wait()
        self.programs.renew(self.watch.facts.links)
        self.agent.datapath.writer.have.attached = self.programs.attached()
        self._check_links(self.watch.facts.links)
        self.agent.datapath.take_facts(self._facts())

    def _forget_the_dead(self) -> None:
        """Connections of endpoints that went before us: their ids may soon mean others."""
        living = {row.ep_id for row in self.agent.datapath.writer.have.endpoints.values()}
        for _ in self.sweeper.sweep(living):
            pass

    def _facts(self) -> Facts:
        known = self.watch.facts
        if known.gone:
            gone, known.gone = known.gone, set()
            with contextlib.suppress(OSError):  # gone again: its news will tell, and `_guard` looks anyway
                self._check_links(gone)
        return Facts(dict(known.routes), dict(known.links), frozenset(address for _, address in known.addresses))

    def _check_links(self, interfaces: Collection[int]) -> bool:
        """Whether those of them that are here carry our programs. A workload's gets them again at once, also while
        there is no snapshot; for others the next `settle` decides."""
        datapath, here = self.agent.datapath, self.watch.facts.links
        have = datapath.writer.have
        lost = self.programs.lost((have.attached | have.endpoints.keys()) & here.keys() & set(interfaces))
        datapath.forget_attached(lost)
        for ifindex in sorted(lost & have.endpoints.keys()):
            log.error("interface %s has lost our programs: attached again", here[ifindex])
            self.programs.attach(ifindex)
            have.attached.add(ifindex)
        return not lost

    async def _serve(self) -> None:
        self.pump.start(asyncio.get_running_loop())
        await self._or_trouble("proxy feed", self.proxies.start())
        service = NodeService(self.agent, self.queries, self.proxies.taps, self.proxies.settled)
        self._servers.append(await serve(self.settings.socket, service))
        await self.observer.serve(f"unix:{self.settings.observer_socket}")
        if self.settings.metrics is not None:
            await self._or_trouble("metrics", self.exposition.start(*self.settings.metrics))
        if self.settings.dns:
            self._dns = dns.Server(self._names, self.settings.dns)
            await self._or_trouble("dns", asyncio.to_thread(self._dns.start))

    def _proxies(self) -> Proxies:
        settings = self.settings
        return Proxies(
            workers=settings.proxy_workers,
            run_dir=settings.run_dir,
            cgroup=settings.cgroup,
            counters=settings.pin_dir / PROXY_COUNTERS,
            version=self.version,
            setup=self._proxy_setup,
            held=lambda: self.agent.snapshot.revision if self.agent.snapshot else 0,
            full=self.agent.serialized,
            directory=self.agent.directory,
            observer=self.observer,
            living=self._workloads,
            words=settings.proxy_program or command(),
            steering=Steering(self.kernel, self.programs, settings.proxy_mark),
        )

    def _proxy_setup(self) -> proxy_pb2.Setup:
        settings = self.settings
        own = self._cluster().nodes.get(settings.node)
        return proxy_pb2.Setup(
            node=settings.node,
            addresses=self.agent.held().addresses,
            mark=settings.proxy_mark,
            port=settings.proxy_port,
            first_port=PROXY_PORTS[0],
            last_port=PROXY_PORTS[1],
            dns=settings.dns,
            cluster_name=CLUSTER_NAME,
            locality=own.locality if own else "",
        )

    def _workloads(self) -> frozenset[tuple[str, str]]:
        """(namespace, name) of those that there are; a pod that nobody owns goes by its own name."""
        cluster = self._cluster()
        if self._living[0] is not cluster:
            found = set()
            for item in cluster.addresses.values():
                namespace, _, pod = item.pod.partition("/")
                found |= {(namespace, pod), (namespace, item.workload_name)}
            self._living = (cluster, frozenset(found))
        return self._living[1]

    _living: tuple[ClusterPart | None, frozenset[tuple[str, str]]] = (None, frozenset())

    async def _settled(self, revision: int) -> dict[str, str]:
        """What is refused, once kernel and proxy have `revision`."""
        await self.proxies.settled(revision)
        return self.refusals()

    def refusals(self) -> dict[str, str]:
        """Of kernel and proxy, by resource."""
        told = dict(self.agent.refusals())
        for resource, why in self.proxies.feed.refusals().items():
            told[resource] = f"{told[resource]}; {why}" if resource in told else why
        return told

    def _cluster(self) -> ClusterPart:
        return self.agent.snapshot.cluster if self.agent.snapshot else ClusterPart()

    async def _or_trouble(self, part: str, starting: Coroutine[Any, Any, Any]) -> None:
        """The data plane does not wait for a port that somebody else has."""
        try:
            await starting
        except OSError as error:
            self.trouble[part] = str(error)
            log.error("%s: %s", part, error)

    # all the time

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            living = {row.ep_id for row in self.agent.datapath.writer.have.endpoints.values()}
            try:
                for _ in self.sweeper.sweep(living):
                    await asyncio.sleep(0)
                self.counters.retire(living)
                self.agent.datapath.forget_rules()
                self.trouble.pop("conntrack", None)
            except OSError as error:
                self.trouble["conntrack"] = str(error)

    async def _guard(self) -> None:
        """Nobody tells when a pin is removed: looked at, a few system calls for each interface."""
        while True:
            await asyncio.sleep(GUARD_INTERVAL)
            if not self.settings.pin_dir.is_dir():
                self.trouble["pins"] = f"{self.settings.pin_dir} is gone: start the daemon anew"
                continue
            try:
                if not self._check_links(self.watch.facts.links):
                    self.agent.settle()
                group = self.settings.cgroup
                if group is not None and group.is_dir() and self.programs.cgroup_lost():
                    log.error("programs of %s had lost their hooks: attached again", group)
                    self.programs.attach_cgroup(group)
                self.trouble.pop("pins", None)
            except OSError as error:
                self.trouble["pins"] = str(error)

    async def _watch_losses(self) -> None:
        while True:
            await asyncio.sleep(LOSS_INTERVAL)
            self.pump.check_losses()

    async def _keep_snapshot(self) -> None:
        while True:
            await asyncio.sleep(KEEP_INTERVAL)
            if self.agent.snapshot is not None and self.agent.file.behind():
                self.agent.file.replace(self.agent.serialized())

    def _names(self) -> dns.Directory:
        """Asked from the DNS server's thread: made anew for each snapshot, then shared."""
        cluster = self._cluster()
        if self._directory is None or self._directory.cluster is not cluster:
            self._directory = dns.Directory(cluster)
        return self._directory

    _directory: dns.Directory | None = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of our tasks ends by itself: one that did is shown, and the rest goes on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.trouble[task.get_coro().__qualname__] = f"{type(error).__name__}: {error}"  # type: ignore[union-attr]
            log.error("a task of the daemon ended", exc_info=error)


async def only_one(run_dir: Path, patience: float = PATIENCE) -> int:
    """A lock, held by its descriptor: two daemons would write against each other, and share the records of one
    ring. The one before us may still be ending. Raises OSError."""
    await asyncio.to_thread(run_dir.mkdir, parents=True, exist_ok=True)
    return await locked(run_dir / "daemon.lock", f"another daemon runs in {run_dir}", patience)


async def locked(path: Path, otherwise: str, patience: float = PATIENCE) -> int:
    """A directory that is there, or a file that need not be."""
    lock = await asyncio.to_thread(_opened, path)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(lock)
                raise OSError(otherwise) from None
            await asyncio.sleep(0.05)


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
