"""One direction of one endpoint's policy, flattened so that the kernel's first hit is final.

In: prepared rules. Out: cells by identity, ANY among them. The kernel asks (identity, L4), then (any, L4), then
the default, and thinks no further; so an identity that some rule names gets cells that already weigh the rules
for everyone. A cell that a wider cell of the identity, or the `any` cells, answer alike is left out.

Theory. A packet's *place* is the longest cell of any rule that contains it; cells nest, so the rules that match
the packet are exactly those with a cell at or around its place. Deciding each place once decides every packet.
Only places at or inside a cell of a rule that names the identity can differ from the `any` answer.

Rules are sorted by precedence and numbered, sets of rules are bit masks, and the lowest bit wins. Identities
named by the same rules form one group, decided once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from weft.policies.atlas import Atlas, Extra
from weft.policies.cookies import Cookies
from weft.policies.identity import ANY
from weft.policies.ports import Cell, name_cells
from weft.policies.prepare import Kind, Peers, PreparedRule
from weft.policies.table import MatchType, Value, Verdict

VERDICTS = {Kind.DENY: Verdict.DENY, Kind.REDIRECT: Verdict.REDIRECT, Kind.ALLOW: Verdict.ALLOW}
Cells = dict[Cell, Value]
Alike = Callable[[Value, Value], bool]


@dataclass(frozen=True, slots=True)
class Group:
    """Identities with equal cells."""

    identities: tuple[int, ...]
    cells: Cells

    @property
    def entries(self) -> int:
        return len(self.identities) * len(self.cells)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a set of matching rules comes to. `deciding`: the rules whose cells say how it matched."""

    verdict: Verdict
    deciding: int
    cookie: int
    bypass: bool


def acts_alike(one: Value, other: Value) -> bool:
    """The same treatment, whichever rules it is credited to. Two redirects may have different L7 rules."""
    return one.verdict is other.verdict and (one == other or one.verdict is not Verdict.REDIRECT)


def equal(one: Value, other: Value) -> bool:
    return one == other


class Flattening:
    """One direction's rules in order of precedence, as bits; `groups()` is the answer."""

    def __init__(self, rules: Iterable[PreparedRule], enforced: bool, cookies: Cookies) -> None:
        self.rules = sorted(rules, key=lambda rule: rule.order)
        self.default = Value(Verdict.DENY if enforced else Verdict.ALLOW, MatchType.NONE)
        self._cookies = cookies
        self._everyone = 0
        self._exceptions = 0
        self._tier: dict[int, int] = defaultdict(int)
        self._block: dict[tuple[int, int, int], int] = defaultdict(int)
        for index, rule in enumerate(self.rules):
            self._everyone |= rule.everyone << index
            self._exceptions |= (rule.credit is None) << index
            self._tier[rule.tier] |= 1 << index
            self._block[rule.order] |= 1 << index
        self._decisions: dict[int, Decision | None] = {}

    def groups(self, peers: Peers, *, exact: bool = True) -> list[Group]:
        """`exact` False leaves out cells that differ only in the rules they are credited to."""
        alike = equal if exact else acts_alike
        atlas = Atlas(self.rules)
        atlases: dict[Extra, Atlas] = {(): atlas}
        anyone = self._cells(atlas, atlas.everyones_places(), self._everyone, {}, alike)
        groups = [Group((ANY,), anyone)] if anyone else []
        for (members, extra), identities in self._by_rules(peers).items():
            if extra not in atlases:
                atlases[extra] = Atlas(self.rules, extra)
            mask = self._everyone
            for index in members:
                mask |= 1 << index
            cells = self._cells(atlases[extra], atlases[extra].places(members), mask, anyone, alike)
            if cells:
                groups.append(Group(tuple(identities), cells))
        return groups

    def _by_rules(self, peers: Peers) -> dict[tuple[tuple[int, ...], Extra], list[int]]:
        """Identities grouped by the rules that name them, and by the cells their named ports add."""
        extras = cells_by_peer(self.rules, peers)
        naming: dict[frozenset[int], list[int]] = {}
        for index, rule in enumerate(self.rules):
            if rule.peers:
                naming.setdefault(rule.peers, []).append(index)
        rules_of: dict[int, tuple[int, ...]] = {}
        for identities, indexes in naming.items():
            more = tuple(indexes)
            for identity in identities:
                rules_of[identity] = rules_of[identity] + more if identity in rules_of else more
        grouped: dict[tuple[tuple[int, ...], Extra], list[int]] = {}
        for identity, members in rules_of.items():
            grouped.setdefault((members, extras.get(identity, ())), []).append(identity)
        for identity in extras.keys() - rules_of.keys():  # named ports in a rule for everyone
            grouped.setdefault(((), extras[identity]), []).append(identity)
        return grouped

    def _cells(self, atlas: Atlas, places: Iterable[Cell], mask: int, anyone: Cells, alike: Alike) -> Cells:
        """The cells to write for identities that match the rules of `mask`. `places`: the widest first, so
        that whatever a narrower one inherits is known by then."""
        own: Cells = {}
        for cell in places:
            value = self._value(atlas, cell, mask)
            around = atlas.around[cell]
            if not alike(value, _nearest(own, around) or _nearest(anyone, around) or self.default):
                own[cell] = value
        return own

    def _value(self, atlas: Atlas, cell: Cell, mask: int) -> Value:
        matching = atlas.reach[cell] & mask
        if matching not in self._decisions:
            self._decisions[matching] = self._decide(matching)
        decision = self._decisions[matching]
        if decision is None:
            return self.default
        match = self._match(atlas, cell, decision.deciding)
        return Value(decision.verdict, match, decision.cookie, decision.bypass)

    def _decide(self, matching: int) -> Decision | None:
        """The precedence of `prepare`, 1 to 5; None is the default."""
        left = matching
        while left:
            winner = self.rules[(left & -left).bit_length() - 1]  # 1, 2, 3, 4: the order they are sorted in
            if winner.credit is None and self.default.verdict is Verdict.ALLOW:
                return None  # 4 needs no saying where 5 allows
            if winner.kind is not Kind.PASS:
                return self._decision(winner, matching)
            left &= ~self._tier[winner.tier]  # 3: a pass skips the rest of its tier
        return None  # 5

    def _decision(self, winner: PreparedRule, matching: int) -> Decision:
        deciding = credited = matching & self._block[winner.order]
        bypass = False
        if winner.kind is Kind.REDIRECT:
            # L8, L9: a plain allow beside it lifts its L7 limits, so it decides as much.
            credited |= matching & self._block[winner.tier, winner.priority, Kind.ALLOW]
            bypass = bool(matching & self._exceptions)
        cookie = self._cookies.intern(rule.credit for rule in self._rules_of(credited) if rule.credit)
        return Decision(VERDICTS[winner.kind], deciding, cookie, bypass)

    def _rules_of(self, mask: int) -> Iterable[PreparedRule]:
        while mask:
            low = mask & -mask
            yield self.rules[low.bit_length() - 1]
            mask ^= low

    def _match(self, atlas: Atlas, cell: Cell, deciding: int) -> MatchType:
        """D4: of the rules that decided, the longest L4 prefix counts, then one that names the peer."""
        for place in atlas.around[cell]:
            here = atlas.own[place] & deciding
            if here:
                return match_type(place, named=bool(here & ~self._everyone))
        raise AssertionError("a rule that decides a place has a cell at or around it")


def _nearest(cells: Cells, around: Iterable[Cell]) -> Value | None:
    for cell in around:
        if cell in cells:
            return cells[cell]
    return None


def match_type(cell: Cell, *, named: bool) -> MatchType:
    """D8, by whether the deciding rule names the peer, the protocol, the port."""
    if not cell.protocol:
        return MatchType.L3_ONLY if named else MatchType.ALL
    if not cell.bits:
        return MatchType.L3_PROTO if named else MatchType.PROTO_ONLY
    return MatchType.L3_L4 if named else MatchType.L4_ONLY


def cells_by_peer(rules: Iterable[PreparedRule], peers: Peers) -> dict[int, Extra]:
    """The cells that named ports of egress rules add, by the identity whose ports they are (P3)."""
    found: dict[int, dict[int, list[Cell]]] = {}
    for index, rule in enumerate(rules):
        for protocol, name in rule.names:
            by_identity = peers.named.get(name, {})
            for identity in by_identity.keys() if rule.everyone else by_identity.keys() & rule.peers:
                cells = list(name_cells(protocol, name, by_identity[identity]))
                if cells:
                    found.setdefault(identity, {}).setdefault(index, []).extend(cells)
    return {
        identity: tuple((index, tuple(dict.fromkeys(cells))) for index, cells in sorted(by_rule.items()))
        for identity, by_rule in found.items()
    }
