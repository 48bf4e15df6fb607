"""Policies with selectors -> policies with identity numbers (`PolicyItem`), kept current.

Each distinct peer is resolved once, whoever names it, and remembers which policies do; so a new identity costs the
selectors that its labels touch, and a new policy costs its own peers. What a peer means is said in `peers`.
"""

from __future__ import annotations

from collections.abc import Iterable

from weft.policies import identity
from weft.policies.catalog import Catalog, means
from weft.policies.model import (
    CidrGroupPeer,
    CidrPeer,
    EndpointPeer,
    EntityPeer,
    Network,
    ObjectRef,
    Peer,
    Policy,
    Rule,
    ServicePeer,
    Spec,
)
from weft.policies.objects import Service
from weft.policies.peers import ANYBODY, NOBODY, check_entities, meaning_of, together, valued
from weft.policies.selection import Index, Selection
from weft.policies.snapshot import PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec


class _Meaning:
    """One peer in use: what is fixed about it, the selections it stands on, and who uses it."""

    __slots__ = ("fixed", "peer", "selections", "users", "value")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.fixed = NOBODY
        self.selections: list[Selection] = []
        self.users: set[ObjectRef] = set()
        self.value: ResolvedPeers | None = None  # None: to be computed


class Resolver:
    """Holds the policies. `put`, `remove` and the `..._changed` notes are cheap; `resolve` does the work."""

    def __init__(self, index: Index, catalog: Catalog) -> None:
        self._index = index
        self._catalog = catalog
        self._policies: dict[ObjectRef, tuple[Policy, int]] = {}
        self._meanings: dict[Peer, _Meaning] = {}
        self._standing_on: dict[Selection, set[_Meaning]] = {}
        self._dynamic: set[_Meaning] = set()  # those whose `fixed` and `selections` depend on other objects
        self._stale: set[_Meaning] = set()
        self._dirty: set[ObjectRef] = set()
        self._api: tuple[frozenset[str], bool] = (frozenset(), False)

    def put(self, policy: Policy, generation: int) -> None:
        """Raises Invalid, and changes nothing, when the policy names an entity that does not exist (C6)."""
        peers = set(_peers_of(policy))
        check_entities(policy)
        before = self._policies.get(policy.ref)
        for peer in peers:
            self._acquire(peer, policy.ref)
        if before:
            for peer in set(_peers_of(before[0])) - peers:
                self._release(peer, policy.ref)
        self._policies[policy.ref] = policy, generation
        self._dirty.add(policy.ref)

    def remove(self, ref: ObjectRef) -> None:
        before = self._policies.pop(ref, None)
        if before:
            for peer in set(_peers_of(before[0])):
                self._release(peer, ref)
            self._dirty.add(ref)

    def generation(self, ref: ObjectRef) -> int:
        """0: not here."""
        return self._policies[ref][1] if ref in self._policies else 0

    def prefixes(self) -> set[Network]:
        """Those that make a difference between pods: CIDRs and exceptions of the ipBlocks in force."""
        blocks = (p for p in self._meanings if isinstance(p, CidrPeer) and p.includes_pods)
        return {network for block in blocks for network in (block.cidr, *block.excepts)}

    def selections_changed(self, selections: Iterable[Selection]) -> None:
        for selection in selections:
            for meaning in self._standing_on.get(selection, ()):
                self._invalidate(meaning)

    def service_changed(self, *versions: Service | None) -> None:
        """Before and after; with the same version twice, its slices changed."""
        known = [service for service in versions if service is not None]
        for meaning in self._dynamic:
            peer = meaning.peer
            if isinstance(peer, ServicePeer) and any(means(peer, service) for service in known):
                self._stale.add(meaning)

    def groups_changed(self) -> None:
        self._stale |= {m for m in self._dynamic if isinstance(m.peer, CidrGroupPeer)}

    def settle(self) -> None:
        """Brings peers that stand on other objects up to date: they may mention other labels now."""
        api = self._catalog.api_servers(), self._catalog.every_node_serves_api()
        if api != self._api:
            self._api = api
            self._stale |= {m for m in self._dynamic if isinstance(m.peer, EntityPeer)}
        for meaning in self._stale:
            before = meaning.selections
            self._define(meaning)
            for selection in before:
                self._let_go(meaning, selection)
            self._invalidate(meaning)
        self._stale.clear()

    def resolve(self) -> dict[ObjectRef, PolicyItem | None]:
        """The policies whose item may have changed since the last call; None: gone."""
        self.settle()
        items: dict[ObjectRef, PolicyItem | None] = {}
        for ref in self._dirty:
            items[ref] = self._item(*self._policies[ref]) if ref in self._policies else None
        self._dirty.clear()
        return items

    # peers in use

    def _acquire(self, peer: Peer, user: ObjectRef) -> None:
        meaning = self._meanings.get(peer)
        if meaning is None:
            meaning = self._meanings[peer] = _Meaning(peer)
            self._define(meaning)
            if isinstance(peer, ServicePeer | CidrGroupPeer | EntityPeer):
                self._dynamic.add(meaning)
        meaning.users.add(user)

    def _release(self, peer: Peer, user: ObjectRef) -> None:
        meaning = self._meanings[peer]
        meaning.users.discard(user)
        if not meaning.users:
            del self._meanings[peer]
            self._dynamic.discard(meaning)
            self._stale.discard(meaning)
            for selection in meaning.selections:
                self._let_go(meaning, selection)

    def _define(self, meaning: _Meaning) -> None:
        meaning.fixed, selectors = meaning_of(meaning.peer, self._catalog)
        meaning.selections = [self._index.acquire(selector) for selector in selectors]
        for selection in meaning.selections:
            self._standing_on.setdefault(selection, set()).add(meaning)

    def _let_go(self, meaning: _Meaning, selection: Selection) -> None:
        if selection not in meaning.selections or not meaning.users:
            self._standing_on[selection].discard(meaning)
            if not self._standing_on[selection]:
                del self._standing_on[selection]
        self._index.release(selection)

    def _invalidate(self, meaning: _Meaning) -> None:
        meaning.value = None
        self._dirty |= meaning.users

    # resolved values

    def _item(self, policy: Policy, generation: int) -> PolicyItem:
        specs = tuple(self._spec(spec) for spec in policy.specs)
        return PolicyItem(policy.ref, generation, policy.labels, specs)

    def _spec(self, spec: Spec) -> ResolvedSpec:
        """Subjects are workloads: a selector that also fits reserved identities selects no node by it."""
        subjects = self._value(EndpointPeer(spec.subject)).identities
        if any(identity.is_reserved(number) for number in subjects):
            subjects = frozenset(number for number in subjects if not identity.is_reserved(number))
        rules = tuple(self._rule(rule) for rule in spec.rules)
        return ResolvedSpec(subjects, spec.default_deny_ingress, spec.default_deny_egress, rules, spec.log)

    def _rule(self, rule: Rule) -> ResolvedRule:
        peers = ANYBODY if rule.peers is None else together([self._value(peer) for peer in rule.peers])
        return ResolvedRule(
            rule.origin, rule.direction, rule.action, peers, rule.ports, rule.l7, rule.tier, rule.priority
        )

    def _value(self, peer: Peer) -> ResolvedPeers:
        meaning = self._meanings[peer]
        if meaning.value is None:
            meaning.value = valued(meaning.fixed, [selection.frozen for selection in meaning.selections])
        return meaning.value


def _peers_of(policy: Policy) -> Iterable[Peer]:
    for spec in policy.specs:
        yield EndpointPeer(spec.subject)
        for rule in spec.rules:
            yield from rule.peers or ()
