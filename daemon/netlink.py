"""The one door to rtnetlink: nothing else in Weft imports pyroute2.

`routes(netns)` opens a socket for links, addresses and routes in a namespace (by its name under /run/netns;
None: this process's own). `Watch` keeps `Facts` about this process's namespace current: which interface leads
to which workload, what addresses are the node's own. `attach_clsact` is for kernels that lack tcx links. Rules,
local tables and the device pair are for `steering`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink import rtnl
from pyroute2.netlink.exceptions import NetlinkError

__all__ = [
    "FAMILIES", "Facts", "NetlinkError", "Rule", "Watch", "add_local_table", "add_rule", "attach_clsact",
    "detach_clsact", "detach_clsact_everywhere", "ensure_address", "ensure_pair", "link_index", "local_tables",
    "own_rules", "remove_link", "remove_local_table", "remove_rule", "routes",
]  # fmt: skip

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


# --- steering: each of these raises OSError with what netlink said ------------------------------------------------

#: Those that this kernel has.
FAMILIES = (socket.AF_INET, socket.AF_INET6) if Path("/proc/sys/net/ipv6").exists() else (socket.AF_INET,)
#: Who made a rule or route (/etc/iproute2/rt_protos): so that ours are found again and nobody else's are touched.
PROTOCOL = 87
_GOTO, _LOOKUP, _NOP = 2, 1, 3
LOCAL_TYPE, HOST_SCOPE = 2, 254


class Rule(NamedTuple):
    """For packets that bear `mark`, of those that come from `iif` ("": from anywhere). `goto`: the rule of that
    priority is next; `table`: is looked up; neither: nothing happens."""

    family: int
    priority: int
    mark: int
    iif: str = ""
    goto: int = 0
    table: int = 0


@contextlib.contextmanager
def _asking(*missing: int) -> Iterator[IPRoute]:
    """Errors in `missing` are what was wanted."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        if error.code not in missing:
            raise OSError(error.code, f"netlink: {error}") from None


def link_index(name: str) -> int:
    """0: there is no such interface."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def ensure_pair(name: str, peer: str) -> int:
    """A veth pair, both ends up, without link-local addresses. The index of the first."""
    with _asking() as ip:
        if not link_index(name):
            ip.link("add", ifname=name, kind="veth", peer={"ifname": peer})
        for end in (name, peer):
            ip.link("set", index=socket.if_nametoindex(end), IFLA_AF_SPEC=_NO_LINK_LOCAL)
            ip.link("set", index=socket.if_nametoindex(end), state="up")
    return socket.if_nametoindex(name)


_NO_LINK_LOCAL = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}


def ensure_address(index: int, address: str) -> None:
    with _asking(errno.EEXIST) as ip:
        ip.addr("add", index=index, address=address, prefixlen=32, scope=HOST_SCOPE)


def remove_link(name: str) -> None:
    if index := link_index(name):
        with _asking(errno.ENODEV) as ip:
            ip.link("del", index=index)


def own_rules() -> set[Rule]:
    found: set[Rule] = set()
    with _asking() as ip:
        for family in FAMILIES:
            for message in ip.get_rules(family=family):
                if message.get("protocol") == PROTOCOL:
                    found.add(_rule_of(message))
    return found


def _rule_of(message: Any) -> Rule:
    """One that is not as we make them is none of those wanted."""
    table = message.get("table") or 0
    mark = message.get("fwmark") or 0
    whole = (message.get("fwmask") or 0) == mark
    return Rule(
        message["family"],
        message.get("priority") or 0,
        mark if whole else 0,
        message.get("iifname") or "",
        message.get("goto") or 0,
        table if message["action"] == _LOOKUP else 0,
    )


def _rule_fields(rule: Rule) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "family": rule.family,
        "priority": rule.priority,
        "fwmark": rule.mark,
        "fwmask": rule.mark,
        "protocol": PROTOCOL,
        "action": _GOTO if rule.goto else _LOOKUP if rule.table else _NOP,
    }
    if rule.iif:
        fields["iifname"] = rule.iif
    if rule.goto:
        fields["goto"] = rule.goto
    if rule.table:
        fields["table"] = rule.table
    return fields


def add_rule(rule: Rule) -> None:
    with _asking(errno.EEXIST) as ip:
        ip.rule("add", **_rule_fields(rule))


def remove_rule(rule: Rule) -> None:
    with _asking(errno.ENOENT) as ip:
        ip.rule("del", **_rule_fields(rule))


def local_tables(table: int) -> set[int]:
    """Families in which everything that is looked up in the table is delivered here."""
    found: set[int] = set()
    with _asking(errno.ENOENT) as ip:
        for family in FAMILIES:
            for message in ip.get_routes(family=family, table=table):
                if message["type"] == LOCAL_TYPE and not message["dst_len"]:
                    found.add(family)
    return found


def _everything(family: int, table: int) -> dict[str, Any]:
    return {
        "family": family,
        "dst": "0.0.0.0/0" if family == socket.AF_INET else "::/0",
        "type": LOCAL_TYPE,
        "scope": HOST_SCOPE if family == socket.AF_INET else 0,
        "oif": socket.if_nametoindex("lo"),
        "table": table,
        "proto": PROTOCOL,
    }


def add_local_table(family: int, table: int) -> None:
    with _asking(errno.EEXIST) as ip:
        ip.route("replace", **_everything(family, table))


def remove_local_table(family: int, table: int) -> None:
    with _asking(errno.ESRCH) as ip:
        ip.route("del", **_everything(family, table))
