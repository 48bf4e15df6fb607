"""Policies with selectors -> policies with identity numbers (`PolicyItem`).

Each distinct peer is resolved once, whoever names it, and remembers which policies do; so a new identity costs the
selectors that its labels touch, and a new policy costs its own peers. What each kind of peer means:

1. endpoint selector: every identity that it matches, reserved ones included (S7);
2. entity: ENTITIES below;
3. CIDR: itself, and where pods count (`includes_pods`, Kubernetes ipBlock) the pod identities inside it, which
   carry the prefix as a label (`identify.prefix_label`);
4. CIDR group: the CIDRs that the group holds now; no such group: nobody (C5);
5. service: the pods that its selector means, or the addresses of its slices if it has none (C7).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from weft.policies import identity
from weft.policies.catalog import Catalog, means
from weft.policies.errors import Invalid, Where
from weft.policies.identify import prefix_label
from weft.policies.labels import CLUSTER_KEY, NAMESPACE_KEY, Labels, Op, Requirement, Selector, equals
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
from weft.policies.objects import CidrGroup, Service
from weft.policies.population import CLUSTER_NAME
from weft.policies.selection import Index, Selection, union
from weft.policies.snapshot import PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec

IN_CLUSTER: Final = Selector((equals(CLUSTER_KEY, CLUSTER_NAME),))


def _just(*numbers: int) -> ResolvedPeers:
    return ResolvedPeers(identities=frozenset(numbers))


#: "cluster" has every identity of IN_CLUSTER besides.
ENTITIES: Final[dict[str, ResolvedPeers]] = {
    "all": ResolvedPeers(any=True),
    "none": _just(),
    "world": ResolvedPeers(identities=frozenset({identity.WORLD}), world_ipv4=True, world_ipv6=True),
    "world-ipv4": ResolvedPeers(world_ipv4=True),
    "world-ipv6": ResolvedPeers(world_ipv6=True),
    "host": _just(identity.HOST),
    "remote-node": _just(identity.REMOTE_NODE),
    "init": _just(identity.INIT),
    "ingress": _just(identity.INGRESS),
    "unmanaged": _just(identity.UNMANAGED),
    "health": _just(identity.HEALTH),
    "kube-apiserver": _just(identity.KUBE_APISERVER),
    "cluster": _just(
        identity.HOST,
        identity.REMOTE_NODE,
        identity.INIT,
        identity.INGRESS,
        identity.HEALTH,
        identity.UNMANAGED,
        identity.KUBE_APISERVER,
    ),
}

ANYBODY: Final = ResolvedPeers(any=True)
NOBODY: Final = ResolvedPeers()


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
        """Brings peers that stand on services and groups up to date: they may mention other labels now."""
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
            if isinstance(peer, ServicePeer | CidrGroupPeer):
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
        meaning.fixed, selectors = self._meaning_of(meaning.peer)
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

    def _meaning_of(self, peer: Peer) -> tuple[ResolvedPeers, list[Selector]]:
        match peer:
            case EndpointPeer(selector):
                return NOBODY, [selector]
            case EntityPeer(entity):
                return ENTITIES[entity], [IN_CLUSTER] if entity == "cluster" else []
            case CidrPeer():
                return ResolvedPeers(cidrs=(peer,)), [_inside(peer)] if peer.includes_pods else []
            case CidrGroupPeer():
                return ResolvedPeers(cidrs=_group_cidrs(peer, self._catalog.groups_meant(peer))), []
            case ServicePeer():
                return self._services(self._catalog.services_meant(peer))

    def _services(self, services: list[Service]) -> tuple[ResolvedPeers, list[Selector]]:
        selectors = dict.fromkeys(_service_selector(service) for service in services if service.selector)
        numbers: set[int] = set()
        cidrs: list[CidrPeer] = []
        for service in services:
            if not service.selector:
                cidrs += self._slice_cidrs(service)
                if (service.namespace, service.name) == ("default", "kubernetes"):
                    numbers.add(identity.KUBE_APISERVER)  # what the node calls those addresses
        return ResolvedPeers(identities=frozenset(numbers), cidrs=tuple(dict.fromkeys(cidrs))), list(selectors)

    def _slice_cidrs(self, service: Service) -> list[CidrPeer]:
        slices = self._catalog.slices_of(f"{service.namespace}/{service.name}")
        return [CidrPeer(ip_network(a)) for piece in slices for e in piece.endpoints for a in e.addresses]

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
        peers = ANYBODY if rule.peers is None else _together([self._value(peer) for peer in rule.peers])
        return ResolvedRule(
            rule.origin, rule.direction, rule.action, peers, rule.ports, rule.l7, rule.tier, rule.priority
        )

    def _value(self, peer: Peer) -> ResolvedPeers:
        meaning = self._meanings[peer]
        if meaning.value is None:
            meaning.value = _valued(meaning.fixed, meaning.selections)
        return meaning.value


def _valued(fixed: ResolvedPeers, selections: list[Selection]) -> ResolvedPeers:
    if not selections:
        return fixed
    numbers = union(selections)
    if fixed.identities:
        numbers |= fixed.identities
    world = identity.WORLD in numbers
    return ResolvedPeers(
        identities=numbers,
        cidrs=fixed.cidrs,
        world_ipv4=world or identity.WORLD_IPV4 in numbers,
        world_ipv6=world or identity.WORLD_IPV6 in numbers,
    )


def _together(values: list[ResolvedPeers]) -> ResolvedPeers:
    if len(values) == 1:
        return values[0]
    if any(value.any for value in values):
        return ANYBODY
    return ResolvedPeers(
        identities=frozenset().union(*(value.identities for value in values)),
        cidrs=tuple(dict.fromkeys(cidr for value in values for cidr in value.cidrs)),
        world_ipv4=any(value.world_ipv4 for value in values),
        world_ipv6=any(value.world_ipv6 for value in values),
    )


def _peers_of(policy: Policy) -> Iterable[Peer]:
    for spec in policy.specs:
        yield EndpointPeer(spec.subject)
        for rule in spec.rules:
            yield from rule.peers or ()


def check_entities(policy: Policy) -> None:
    """Raises Invalid (C6)."""
    for spec in policy.specs:
        for rule in spec.rules:
            for peer in rule.peers or ():
                if isinstance(peer, EntityPeer) and peer.entity not in ENTITIES:
                    where = Where(object=str(policy.ref), path=rule.origin.path)
                    raise Invalid(where, f"unsupported entity {peer.entity!r}")


def _inside(block: CidrPeer) -> Selector:
    """The pods of an ipBlock: those that carry its prefix and none of its exceptions."""
    wanted = prefix_label(block.cidr)
    unwanted = [prefix_label(network) for network in block.excepts]
    return Selector(
        (
            Requirement(wanted.source, wanted.key, Op.EXISTS),
            *(Requirement(label.source, label.key, Op.DOES_NOT_EXIST) for label in unwanted),
        )
    )


def _group_cidrs(peer: CidrGroupPeer, groups: list[CidrGroup]) -> tuple[CidrPeer, ...]:
    networks = dict.fromkeys(ip_network(text) for group in groups for text in group.cidrs)
    return tuple(CidrPeer(network, _exceptions(network, peer.excepts)) for network in networks)


def _exceptions(network: Network, excepts: tuple[Network, ...]) -> tuple[Network, ...]:
    return tuple(e for e in excepts if e.version == network.version and e.subnet_of(network))  # type: ignore[arg-type]


def _service_selector(service: Service) -> Selector:
    wanted = Labels.k8s({**service.selector, NAMESPACE_KEY: service.namespace})
    return Selector(tuple(equals(label.key, label.value, label.source) for label in wanted))
