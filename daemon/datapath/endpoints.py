"""Which workload stands behind which interface, and what the endpoints map should hold for it. Pure.

Rule: an interface is an endpoint's if the route to one of its addresses leads there. An endpoint id lives as
long as its interface: it is read back from the kernel's own map, so a restart changes none, and it is not
given to another workload while there are others left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from weft.bpf.layout import EndpointFlag
from weft.daemon.datapath.rows import EndpointRow, packed
from weft.policies.snapshot import EndpointItem

LAST_ID = 65535


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is attached."""

    item: EndpointItem
    ifindex: int
    ep_id: int


@dataclass(slots=True)
class Placed:
    """`waiting`: endpoints ("ns/name") that no interface leads to yet. `refused`: why another one has no place;
    `shut`: its interface, which gets the programs and no row, so that nothing passes."""

    places: dict[str, Place] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    shut: set[int] = field(default_factory=set)


class Ids:
    """1 to 65535, round and round, so that a number rests as long as possible before it means another."""

    def __init__(self, last: int = 0) -> None:
        self._last = last

    def next(self, taken: set[int]) -> int:
        """0: none is left."""
        for step in range(1, LAST_ID + 1):
            number = (self._last + step - 1) % LAST_ID + 1
            if number not in taken:
                self._last = number
                return number
        return 0


def place(
    endpoints: Mapping[str, EndpointItem],
    routes: Mapping[bytes, int],
    have: Mapping[int, EndpointRow],
    ids: Ids,
    room: int,
) -> Placed:
    """`routes`: interface by address. `have`: the endpoints map. `room`: how many endpoints it can hold. Those
    in force come first."""
    out = Placed()
    taken = {row.ep_id for row in have.values()}
    owners: dict[int, str] = {}
    found = {key: find(item, routes) for key, item in endpoints.items()}
    for key, ifindex in sorted(found.items(), key=lambda pair: (pair[1] not in have, pair[0])):
        item = endpoints[key]
        if not ifindex:
            out.waiting.add(key)
        elif ifindex in owners:
            out.refused[key] = f"interface {ifindex} is that of {owners[ifindex]}"
        elif ifindex not in have and len(have.keys() | owners.keys()) >= room:
            out.refused[key] = f"the map of endpoints is full ({room}): nothing passes"
            out.shut.add(ifindex)
        else:
            owners[ifindex] = key
            ep_id = _kept(have.get(ifindex), item) or ids.next(taken)
            taken.add(ep_id)
            out.places[key] = Place(item, ifindex, ep_id)
    return out


def find(item: EndpointItem, routes: Mapping[bytes, int]) -> int:
    """0: no route leads to any of its addresses."""
    return next((routes[address] for ip in item.ips if (address := packed(ip)) in routes), 0)


def _kept(row: EndpointRow | None, item: EndpointItem) -> int:
    """The id, if the row speaks of the same workload: interfaces are not renumbered while they live."""
    if row is None:
        return 0
    return row.ep_id if {packed(ip) for ip in item.ips} & {row.ipv4, row.ipv6} else 0


def row(spot: Place, policy_id: int, flags: EndpointFlag) -> EndpointRow:
    return EndpointRow(
        spot.ep_id,
        spot.item.identity,
        policy_id,
        int(flags),
        _first(spot.item.ips, 4),
        _first(spot.item.ips, 16),
    )


def _first(ips: Iterable[str], size: int) -> bytes:
    return next((raw for ip in ips if len(raw := packed(ip)) == size), b"")
