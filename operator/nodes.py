"""The nodes that have called: what each was told, what it has in force, what it refused."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from weft.policies.dialects import registry
from weft.policies.errors import Invalid, Where
from weft.policies.model import ObjectRef
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.yamldoc import Document

#: Says of a Node object that the node itself registered it, as a kubelet does: nobody else declared it.
REGISTERED = "weft.dev/registered-by"
#: Updates sent and not acknowledged before a node is left to catch up; then it gets what is newest.
WINDOW = 8


@dataclass(slots=True)
class Node:
    """What is known of a node beyond its connections."""

    name: str
    version: str = ""
    acknowledged: int = 0
    refusals: tuple[pb.Refusal, ...] = ()
    session: Session | None = None


@dataclass(eq=False, slots=True)
class Session:
    """One stream. `holds`: epoch and revision that the node has once it has read all that was sent."""

    node: Node
    epoch: str
    holds: int
    unacknowledged: deque[int] = field(default_factory=deque)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    superseded: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        return len(self.unacknowledged) >= WINDOW

    def sent(self, update: pb.Update) -> None:
        self.epoch, self.holds = update.epoch, update.revision
        self.unacknowledged.append(update.revision)
        self.room.clear()

    def acknowledged(self, ack: pb.Ack) -> None:
        """An acknowledgement of what was never sent counts for nothing."""
        if ack.revision > self.holds:
            return
        while self.unacknowledged and self.unacknowledged[0] <= ack.revision:
            self.unacknowledged.popleft()
        self.node.acknowledged = ack.revision
        self.node.refusals = tuple(ack.refusals)
        self.room.set()


class Nodes:
    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._nodes: dict[str, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(sorted(self._nodes.values(), key=lambda node: node.name))

    def connect(self, hello: pb.Hello) -> Session:
        """The newest stream of a node is the one that counts: the older is of a daemon that died."""
        node = self._nodes.setdefault(hello.node, Node(hello.node))
        if node.session:
            node.session.superseded.set()
        node.version = hello.version
        node.acknowledged = hello.revision if hello.epoch == self._epoch else 0
        node.session = Session(node, hello.epoch, hello.revision)
        return node.session

    def disconnect(self, session: Session) -> None:
        if session.node.session is session:
            session.node.session = None

    def object_changed(self, ref: ObjectRef, stored: object) -> None:
        """For the store: a node whose object was deleted, and which is not connected, is no node any more."""
        node = self._nodes.get(ref.name) if ref.kind == "Node" and stored is None else None
        if node and node.session is None:
            del self._nodes[ref.name]


def check(hello: pb.Hello) -> None:
    """Raises Invalid."""
    where = Where(object=f"Node {hello.node}")
    registry.ref_of(_document(hello.node, []))
    for address in hello.addresses:
        try:
            ip_address(address)
        except ValueError as error:
            raise Invalid(where, str(error)) from None


def registration(hello: pb.Hello, stored: str | None) -> Document | None:
    """The Node object to keep for a node that said hello; None: what is `stored` says it already, or somebody
    declared the node, and then that holds."""
    manifest: dict[str, Any] = json.loads(stored) if stored else {}
    annotations = manifest.get("metadata", {}).get("annotations") or {}
    if stored and REGISTERED not in annotations:
        return None
    document = _document(hello.node, list(hello.addresses))
    return None if document.value == manifest else document


def _document(name: str, addresses: list[str]) -> Document:
    return Document(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "annotations": {REGISTERED: "weft-daemon"}},
            "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
        }
    )
