"""The endpoints of one service port, whoever its clients are: who they are now, and what is under way at each.

In: the snapshot's service, for a ServiceEntry its entry, and what its names were last resolved to. Out:
`Backend`s. One that stays keeps its counters and connections; one that is new notes since when, so that it can
warm up; one that is gone is marked `gone` and gets nothing new, while what it has under way ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from weft.bpf.shared import ACTIVE, Private, Rows
from weft.l7proxy.core.parties import Workload
from weft.policies.mesh.hosts import is_address
from weft.policies.mesh.model import EntryEndpoint, EntryPort, Resolution, ServiceEntry
from weft.policies.snapshot import BackendItem, ServicePortItem

#: A destination's first endpoints do not warm up: there is nobody else to take the load meanwhile.
ALWAYS = float("-inf")
#: Endpoints that nobody declared, before those are forgotten where nothing is under way.
MOST_OPEN = 2_000


class Backend:
    """One endpoint. `active`: requests under way, by all clients of this worker; `since`: when it joined."""

    __slots__ = (
        "_whose",
        "active",
        "address",
        "connections",
        "failures",
        "gone",
        "ip",
        "labels",
        "locality",
        "node",
        "port",
        "row",
        "since",
        "successes",
        "total",
        "weight",
    )

    def __init__(
        self, wanted: Wanted, whose: Callable[[str], Workload], rows: Rows, name: str, since: float
    ) -> None:
        self.ip, self.port, self.since = wanted.ip, wanted.port, since
        self.address = f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"
        self._whose = whose
        self.row = rows.row("", name, self.address)
        self.active = self.connections = self.total = self.successes = self.failures = 0
        self.gone = False
        self.describe(wanted)

    def describe(self, wanted: Wanted) -> None:
        self.labels, self.locality = wanted.labels, wanted.locality
        self.weight, self.node = wanted.weight, wanted.node

    @property
    def workload(self) -> Workload:
        return self._whose(self.ip)

    def begin(self) -> None:
        self.active = active = self.active + 1
        self.total += 1
        self.row.mine[ACTIVE] = active

    def end(self) -> None:
        self.active = active = self.active - 1
        self.row.mine[ACTIVE] = active

    def leave(self, rows: Rows) -> None:
        """It is no endpoint any more. What still ends there counts down in a row of its own."""
        self.gone = True
        rows.release(self.row)
        self.row = Private().row("", "", "")

    def __repr__(self) -> str:
        return f"Backend({self.address})"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint as the snapshot has it. Labels and locality of a pod are its own and its node's."""

    ip: str
    port: int
    labels: Mapping[str, str]
    locality: str
    weight: int
    node: str

    @classmethod
    def of_item(cls, item: BackendItem, whose: Callable[[str], Workload]) -> Wanted:
        workload = whose(item.ip)
        labels = dict(item.labels) if item.labels else workload.labels
        node = item.node or workload.node
        return cls(item.ip, item.port, labels, item.locality or workload.locality, max(item.weight, 1), node)

    @classmethod
    def of_entry(cls, endpoint: EntryEndpoint, ip: str, port: int) -> Wanted:
        return cls(ip, port, dict(endpoint.labels), endpoint.locality, max(endpoint.weight, 1), "")


class Destination:
    """`endpoints` by (ip, port), in the snapshot's order. `revision` grows with each change of them. `open`: any
    address may be one, and becomes one when it is asked for. `users`: groups."""

    __slots__ = ("_rows", "_whose", "endpoints", "name", "open", "place", "revision", "users")

    def __init__(self, place: tuple[str, int], whose: Callable[[str], Workload], rows: Rows) -> None:
        self.place, self.name = place, f"{place[0]}:{place[1]}"
        self._whose, self._rows = whose, rows
        self.open = False
        self.users = 0
        self.endpoints: dict[tuple[str, int], Backend] = {}
        self.revision = 0

    def update(self, wanted: Iterable[Wanted], now: float) -> list[Backend]:
        """The endpoints that are gone by this."""
        before, since = self.endpoints, now if self.endpoints else ALWAYS
        self.endpoints = {}
        for row in wanted:
            known = before.pop((row.ip, row.port), None) or self.endpoints.get((row.ip, row.port))
            if known is None:
                known = Backend(row, self._whose, self._rows, self.name, since)
            else:
                known.describe(row)
            self.endpoints[row.ip, row.port] = known
        self.revision += 1
        for backend in before.values():
            backend.leave(self._rows)
        return list(before.values())

    def close(self) -> None:
        self.update((), 0.0)

    def at(self, ip: str, port: int) -> Backend:
        """The endpoint with this address, which nobody declared: it is made."""
        found = self.endpoints.get((ip, port))
        if found is None:
            if len(self.endpoints) >= MOST_OPEN:
                self._forget_idle()
            workload = self._whose(ip)
            wanted = Wanted(ip, port, workload.labels, workload.locality, 1, workload.node)
            found = self.endpoints[ip, port] = Backend(wanted, self._whose, self._rows, self.name, ALWAYS)
        return found

    def _forget_idle(self) -> None:
        """Of endpoints that are made as they are asked for: clients may ask for any address there is."""
        for key, backend in list(self.endpoints.items()):
            if not backend.active and not backend.connections:
                del self.endpoints[key]
                backend.leave(self._rows)
        self.revision += 1


def names_of(entry: ServiceEntry, host: str) -> list[EntryEndpoint]:
    """The endpoints of an entry that have to be looked up."""
    if entry.resolution not in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
        return []
    if not entry.endpoints and not entry.selector:
        return [EntryEndpoint(host)]
    return [endpoint for endpoint in entry.endpoints if not is_address(endpoint.address)]


def wanted(
    item: ServicePortItem,
    entry: ServiceEntry | None,
    host: str,
    whose: Callable[[str], Workload],
    resolved: Callable[[str], tuple[str, ...]],
) -> Iterator[Wanted]:
    """`resolved`: a name's addresses as they are known now, none yet: ()."""
    for backend in item.backends:
        if entry is None or is_address(backend.ip):
            yield Wanted.of_item(backend, whose)
    if entry is None:
        return
    port = next((port for port in entry.ports if port.number == item.port), None)
    first = entry.resolution is Resolution.DNS_ROUND_ROBIN
    for endpoint in names_of(entry, host):
        known = resolved(endpoint.address)
        # the order of an answer says who is first, and nothing else: a turned one is no change
        for ip in known[:1] if first else sorted(known):
            yield Wanted.of_entry(endpoint, ip, _target(endpoint, port, item.port))


def _target(endpoint: EntryEndpoint, port: EntryPort | None, number: int) -> int:
    if port is None:
        return number
    return dict(endpoint.ports).get(port.name) or port.target_port or port.number


#: Protocols as the proxy serves them (F09).
_HTTP1 = frozenset(("http", "grpc-web", "kubernetes.io/ws", "ws"))
_HTTP2 = frozenset(("http2", "grpc", "h2c", "kubernetes.io/h2c"))
_TCP = frozenset(("tcp", "tls", "https", "mongo", "mysql", "redis", "kubernetes.io/wss", "wss"))
#: Well-known ports of protocols whose server speaks first: Istio takes them as TCP where nothing is declared.
_SERVER_FIRST = frozenset((25, 53, 3306, 27017))


def protocol(item: ServicePortItem) -> str:
    """http1, http2, tcp; "": by the first bytes. `appProtocol` stands before the port's name."""
    if item.app_protocol:
        return _known(item.app_protocol.lower())
    name = item.name.lower()
    if name.startswith("grpc-web"):
        return "http1"
    known = _known(name.partition("-")[0])
    return known or ("tcp" if item.port in _SERVER_FIRST else "")


def _known(name: str) -> str:
    if name in _HTTP1:
        return "http1"
    if name in _HTTP2:
        return "http2"
    return "tcp" if name in _TCP else ""
