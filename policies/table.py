"""A compiled policy: what the kernel looks up. One table serves every endpoint whose policy is equal.

Lookup, as `bpf/lib/policy.h` does it (D4, flattened in user space so that the first hit is final):

1. the longest prefix in (identity, direction, protocol, port); found: that is the verdict;
2. the longest prefix in (0 = any identity, direction, protocol, port); found: that is the verdict;
3. nothing: drop 133 if the direction is enforced, else allow.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from weft.policies.model import Direction, Origin


class Verdict(enum.IntEnum):
    """Numbers are those in the map's value."""

    DENY = 0
    ALLOW = 1
    REDIRECT = 2  # to the node's proxy; until there is one, a drop that says so


class MatchType(enum.IntEnum):
    """Hubble's policy_match_type (D8)."""

    NONE = 0
    L3_ONLY = 1
    L3_L4 = 2
    L4_ONLY = 3
    ALL = 4
    L3_PROTO = 5
    PROTO_ONLY = 6


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """`port_bits` 0 with `protocol` 0: every protocol. `port_bits` 0: every port of the protocol. 16: one port.
    ICMP types stand in `port`. A protocol-0 key always has `port_bits` 0."""

    direction: Direction
    identity: int  # 0 any
    protocol: int  # 0 any
    port: int = 0
    port_bits: int = 0

    @property
    def prefix_len(self) -> int:
        """Significant bits after the LPM's own length word: identity 32, direction 8, protocol 8, port 16."""
        return 40 + (8 + self.port_bits if self.protocol else 0)


@dataclass(frozen=True, slots=True)
class Value:
    """`cookie` names the set of rules that decided, in `Table.rule_sets`; it comes back in events.
    `bypass`: a REDIRECT that may pass without a proxy (host to its own pods, E11)."""

    verdict: Verdict
    match: MatchType
    cookie: int = 0
    bypass: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`enforced_*`: default deny in that direction. A direction that is not enforced may still hold denies."""

    enforced_ingress: bool
    enforced_egress: bool
    entries: Mapping[Key, Value]
    rule_sets: Mapping[int, tuple[Origin, ...]]

    def enforced(self, direction: Direction) -> bool:
        return self.enforced_ingress if direction is Direction.INGRESS else self.enforced_egress


#: Entries one table may hold, as Cilium's per-endpoint map; a warning from 80 % on; above it is refused (M2).
MAX_ENTRIES = 16384
WARN_ENTRIES = MAX_ENTRIES * 8 // 10


class TableOverflow(Exception):
    """The compiled policy would not fit: refused before anything is written."""

    def __init__(self, entries: int) -> None:
        super().__init__(f"policy compiles to {entries} entries, the map holds {MAX_ENTRIES}")
        self.entries = entries
