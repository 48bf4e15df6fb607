"""Store -> cluster -> revisions: the one place where a change of objects becomes a change of nodes.

Changes are gathered for a moment (2 ms when it was quiet, up to 50 ms under load), reconciled at once, and
published when the identity numbers in them are on the disk. `settled` says which revision holds what one did.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from weft.operator import durable
from weft.operator.admit import Admitted, carried_over, meaning_of
from weft.operator.allocate import Ledger
from weft.operator.hub import Hub
from weft.operator.revision import Reservation
from weft.operator.store import Store, canonical
from weft.policies.cluster import Cluster
from weft.policies.delta import ClusterDelta, Step
from weft.policies.dialects import registry
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef

log = logging.getLogger(__name__)

#: Seconds from a change to its revision when nothing happened lately.
QUIET_DELAY = 0.002
#: Between revisions when much happens: ten times what the last one cost, so that a tenth of the time goes into it.
BUSY_INTERVAL = 0.05
BUSY_FACTOR = 10
#: How often the state folder catches up with what a power cut must not take, or with what a full disk refused.
UPKEEP_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change that cannot fail any more. `file`: the watched file that makes it, "" if it comes by the API."""

    ref: ObjectRef
    text: str
    meaning: registry.Parsed | None
    file: str = ""
    line: int = 0
    warnings: tuple[str, ...] = ()


class Reconciler:
    def __init__(self, store: Store, ledger: Ledger, reservation: Reservation, hub: Hub) -> None:
        self.store = store
        self.hub = hub
        self.ledger = ledger
        self.reservation = reservation
        self.problems: dict[ObjectRef, str] = {}  # stored objects that this version cannot read any more
        self.declared: Callable[[ObjectRef], Admitted | None] = lambda ref: None  # by a watched file
        self.failure = ""  # why the last reconciliation came to nothing
        self._cluster = Cluster(ledger, reservation.start())
        self._noted = asyncio.Event()
        self._waiting: list[asyncio.Future[int]] = []
        self._running = False
        self._flushed_at = 0.0
        self._cost = 0.0  # seconds of the last reconciliation

    def load(self) -> None:
        """Puts what the store has loaded into the cluster."""
        for stored in self.store:
            try:
                meaning = meaning_of(stored.json)
                if meaning is not None:
                    self._cluster.put(meaning, stored.generation)
            except Invalid as error:
                self.problems[stored.ref] = f"not in force: {error.where.path}: {error.reason}"
                log.error("%s from the state folder is not in force: %s", stored.ref, error)

    def publish_first(self) -> None:
        """What there is at the start, even if it is nothing: before it no node is told anything."""
        step = self._cluster.delta()
        self.ledger.release_others(self._cluster.part.identities)
        self.ledger.sync()
        if step is None:
            self._cluster.revision += 1
            step = Step(self._cluster.revision, ClusterDelta(), {})
        self.hub.publish(step, self._cluster.part)

    def cluster_warnings(self) -> dict[ObjectRef, str]:
        return self._cluster.warnings()

    def cluster_problems(self) -> dict[ObjectRef, str]:
        return self.problems | self._cluster.problems()

    # changes

    def prepare(self, admitted: Admitted, *, of_file: bool = False) -> Prepared:
        """What `admitted` comes to, given what is there. Raises Invalid, changes nothing.

        To an object that a file declares the API only adds what the file is silent about (`carried_over`): the
        runtime writes a status onto what it has read, and that may be older than what was just saved.
        """
        manifest, warnings = admitted.manifest, admitted.warnings
        declared = None if of_file else self.declared(admitted.ref)
        if declared:
            manifest = carried_over(manifest, declared.manifest)
            if carried_over(manifest, admitted.manifest) != manifest:
                warnings += (f"{declared.file} declares it: what differs from that file was not taken",)
        if before := self.store.get(admitted.ref):
            manifest = carried_over(json.loads(before.json), manifest)
        text = canonical(manifest)
        meaning = admitted.meaning if manifest == admitted.manifest else meaning_of(text)
        if meaning is not None:
            Cluster.check(meaning)
        file, line = (admitted.file, admitted.line) if of_file else ("", 0)
        return Prepared(admitted.ref, text, meaning, file, line, warnings)

    def commit(self, prepared: Prepared) -> str:
        """created, configured, unchanged."""
        what = self.store.put(prepared.ref, prepared.text, prepared.file, prepared.line)
        if what != "unchanged":
            self.problems.pop(prepared.ref, None)
            stored = self.store.get(prepared.ref)
            if prepared.meaning is None:
                self._cluster.remove(prepared.ref)
            else:
                self._cluster.put(prepared.meaning, stored.generation if stored else 0)
            self._noted.set()
        return what

    def remove(self, ref: ObjectRef) -> bool:
        if not self.store.remove(ref):
            return False
        self.problems.pop(ref, None)
        self._cluster.remove(ref)
        self._noted.set()
        return True

    async def settled(self) -> int:
        """The published revision that holds every change made before this call."""
        if not self._noted.is_set() and not self._running:
            return self.hub.revision
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._noted.set()
        return await future

    # the two loops

    async def run(self) -> None:
        while True:
            await self._noted.wait()
            quiet_for = time.monotonic() - self._flushed_at
            interval = min(BUSY_INTERVAL, BUSY_FACTOR * self._cost)
            await asyncio.sleep(max(QUIET_DELAY, interval - quiet_for))
            await self._flush()

    async def upkeep(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_INTERVAL)
            self.store.retry()
            if paths := self.store.take_unsynced():
                try:
                    await asyncio.to_thread(durable.sync, paths)
                except OSError as error:
                    log.error("the state folder is not on the disk yet: %s", error)
            if time.monotonic() - self._flushed_at > 60:
                self.hub.forget_full()

    async def _flush(self) -> None:
        began = time.monotonic()
        self._noted.clear()
        waiting, self._waiting = self._waiting, []
        self._running = True
        try:
            await self._reconcile()
            self.failure = ""
        except Exception as error:  # a defect must not stop the operator from serving what it has
            self.failure = f"the last change could not be reconciled: {error!r}"
            log.exception("reconciliation failed")
        finally:
            self._running = False
            self._flushed_at = time.monotonic()
            self._cost = self._flushed_at - began
            for future in waiting:
                if not future.done():
                    future.set_result(self.hub.revision)

    async def _reconcile(self) -> None:
        step = self._cluster.delta()
        if step is None:
            return
        part = self._cluster.part
        self.reservation.reached(step.revision)
        if self.ledger.unsynced:
            await asyncio.to_thread(self.ledger.sync)
        self.hub.publish(step, part)
