"""A compiled table as the bytes of its map, and the digest by which equal ones are found, also in the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from weft.bpf.layout import EndpointFlag
from weft.bpf.policytables import endpoint_flags
from weft.policies.table import Table

Rows = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Image:
    """`flags`: what the endpoint's row says of the table (enforced, holds entries)."""

    digest: bytes
    flags: EndpointFlag
    entries: int


def digest(rows: Rows) -> bytes:
    return blake2b(b"".join(sorted(key + value for key, value in rows.items())), digest_size=16).digest()


def image(table: Table, rows: Rows) -> Image:
    return Image(digest(rows), endpoint_flags(table), len(rows))


#: For an endpoint whose policy is not known: nothing passes, in or out.
DENY_ALL = Table(True, True, {}, {})
