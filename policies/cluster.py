"""The cluster as numbers: objects and policies in, snapshots and differences out. Pure and incremental.

`put` and `remove` only note what changed; `delta` reconciles everything noted since the last call at once and
counts one revision if anything came of it. So a batch of a thousand objects costs one reconciliation, and one
new policy touches only itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from weft.policies import objects
from weft.policies.delta import Step
from weft.policies.labels import Labels
from weft.policies.model import ObjectRef, Policy
from weft.policies.snapshot import Snapshot


class Exhausted(Exception):
    """No identity number is left."""


class Allocator(Protocol):
    """Numbers for sets of labels. The same labels get the same number as long as they are not released."""

    def allocate(self, labels: Labels) -> int:
        """256 to 65535. Raises Exhausted."""

    def release(self, number: int) -> None: ...


class Cluster:
    def __init__(self, allocator: Allocator, revision: int = 0) -> None:
        raise NotImplementedError

    def put(self, thing: Policy | objects.Object, generation: int = 0) -> None:
        """`generation` becomes PolicyItem.revision; 0: counted here."""

    def remove(self, ref: ObjectRef) -> None:
        """What is not there is not missed. Kinds as in the manifests: Pod, Service, EndpointSlice, ..."""

    def delta(self) -> Step | None:
        """What changed since the last call; None: nothing."""

    def snapshot(self, node: str) -> Snapshot:
        """As of the last `delta()` (call it first). A node that is not known has no endpoints."""

    def problems(self) -> Mapping[ObjectRef, str]:
        """Objects that are not in force, and why: no identity left, an address somebody else has."""


class Numbers:
    """The allocator of those who keep nothing: `policy verdict`, tests."""

    def allocate(self, labels: Labels) -> int: ...

    def release(self, number: int) -> None: ...
