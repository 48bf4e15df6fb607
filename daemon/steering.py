"""The node's side of the way to the L7 proxy: what the programs steer to, and what makes the kernel deliver it.

In: the mark bit and the proxy's port. Out: the device pair `weft-p0`/`weft-p1`, rules and routes for marked
packets, the program at weft-p0, and what the programs are told of all that. Rule: `enable` only when the proxy
listens; what needs a proxy is refused before. Everything is idempotent, and outlives this process until `remove`.

    100  marked, from the node itself   goto 102     the proxy's own packets: as if they bore no mark
    101  marked                         table 15001  local default dev lo: to the proxy's sockets
    102  marked                         nop          here goes 100

A packet that a program turned round at a workload's veth comes in again at weft-p0. Its source is anybody's, also
the node's: hence rp_filter 2 and accept_local. (With rp_filter above 0 a device without any address takes nothing:
127.0.0.2 is one that every node has anyway.)

tcp_early_demux is off, for both families: the kernel would give a packet on its way to a workload to the proxy's
socket that has its addresses, before it is routed, and then drop it, for what is forwarded must be nobody's. The
ports that a socket may ask for (IP_LOCAL_PORT_RANGE) must lie among the node's own: those reach up to 65535.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from weft.daemon import netlink
from weft.daemon.datapath.kernel import PinnedKernel, ProxyRow
from weft.daemon.datapath.programs import Programs

#: Kubernetes and its network plugins own most of the other bits.
MARK: Final = 0x800
PORT: Final = 15001
#: Ports from here on are the sources of connections made in a client's name: above what Linux gives its clients.
FIRST_PORT, LAST_PORT = 61000, 65535

DEVICE, PEER = "weft-p0", "weft-p1"
ADDRESS: Final = "127.0.0.2"
TABLE: Final = 15001
FAMILIES: Final = netlink.FAMILIES
EARLY_DEMUX, PORTS = "ipv4/tcp_early_demux", "ipv4/ip_local_port_range"
DEFAULT_PORTS: Final = (32768, 60999)
SYSCTLS: Final = {
    EARLY_DEMUX: "0",
    "ipv4/conf/weft-p0/rp_filter": "2",
    "ipv4/conf/weft-p0/accept_local": "1",
    "ipv4/conf/weft-p0/forwarding": "1",
    "ipv6/conf/weft-p0/forwarding": "1",
    "ipv6/conf/weft-p0/accept_ra": "0",
}


class Gap(NamedTuple):
    """What is missing, and what of ours is there that should not be."""

    rules: frozenset[netlink.Rule]
    strangers: frozenset[netlink.Rule]
    routes: frozenset[int]  # families


def wanted_rules(mark: int) -> frozenset[netlink.Rule]:
    return frozenset(
        rule
        for family in FAMILIES
        for rule in (
            netlink.Rule(family, 100, mark, iif="lo", goto=102),
            netlink.Rule(family, 101, mark, table=TABLE),
            netlink.Rule(family, 102, mark),
        )
    )


def gap(mark: int, rules: Iterable[netlink.Rule], routes: Iterable[int]) -> Gap:
    """`rules`: ours that are there; `routes`: families whose table delivers."""
    have, want = frozenset(rules), wanted_rules(mark)
    return Gap(want - have, have - want, frozenset(FAMILIES) - frozenset(routes))


class Steering:
    def __init__(self, kernel: PinnedKernel, programs: Programs, mark: int = MARK) -> None:
        self._kernel, self._programs, self.mark = kernel, programs, mark
        self._sinks: list[socket.socket] = []
        self._sunk = (0, 0)  # device and port of the sinks

    def prepare(self) -> None:
        """Device, rules, routes, program; then the programs know that the node has a proxy, and what needs one is
        refused until `enable`. Before any service is marked as the proxy's. Raises OSError."""
        index = self._make_device()
        self._mend(gap(self.mark, netlink.own_rules(), netlink.local_tables(TABLE)))
        self._programs.attach_proxy(index)
        row = self._kernel.proxy()
        self._kernel.tell_proxy(ProxyRow(_netns_cookie(), index, row.port, FIRST_PORT))
        self._kernel.has_proxy(True)
        self._sink(index, row.port or PORT)

    def enable(self, mark: int = 0, port: int = PORT) -> None:
        """The proxy listens on `port`: from now on it gets what is its own. `mark` 0: the one that was prepared."""
        if mark and mark != self.mark:
            self.mark = mark
            self.prepare()
        self._kernel.tell_proxy(self._kernel.proxy()._replace(port=port))
        self._kernel.mark_proxy(self.mark)
        self._sink(netlink.link_index(DEVICE), port)

    def disable(self) -> None:
        """There is no proxy for the time being: what needs one is refused at once."""
        self._kernel.tell_proxy(self._kernel.proxy()._replace(port=0))
        self._kernel.mark_proxy(0)

    def retire(self) -> None:
        """This node has no proxy any more. Only after no service is marked as the proxy's."""
        self.disable()
        self._kernel.has_proxy(False)
        self._programs.detach_proxy()
        self._close_sinks()
        remove()

    def whole(self) -> bool:
        """Whether everything is where `prepare` put it; looked at now and then, `prepare` mends."""
        index = netlink.link_index(DEVICE)
        missing = gap(self.mark, netlink.own_rules(), netlink.local_tables(TABLE))
        set_so = bool(index) and all(_get(name) in ("", value) for name, value in SYSCTLS.items())
        set_so = set_so and _ports()[1] == LAST_PORT
        return set_so and not any(missing) and self._programs.proxy_attached(index)

    def _sink(self, index: int, port: int) -> None:
        """Listeners at weft-p0, on the port after the proxy's: nobody is ever accepted there. Where one is found,
        the kernel gives way to a new connection on the ports of one in TIME_WAIT (bpf/proxy.c). While this process
        is away such a connection waits a second longer."""
        if self._sunk == (index, port):
            return
        self._close_sinks()
        self._sinks = [_sink(family, port + 1) for family in FAMILIES]
        self._sunk = index, port

    def _close_sinks(self) -> None:
        for each in self._sinks:
            each.close()
        self._sinks, self._sunk = [], (0, 0)

    def _make_device(self) -> int:
        index = netlink.ensure_pair(DEVICE, PEER)
        for name, value in SYSCTLS.items():
            _set(name, value)
        _set_last_port(LAST_PORT)
        netlink.ensure_address(index, ADDRESS)
        return index

    def _mend(self, found: Gap) -> None:
        for family in found.routes:
            netlink.add_local_table(family, TABLE)
        for rule in found.rules:  # new ones first: in between packets are delivered twice as well, never not at all
            netlink.add_rule(rule)
        for rule in found.strangers:
            netlink.remove_rule(rule)


def _sink(family: int, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
        opened.bind(("", port))
        opened.listen(1)
    except BaseException:
        opened.close()
        raise
    return opened


def remove() -> None:
    """Device, rules and routes, in this process's network namespace. What is gone already is not missed."""
    for rule in netlink.own_rules():
        netlink.remove_rule(rule)
    for family in netlink.local_tables(TABLE):
        netlink.remove_local_table(family, TABLE)
    if netlink.link_index(DEVICE):  # else it may be somebody else's wish
        _set(EARLY_DEMUX, "1")
        if _ports() == (DEFAULT_PORTS[0], LAST_PORT):
            _set_last_port(DEFAULT_PORTS[1])
        netlink.remove_link(DEVICE)


def _set(name: str, value: str) -> None:
    path = Path("/proc/sys/net") / name
    if path.exists():  # no IPv6 here: nothing to set
        path.write_text(value)


def _get(name: str) -> str:
    """ "": there is no such thing here."""
    path = Path("/proc/sys/net") / name
    return path.read_text().strip() if path.exists() else ""


def _ports() -> tuple[int, int]:
    first, last = map(int, _get(PORTS).split())
    return first, last


def _set_last_port(last: int) -> None:
    first, before = _ports()
    if before != last:
        _set(PORTS, f"{first} {last}")


def _netns_cookie() -> int:
    """As programs see it (SO_NETNS_COOKIE, 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, 71, 8), "little")
