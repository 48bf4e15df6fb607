"""Which identities give which name to which ports: what a named port of an egress rule means (P3).

Two workloads of one identity may give one name to different ports; the identity then has both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from weft.policies.snapshot import AddressItem, NamedPort


class NamedPortIndex:
    """`by_name`: lower-case name -> identity -> ports. Kept in step with the cluster's addresses."""

    def __init__(self) -> None:
        self.by_name: dict[str, dict[int, frozenset[NamedPort]]] = {}
        self._items: dict[str, AddressItem] = {}  # those that name ports
        self._counts: Counter[tuple[int, NamedPort]] = Counter()

    def update(self, addresses: Mapping[str, AddressItem], changed: Iterable[str] | None) -> set[str]:
        """Takes in the changed addresses (None: all). Returns the names that now mean something else."""
        ips = self._items.keys() | addresses.keys() if changed is None else changed
        touched: set[tuple[int, NamedPort]] = set()
        for ip in ips:
            old, new = self._items.get(ip), addresses.get(ip)
            if old is new or (old is None and (new is None or not new.named_ports)):
                continue
            if old is not None:
                touched |= self._add(old, -1)
                del self._items[ip]
            if new is not None and new.named_ports:
                touched |= self._add(new, +1)
                self._items[ip] = new
        return {port.name.lower() for identity, port in touched if self._settle(identity, port)}

    def _add(self, item: AddressItem, by: int) -> set[tuple[int, NamedPort]]:
        keys = {(item.identity, port) for port in item.named_ports}
        for key in keys:
            self._counts[key] += by
        return keys

    def _settle(self, identity: int, port: NamedPort) -> bool:
        """Brings `by_name` in line with the counts; whether that changed it."""
        by_identity = self.by_name.setdefault(port.name.lower(), {})
        have = by_identity.get(identity, frozenset())
        exists = self._counts[identity, port] > 0
        if not exists:
            del self._counts[identity, port]
        if exists == (port in have):
            return False
        want = have | {port} if exists else have - {port}
        if want:
            by_identity[identity] = want
        else:
            del by_identity[identity]
        return True
