"""The one door to rtnetlink: nothing else in Weft imports pyroute2.

`routes(netns)` opens a socket for links, addresses and routes in a namespace (by its name under /run/netns;
None: this process's own). `Watch` keeps `Facts` about this process's namespace current: which interface leads
to which workload, what addresses are the node's own. `attach_clsact` is for kernels that lack tcx links.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pyroute2 import IPRoute
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink import rtnl
from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["Facts", "NetlinkError", "Watch", "attach_clsact", "detach_clsact", "detach_clsact_everywhere", "routes"]

log = logging.getLogger("weft.netlink")

GROUPS = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_ROUTE
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV6_IFADDR
)
MAIN_TABLE, UNICAST = 254, 1
#: Of our clsact filters, so that they are found again and nobody else's are touched.
PRIORITY, HANDLE = 0xC001, 1
CLSACT_INGRESS, CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
ALL = 0x0003  # ETH_P_ALL


@contextlib.contextmanager
def routes(netns: str | None = None) -> Iterator[IPRoute]:
    with IPRoute(netns=netns) if netns else IPRoute() as opened:
        yield opened


@dataclass(slots=True)
class Facts:
    """`gone`: interfaces that went since somebody emptied it; one of the same number may be there already.
    `routes`: interface by the address (packed) that a host route leads to it for. `addresses`: the node's own,
    as (interface, address); loopback's 127.0.0.0/8 and ::1 and link-local ones are nobody's. `links`: names."""

    routes: dict[bytes, int] = field(default_factory=dict)
    addresses: set[tuple[int, str]] = field(default_factory=set)
    links: dict[int, str] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def take(self, message: Any) -> bool:
        """One rtnetlink message. True: something changed that this keeps."""
        taker = _TAKERS.get(message.get("event"))
        return taker(self, message) if taker else False


def _link(facts: Facts, message: Any) -> bool:
    index, name = message["index"], message.get("ifname") or ""
    if message["family"] == socket.AF_BRIDGE or facts.links.get(index) == name:
        return False
    facts.links[index] = name
    return True


def _link_gone(facts: Facts, message: Any) -> bool:
    index = message["index"]
    if message["family"] == socket.AF_BRIDGE:  # left a bridge, and lives on
        return False
    # The kernel tells of no IPv4 route that goes with its link.
    for address in [address for address, where in facts.routes.items() if where == index]:
        del facts.routes[address]
    facts.gone.add(index)
    return facts.links.pop(index, None) is not None


def _route(facts: Facts, message: Any) -> bool:
    address, index = _host_route(message)
    if address is None or not index or facts.routes.get(address) == index:
        return False
    facts.routes[address] = index
    return True


def _route_gone(facts: Facts, message: Any) -> bool:
    address, index = _host_route(message)
    if address is None or facts.routes.get(address) != index:
        return False
    del facts.routes[address]
    return True


def _host_route(message: Any) -> tuple[bytes | None, int]:
    family, length = message["family"], message["dst_len"]
    whole = {socket.AF_INET: 32, socket.AF_INET6: 128}.get(family)
    wanted = length == whole and message["type"] == UNICAST and message.get("table") == MAIN_TABLE
    destination = message.get("dst") if wanted else None
    return (socket.inet_pton(family, destination) if destination else None), message.get("oif") or 0


def _address(facts: Facts, message: Any) -> bool:
    found = _own_address(message)
    if found is None or found in facts.addresses:
        return False
    facts.addresses.add(found)
    return True


def _address_gone(facts: Facts, message: Any) -> bool:
    found = _own_address(message)
    if found is None or found not in facts.addresses:
        return False
    facts.addresses.remove(found)
    return True


def _own_address(message: Any) -> tuple[int, str] | None:
    # On a point-to-point link "address" is the other end's; "local" is ours, and IPv6 often has only "address".
    address = message.get("local") or message.get("address")
    if not address or address == "::1" or address.startswith(("127.", "fe80:")):
        return None
    return message["index"], address


_TAKERS: dict[str, Callable[[Facts, Any], bool]] = {
    "RTM_NEWLINK": _link,
    "RTM_DELLINK": _link_gone,
    "RTM_NEWROUTE": _route,
    "RTM_DELROUTE": _route_gone,
    "RTM_NEWADDR": _address,
    "RTM_DELADDR": _address_gone,
}


class Watch:
    """`facts` is replaced, never cleared, when messages were lost and all is read again."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.facts = Facts()
        self.resyncs = 0
        self._changed = changed

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled. `ready` is set when the facts are complete for the first time."""
        while True:
            try:
                async with AsyncIPRoute() as socket_:
                    # Listening before reading: what happens in between comes as a message.
                    await socket_.bind(groups=GROUPS)
                    before = self.facts
                    self.facts = await _read_all(socket_)
                    self.facts.gone |= before.gone | before.links.keys()  # nobody knows
                    ready.set()
                    self._changed()
                    await self._follow(socket_)
            except Exception as error:
                # ENOBUFS: more happened than the socket could hold. Whatever it was, everything is read anew: a
                # watch that ends would leave new workloads without their programs.
                log.warning("netlink: %s: %s; reading everything again", type(error).__name__, error)
                self.resyncs += 1
                await asyncio.sleep(0.1)

    async def _follow(self, socket_: AsyncIPRoute) -> None:
        while True:
            async for message in socket_.get():
                if self.facts.take(message):
                    self._changed()


async def _read_all(socket_: AsyncIPRoute) -> Facts:
    facts = Facts()
    for read in (socket_.link, socket_.addr):
        async for message in await read("dump"):
            facts.take(message)
    for family in (socket.AF_INET, socket.AF_INET6):
        async for message in await socket_.route("dump", family=family):
            facts.take(message)
    return facts


def attach_clsact(ifindex: int, prog_fd: int, name: str, *, ingress: bool) -> None:
    """As a direct-action filter; the one that is there is replaced in place."""
    with IPRoute() as ip:
        with contextlib.suppress(NetlinkError):  # there already
            ip.tc("add", "clsact", ifindex)
        parent = CLSACT_INGRESS if ingress else CLSACT_EGRESS
        ip.tc(
            "replace-filter",
            "bpf",
            ifindex,
            handle=HANDLE,
            parent=parent,
            prio=PRIORITY,
            protocol=ALL,
            fd=prog_fd,
            name=name,
            direct_action=True,
        )


def detach_clsact(*ifindexes: int) -> None:
    """Our two filters of each interface; the qdisc stays, for others may use it."""
    with IPRoute() as ip:
        for ifindex in ifindexes:
            for parent in (CLSACT_INGRESS, CLSACT_EGRESS):
                with contextlib.suppress(NetlinkError):
                    ip.tc("del-filter", "bpf", ifindex, handle=HANDLE, parent=parent, prio=PRIORITY, protocol=ALL)


def detach_clsact_everywhere() -> None:
    with IPRoute() as ip:
        found = [link["index"] for link in ip.get_links()]
    detach_clsact(*found)
