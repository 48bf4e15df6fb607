"""A compiled table as the bytes of its map, and the digest by which equal ones are found, here and in the kernel."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from weft.bpf.layout import EndpointFlag, PolicyFlag
from weft.policies.model import Direction
from weft.policies.table import Table

Rows = Mapping[bytes, bytes]

#: layout.PolicyKey and layout.PolicyValue; a unit test holds them together. struct, for tables are large.
KEY = struct.Struct("=IIBBH")
VALUE = struct.Struct("=BBBBI")


@dataclass(frozen=True, slots=True)
class Image:
    """`flags`: what the endpoint's row says of the table (enforced, holds entries)."""

    digest: bytes
    flags: EndpointFlag
    entries: int


def encode(table: Table) -> dict[bytes, bytes]:
    htons = socket.htons
    return {
        KEY.pack(key.prefix_len, key.identity, key.direction, key.protocol, htons(key.port)): VALUE.pack(
            value.verdict, value.match, PolicyFlag.BYPASS if value.bypass else 0, 0, value.cookie
        )
        for key, value in table.entries.items()
    }


def digest(rows: Rows) -> bytes:
    return blake2b(b"".join(sorted(key + value for key, value in rows.items())), digest_size=16).digest()


def flags_of(table: Table) -> EndpointFlag:
    directions = {key.direction for key in table.entries}
    flags = EndpointFlag(0)
    if table.enforced_ingress:
        flags |= EndpointFlag.ENFORCE_INGRESS
    if table.enforced_egress:
        flags |= EndpointFlag.ENFORCE_EGRESS
    if Direction.INGRESS in directions:
        flags |= EndpointFlag.HAS_INGRESS
    if Direction.EGRESS in directions:
        flags |= EndpointFlag.HAS_EGRESS
    return flags


def image(table: Table, rows: Rows) -> Image:
    return Image(digest(rows), flags_of(table), len(rows))


#: For an endpoint whose policy is not known: nothing passes, in or out.
DENY_ALL = Table(True, True, {}, {})
