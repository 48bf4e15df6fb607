"""Rules as the flattening wants them: peers as one set of identities, ports as cells, precedence as a number.

Precedence, the one order that `flatten` judges by (D2, D5, D6):

1. the lower tier (ADMIN, NORMAL, BASELINE, DEFAULT);
2. in a tier, the lower priority;
3. at equal priority: deny, then redirect (an allow with L7 rules), then allow, then pass;
   a pass skips the rest of its tier;
4. Weft's own exceptions: from the node's host to its workloads (E11), and to the node's DNS;
5. the default: deny where a selecting spec turns default deny on (E6), else allow.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weft.policies.cidr import CidrIdentities
from weft.policies.cookies import Credit
from weft.policies.identity import DNS, HOST
from weft.policies.model import Action, Direction, Protocol, Tier
from weft.policies.ports import EVERYTHING, Cell, number_cells
from weft.policies.snapshot import NamedPort, ResolvedPeers, ResolvedRule, ResolvedSpec


class Kind(enum.IntEnum):
    """What a rule does; lower wins at the same tier and priority."""

    DENY = 0
    REDIRECT = 1
    ALLOW = 2
    PASS = 3


@dataclass(frozen=True, slots=True)
class PreparedRule:
    """`everyone`: any peer, and `peers` is empty. `names`: (protocol, name) of ports that depend on whose they
    are. `credit` None: one of Weft's own exceptions."""

    tier: int
    priority: int
    kind: Kind
    credit: Credit | None
    everyone: bool
    peers: frozenset[int]
    cells: tuple[Cell, ...]
    names: tuple[tuple[int, str], ...] = ()

    @property
    def order(self) -> tuple[int, int, int]:
        return self.tier, self.priority, self.kind


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSpec:
    """One spec of a policy without its subjects. Hashed by itself, so that what was compiled from it can be
    kept under it: a spec that changes becomes another one. Pairs are by Direction; `names`: of ports, as asked."""

    default_deny: tuple[bool, bool]
    rules: tuple[tuple[PreparedRule, ...], tuple[PreparedRule, ...]]
    names: tuple[frozenset[str], frozenset[str]]

    def says_what(self, other: PreparedSpec) -> bool:
        return self.default_deny == other.default_deny and self.rules == other.rules


@dataclass(slots=True)
class Peers:
    """What a node knows of peers beside the rules: its CIDR identities, and `named`: port name -> identity ->
    the ports that identity's workloads give that name (P3, egress)."""

    cidrs: CidrIdentities = field(default_factory=CidrIdentities)
    named: Mapping[str, Mapping[int, frozenset[NamedPort]]] = field(default_factory=dict)


#: Beyond every declared tier: what holds only if no rule said anything.
EXCEPTION_TIER = Tier.DEFAULT + 1
EXCEPTIONS = (
    # INGRESS: the kubelet probes, and a person on the node reaches, whatever runs on it.
    PreparedRule(EXCEPTION_TIER, 0, Kind.ALLOW, None, False, frozenset({HOST}), (EVERYTHING,)),
    # EGRESS: names resolve for every workload; which names is for DNS rules to say, not for L4.
    PreparedRule(
        EXCEPTION_TIER,
        0,
        Kind.ALLOW,
        None,
        False,
        frozenset({DNS}),
        (Cell(Protocol.UDP, 53, 16), Cell(Protocol.TCP, 53, 16)),
    ),
)


def prepare_spec(spec: ResolvedSpec, cidrs: CidrIdentities) -> PreparedSpec:
    ingress = tuple(prepare_rule(r, cidrs) for r in spec.rules if r.direction is Direction.INGRESS)
    egress = tuple(prepare_rule(r, cidrs) for r in spec.rules if r.direction is Direction.EGRESS)
    default_deny = (spec.default_deny_ingress, spec.default_deny_egress)
    return PreparedSpec(default_deny, (ingress, egress), (_names(ingress), _names(egress)))


def _names(rules: Iterable[PreparedRule]) -> frozenset[str]:
    return frozenset(name for rule in rules for _, name in rule.names)


def prepare_rule(rule: ResolvedRule, cidrs: CidrIdentities) -> PreparedRule:
    cells: Iterable[Cell] = (EVERYTHING,)
    names: tuple[tuple[int, str], ...] = ()
    if rule.ports is not None:
        cells = dict.fromkeys(cell for port in rule.ports for cell in number_cells(port))
        names = tuple(dict.fromkeys((int(p.protocol), p.name.lower()) for p in rule.ports if p.name))
    return PreparedRule(
        rule.tier,
        rule.priority,
        kind_of(rule),
        Credit.to(rule.origin),
        rule.peers.any,
        frozenset() if rule.peers.any else peer_identities(rule.peers, cidrs),
        tuple(cells),
        names,
    )


def kind_of(rule: ResolvedRule) -> Kind:
    if rule.action is Action.ALLOW:
        return Kind.ALLOW if rule.l7 is None else Kind.REDIRECT
    return Kind.DENY if rule.action is Action.DENY else Kind.PASS


def peer_identities(peers: ResolvedPeers, cidrs: CidrIdentities) -> frozenset[int]:
    """Every identity the peers mean on this node; the same set object if they name no CIDR and no world."""
    local = [cidrs.matching(peer) for peer in peers.cidrs]
    if peers.world_ipv4:
        local.append(cidrs.family(4))
    if peers.world_ipv6:
        local.append(cidrs.family(6))
    return peers.identities.union(*local) if local else peers.identities
