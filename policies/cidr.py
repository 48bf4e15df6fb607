"""CIDR rules as identities: every prefix that a rule names, `cidr` or `except`, gets a number local to the node.

The ipcache finds an address's longest prefix, so the number stands for "inside this prefix, inside no longer
one that any rule names". A CidrPeer therefore means a plain set of numbers: those whose prefix lies inside its
`cidr` and inside none of its `excepts`. The families' whole ranges are the reserved 9 and 10 (C2).

We may leak a number but never re-use one: numbers only grow, and a prefix that comes back within memory gets
the number it had, because tables and conntrack entries in the kernel may still hold it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType

from weft.policies.identity import LOCAL_MIN, WORLD_IPV4, WORLD_IPV6
from weft.policies.model import CidrPeer, Network
from weft.policies.snapshot import PolicyItem

Address = IPv4Address | IPv6Address

WHOLE: Mapping[Network, int] = MappingProxyType(
    {IPv4Network("0.0.0.0/0"): WORLD_IPV4, IPv6Network("::/0"): WORLD_IPV6}
)
#: Numbers of prefixes that nobody names any more, kept so that they come back the same.
REMEMBERED = 65536


def prefixes_of(item: PolicyItem) -> set[Network]:
    """Every prefix that the policy's rules name."""
    return {
        prefix
        for spec in item.specs
        for rule in spec.rules
        for peer in rule.peers.cidrs
        for prefix in (peer.cidr, *peer.excepts)
    }


def contains(outer: Network, inner: Network) -> bool:
    """Of one family, and every address of `inner` in `outer`."""
    if outer.version != inner.version or outer.prefixlen > inner.prefixlen:
        return False
    return inner.network_address in outer


class CidrIdentities:
    """Holders (policies) name prefixes; a prefix is in force while one holder names it."""

    def __init__(self, known: Mapping[Network, int] = MappingProxyType({})) -> None:
        """`known`: prefixes and numbers that the kernel's ipcache holds from a run before; they keep their
        numbers, and are in force only once a holder names them."""
        self._numbers: dict[Network, int] = {**WHOLE}
        self._retired: dict[Network, int] = {p: n for p, n in known.items() if n >= LOCAL_MIN}
        self._next = max((LOCAL_MIN, *(number + 1 for number in self._retired.values())))
        self._holders: dict[Hashable, frozenset[Network]] = {}
        self._counts: dict[Network, int] = {}
        self._sorted: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}  # (first address, length, number)
        for prefix, number in WHOLE.items():
            self._sorted[prefix.version].append((0, 0, number))

    def hold(self, holder: Hashable, prefixes: Iterable[Network]) -> bool:
        """`holder` now names exactly `prefixes` (none: released). True: the prefixes in force changed."""
        new = frozenset(prefixes)
        old = self._holders.pop(holder, frozenset())
        if new:
            self._holders[holder] = new
        added = [prefix for prefix in new - old if self._count(prefix, +1) == 1]
        gone = [prefix for prefix in old - new if self._count(prefix, -1) == 0]
        changed = [self._admit(prefix) for prefix in added] + [self._retire(prefix) for prefix in gone]
        return any(changed)

    def prefixes(self) -> Mapping[Network, int]:
        """All prefixes in force with their numbers, the two whole families included: the ipcache's share."""
        return MappingProxyType(self._numbers)

    def number(self, prefix: Network) -> int | None:
        return self._numbers.get(prefix)

    def matching(self, peer: CidrPeer) -> frozenset[int]:
        """The numbers that `peer` means, among those in force."""
        inside = set(self._inside(peer.cidr))
        for taken in peer.excepts:
            inside.difference_update(self._inside(taken))
        return frozenset(inside)

    def family(self, version: int) -> frozenset[int]:
        """Every number of the family: what "world" means, 9 or 10 and all narrower ones."""
        return frozenset(number for _, _, number in self._sorted[version])

    def lookup(self, address: str | Address) -> int:
        """The number of an address that nothing in the cluster owns: its longest prefix, as the ipcache does."""
        parsed = ip_address(address)
        for length in range(parsed.max_prefixlen, -1, -1):
            bits = parsed.max_prefixlen - length
            first = int(parsed) >> bits << bits
            at = bisect_left(self._sorted[parsed.version], (first, length, 0))
            found = self._sorted[parsed.version][at : at + 1]
            if found and found[0][:2] == (first, length):
                return found[0][2]
        raise AssertionError("the whole family is always in force")

    def _inside(self, prefix: Network) -> Iterator[int]:
        family = self._sorted[prefix.version]
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        for _, length, number in family[bisect_left(family, (first, 0, 0)) : bisect_right(family, (last, 129, 0))]:
            if length >= prefix.prefixlen:
                yield number

    def _count(self, prefix: Network, by: int) -> int:
        count = self._counts.get(prefix, 0) + by
        if count:
            self._counts[prefix] = count
        else:
            self._counts.pop(prefix, None)
        return count

    def _admit(self, prefix: Network) -> bool:
        if prefix in WHOLE:
            return False
        number = self._retired.pop(prefix, 0)
        if not number:
            number, self._next = self._next, self._next + 1
        self._numbers[prefix] = number
        insort(self._sorted[prefix.version], self._place(prefix, number))
        return True

    def _retire(self, prefix: Network) -> bool:
        if prefix in WHOLE:
            return False
        number = self._numbers.pop(prefix)
        self._sorted[prefix.version].remove(self._place(prefix, number))
        self._retired[prefix] = number
        while len(self._retired) > REMEMBERED:
            del self._retired[next(iter(self._retired))]
        return True

    @staticmethod
    def _place(prefix: Network, number: int) -> tuple[int, int, int]:
        return int(prefix.network_address), prefix.prefixlen, number
