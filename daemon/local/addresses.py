"""Which addresses a local cluster uses, and who gets which. Pure.

node i     172.30.0.i/24      fd00:172:30::i/64       on the underlay
pods of i  10.244.i.0/24      fd00:10:244:i::/64      the same host number in both families
services   10.96.0.0/16       fd00:10:96::/112        likewise; a service keeps its number by hash of its name
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from weft.daemon.dns import ADDRESSES as DNS_ADDRESSES

SERVICES_4 = IPv4Network("10.96.0.0/16")
SERVICES_6 = IPv6Network("fd00:10:96::/112")
GATEWAY_4 = "169.254.1.1"
GATEWAY_6 = "fe80::1"
MAX_NODES = 64
FIRST_POD, LAST_POD = 2, 254  # .0 and .255 are no hosts, .1 is what people take for a gateway
NODE_PORTS = range(30000, 32768)


class Exhausted(Exception):
    """A pool has no number left; the message says which."""


@dataclass(frozen=True, slots=True)
class NodeNet:
    """`index` from 1."""

    index: int

    @property
    def addresses(self) -> tuple[str, str]:
        return f"172.30.0.{self.index}", f"fd00:172:30::{self.index:x}"

    @property
    def pod_cidrs(self) -> tuple[str, str]:
        return f"10.244.{self.index}.0/24", f"fd00:10:244:{self.index:x}::/64"

    def pod(self, number: int) -> tuple[str, str]:
        return f"10.244.{self.index}.{number}", f"fd00:10:244:{self.index:x}::{number:x}"


@dataclass(slots=True)
class PodNumbers:
    """Host numbers of one node. A freed number goes to the end of the line, so that an address is not given to
    a new pod while the world still remembers the old one."""

    free: list[int] = field(default_factory=lambda: list(range(FIRST_POD, LAST_POD + 1)))

    def take(self) -> int:
        if not self.free:
            raise Exhausted(f"no pod address left on the node: it has {LAST_POD - FIRST_POD + 1}")
        return self.free.pop(0)

    def give_back(self, number: int) -> None:
        self.free.append(number)


def service_addresses(key: str, taken: Collection[str]) -> tuple[str, str]:
    """The IPv4 and IPv6 cluster address of the service `namespace/name`: where its name hashes to, or the next
    number that is free in both families."""
    size = SERVICES_4.num_addresses
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    for step in range(size):
        number = (start + step) % size
        pair = str(SERVICES_4.network_address + number), str(SERVICES_6.network_address + number)
        if 256 <= number < size - 1 and not any(address in taken for address in pair):
            return pair
    raise Exhausted(f"no service address left in {SERVICES_4}")


def is_service_address(text: str) -> bool:
    """Whether a manifest may ask for this cluster address."""
    if text in DNS_ADDRESSES:
        return False
    try:
        return IPv4Address(text) in SERVICES_4
    except ValueError:
        pass
    try:
        return IPv6Address(text) in SERVICES_6
    except ValueError:
        return False


def node_port(key: str, taken: Collection[int]) -> int:
    """A node port for `namespace/name/port`, the same at each start unless another took it before."""
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    for step in range(len(NODE_PORTS)):
        port = NODE_PORTS[(start + step) % len(NODE_PORTS)]
        if port not in taken:
            return port
    raise Exhausted("no node port left between 30000 and 32767")
