"""The map of policy tables: policy id -> a map of its own, with a compiled `policies.table.Table` in it.

Rule: a table that an endpoint points to is never written to. It is made and filled before; another content is
another id, or the same id swapped whole: the programs see one table or the other.

A write to the outer map returns when no program uses what was there any more (a grace period, about 10 ms), so many
tables go in one batch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from socket import htons, ntohs
from struct import Struct
from typing import Final

from weft.bpf import sys as bpf
from weft.bpf import tables
from weft.bpf.layout import EndpointFlag, PolicyFlag
from weft.policies.model import Direction
from weft.policies.table import Key, MatchType, Table, Value, Verdict

#: layout.PolicyKey and layout.PolicyValue; tests/bpf/test_layout.py holds them together. struct, for 10,000 entries
#: by ctypes would cost ten times as much.
KEY: Final = Struct("=IIBBH")
VALUE: Final = Struct("=BBBBI")
_ID: Final = Struct("=I")

_LPM_FIXED: Final = 40  # identity and direction, which every key has in full
_PROTOCOL: Final = 8


def rows(entries: Mapping[Key, Value]) -> dict[bytes, bytes]:
    """Each entry as the map's key and value."""
    return {
        KEY.pack(k.prefix_len, k.identity, k.direction, k.protocol, htons(k.port)): VALUE.pack(
            v.verdict, v.match, PolicyFlag.BYPASS if v.bypass else 0, 0, v.cookie
        )
        for k, v in entries.items()
    }


def encode(entries: Mapping[Key, Value]) -> tuple[bytes, bytes]:
    """All keys in one piece and all values in another, in the same order: what the batch call takes."""
    encoded = rows(entries)
    return b"".join(encoded), b"".join(encoded.values())


def decode(key: bytes, value: bytes) -> tuple[Key, Value]:
    prefix_len, identity, direction, protocol, port = KEY.unpack(key)
    verdict, match, flags, _, cookie = VALUE.unpack(value)
    port_bits = max(prefix_len - _LPM_FIXED - _PROTOCOL, 0)
    return (
        Key(Direction(direction), identity, protocol, ntohs(port), port_bits),
        Value(Verdict(verdict), MatchType(match), cookie, bool(flags & PolicyFlag.BYPASS)),
    )


def endpoint_flags(table: Table) -> EndpointFlag:
    """What an endpoint's entry says of its table."""
    flags = EndpointFlag(0)
    if table.enforced_ingress:
        flags |= EndpointFlag.ENFORCE_INGRESS
    if table.enforced_egress:
        flags |= EndpointFlag.ENFORCE_EGRESS
    directions = {key.direction for key in table.entries}
    if Direction.INGRESS in directions:
        flags |= EndpointFlag.HAS_INGRESS
    if Direction.EGRESS in directions:
        flags |= EndpointFlag.HAS_EGRESS
    return flags


class PolicyTables:
    def __init__(self, fd: int) -> None:
        """`fd` of the map of maps; closed with this."""
        self.fd = fd

    def publish(self, policy_id: int, entries: Mapping[Key, Value]) -> None:
        """In place of what the id named before. Raises OSError, and nothing is published then."""
        self.publish_all({policy_id: entries})

    def publish_all(self, contents: Mapping[int, Mapping[Key, Value]]) -> None:
        """Raises OSError: some first part may be published, each of it whole."""
        inner: dict[int, int] = {}
        try:
            for policy_id, entries in contents.items():
                keys, values = encode(entries)
                inner[policy_id] = tables.create_inner(len(entries))
                bpf.map_update_batch(inner[policy_id], keys, values, len(entries))
            bpf.map_update_batch(self.fd, _ids(inner), _ids(inner.values()), len(inner))
        finally:
            for fd in inner.values():
                os.close(fd)  # the map of maps holds them

    def unpublish(self, policy_id: int) -> bool:
        return bpf.map_delete(self.fd, _ID.pack(policy_id))

    def unpublish_all(self, policy_ids: Collection[int]) -> None:
        """Those of them that are there."""
        bpf.map_delete_batch(self.fd, _ids(policy_ids), len(policy_ids))

    def ids(self) -> Iterator[int]:
        key: bytes | None = None
        while (key := bpf.map_next_key(self.fd, key, _ID.size)) is not None:
            yield int(_ID.unpack(key)[0])

    def read(self, policy_id: int) -> dict[Key, Value] | None:
        """None: no such table. Opening a map by its id, all that the kernel tells, needs CAP_SYS_ADMIN."""
        number = bpf.map_lookup(self.fd, _ID.pack(policy_id), _ID.size)
        if number is None:
            return None
        inner = bpf.map_by_id(int(_ID.unpack(number)[0]))
        try:
            return dict(_entries(inner))
        finally:
            os.close(inner)

    def clear(self) -> None:
        self.unpublish_all(list(self.ids()))

    def close(self) -> None:
        os.close(self.fd)


def _ids(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_ID.pack, numbers))


def _entries(inner: int) -> Iterator[tuple[Key, Value]]:
    for keys, values, count in bpf.map_lookup_batch(inner, KEY.size, VALUE.size):
        for at in range(count):
            yield decode(keys[at * KEY.size :][: KEY.size], values[at * VALUE.size :][: VALUE.size])
