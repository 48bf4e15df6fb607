"""A table asked as the kernel asks it: two longest-prefix lookups, the first hit is final (`table`)."""

from __future__ import annotations

from weft.policies.identity import ANY
from weft.policies.model import Direction
from weft.policies.ports import Cell, wider
from weft.policies.table import Key, MatchType, Table, Value, Verdict

DENIED_BY_DEFAULT = Value(Verdict.DENY, MatchType.NONE)
ALLOWED_BY_DEFAULT = Value(Verdict.ALLOW, MatchType.NONE)


def lookup(table: Table, direction: Direction, identity: int, protocol: int, port: int) -> Value:
    """`port`: the destination's, or the ICMP type. `match` NONE with no cookie: the default answered."""
    packet = Cell(protocol, port, 16)
    for who in (identity, ANY):
        for protocol_, port_, bits in (packet, *wider(packet)):
            value = table.entries.get(Key(direction, who, protocol_, port_, bits))
            if value is not None:
                return value
    return DENIED_BY_DEFAULT if table.enforced(direction) else ALLOWED_BY_DEFAULT
