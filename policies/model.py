"""What every declared policy becomes, whatever its dialect: specs of rules over selectors, before selectors
are resolved. Pure data. `dialects/` makes it, `resolve` turns it into identities, `compile` into map entries.

Rule of this file: empty and missing are different things, and each field says what each means.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from weft.policies.labels import Selector

Network = IPv4Network | IPv6Network


class Direction(enum.IntEnum):
    """Seen from the endpoint that is judged: INGRESS to it, EGRESS from it. The numbers are those in the maps."""

    INGRESS = 0
    EGRESS = 1


class Action(enum.StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"


class Tier(enum.IntEnum):
    """Lower judges first. CNP, CCNP and Kubernetes NetworkPolicy are all NORMAL."""

    ADMIN = 100
    NORMAL = 200
    BASELINE = 250
    DEFAULT = 255


class Protocol(enum.IntEnum):
    """IANA numbers; ANY (0) is TCP, UDP and SCTP when ports are named, everything when they are not."""

    ANY = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    kind: str
    namespace: str  # "" for cluster-scoped kinds
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The rule that decided: which object and where in it (`spec.ingress[0]`)."""

    ref: ObjectRef
    path: str


@dataclass(frozen=True, slots=True)
class EndpointPeer:
    selector: Selector


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """`excepts` are removed from the allow; they deny nothing (C4). `includes_pods`: Kubernetes ipBlock, which
    matches pod addresses too; CNP's CIDRs never do (C1)."""

    cidr: Network
    excepts: tuple[Network, ...] = ()
    includes_pods: bool = False


@dataclass(frozen=True, slots=True)
class CidrGroupPeer:
    """cidrGroupRef: the group `name`; cidrGroupSelector: every group whose labels match `selector`. Resolved to
    one CidrPeer per CIDR of the groups; no such group: nobody (C5). `excepts` as in CidrPeer."""

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class EntityPeer:
    entity: str


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """toServices: by `name` and `namespace`, or by `selector` over the Service's labels (`namespace` "" = all).
    Resolved to the Service's selector, or to its EndpointSlices' addresses where it has none (C7)."""

    namespace: str
    name: str = ""
    selector: Selector | None = None


Peer = EndpointPeer | CidrPeer | CidrGroupPeer | EntityPeer | ServicePeer


@dataclass(frozen=True, slots=True)
class PortSpec:
    """One port of a rule. `name` set: resolved on the subject (ingress) or on each peer (egress), P3.
    Else `port` to `end_port` inclusive, `port` 0 with `end_port` 0 = every port of the protocol (P1).
    ICMP and ICMPV6: `port` is the type, and `end_port` equals it."""

    protocol: Protocol
    port: int = 0
    end_port: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """`value` None: present, with any value. `mismatch` "" denies; LOG, ADD, DELETE, REPLACE never deny (L5).
    `secret`: (namespace, name) holding the value."""

    name: str
    value: str | None = None
    mismatch: str = ""
    secret: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class HttpRule:
    """All fields that are set must match (L2). Regexes are RE2, full match (L3); "" matches everything."""

    path: str = ""
    method: str = ""
    host: str = ""
    headers: tuple[HeaderMatch, ...] = ()
    spec_path: str = ""  # spec.ingress[0].toPorts[0].rules.http[1]


@dataclass(frozen=True, slots=True)
class L7:
    """L7 rules of one port rule. `http` empty tuple inside an L7 cannot happen: `rules.http: []` means no L7
    rules at all and gives `l7=None`. Requests pass if any rule matches."""

    http: tuple[HttpRule, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of a spec: these peers, on these ports.

    `peers` None: any peer (wildcard, S1). Empty: no peer at all (S2, E3): the rule allows nothing.
    `ports` None: every port and protocol (P7). Empty cannot happen.
    `priority`: lower first, inside the tier; deny beats redirect beats allow at the same tier and priority.
    """

    origin: Origin
    direction: Direction
    action: Action
    peers: tuple[Peer, ...] | None
    ports: tuple[PortSpec, ...] | None = None
    l7: L7 | None = None
    tier: Tier = Tier.NORMAL
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """One `spec` (or one of `specs`): whom it selects, which directions it turns to default deny, its rules."""

    subject: Selector
    default_deny_ingress: bool
    default_deny_egress: bool
    rules: tuple[Rule, ...]
    log: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """`labels` are derived-from labels shown in flows (`k8s:io.cilium.k8s.policy.name=...`).
    `warnings` are told to the user but refuse nothing."""

    ref: ObjectRef
    specs: tuple[Spec, ...]
    labels: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)
