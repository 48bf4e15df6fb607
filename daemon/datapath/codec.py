"""Rows to the bytes of the maps and back. bpf/layout.py has the structs; a unit test holds the formats to it.

struct rather than ctypes, for a full map is half a million rows.
"""

from __future__ import annotations

import struct
from socket import htons, ntohs

from weft.bpf.layout import Family
from weft.daemon.datapath.rows import (
    BackendRow,
    EndpointRow,
    Frontend,
    Prefix,
    Slot,
    SlotRow,
    former,
    moving,
    settled,
)

IPCACHE_KEY = struct.Struct("=II16s")
IPCACHE_VALUE = struct.Struct("=II")
ENDPOINT = struct.Struct("=IIII4s16sI")
SERVICE_KEY = struct.Struct("=I16sHBBI")
SERVICE_VALUE = struct.Struct("=IIII")
BACKEND = struct.Struct("=I16sHBB")
NUMBER = struct.Struct("=I")

FAMILY_BITS = 32  # the family is part of the prefix
NO_IPV4, NO_IPV6 = bytes(4), bytes(16)


def _family(address: bytes) -> int:
    return Family.IPV4 if len(address) == 4 else Family.IPV6


def _address(family: int, field: bytes) -> bytes:
    return field[:4] if family == Family.IPV4 else field


def prefix(row: Prefix) -> bytes:
    return IPCACHE_KEY.pack(FAMILY_BITS + row.bits, _family(row.address), row.address)


def prefix_of(key: bytes) -> Prefix:
    length, family, field = IPCACHE_KEY.unpack(key)
    return Prefix(_address(family, field), length - FAMILY_BITS)


def identity(number: int) -> bytes:
    return IPCACHE_VALUE.pack(settled(number), former(number))


def identity_of(value: bytes) -> int:
    return moving(*IPCACHE_VALUE.unpack(value))


def endpoint(row: EndpointRow) -> bytes:
    return ENDPOINT.pack(
        row.ep_id, row.identity, row.policy_id, row.flags, row.ipv4 or NO_IPV4, row.ipv6 or NO_IPV6, 0
    )


def endpoint_of(value: bytes) -> EndpointRow:
    ep_id, number, policy_id, flags, ipv4, ipv6, _ = ENDPOINT.unpack(value)
    return EndpointRow(
        ep_id, number, policy_id, flags, b"" if ipv4 == NO_IPV4 else ipv4, b"" if ipv6 == NO_IPV6 else ipv6
    )


def slot(row: Slot) -> bytes:
    front = row.frontend
    port = htons(front.port)
    return SERVICE_KEY.pack(_family(front.address), front.address, port, front.protocol, 0, row.number)


def slot_of(key: bytes) -> Slot:
    family, field, port, protocol, _, number = SERVICE_KEY.unpack(key)
    return Slot(Frontend(_address(family, field), ntohs(port), protocol), number)


def slot_row(row: SlotRow) -> bytes:
    return SERVICE_VALUE.pack(row.backend_id, row.backends, row.service_id, row.flags)


def slot_row_of(value: bytes) -> SlotRow:
    return SlotRow(*SERVICE_VALUE.unpack(value))


def backend(row: BackendRow) -> bytes:
    return BACKEND.pack(_family(row.address), row.address, htons(row.port), row.protocol, 0)


def backend_of(value: bytes) -> BackendRow:
    family, field, port, protocol, _ = BACKEND.unpack(value)
    return BackendRow(_address(family, field), ntohs(port), protocol)


def number(value: int) -> bytes:
    return NUMBER.pack(value)


def number_of(key: bytes) -> int:
    return int(NUMBER.unpack(key)[0])
