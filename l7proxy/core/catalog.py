"""Destinations by host and port, filled from the world and from looked-up names.

A destination is made when the first group of clients asks for it and ends with the last one. Names are looked up
from the moment that their host is declared, so the first request finds their addresses.
"""

from __future__ import annotations

from typing import Final

from weft.bpf.shared import Rows
from weft.l7proxy.core.endpoints import Backend, Destination, names_of, wanted
from weft.l7proxy.core.parties import World
from weft.l7proxy.upstream.names import Names
from weft.policies.mesh.model import Resolution, ServiceEntry
from weft.policies.model import Protocol
from weft.policies.snapshot import ServicePortItem

_STREAMS: Final = (Protocol.TCP, Protocol.ANY)


class Catalog:
    """`destinations` by host and port; of an address that nobody declared, the host is "@" and the address."""

    def __init__(self, world: World, names: Names, rows: Rows) -> None:
        self._world, self._names, self._rows = world, names, rows
        self.destinations: dict[tuple[str, int], Destination] = {}
        self._watched: dict[str, list[str]] = {}  # names, by host

    def port(self, host: str, port: int) -> ServicePortItem | None:
        service = self._world.service(host)
        ports = service.ports if service is not None else ()
        return next((one for one in ports if one.port == port and one.protocol in _STREAMS), None)

    def destination(self, host: str, port: int, now: float) -> Destination:
        found = self.destinations.get((host, port))
        if found is None:
            found = self.destinations[host, port] = Destination((host, port), self._world.workload, self._rows)
            self.watch(host)
            self.update(host, port, now)
        return found

    def fixed(self, address: tuple[str, int]) -> Destination:
        """Of one address. Nothing of it is shared with a service that happens to have it, too."""
        place = (f"@{address[0]}", address[1])
        found = self.destinations.get(place)
        if found is None:
            found = self.destinations[place] = Destination(place, self._world.workload, self._rows)
            found.at(*address)
        return found

    def update(self, host: str, port: int, now: float) -> list[Backend]:
        """Its endpoints as they are now; those that are gone."""
        destination = self.destinations.get((host, port))
        if destination is None:
            return []
        item, entry = self.port(host, port), self._entry(host)
        destination.open = entry is not None and entry.resolution is Resolution.NONE
        if destination.open and item is not None:
            return []
        whose, resolved = self._world.workload, self._names.addresses
        return destination.update(wanted(item, entry, host, whose, resolved) if item else (), now)

    def release(self, destination: Destination) -> None:
        """One group less."""
        destination.users -= 1
        if not destination.users:
            del self.destinations[destination.place]
            destination.close()

    def watch(self, host: str) -> None:
        """Looks the host's names up, from now on; no others of it any more."""
        entry = self._entry(host)
        want = [one.address for one in names_of(entry, host)] if entry is not None else []
        have = self._watched.get(host, [])
        if want == have:
            return
        for name in want:
            self._names.watch(name)
        for name in have:
            self._names.forget(name)
        self._watched[host] = want
        if not want:
            del self._watched[host]

    def named(self, name: str) -> list[str]:
        """The hosts that are declared by this name."""
        return [host for host, names in self._watched.items() if name in names]

    def _entry(self, host: str) -> ServiceEntry | None:
        routing = self._world.routing(host)
        return routing.entry if routing is not None else None
