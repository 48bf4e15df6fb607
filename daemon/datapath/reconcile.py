"""The data plane of one node: takes in snapshots and facts, and makes the kernel hold what follows from them.

In: a Snapshot with what changed in it, interfaces and addresses from netlink. Out: writes by a `Kernel`, and
`refusals` for the operator. No clock, no sockets: everything else of the daemon is built around this.

Rule: a refusal concerns one resource; the rest of the change goes through. An interface that has our programs
keeps them as long as it exists: a workload that the snapshot no longer names is cut off, not let loose.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from weft.bpf import layout
from weft.daemon.datapath import addresses, endpoints, services
from weft.daemon.datapath.images import Image, Rows
from weft.daemon.datapath.kernel import Kernel
from weft.daemon.datapath.plan import assign, plan
from weft.daemon.datapath.plan import tidy as plan_tidy
from weft.daemon.datapath.rows import EndpointRow, Prefix, State, packed, settled, text
from weft.daemon.datapath.tables import Tables
from weft.daemon.datapath.writer import Writer
from weft.policies.cidr import CidrIdentities
from weft.policies.compile import EVERYTHING_CHANGED, Changes, Compiler
from weft.policies.cookies import Cookies
from weft.policies.delta import ClusterDelta, NodeDelta
from weft.policies.identity import LOCAL_MIN
from weft.policies.model import Network
from weft.policies.snapshot import EndpointItem, Snapshot

NO_ROWS: Rows = {}


@dataclass(frozen=True, slots=True)
class Facts:
    """What this node's kernel says: interface by (packed) address, names of interfaces, own addresses."""

    routes: Mapping[bytes, int] = field(default_factory=dict)
    links: Mapping[int, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()


class Reconciler:
    def __init__(self, kernel: Kernel, node: str, dns: tuple[str, ...] = ()) -> None:
        self._kernel = kernel
        self.writer = Writer(kernel, self._content)
        self.cookies = Cookies()
        self.cidrs = CidrIdentities(_known_prefixes(self.writer.have.ipcache))
        self.snapshot: Snapshot | None = None
        self.facts = Facts()
        self.placed = endpoints.Placed()
        self.services = services.Wanted()
        self.tables: Tables | None = None
        self.crowded: dict[str, str] = {}  # addresses that the ipcache has no room for
        self._node, self.dns = node, dns
        self._ids = endpoints.Ids(max((row.ep_id for row in self.writer.have.endpoints.values()), default=0))
        self._policy_ids = itertools.count(
            # also above what rows point to whose table is gone: nobody shall find another's there
            max(
                self.writer.have.tables.keys()
                | self.writer.have.spares
                | {row.policy_id for row in self.writer.have.endpoints.values()},
                default=0,
            )
            + 1
        )
        self._proxied = False
        self._ipcache: dict[Prefix, int] | None = None
        self._services_stale = True
        self._first = True

    def take_snapshot(self, snapshot: Snapshot, cluster: ClusterDelta, own: NodeDelta) -> None:
        """`cluster`, `own`: what differs from the snapshot before; not looked at the first time."""
        if self.tables is None:
            self.tables = Tables(Compiler(self.cidrs, self.cookies), self._adopted(snapshot.own.endpoints))
        first = self.snapshot is None
        before = self.snapshot.cluster.routing if self.snapshot is not None else services.NO_ROUTING
        self.snapshot = snapshot
        prefixes = dict(self.cidrs.prefixes())
        self.tables.update(snapshot.cluster, snapshot.own.endpoints, _changes(cluster, own, first))
        if (
            first
            or cluster.addresses
            or cluster.addresses_gone
            or cluster.nodes
            or cluster.nodes_gone
            or prefixes != self.cidrs.prefixes()
        ):
            self._ipcache = None
        self._services_stale |= first or bool(cluster.services or cluster.services_gone)
        for host in (*cluster.routing, *cluster.routing_gone):  # here counts whether, and not how
            now = snapshot.cluster.routing.get(host)
            self._services_stale |= services.needs_proxy(before.get(host)) != services.needs_proxy(now)

    @property
    def proxied(self) -> bool:
        """This node has an L7 proxy, be it up or down: what is routed is left for it. Set it when the way to it is
        prepared, and before that is taken down again; `apply` follows."""
        return self._proxied

    @proxied.setter
    def proxied(self, value: bool) -> None:
        self._services_stale |= value != self._proxied
        self._proxied = value

    def forget_attached(self, lost: Iterable[int]) -> None:
        """Interfaces that turned out to carry our programs no more: they are attached again."""
        self.writer.have.attached -= set(lost)

    def take_facts(self, facts: Facts) -> None:
        if facts.addresses != self.facts.addresses:
            self._ipcache = None
        self.facts = facts

    def mark(self, snapshot: int) -> None:
        self._kernel.mark(snapshot)

    def marked(self) -> int:
        return self._kernel.marked()

    def apply(self) -> int:
        """Makes it so; returns how many writes that took. Nothing happens before there is a snapshot. Raises
        OSError: what is written is safe as it stands, and applying again goes on from there."""
        if self.snapshot is None or self.tables is None:
            return 0
        self.writer.refresh()
        want = self._want(self.snapshot, self.tables)
        writes = plan(self.writer.have, want)
        self.writer.forget_interfaces(want.attached)
        self.writer.apply(writes)
        if self._first:
            # A daemon before us may have died between its last write and the bump after it.
            self.writer.bump()
            self._first = False
        self.tables.settled()
        return len(writes)

    def tidy(self) -> Callable[[], frozenset[int]] | None:
        """What is left to do when a change is in force and nobody waits, if anything is: work for another thread,
        for it takes some 20 ms in the kernel. What that returns is for `tidied`. Raises OSError."""
        have = self.writer.have
        work = plan_tidy(have)
        if work is None:
            return None
        for number in work.drop:  # from here on nobody may choose it
            del have.tables[number]
        fresh = frozenset(itertools.islice(self._policy_ids, work.make))

        def do() -> frozenset[int]:
            self._kernel.drop(work.drop)
            self._kernel.publish(dict.fromkeys(fresh, NO_ROWS))
            return fresh

        return do

    def tidied(self, spares: frozenset[int]) -> None:
        self.writer.have.spares |= spares

    def forget_rules(self) -> None:
        """Sets of rules that no table has any more, once there are very many of them."""
        if self.tables is not None:
            self.cookies.retain(self.tables.cookies())

    def refusals(self) -> dict[str, str]:
        """Resource ("policy CiliumNetworkPolicy default/x") -> reason."""
        told = {f"service {key}": reason for key, reason in self.services.refused.items()}
        told |= {f"endpoint {key}": reason for key, reason in self.placed.refused.items()}
        told |= {f"address {key}": reason for key, reason in self.crowded.items()}
        if self.tables is not None:
            refused = self.tables.refused
            told |= {f"endpoint {key}": reason for key, reason in (refused.kept | refused.denied).items()}
            told |= {f"policy {ref}": reason for ref, reason in refused.policies.items()}
        return told

    def ready(self, endpoint: str) -> bool:
        """Its programs are attached, and its row is in force."""
        spot = self.placed.places.get(endpoint)
        have = self.writer.have
        return spot is not None and spot.ifindex in have.attached and spot.ifindex in have.endpoints

    def _want(self, snapshot: Snapshot, tables: Tables) -> State:
        have = self.writer.have
        own = snapshot.own.endpoints
        room = layout.ENDPOINTS.max_entries
        self.placed = endpoints.place(own, self.facts.routes, have.endpoints, self._ids, room)
        places = self.placed.places
        wanted_tables = assign(have, (tables.image(key).digest for key in places), self._policy_ids)
        numbers = {digest: number for number, digest in wanted_tables.items()}
        rows: dict[int, EndpointRow] = {}
        for key, spot in places.items():
            image = tables.image(key)
            rows[spot.ifindex] = endpoints.row(spot, numbers[image.digest], image.flags)
        wanted = self._services(snapshot)
        return State(
            ipcache=self._addresses(snapshot),
            tables=wanted_tables,
            endpoints=rows,
            attached=rows.keys() | self.placed.shut | (have.attached & self.facts.links.keys()),
            backends=wanted.backends,
            slots=wanted.slots,
        )

    def _addresses(self, snapshot: Snapshot) -> dict[Prefix, int]:
        if self._ipcache is None:
            node = addresses.Node(self._node, self.facts.addresses, self.dns)
            rows = addresses.wanted(snapshot.cluster, node, self.cidrs.prefixes())
            self._ipcache, crowded = addresses.fit(rows, self.writer.have.ipcache, layout.IPCACHE.max_entries)
            self.crowded = {str(prefix): "the map of addresses is full" for prefix in crowded}
        return self._ipcache

    def _services(self, snapshot: Snapshot) -> services.Wanted:
        if self._services_stale:
            have = self.writer.have
            self.services = services.wanted(
                snapshot.cluster.services,
                have.backends,
                have.slots,
                layout.SERVICES.max_entries,
                layout.BACKENDS.max_entries,
                snapshot.cluster.routing if self._proxied else services.NO_ROUTING,
            )
            # What was refused for want of room is tried again at the next change: room comes with removals.
            self._services_stale = bool(self.services.refused)
        return self.services

    def _content(self, digest: bytes) -> Rows:
        assert self.tables is not None
        return self.tables.rows(digest)

    def _adopted(self, own: Mapping[str, EndpointItem]) -> dict[str, Image]:
        """What the kernel enforces now for the endpoints that it knows, by their addresses."""
        have = self.writer.have
        by_address = {raw: row for row in have.endpoints.values() for raw in (row.ipv4, row.ipv6) if raw}
        found: dict[str, Image] = {}
        for key, item in own.items():
            row = next((by_address[raw] for ip in item.ips if (raw := packed(ip)) in by_address), None)
            if row is not None and row.policy_id in have.tables:
                found[key] = Image(have.tables[row.policy_id], layout.EndpointFlag(row.flags), 0)
        return found


def _changes(cluster: ClusterDelta, own: NodeDelta, first: bool) -> Changes:
    if first:
        return EVERYTHING_CHANGED
    return Changes(
        policies=frozenset(cluster.policies) | cluster.policies_gone,
        addresses=frozenset(cluster.addresses) | cluster.addresses_gone,
        endpoints=frozenset(own.endpoints) | own.endpoints_gone,
    )


def _known_prefixes(ipcache: Mapping[Prefix, int]) -> dict[Network, int]:
    """CIDR identities that the kernel uses already: they keep their numbers."""
    return {
        ip_network(f"{text(prefix.address)}/{prefix.bits}"): number
        for prefix, row in ipcache.items()
        if (number := settled(row)) >= LOCAL_MIN
    }
