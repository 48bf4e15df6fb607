"""Ports as prefixes: a Cell is one prefix in (protocol, port), the L4 half of a table's key.

Protocol 0 has one cell, every packet; a protocol's `bits` 0 is every port of it, 16 one port. Two cells either
nest or have nothing in common, which is what makes a longest-prefix lookup an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from weft.policies.model import PortSpec, Protocol
from weft.policies.snapshot import NamedPort

#: What protocol ANY means beside a port (P1).
WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
TYPED = (Protocol.ICMP, Protocol.ICMPV6)


class Cell(NamedTuple):
    protocol: int
    port: int
    bits: int

    @property
    def length(self) -> int:
        return 8 + self.bits if self.protocol else 0


EVERYTHING = Cell(0, 0, 0)


def wider(cell: Cell) -> Iterator[Cell]:
    """The cells that strictly contain this one, the narrowest first."""
    if not cell.protocol:
        return
    for bits in range(cell.bits - 1, -1, -1):
        yield Cell(cell.protocol, cell.port >> (16 - bits) << (16 - bits), bits)
    yield EVERYTHING


def range_cells(protocol: int, first: int, last: int) -> Iterator[Cell]:
    """`first` to `last` inclusive as the fewest prefixes: 80 to 444 are 8 of them, the worst range 30."""
    while first <= last:
        size = first & -first or 65536
        while first + size - 1 > last:
            size >>= 1
        yield Cell(protocol, first, 16 - size.bit_length() + 1)
        first += size


def number_cells(spec: PortSpec) -> Iterator[Cell]:
    """The cells of a port given by number; none for a named one."""
    if spec.name:
        return
    protocols = WITH_PORTS if spec.protocol is Protocol.ANY else (spec.protocol,)
    for protocol in protocols:
        if spec.port == 0 and spec.end_port == 0 and protocol not in TYPED:
            yield Cell(protocol, 0, 0)
        else:
            yield from range_cells(protocol, spec.port, max(spec.port, spec.end_port))


def name_cells(protocol: int, name: str, ports: Iterable[NamedPort]) -> Iterator[Cell]:
    """The cells of a port given by name, where `ports` define it; undefined: none, nothing is allowed (P3)."""
    for port in ports:
        if port.name.lower() == name and protocol in (Protocol.ANY, port.protocol):
            yield Cell(port.protocol, port.port, 16)
