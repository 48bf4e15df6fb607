"""The rows of the kernel's maps as plain values: hashable, comparable, and written down once.

`State` is what the maps hold, or should hold. Addresses are packed, in network order (4 bytes or 16); ports
are in the host's order here and in the network's only in the bytes of a map.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple


class Prefix(NamedTuple):
    address: bytes
    bits: int

    def __str__(self) -> str:
        return f"{text(self.address)}/{self.bits}"


# The identity of an address, while a change is under way: who it becomes, and above these 32 bits who it was.


def moving(number: int, former: int) -> int:
    return number | former << 32


def settled(number: int) -> int:
    return number & 0xFFFFFFFF


def former(number: int) -> int:
    """0: nobody else, the change is complete."""
    return number >> 32


class EndpointRow(NamedTuple):
    """By the index of the node's side of the workload's veth. `flags`: layout.EndpointFlag. No address: b""."""

    ep_id: int
    identity: int
    policy_id: int
    flags: int
    ipv4: bytes = b""
    ipv6: bytes = b""


class BackendRow(NamedTuple):
    address: bytes
    port: int
    protocol: int


class Frontend(NamedTuple):
    """What a client asks for: a service's address and port."""

    address: bytes
    port: int
    protocol: int

    def __str__(self) -> str:
        host = text(self.address)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Slot(NamedTuple):
    """`number` 0: the service itself, with how many `backends` it has; 1 and up: one each."""

    frontend: Frontend
    number: int


class SlotRow(NamedTuple):
    backend_id: int
    backends: int
    service_id: int
    flags: int = 0


@dataclass(slots=True)
class State:
    """`tables`: digest of each policy table's content, by policy id. `spares`: ids of empty tables that nothing
    points to, ready to be filled. `attached`: indices of the interfaces that carry our programs. `ipcache`:
    identities, some of them `moving`."""

    ipcache: dict[Prefix, int] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    spares: set[int] = field(default_factory=set)
    endpoints: dict[int, EndpointRow] = field(default_factory=dict)
    attached: set[int] = field(default_factory=set)
    backends: dict[int, BackendRow] = field(default_factory=dict)
    slots: dict[Slot, SlotRow] = field(default_factory=dict)


@lru_cache(maxsize=65536)
def packed(address: str) -> bytes:
    """Raises OSError for what is no address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


@lru_cache(maxsize=65536)
def prefix_of(network: IPv4Network | IPv6Network) -> Prefix:
    return Prefix(network.network_address.packed, network.prefixlen)


def host_prefix(address: str) -> Prefix:
    raw = packed(address)
    return Prefix(raw, len(raw) * 8)
