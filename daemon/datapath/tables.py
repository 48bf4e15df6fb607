"""The policy of each endpoint of this node, compiled, and what is kept back because it would not fit. Pure.

Rule: what was in force stays in force until its successor fits. Where a table overflows:

1. the endpoint had a table, and policies that select it changed: the largest of these is refused, and its last
   good version (or none) stays in force for everybody; the rest of the change goes on;
2. the endpoint had a table, and no policy is to blame (it became another workload): it keeps what it has;
3. the endpoint is new: it gets a table that lets nothing pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from weft.bpf.policytables import rows as encoded
from weft.daemon.datapath.images import DENY_ALL, Image, Rows, image
from weft.policies.compile import Changes, Compiler
from weft.policies.model import ObjectRef
from weft.policies.snapshot import ClusterPart, EndpointItem, PolicyItem
from weft.policies.table import WARN_ENTRIES, Table, TableOverflow


@dataclass(slots=True)
class Refused:
    """Reasons: of policies whose new version waits, and of endpoints that keep an old table or pass nothing."""

    policies: dict[ObjectRef, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    denied: dict[str, str] = field(default_factory=dict)


class Tables:
    def __init__(self, compiler: Compiler, adopted: Mapping[str, Image] | None = None) -> None:
        """`adopted`: endpoints that the kernel already holds a table for, from a daemon before this one."""
        self._compiler = compiler
        self._images: dict[str, Image] = dict(adopted or {})
        self._tables: dict[str, Table] = {}
        self._fresh: dict[bytes, Rows] = {}
        self._known: dict[int, tuple[Table, Image]] = {}  # by id(table): the compiler shares equal ones
        self._good: dict[ObjectRef, PolicyItem] = {}
        self._first = True
        self.refused = Refused()

    def image(self, endpoint: str) -> Image:
        return self._images[endpoint]

    def has(self, endpoint: str) -> bool:
        return endpoint in self._images

    def cookies(self) -> Iterator[int]:
        """Of all rules behind all tables; some more than once."""
        for table in self._tables.values():
            yield from table.rule_sets

    def largest(self) -> int:
        return max((held.entries for held in self._images.values()), default=0)

    def table(self, endpoint: str) -> Table:
        """What was compiled for it last. A table adopted from the kernel and not compiled since: DENY_ALL."""
        return self._tables.get(endpoint, DENY_ALL)

    def rows(self, digest: bytes) -> Rows:
        """The content that a new table is filled with."""
        found = self._fresh.get(digest)
        if found is None:
            key = next(key for key, held in self._images.items() if held.digest == digest and key in self._tables)
            found = self._fresh[digest] = encoded(self._tables[key].entries)
        return found

    def settled(self) -> None:
        """The kernel holds it all: the bytes need not be kept."""
        self._fresh.clear()

    def nearly_full(self) -> dict[str, int]:
        return {key: held.entries for key, held in self._images.items() if held.entries > WARN_ENTRIES}

    def update(
        self, cluster: ClusterPart, endpoints: Mapping[str, EndpointItem], changes: Changes
    ) -> frozenset[str]:
        """Takes in a new state; returns the endpoints whose image changed. Afterwards the compiler's
        `cidrs.prefixes()` is what the ipcache must hold."""
        changed = frozenset(cluster.policies) | self._good.keys() if changes.everything else changes.policies
        retried = self._forgive(changed)
        changes = replace(changes, policies=changes.policies | retried)
        good = self._good
        effective = self._effective(cluster.policies)
        affected = set(self._compiler.update(replace(cluster, policies=effective), endpoints, changes))
        affected |= {key for key in endpoints if key not in self._tables}
        moved: set[str] = set()
        while affected:
            key = affected.pop()
            before = self._images.get(key)
            culprit = self._compile(endpoints[key], changed | retried, effective, good)
            if culprit is not None:
                self._hold_back(culprit, effective, good)
                patched = replace(cluster, policies=effective)
                affected |= self._compiler.update(patched, endpoints, Changes(policies=frozenset({culprit})))
                affected.add(key)
            elif self._images[key] != before:
                moved.add(key)
        self._good, self._first = effective, False
        self._forget(endpoints)
        return frozenset(moved)

    def _forgive(self, changed: Iterable[ObjectRef]) -> frozenset[ObjectRef]:
        """What changed is judged anew; so is everything refused, if something that was in force made room."""
        refused = self.refused.policies
        room = any(ref in self._good for ref in changed)
        retried = frozenset(ref for ref in refused if room or ref in changed)
        for ref in retried:
            del refused[ref]
        return retried

    def _effective(self, wanted: Mapping[ObjectRef, PolicyItem]) -> dict[ObjectRef, PolicyItem]:
        effective = dict(wanted)
        for ref in list(self.refused.policies):
            if ref not in wanted:
                del self.refused.policies[ref]
            elif ref in self._good:
                effective[ref] = self._good[ref]
            else:
                del effective[ref]
        return effective

    def _compile(
        self,
        item: EndpointItem,
        changed: Iterable[ObjectRef],
        effective: Mapping[ObjectRef, PolicyItem],
        good: Mapping[ObjectRef, PolicyItem],
    ) -> ObjectRef | None:
        """Brings the endpoint's image up to date. Returns the policy to refuse, if one is to blame."""
        key, refused = item.key, self.refused
        known_bad = key in refused.kept or key in refused.denied
        refused.kept.pop(key, None)
        refused.denied.pop(key, None)
        try:
            self._take(key, self._compiler.table(item))
            return None
        except TableOverflow as overflow:
            reason = str(overflow)
        if key not in self._images:
            refused.denied[key] = f"{reason}: nothing passes"
            self._take(key, DENY_ALL)
            return None
        blamed = () if self._first or known_bad else self._suspects(item, changed, effective, good)
        if blamed:
            culprit = max(blamed, key=lambda ref: (_size(effective[ref]), ref))
            refused.policies[culprit] = f"endpoint {key}: {reason}"
            return culprit
        if self._images[key] == image(DENY_ALL, {}):
            refused.denied[key] = f"{reason}: nothing passes"
        else:
            refused.kept[key] = f"{reason}: the policy before stays in force"
        return None

    def _suspects(
        self,
        item: EndpointItem,
        changed: Iterable[ObjectRef],
        effective: Mapping[ObjectRef, PolicyItem],
        good: Mapping[ObjectRef, PolicyItem],
    ) -> list[ObjectRef]:
        found = ((ref, effective[ref]) for ref in changed if ref in effective)
        return [
            ref
            for ref, policy in found
            if policy is not good.get(ref) and any(item.identity in spec.subjects for spec in policy.specs)
        ]

    @staticmethod
    def _hold_back(
        ref: ObjectRef, effective: dict[ObjectRef, PolicyItem], good: Mapping[ObjectRef, PolicyItem]
    ) -> None:
        if ref in good:
            effective[ref] = good[ref]
        else:
            del effective[ref]

    def _take(self, key: str, table: Table) -> None:
        if self._tables.get(key) is table:
            return
        known = self._known.get(id(table))
        if known is None:
            rows = encoded(table.entries)
            known = self._known[id(table)] = table, image(table, rows)
            self._fresh[known[1].digest] = rows
        self._tables[key], self._images[key] = known

    def _forget(self, endpoints: Mapping[str, EndpointItem]) -> None:
        held = (self._images, self._tables, self.refused.kept, self.refused.denied)
        for mapping in held:
            for key in [key for key in mapping if key not in endpoints]:
                del mapping[key]
        self._known = {id(table): (table, self._images[key]) for key, table in self._tables.items()}


def _size(policy: PolicyItem) -> int:
    """About how many entries the policy asks for."""
    return sum(
        max(1, len(rule.peers.identities) + len(rule.peers.cidrs)) * len(rule.ports or (0,))
        for spec in policy.specs
        for rule in spec.rules
    )
