"""The operator's store, seen from the runtime: a mirror that follows it, and writes that wait for it.

The operator may be killed at any time. Then the mirror stays as it was, writes are kept (the last for each
object), and both go on when it is back. Nothing is written that the mirror already holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from weft.policies.model import ObjectRef
from weft.policies.wire.pb import control_pb2, control_pb2_grpc

Manifest = Mapping[str, Any]
log = logging.getLogger("weft.local")
#: A unix channel's default authority is the socket's path, which HTTP/2 servers may refuse.
OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.initial_reconnect_backoff_ms", 50),
]
RETRY = 0.2  # seconds between attempts to reach an operator that is not there
CALL_TIMEOUT = 15.0


def ref_of(manifest: Manifest) -> ObjectRef:
    metadata = manifest["metadata"]
    return ObjectRef(manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def to_ref(ref: ObjectRef) -> control_pb2.ObjectRef:
    return control_pb2.ObjectRef(kind=ref.kind, namespace=ref.namespace, name=ref.name)


def from_ref(ref: control_pb2.ObjectRef) -> ObjectRef:
    return ObjectRef(ref.kind, ref.namespace, ref.name)


class Store:
    """`changed(ref)` is called for each object that came, changed or went, once the mirror shows it."""

    def __init__(self, socket: Path, changed: Callable[[ObjectRef], None]) -> None:
        self.objects: dict[ObjectRef, Manifest] = {}
        self.synced = asyncio.Event()
        self.refused: dict[ObjectRef, str] = {}  # writes of ours that the operator would not take
        self._target = f"unix:{socket}"
        self._changed = changed
        self._writes: dict[ObjectRef, Manifest | None] = {}
        self._wake = asyncio.Event()

    def of_kind(self, kind: str) -> list[tuple[ObjectRef, Manifest]]:
        return [(ref, manifest) for ref, manifest in self.objects.items() if ref.kind == kind]

    def put(self, manifest: Manifest) -> None:
        """Soon; the last one for each object counts."""
        self._write(ref_of(manifest), manifest)

    def delete(self, ref: ObjectRef) -> None:
        self._write(ref, None)

    def _write(self, ref: ObjectRef, manifest: Manifest | None) -> None:
        if ref not in self._writes and self.objects.get(ref) == manifest:
            return
        self._writes[ref] = manifest
        self._wake.set()

    async def run(self) -> None:
        """Follows and writes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._flush())

    @contextlib.asynccontextmanager
    async def _objects(self) -> AsyncIterator[Any]:
        stub: Any = control_pb2_grpc.ObjectsStub
        async with grpc.aio.insecure_channel(self._target, options=OPTIONS) as channel:
            yield stub(channel)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(grpc.RpcError):
                async with self._objects() as objects:
                    await self._mirror(objects.Watch(control_pb2.WatchRequest(), wait_for_ready=True))
            await asyncio.sleep(RETRY)

    async def _mirror(self, events: Any) -> None:
        """All that is, then `synced`: what was not among it is gone; then changes."""
        seen: set[ObjectRef] | None = set()
        async for event in events:
            ref = from_ref(event.ref)
            if event.type == "synced":
                for gone in self.objects.keys() - (seen or set()):
                    self._take(gone, None)
                seen = None
                self.synced.set()
            elif event.type == "gone":
                self._take(ref, None)
            else:
                self._take(ref, json.loads(event.json))
                if seen is not None:
                    seen.add(ref)

    def _take(self, ref: ObjectRef, manifest: Manifest | None) -> None:
        if self.objects.get(ref) == manifest:
            return
        if manifest is None:
            del self.objects[ref]
        else:
            self.objects[ref] = manifest
        self._changed(ref)

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._writes = self._writes, {}
            try:
                async with self._objects() as objects:
                    await self._send(objects, batch)
            except grpc.RpcError as error:
                log.warning("operator: %s; %d writes wait", error, len(batch))
                self._writes = batch | self._writes
                self._wake.set()
                await asyncio.sleep(RETRY)

    async def _send(self, objects: Any, batch: Mapping[ObjectRef, Manifest | None]) -> None:
        if gone := [ref for ref, manifest in batch.items() if manifest is None]:
            request = control_pb2.DeleteRequest(refs=[to_ref(ref) for ref in gone])
            await objects.Delete(request, timeout=CALL_TIMEOUT, wait_for_ready=True)
        put = [manifest for manifest in batch.values() if manifest is not None]
        if put and not await self._apply(objects, put):
            for one in put:  # all or nothing: one that is refused must not keep the others out
                await self._apply(objects, [one])

    async def _apply(self, objects: Any, manifests: list[Manifest]) -> bool:
        documents = [control_pb2.Document(json=json.dumps(manifest)) for manifest in manifests]
        request = control_pb2.ApplyRequest(documents=documents)
        reply = await objects.Apply(request, timeout=CALL_TIMEOUT, wait_for_ready=True)
        refused = [outcome for outcome in reply.outcomes if outcome.what == "refused"]
        if not refused:
            for manifest in manifests:
                self.refused.pop(ref_of(manifest), None)
        elif len(manifests) == 1:
            ref = ref_of(manifests[0])
            self.refused[ref] = refused[0].error
            log.error("operator refused %s: %s", ref, refused[0].error)
            self._changed(ref)
        return not refused
