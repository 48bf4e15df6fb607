"""Records of the ring buffer: `weft_event` of bpf/lib/layout.h, as numbers.

The rule here is speed: `decode` is one unpack. A test packs each field by `bpf.layout.Event` and reads it back,
so the format below cannot drift from the struct.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from weft.bpf.layout import EventType

_LAYOUT: Final = Struct("=Q8B4s4B6I16s16s4Q2I6s6sI")
SIZE: Final = _LAYOUT.size

# Where the parts stand that are read without decoding the rest.
TYPE: Final = 8
FAMILY: Final = 12
COOKIE: Final = slice(36, 40)
SOURCE4, DESTINATION4 = slice(48, 52), slice(64, 68)
SOURCE6, DESTINATION6 = slice(48, 64), slice(64, 80)

_TYPES: Final = frozenset(EventType)


class Event(NamedTuple):
    """As in the header; `ports` are both, in network order."""

    time_ns: int
    type: int
    sub_type: int
    reason: int
    direction: int
    family: int
    protocol: int
    tcp_flags: int  # ICMP: type
    icmp_code: int
    ports: bytes
    match: int
    verdict: int
    ct_state: int
    flags: int
    ep_id: int
    src_identity: int
    dst_identity: int
    cookie: int
    ifindex: int
    length: int
    src: bytes  # 16 bytes; IPv4 in the first four
    dst: bytes
    socket_cookie: int
    cgroup_id: int
    bytes_sent: int
    bytes_received: int
    srtt_us: int
    retransmits: int
    src_mac: bytes
    dst_mac: bytes
    pad: int

    @property
    def src_port(self) -> int:
        return int.from_bytes(self.ports[:2], "big")

    @property
    def dst_port(self) -> int:
        return int.from_bytes(self.ports[2:], "big")


class Undecodable(ValueError):
    """A record that no program of this layout writes."""


def check(record: bytes) -> None:
    """Undecodable unless `decode` and the slices above will do. (A ring may round a record's size up.)"""
    if len(record) < SIZE:
        raise Undecodable(f"record of {len(record)} bytes, an event has {SIZE}")
    if record[TYPE] not in _TYPES:
        raise Undecodable(f"event type {record[TYPE]}")


def decode(record: bytes) -> Event:
    return Event._make(_LAYOUT.unpack_from(record))


def addresses(record: bytes) -> tuple[bytes, bytes]:
    """Source and destination, packed: 4 or 16 bytes. Whatever is not IPv6 counts as IPv4."""
    if record[FAMILY] == 6:
        return record[SOURCE6], record[DESTINATION6]
    return record[SOURCE4], record[DESTINATION4]


_CGROUP: Final = Struct("=Q")
_HEAD: Final = Struct("=Q20x3I")


def head(record: bytes) -> tuple[int, int, int, int]:
    """Time, identity of the source and of the destination, cookie."""
    parts: tuple[int, int, int, int] = _HEAD.unpack_from(record)
    return parts


def cgroup(record: bytes) -> int:
    number: int = _CGROUP.unpack_from(record, 88)[0]
    return number
