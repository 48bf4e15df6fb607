"""The daemon's middle: things arrive (snapshots, facts about the node), and the data plane follows.

`Agent` holds the account of one node and no sockets; `node` builds the world around it. Everything here runs in
one event loop, and each change is taken in whole before the next one.

Rule: a change is on disk before it is in the kernel, and in the kernel before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from weft.daemon.datapath.addresses import GATEWAYS
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.directory import NodeDirectory
from weft.daemon.state import SnapshotFile, digest
from weft.daemon.upstream import Held, Refusals
from weft.policies.delta import (
    ClusterDelta,
    NodeDelta,
    OutOfOrder,
    Update,
    apply,
    between,
    between_nodes,
    full_update,
)
from weft.policies.model import ObjectRef
from weft.policies.snapshot import ClusterPart, NodePart, Snapshot
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2 as pb

log = logging.getLogger("weft.agent")

#: Seconds until what the kernel refused is tried again.
RETRY = 1.0
#: Seconds from a change to tidying up after it.
TIDY_AFTER = 0.2


class Agent:
    def __init__(self, node: str, datapath: Reconciler, file: SnapshotFile) -> None:
        self.node, self.datapath, self.file = node, datapath, file
        self.epoch = ""
        self.in_force = 0  # revision of the snapshot that the kernel holds
        self.problem = ""  # why it does not hold the one we have
        self.forgotten: set[ObjectRef] = set()  # policies that an operator with an older count no longer knows
        self.on_change: Callable[[float, bool], None] = lambda seconds, whole: None
        # revision, whether full, the message: after it is in force
        self.on_update: Callable[[int, bool, bytes], None] = lambda revision, full, raw: None
        self.directory = NodeDirectory(node, datapath.cookies, datapath.cidrs, self._interface)
        self.facts = Facts()
        self._told = ClusterPart()  # what the directory knows
        self._changed = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._thread_writes = False

    @property
    def snapshot(self) -> Snapshot | None:
        return self.datapath.snapshot

    # what arrives

    def restore(self) -> bool:
        """The last snapshot from disk, in force before the operator answers. False: there is none."""
        found = self.file.load(self.node, self.datapath.marked())
        if self.file.health.found:
            log.warning("snapshot on disk: %s", self.file.health.found)
        if found is None:
            return False
        snapshot, self.epoch = found
        self._take(snapshot, ClusterDelta(), NodeDelta())
        self.file.replace(self.serialized())  # so that differences can follow, whatever was behind its end
        log.info("snapshot on disk: revision %d, %d endpoints", snapshot.revision, len(snapshot.own.endpoints))
        return True

    async def update_arrived(self, message: pb.Update) -> Refusals:
        """Raises OutOfOrder: we need everything. ValueError: it is not an update."""
        started = time.monotonic()
        update = convert.from_update(message)
        held = self.snapshot
        if not update.full and update.epoch != self.epoch:
            raise OutOfOrder(f"a difference of operator {update.epoch}, and we hold one of {self.epoch or 'none'}")
        snapshot = apply(held, update, self.node)
        cluster, own = _really(held, update, snapshot)
        self._notice_loss(held, update, cluster)
        self.epoch = update.epoch
        raw = message.SerializeToString()
        self._keep(raw, message.full, snapshot)
        self._take(snapshot, cluster, own)
        self.on_update(snapshot.revision, message.full, raw)
        refusals = self.refusals()
        self.on_change(time.monotonic() - started, not refusals)
        return refusals

    def facts_changed(self, facts: Facts) -> None:
        """Links, routes or addresses of the node. What belongs together comes at once: applied in the next turn."""
        self.facts = facts
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._take_facts)

    def _take_facts(self) -> None:
        self._soon = None
        self.datapath.take_facts(self.facts)
        self.settle()

    def _notice_loss(self, held: Snapshot | None, update: Update, cluster: ClusterDelta) -> None:
        """Revisions never go back, but for an operator that lost its state (or is another cluster's). It is
        believed: nobody can tell that from one that was set up anew. But what it lifts by not knowing it is told,
        until it is there again or we are started anew."""
        if held is not None and update.epoch != self.epoch and update.revision < held.revision:
            self.forgotten |= cluster.policies_gone
            log.error(
                "the operator began anew: revision %d after %d, %d policies gone",
                update.revision, held.revision, len(cluster.policies_gone),
            )  # fmt: skip
        self.forgotten -= cluster.policies.keys()

    def _keep(self, raw: bytes, full: bool, snapshot: Snapshot) -> None:
        if full:
            self.file.replace(raw)
        else:
            self.file.append(raw, lambda: self._serialized(snapshot))

    def _take(self, snapshot: Snapshot, cluster: ClusterDelta, own: NodeDelta) -> None:
        # Between disk and kernel: whoever dies from here on left a file that holds at least this.
        self.datapath.mark(digest(self.epoch, snapshot.revision))
        self.datapath.take_snapshot(snapshot, cluster, own)
        self.settle()

    # what follows

    def settle(self) -> None:
        """Makes the kernel hold what it should. What fails is shown, and tried again."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._thread_writes and self.datapath.writer.unsure:
            # What is in the kernel cannot be read while it is being tidied.
            self._retry = asyncio.get_running_loop().call_later(RETRY, self.settle)
            return
        try:
            written = self.datapath.apply()
        except OSError as error:
            if str(error) != self.problem:
                log.error("the kernel refused a write: %s", error)
            self.problem = str(error)
        else:
            self.problem = ""
            if self.snapshot is not None:
                self.in_force = self.snapshot.revision
            if written:
                log.debug("revision %d: %d writes", self.in_force, written)
        if self.problem or self.datapath.writer.problems:
            self._retry = asyncio.get_running_loop().call_later(RETRY, self.settle)
        self._tell_directory()
        self._notify()
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def _tidy(self) -> None:
        try:
            await asyncio.sleep(TIDY_AFTER)
            if work := self.datapath.tidy():
                self._thread_writes = True
                self.datapath.tidied(await asyncio.to_thread(work))
        except OSError as error:
            log.warning("tidying up: %s", error)
        finally:
            self._tidying, self._thread_writes = None, False

    def _tell_directory(self) -> None:
        if self.snapshot is None:
            return
        cluster = self.snapshot.cluster
        places = self.datapath.placed.places
        self.directory.take(cluster, between(self._told, cluster), places, self.datapath.facts.addresses)
        self._told = cluster

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def stop(self) -> None:
        """Nothing of ours touches the kernel after this."""
        for handle in (self._retry, self._soon):
            if handle is not None:
                handle.cancel()
        if self._tidying is not None:
            if not self._thread_writes:
                self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    # what is asked

    def held(self) -> Held:
        revision = self.snapshot.revision if self.snapshot else 0
        own = self.datapath.facts.addresses - {*GATEWAYS, *self.datapath.dns}
        return Held(revision, self.epoch, tuple(sorted(own)))

    def refusals(self) -> Refusals:
        told = dict(self.datapath.refusals())
        for ifindex, why in self.datapath.writer.problems.items():
            told[f"interface {self._interface(ifindex) or ifindex} of node {self.node}"] = why
        if self.problem:
            told[f"node {self.node}"] = self.problem
        return told

    def serialized(self) -> bytes:
        """The snapshot as a full control.v1.Update; empty: there is none."""
        return self._serialized(self.snapshot) if self.snapshot else b""

    async def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Until `condition()` is true; its value."""
        while not (value := condition()):
            await self._changed.wait()
        return value

    def _serialized(self, snapshot: Snapshot) -> bytes:
        return convert.to_update(full_update(snapshot, self.epoch)).SerializeToString()

    def _interface(self, index: int) -> str:
        return self.datapath.facts.links.get(index, "")


def _really(held: Snapshot | None, update: Update, snapshot: Snapshot) -> tuple[ClusterDelta, NodeDelta]:
    """What changed. A full update repeats much that we have."""
    if not update.full:
        return update.cluster, update.node
    before = held or Snapshot(0, snapshot.node, ClusterPart(), NodePart())
    return between(before.cluster, snapshot.cluster), between_nodes(before.own, snapshot.own)
