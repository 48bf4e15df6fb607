"""What the maps of services and backends should hold. Pure: what is there decides which numbers are kept.

Rule: a number never changes its meaning while a program may be using it. A backend keeps its id and its slot
for as long as it is ready; a new one takes a free slot, and only where a slot would stay empty is the last one
moved into it. So a program that reads between two of our writes finds a backend of the service, old or new.

What is routed (it has routes, policies or a ServiceEntry of its own) is marked as the proxy's, its TCP ports: then
workloads leave the address for the proxy, and the node's own sockets are balanced as ever. A backend of a routed
Service selects it, too: it gets a row without slots, which says so. So a Service without routes that shares such a
backend is marked with it: balanced here, what was addressed would be forgotten, and the other's routes would apply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from weft.bpf.layout import ServiceFlag
from weft.daemon.datapath.rows import BackendRow, Frontend, Slot, SlotRow, packed
from weft.policies.mesh.model import HostRouting
from weft.policies.model import Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem

#: Of a backend's own address: nobody balances it.
BACKEND = ServiceFlag.PROXY | ServiceFlag.BACKEND
NO_ROUTING: Mapping[str, HostRouting] = {}


@dataclass(slots=True)
class Wanted:
    backends: dict[int, BackendRow] = field(default_factory=dict)
    slots: dict[Slot, SlotRow] = field(default_factory=dict)
    owners: dict[Frontend, str] = field(default_factory=dict)  # "ns/name"
    refused: dict[str, str] = field(default_factory=dict)  # "ns/name" -> reason


def wanted(
    services: Mapping[str, ServiceItem],
    have_backends: Mapping[int, BackendRow],
    have_slots: Mapping[Slot, SlotRow],
    max_slots: int,
    max_backends: int,
    routing: Mapping[str, HostRouting] = NO_ROUTING,
) -> Wanted:
    """A service that does not fit is refused whole; those that are in force are counted first. `routing`: empty on
    a node without a proxy."""
    builder = _Builder(have_backends, have_slots, max_slots, max_backends)
    in_force = {slot.frontend for slot in have_slots}
    ordered = sorted(services.values(), key=lambda item: (not _known(item, in_force), item.key))
    routed = [item for item in ordered if is_routed(item, routing)]
    selecting = {each for item in routed for each in own_addresses(item)}
    for item in ordered:
        builder.add(item, is_routed(item, routing), selecting)
    for item in routed:  # when every service has its addresses: those come before a backend's
        builder.add_backends(item)
    return builder.out


def is_routed(item: ServiceItem, routing: Mapping[str, HostRouting]) -> bool:
    return needs_proxy(routing.get(item.host))


def needs_proxy(found: HostRouting | None) -> bool:
    return found is not None and found.needs_proxy


def own_addresses(item: ServiceItem) -> list[Frontend]:
    """Of the backends of its TCP ports, each once. Addresses that somebody wrote into a ServiceEntry are not its
    own: who asks for them has not asked for the entry."""
    found = (
        Frontend(packed(backend.ip), backend.port, int(port.protocol))
        for port in item.ports
        if port.protocol is Protocol.TCP
        for backend in addressed(port.backends)
        if backend.pod or item.type != "ServiceEntry"
    )
    return list(dict.fromkeys(found))


def addressed(backends: Iterable[BackendItem]) -> Iterator[BackendItem]:
    """Without those that are known by name alone: only the proxy looks names up."""
    return (backend for backend in backends if _is_address(backend.ip))


@lru_cache(maxsize=65536)
def _is_address(text: str) -> bool:
    try:
        return bool(packed(text))
    except OSError:
        return False


def _known(item: ServiceItem, in_force: set[Frontend]) -> bool:
    return any(frontend in in_force for frontend, _ in frontends(item))


def frontends(item: ServiceItem) -> Iterator[tuple[Frontend, ServicePortItem]]:
    for address in item.cluster_ips:
        for port in item.ports:
            yield Frontend(packed(address), port.port, int(port.protocol)), port


def backend_rows(frontend: Frontend, port: ServicePortItem) -> list[BackendRow]:
    """Those of the frontend's family, each once, in the snapshot's order."""
    rows = (BackendRow(packed(b.ip), b.port, int(port.protocol)) for b in addressed(port.backends))
    return list(dict.fromkeys(row for row in rows if len(row.address) == len(frontend.address)))


def arrange(before: Iterable[int], ids: Iterable[int]) -> list[int]:
    """The ids in slot order: those that stay keep their slot, new ones fill the gaps, no gap is left."""
    left = dict.fromkeys(ids)
    order = [number if number in left else 0 for number in before]
    for number in order:
        left.pop(number, None)
    fresh = list(left)
    for at, number in enumerate(order):
        if not number and fresh:
            order[at] = fresh.pop(0)
    order += fresh
    while 0 in order:
        last = order.pop()
        if last:
            order[order.index(0)] = last
    return order


class _Builder:
    def __init__(
        self,
        have_backends: Mapping[int, BackendRow],
        have_slots: Mapping[Slot, SlotRow],
        max_slots: int,
        max_backends: int,
    ) -> None:
        self.out = Wanted()
        self._have_slots = have_slots
        self._ids = {row: number for number, row in have_backends.items()}
        self._next_backend = max(have_backends, default=0) + 1
        self._next_service = max((row.service_id for row in have_slots.values()), default=0) + 1
        # Writes come before removals, so both the old rows and the new ones must find room for a moment.
        self._free_slots = max_slots - len(have_slots)
        self._free_backends = max_backends - len(have_backends)

    def add(self, item: ServiceItem, routed: bool, selecting: Collection[Frontend]) -> None:
        """`selecting`: addresses of backends that select a routed Service."""
        rows = {frontend: backend_rows(frontend, port) for frontend, port in frontends(item)}
        reason = self._why_not(item, rows)
        if reason:
            self.out.refused[item.key] = reason
            return
        for frontend, backends in rows.items():
            self.out.owners[frontend] = item.key
            shared = any(Frontend(row.address, row.port, row.protocol) in selecting for row in backends)
            judged = (routed or shared) and frontend.protocol == Protocol.TCP
            flags = ServiceFlag.PROXY if judged else ServiceFlag(0)
            self._write(frontend, [self._id(row) for row in backends], flags)

    def add_backends(self, item: ServiceItem) -> None:
        """Those that are no service's address, nor in another routed one's name already."""
        fresh = [each for each in own_addresses(item) if Slot(each, 0) not in self.out.slots]
        missing = sum(Slot(each, 0) not in self._have_slots for each in fresh)
        if missing > self._free_slots:
            self.out.refused[item.key] = f"its backends do not fit: {missing} slots more than there is room for"
            return
        self._free_slots -= missing
        for each in fresh:
            self._write(each, [], BACKEND)

    def _why_not(self, item: ServiceItem, rows: Mapping[Frontend, list[BackendRow]]) -> str:
        for frontend in rows:
            other = self.out.owners.get(frontend)
            if other is not None:
                return f"{frontend} belongs to service {other}"
        new_slots = sum(
            Slot(frontend, number) not in self._have_slots
            for frontend, backends in rows.items()
            for number in range(len(backends) + 1)
        )
        new_backends = len({row for backends in rows.values() for row in backends if row not in self._ids})
        if new_slots > self._free_slots or new_backends > self._free_backends:
            return f"does not fit: {new_slots} slots and {new_backends} backends more than the maps have room for"
        self._free_slots -= new_slots
        self._free_backends -= new_backends
        return ""

    def _id(self, row: BackendRow) -> int:
        number = self._ids.get(row)
        if number is None:
            number, self._next_backend = self._next_backend, self._next_backend + 1
            self._ids[row] = number
        self.out.backends[number] = row
        return number

    def _write(self, frontend: Frontend, ids: list[int], flags: ServiceFlag) -> None:
        head = self._have_slots.get(Slot(frontend, 0))
        if head is None:
            service_id, self._next_service = self._next_service, self._next_service + 1
        else:
            service_id = head.service_id
        before = self._before(frontend, head.backends if head else 0)
        for at, number in enumerate(arrange(before, ids), start=1):
            self.out.slots[Slot(frontend, at)] = SlotRow(number, 0, service_id)
        self.out.slots[Slot(frontend, 0)] = SlotRow(0, len(ids), service_id, int(flags))

    def _before(self, frontend: Frontend, count: int) -> list[int]:
        rows = (self._have_slots.get(Slot(frontend, number)) for number in range(1, count + 1))
        return [row.backend_id if row else 0 for row in rows]
