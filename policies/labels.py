"""Labels and selectors, as Cilium writes them: `source:key=value`.

A workload's labels carry a source (`k8s:app=foo`, `reserved:host`). A selector names a key with a source, or
with `any:` (also what no prefix means, S11) and then any source matches.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

ANY_SOURCE = "any"
SOURCES = ("k8s", "any", "reserved", "cidr", "unspec", "container", "cni", "node")

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"


class Label(NamedTuple):
    source: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> Label:
        """`source:key=value`; no known source prefix means `unspec`, as Cilium prints it."""
        head, _, value = text.partition("=")
        source, key = split_source(head, default="unspec")
        return cls(source, key, value)


def split_source(key: str, default: str = ANY_SOURCE) -> tuple[str, str]:
    """`k8s:app` -> ("k8s", "app"). A colon that follows no known source is part of the key."""
    source, colon, rest = key.partition(":")
    if colon and source in SOURCES:
        return source, rest
    return default, key


class Labels:
    """An immutable set of labels, hashable, with the index by key that selectors need."""

    __slots__ = ("_by_key", "_hash", "_labels")

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels = tuple(sorted(set(labels)))
        self._by_key: dict[str, tuple[Label, ...]] = {}
        for label in self._labels:
            self._by_key[label.key] = (*self._by_key.get(label.key, ()), label)
        self._hash = hash(self._labels)

    @classmethod
    def k8s(cls, labels: Mapping[str, str]) -> Labels:
        return cls(Label("k8s", key, value) for key, value in labels.items())

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Labels:
        return cls(Label.parse(text) for text in texts)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self._labels == other._labels

    def __or__(self, other: Labels) -> Labels:
        return Labels((*self, *other))

    def __repr__(self) -> str:
        return f"Labels({', '.join(self.strings())})"

    def strings(self) -> tuple[str, ...]:
        return tuple(str(label) for label in self._labels)

    def keys(self) -> Iterable[str]:
        return self._by_key.keys()

    def with_key(self, source: str, key: str) -> tuple[Label, ...]:
        found = self._by_key.get(key, ())
        if source == ANY_SOURCE:
            return found
        return tuple(label for label in found if label.source == source)

    def get(self, key: str, source: str = ANY_SOURCE) -> str | None:
        found = self.with_key(source, key)
        return found[0].value if found else None


class Op(enum.StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    source: str
    key: str
    op: Op
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        found = labels.with_key(self.source, self.key)
        if self.op is Op.EXISTS:
            return bool(found)
        if self.op is Op.DOES_NOT_EXIST:
            return not found
        hit = any(label.value in self.values for label in found)
        return hit if self.op is Op.IN else not hit

    def __str__(self) -> str:
        name = self.key if self.source == ANY_SOURCE else f"{self.source}:{self.key}"
        if self.op is Op.EXISTS:
            return name
        if self.op is Op.DOES_NOT_EXIST:
            return f"!{name}"
        if self.op is Op.IN and len(self.values) == 1:
            return f"{name}={self.values[0]}"
        word = "in" if self.op is Op.IN else "notin"
        return f"{name} {word} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements hold (S8). No requirement: everything is selected."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def mentions(self, *keys: str, prefix: str | None = None) -> bool:
        return any(r.key in keys or (prefix is not None and r.key.startswith(prefix)) for r in self.requirements)

    def and_(self, *more: Requirement) -> Selector:
        return Selector((*self.requirements, *more))

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements) or "*"


def equals(key: str, value: str, source: str = "k8s") -> Requirement:
    return Requirement(source, key, Op.IN, (value,))
