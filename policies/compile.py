"""From resolved policies to the tables that the kernel looks up (`table`), for the endpoints of one node.

In: the snapshot's policies, addresses and endpoints. Out: one Table for each endpoint; endpoints whose policy
is equal share the object, so the daemon fills one map for them. `Compiler` is incremental: `update` takes what
changed and answers which endpoints' tables may differ, `table` compiles those that are asked for.

A policy that would not fit its map is refused before anything is written (M2): first without the cells that
only tell apart *which* rules allow the same thing, then with TableOverflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from weft.policies.cidr import CidrIdentities, prefixes_of
from weft.policies.cookies import Cookies
from weft.policies.flatten import Flattening, Group
from weft.policies.model import Direction, Network, ObjectRef
from weft.policies.named import NamedPortIndex
from weft.policies.ports import name_cells
from weft.policies.prepare import EXCEPTIONS, Peers, PreparedRule, PreparedSpec, prepare_spec
from weft.policies.snapshot import ClusterPart, EndpointItem, NamedPort, PolicyItem, ResolvedSpec
from weft.policies.table import MAX_ENTRIES, Key, Table, TableOverflow, Value

NOTHING = Table(False, False, {}, {})


def compile_table(
    identity: int,
    named_ports: Sequence[NamedPort],
    specs: Iterable[tuple[PolicyItem, ResolvedSpec]],
    peers: Peers,
    cookies: Cookies,
) -> Table:
    """The table of one endpoint, from scratch. Specs whose subjects lack `identity` are passed over; the
    prefixes that the specs name must be in force in `peers.cidrs`."""
    selecting = [prepare_spec(spec, peers.cidrs) for _, spec in specs if identity in spec.subjects]
    return compile_specs(selecting, named_ports, peers, cookies)


def compile_specs(
    specs: Sequence[PreparedSpec], named_ports: Iterable[NamedPort], peers: Peers, cookies: Cookies
) -> Table:
    if not specs:
        return NOTHING
    enforced = [any(spec.default_deny[direction] for spec in specs) for direction in Direction]  # E6
    flattenings = []
    for direction in Direction:
        rules = [rule for spec in specs for rule in spec.rules[direction]]
        if direction is Direction.INGRESS:
            rules = [with_names(rule, named_ports) for rule in rules]
        if rules or enforced[direction]:
            rules.append(EXCEPTIONS[direction])
        flattenings.append(Flattening(rules, enforced[direction], cookies))
    for exact in (True, False):
        groups = [flattening.groups(peers, exact=exact) for flattening in flattenings]
        size = sum(group.entries for of_direction in groups for group in of_direction)
        if size <= MAX_ENTRIES:
            return build_table(enforced, groups, cookies)
    raise TableOverflow(size)


def with_names(rule: PreparedRule, named_ports: Iterable[NamedPort]) -> PreparedRule:
    """An ingress rule with its named ports resolved on the subject (P3)."""
    if not rule.names:
        return rule
    cells = dict.fromkeys(rule.cells)
    for protocol, name in rule.names:
        cells.update(dict.fromkeys(name_cells(protocol, name, named_ports)))
    return replace(rule, cells=tuple(cells), names=())


def build_table(enforced: list[bool], groups: Sequence[Sequence[Group]], cookies: Cookies) -> Table:
    entries: dict[Key, Value] = {}
    used: set[int] = set()
    for direction in Direction:
        for group in groups[direction]:
            used.update(value.cookie for value in group.cells.values())
            for identity in group.identities:
                for (protocol, port, bits), value in group.cells.items():
                    entries[Key(direction, identity, protocol, port, bits)] = value
    used.discard(0)
    return Table(
        enforced[Direction.INGRESS],
        enforced[Direction.EGRESS],
        entries,
        {cookie: cookies.origins(cookie) for cookie in sorted(used)},
    )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new snapshot puts or removes, by key. `everything`: the snapshot replaces all that was before."""

    policies: frozenset[ObjectRef] = frozenset()
    addresses: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    everything: bool = False


EVERYTHING_CHANGED = Changes(everything=True)


@dataclass(frozen=True, slots=True)
class _Selection:
    subjects: frozenset[int]
    spec: PreparedSpec


_TableKey = tuple[frozenset[PreparedSpec], frozenset[NamedPort]]


class Compiler:
    """Holds the policies of one node, prepared, and the tables it gave out.

    Rule: a prepared spec never changes; a spec that changes becomes a new one. Tables are kept by the specs that
    select the endpoint and the named ports these ask for, so what is stale is never found again.
    """

    def __init__(self, cidrs: CidrIdentities, cookies: Cookies) -> None:
        self.cidrs = cidrs
        self.cookies = cookies
        self._named = NamedPortIndex()
        self._peers = Peers(cidrs, self._named.by_name)
        self._selections: dict[ObjectRef, tuple[_Selection, ...]] = {}
        self._on_prefixes: set[ObjectRef] = set()  # policies that mean CIDRs or the world
        self._selecting: dict[int, dict[PreparedSpec, None]] = {}  # by identity of an endpoint
        self._tables: dict[_TableKey, Table] = {}
        self._given: dict[str, _TableKey] = {}  # what each endpoint was given last

    def update(
        self, cluster: ClusterPart, endpoints: Mapping[str, EndpointItem], changes: Changes = EVERYTHING_CHANGED
    ) -> frozenset[str]:
        """Takes in the new state. Returns the keys of the endpoints whose table may differ from before. After
        it, `cidrs.prefixes()` is what the ipcache must hold before any of the new tables is published."""
        refs = self._selections.keys() | cluster.policies.keys() if changes.everything else changes.policies
        renamed = self._named.update(cluster.addresses, None if changes.everything else changes.addresses)
        moved = [self.cidrs.hold(ref, _prefixes(cluster.policies.get(ref))) for ref in refs]
        asking = {ref for ref in self._selections if renamed and self._asks(ref, renamed)}
        stale = asking.union(refs, self._on_prefixes if any(moved) else ())
        touched: set[int] = set()
        for ref in stale:
            touched |= self._put(ref, cluster.policies.get(ref), afresh=ref in asking)
        self._forget(endpoints)
        changed = {key for key, endpoint in endpoints.items() if endpoint.identity in touched}
        return frozenset(changed | (set(endpoints) if changes.everything else changes.endpoints & endpoints.keys()))

    def table(self, endpoint: EndpointItem) -> Table:
        """The endpoint's table; the same object for endpoints whose policy is equal. Raises TableOverflow."""
        specs = self._selecting_of(endpoint.identity)
        names: frozenset[str] = frozenset().union(*(spec.names[Direction.INGRESS] for spec in specs))
        ports = frozenset(port for port in endpoint.named_ports if port.name.lower() in names)
        key = frozenset(specs), ports
        table = self._tables.get(key)
        if table is None:
            table = compile_specs(tuple(specs), ports, self._peers, self.cookies)
            before = self._tables.get(self._given.get(endpoint.key, key))
            self._tables[key] = table = before if before == table and before is not None else table
        self._given[endpoint.key] = key
        return table

    def _put(self, ref: ObjectRef, item: PolicyItem | None, *, afresh: bool) -> set[int]:
        """The policy is now `item` (None: gone). Returns the identities for which that may matter. A spec that
        says what it said before stays the object it was, unless `afresh`."""
        old = self._selections.pop(ref, ())
        new = [_Selection(spec.subjects, prepare_spec(spec, self.cidrs)) for spec in item.specs] if item else []
        for at, (was, now) in enumerate(zip(old, new, strict=False)):
            if not afresh and was.spec.says_what(now.spec):
                new[at] = _Selection(now.subjects, was.spec)
        if item:
            self._selections[ref] = tuple(new)
        self._on_prefixes.discard(ref)
        if item and _means_prefixes(item):
            self._on_prefixes.add(ref)
        return self._reselect(old, new)

    def _reselect(self, old: Iterable[_Selection], new: Iterable[_Selection]) -> set[int]:
        before = {selection.spec: selection.subjects for selection in old}
        after = {selection.spec: selection.subjects for selection in new}
        touched: set[int] = set()
        for spec in before.keys() | after.keys():
            was, now = before.get(spec, frozenset()), after.get(spec, frozenset())
            touched |= was ^ now
            for identity in was - now & self._selecting.keys():
                self._selecting[identity].pop(spec, None)
            for identity in now & self._selecting.keys():
                self._selecting[identity][spec] = None
        return touched

    def _selecting_of(self, identity: int) -> Iterable[PreparedSpec]:
        if identity not in self._selecting:
            self._selecting[identity] = {
                selection.spec: None
                for selections in self._selections.values()
                for selection in selections
                if identity in selection.subjects
            }
        return self._selecting[identity]

    def _asks(self, ref: ObjectRef, names: set[str]) -> bool:
        return any(names & selection.spec.names[Direction.EGRESS] for selection in self._selections[ref])

    def _forget(self, endpoints: Mapping[str, EndpointItem]) -> None:
        """Lets go of what no endpoint of the node has any more."""
        for key in self._given.keys() - endpoints.keys():
            del self._given[key]
        used = set(self._given.values())
        self._tables = {key: table for key, table in self._tables.items() if key in used}
        identities = {endpoint.identity for endpoint in endpoints.values()}
        self._selecting = {i: specs for i, specs in self._selecting.items() if i in identities}
        self.cookies.retain(cookie for table in self._tables.values() for cookie in table.rule_sets)


def _prefixes(item: PolicyItem | None) -> set[Network]:
    return prefixes_of(item) if item else set()


def _means_prefixes(item: PolicyItem) -> bool:
    peers = [rule.peers for spec in item.specs for rule in spec.rules]
    return any(p.cidrs or p.world_ipv4 or p.world_ipv6 for p in peers)
