"""weft.control.v1.Objects: the store as people and the local runtime use it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import grpc.aio

from weft.operator.admit import admit, document_of
from weft.operator.reconcile import Prepared, Reconciler
from weft.operator.store import Stored
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef
from weft.policies.wire.convert import from_ref, to_ref
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc as rpc

log = logging.getLogger(__name__)


class Objects(rpc.ObjectsServicer):
    def __init__(self, reconciler: Reconciler, status: Callable[[], pb.StatusReply]) -> None:
        self._reconciler = reconciler
        self._status = status

    async def Apply(
        self, request: pb.ApplyRequest, context: grpc.aio.ServicerContext[pb.ApplyRequest, pb.ApplyReply]
    ) -> pb.ApplyReply:
        """All or nothing: one document that is refused keeps all others out."""
        checked = [
            self._checked(document, request.default_namespace or "default") for document in request.documents
        ]
        if any(isinstance(found, pb.Outcome) for found in checked):
            outcomes = [found if isinstance(found, pb.Outcome) else _held_back(found) for found in checked]
            return pb.ApplyReply(outcomes=outcomes, revision=self._reconciler.hub.revision)
        outcomes = []
        for prepared in (found for found in checked if not isinstance(found, pb.Outcome)):
            what = self._reconciler.commit(prepared)
            outcomes.append(pb.Outcome(ref=to_ref(prepared.ref), what=what, warnings=prepared.warnings))
        revision = await self._reconciler.settled()
        self._add_problems(outcomes)
        return pb.ApplyReply(outcomes=outcomes, revision=revision)

    async def Delete(
        self, request: pb.DeleteRequest, context: grpc.aio.ServicerContext[pb.DeleteRequest, pb.DeleteReply]
    ) -> pb.DeleteReply:
        outcomes = [self._deleted(from_ref(ref)) for ref in request.refs]
        return pb.DeleteReply(outcomes=outcomes, revision=await self._reconciler.settled())

    async def Watch(
        self, request: pb.WatchRequest, context: grpc.aio.ServicerContext[pb.WatchRequest, pb.WatchEvent]
    ) -> AsyncIterator[pb.WatchEvent]:
        """A slow watcher skips versions between, never the last one: changes wait by object, not by event."""
        store = self._reconciler.store
        kinds = set(request.kinds)
        pending: dict[ObjectRef, Stored | None] = {}
        wake = asyncio.Event()

        def note(ref: ObjectRef, stored: Stored | None) -> None:
            if not kinds or ref.kind in kinds:
                pending.pop(ref, None)  # to the end: what happened last is told last
                pending[ref] = stored
                wake.set()

        store.changed.append(note)
        try:
            for stored in store.of_kinds(kinds):
                yield _event(stored.ref, stored)
            yield pb.WatchEvent(type="synced")
            while True:
                await wake.wait()
                wake.clear()
                while pending:
                    ref = next(iter(pending))
                    yield _event(ref, pending.pop(ref))
        finally:
            store.changed.remove(note)

    async def Status(
        self, request: pb.StatusRequest, context: grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusReply]
    ) -> pb.StatusReply:
        return self._status()

    def _checked(self, document: pb.Document, default_namespace: str) -> Prepared | pb.Outcome:
        try:
            admitted = admit(document_of(document.json, document.file, document.line), default_namespace)
            return self._reconciler.prepare(admitted)
        except Invalid as error:
            return pb.Outcome(ref=_ref_in(error.where.object), what="refused", error=str(error))

    def _deleted(self, ref: ObjectRef) -> pb.Outcome:
        stored = self._reconciler.store.get(ref)
        if stored is None:
            return pb.Outcome(ref=to_ref(ref), what="unchanged", warnings=["there is no such object"])
        self._reconciler.remove(ref)
        log.info("%s deleted", ref)
        warnings = [f"{stored.file} declares it: it comes back when that file is read again"] if stored.file else []
        return pb.Outcome(ref=to_ref(ref), what="deleted", warnings=warnings)

    def _add_problems(self, outcomes: list[pb.Outcome]) -> None:
        problems, warnings = self._reconciler.cluster_problems(), self._reconciler.cluster_warnings()
        for outcome in outcomes if problems or warnings else ():
            ref = from_ref(outcome.ref)
            if ref in problems:
                outcome.warnings.append(f"not in force: {problems[ref]}")
            if ref in warnings:
                outcome.warnings.append(warnings[ref])


def _event(ref: ObjectRef, stored: Stored | None) -> pb.WatchEvent:
    if stored is None:
        return pb.WatchEvent(type="gone", ref=to_ref(ref))
    return pb.WatchEvent(type="put", ref=to_ref(ref), json=stored.json)


def _held_back(prepared: Prepared) -> pb.Outcome:
    return pb.Outcome(
        ref=to_ref(prepared.ref), what="refused", error="not applied: another object of the request is refused"
    )


def _ref_in(text: str) -> pb.ObjectRef:
    """`Kind ns/name` as Where has it, back to a ref; empty before the object was known."""
    kind, _, name = text.partition(" ")
    namespace, slash, rest = name.partition("/")
    return pb.ObjectRef(kind=kind, namespace=namespace if slash else "", name=rest if slash else name)
