"""What the observer asks of whoever knows the node (the daemon's agent, from its snapshot): names for numbers.

All lookups run once or twice for each record, on the event loop: a dict lookup, no I/O, no exceptions. What is
handed out is kept in the flow ring by reference, so hand out the same object while nothing about it changed,
and a new one when something did (never change one in place).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has an address. `endpoint_id` 0: not a workload of this node. `pod` "": a node, or an outsider.
    `identity` is what the snapshot says now; a record carries what the program saw, and that one is shown."""

    identity: int
    labels: tuple[str, ...] = ()  # of the identity, as "k8s:app=orders", sorted
    namespace: str = ""
    pod: str = ""
    workload_kind: str = ""
    workload_name: str = ""
    endpoint_id: int = 0


@dataclass(frozen=True, slots=True)
class PolicyName:
    """An object one of whose rules decided; `revision` as the daemon put it in force."""

    kind: str  # CiliumNetworkPolicy, NetworkPolicy, ...
    namespace: str  # "" for cluster-scoped kinds
    name: str
    labels: tuple[str, ...] = ()
    revision: int = 0


def policy_name(text: str) -> PolicyName:
    kind, _, name = text.partition(" ")
    namespace, _, name = name.rpartition("/")
    return PolicyName(kind, namespace, name)


@dataclass(frozen=True, slots=True)
class ServiceName:
    namespace: str
    name: str


class Directory(Protocol):
    """`address` is packed, in network order: 4 bytes of IPv4 or 16 of IPv6."""

    def owner(self, address: bytes) -> Owner | None:
        """Pods of the whole cluster, nodes and their gateways; None for the rest of the world."""

    def endpoint(self, endpoint_id: int) -> Owner | None:
        """A workload of this node; None when it is gone."""

    def identity_labels(self, identity: int) -> tuple[str, ...]:
        """Labels of any identity, also reserved ("reserved:world") and local ("cidr:10.0.0.0/8"); () unknown."""

    def policies(self, cookie: int) -> tuple[PolicyName, ...]:
        """The objects whose rules are behind a table value's cookie, each once; () unknown. Never asked for 0."""

    def policy(self, text: str, egress: bool) -> PolicyName | None:
        """A policy as the L7 proxy names it ("CiliumNetworkPolicy ns/name"); None: it has no say in this direction.
        One that is gone meanwhile is what its text says."""

    def service(self, address: bytes, port: int) -> ServiceName | None:
        """The Service with this cluster address (port 0: whatever port)."""

    def names(self, address: bytes) -> Sequence[str]:
        """DNS names that workloads of this node were given for the address; () none. Asked when a flow is read."""

    def interface(self, index: int) -> str:
        """Name of a network device of this node; "" unknown. Asked when a flow is read."""


class Nobody:
    """A directory that knows nothing: for a daemon that has no snapshot yet, and for tests."""

    def owner(self, address: bytes) -> Owner | None:
        return None

    def endpoint(self, endpoint_id: int) -> Owner | None:
        return None

    def identity_labels(self, identity: int) -> tuple[str, ...]:
        return ()

    def policies(self, cookie: int) -> tuple[PolicyName, ...]:
        return ()

    def policy(self, text: str, egress: bool) -> PolicyName | None:
        return policy_name(text)

    def service(self, address: bytes, port: int) -> ServiceName | None:
        return None

    def names(self, address: bytes) -> Sequence[str]:
        return ()

    def interface(self, index: int) -> str:
        return ""
