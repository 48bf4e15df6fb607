"""The wires of a local cluster: underlay, nodes, pods, hosts outside.

    pod netns            node netns                      underlay netns
    eth0 ---------------- weft<hash>   eth0 -------------- <node>
    10.244.i.x/32        169.254.1.1   172.30.0.i/24       br0 ---- <hash> --- eth0 203.0.113.10 (outside)
    fd00:10:244:i::x/128 fe80::1       fd00:172:30::i/64

Pods are routed, never bridged: what a pod sends goes through the node's end of its veth, where the programs
are. A cluster address that the programs did not translate is unreachable by route: it fails at once.
Everything here may be called again over its own half-made result: the namespace is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

from weft.daemon import netlink
from weft.daemon.dns import ADDRESSES as DNS_ADDRESSES
from weft.daemon.local import namespaces
from weft.daemon.local.addresses import GATEWAY_4, GATEWAY_6, SERVICES_4, SERVICES_6, NodeNet
from weft.daemon.local.names import Cluster, link_name, node_name

BRIDGE = "br0"
IFA_F_NODAD = 2
UPLINK = "eth0"
UNDERLAY = ("172.30.0.0/24", "fd00:172:30::/64")  # IPv4, IPv6
#: Addresses are ours by construction, so nobody need be asked first: an address is usable at once.
NO_DAD = {f"ipv6/conf/{scope}/{key}": "0" for scope in ("all", "default") for key in ("accept_dad", "accept_ra")}
NO_DAD |= {"ipv6/conf/default/dad_transmits": "0"}
#: Any user may ping and listen on low ports, as in a container.
POD_SYSCTLS = NO_DAD | {"ipv4/ping_group_range": "0 2147483647", "ipv4/ip_unprivileged_port_start": "0"}
NODE_SYSCTLS = NO_DAD | {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/default/proxy_arp": "1",  # veths made later answer for the gateway and for everybody
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/icmp_ratelimit": "0",  # every connect to nowhere hears so, not the first six of a second
    "ipv6/icmp/ratelimit": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
}


def _bits(address: str) -> int:
    return ip_address(address).max_prefixlen


def _links(netns: str, work: Callable[[Any], object]) -> None:
    """`work` with a socket for links, addresses and routes of that namespace, in a thread that is in it: pyroute2
    would fork to get there, and a process with gRPC in it must not fork."""

    def there() -> None:
        with netlink.routes() as routes:
            work(routes)

    namespaces.inside(netns, there)


def _index(routes: Any, name: str) -> int:
    found = routes.link_lookup(ifname=name)
    if not found:
        raise LookupError(f"no link {name}")
    return int(found[0])


def _up(routes: Any, name: str, addresses: Sequence[tuple[str, int]] = ()) -> int:
    index = _index(routes, name)
    for address, length in addresses:
        # Else it is tentative until a worker of the kernel comes by, and no route may name it as its source.
        now = {"flags": IFA_F_NODAD} if ":" in address else {}
        routes.addr("replace", index=index, address=address, prefixlen=length, **now)
    routes.link("set", index=index, state="up")
    return index


def fresh(netns: str, sysctls: dict[str, str]) -> None:
    """An empty namespace of that name, whatever was there."""
    namespaces.delete(netns)
    namespaces.create(netns)
    namespaces.write_sysctls(netns, sysctls)
    _links(netns, lambda routes: _up(routes, "lo"))


def make_underlay(cluster: Cluster) -> None:
    fresh(cluster.underlay, NO_DAD)

    def bridge(routes: Any) -> None:
        routes.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0)
        _up(routes, BRIDGE)

    _links(cluster.underlay, bridge)


def _plug(cluster: Cluster, port: str, netns: str) -> None:
    """A cable from the bridge to `eth0` of `netns`."""

    def plug(routes: Any) -> None:
        for stale in routes.link_lookup(ifname=port):
            routes.link("del", index=stale)
        routes.link("add", ifname=port, kind="veth", peer={"ifname": UPLINK, "net_ns_fd": netns})
        routes.link("set", index=_index(routes, port), master=_index(routes, BRIDGE), state="up")

    _links(cluster.underlay, plug)


def make_node(cluster: Cluster, index: int, nodes: int) -> None:
    """The namespace of node `index` of `nodes`, cabled and with routes to the others' pods."""
    name, own = node_name(index), NodeNet(index)
    netns = cluster.node_netns(name)
    fresh(netns, NODE_SYSCTLS)
    _plug(cluster, name, netns)

    def wire(routes: Any) -> None:
        uplink = _up(routes, UPLINK, tuple(zip(own.addresses, (24, 64), strict=True)))
        _up(routes, "lo", [(address, _bits(address)) for address in DNS_ADDRESSES])
        for services in (SERVICES_4, SERVICES_6):
            routes.route("replace", dst=str(services), type="unreachable")
        for other in (NodeNet(i) for i in range(1, nodes + 1) if i != index):
            for cidr, gateway in zip(other.pod_cidrs, other.addresses, strict=True):
                routes.route("replace", dst=cidr, gateway=gateway, oif=uplink)
        for cidr in own.pod_cidrs:  # a pod that is gone: unreachable, not a loop through some default route
            routes.route("replace", dst=cidr, type="unreachable")

    _links(netns, wire)


@dataclass(frozen=True, slots=True)
class PodLink:
    """`ips`: IPv4 and IPv6, in that order; `node`: from 1."""

    namespace: str
    pod: str
    node: int
    ips: tuple[str, ...]


def make_pod(cluster: Cluster, link: PodLink) -> None:
    netns = cluster.pod_netns(link.namespace, link.pod)
    ours = link_name(link.namespace, link.pod)
    fresh(netns, POD_SYSCTLS)

    def node_end(routes: Any) -> None:
        for stale in routes.link_lookup(ifname=ours):
            routes.link("del", index=stale)
        routes.link("add", ifname=ours, kind="veth", peer={"ifname": UPLINK, "net_ns_fd": netns})
        index = _up(routes, ours, [(GATEWAY_4, 32), (GATEWAY_6, 64)])
        for ip, source in zip(link.ips, NodeNet(link.node).addresses, strict=True):
            routes.route("replace", dst=f"{ip}/{_bits(ip)}", oif=index, scope="link", prefsrc=source)

    def pod_end(routes: Any) -> None:
        index = _up(routes, UPLINK, [(ip, _bits(ip)) for ip in link.ips])
        routes.route("replace", dst=f"{GATEWAY_4}/32", oif=index, scope="link")
        routes.route("replace", dst="0.0.0.0/0", gateway=GATEWAY_4, oif=index)
        routes.route("replace", dst="::/0", gateway=GATEWAY_6, oif=index)

    _links(cluster.node_netns(node_name(link.node)), node_end)
    _links(netns, pod_end)


def make_outside(cluster: Cluster, namespace: str, pod: str, ips: Sequence[str], nodes: int) -> None:
    """A host that is no workload: on the bridge, with routes between it and every node."""
    netns = cluster.pod_netns(namespace, pod)
    nets = [NodeNet(index) for index in range(1, nodes + 1)]
    fresh(netns, POD_SYSCTLS)
    _plug(cluster, "out" + hashlib.sha256(netns.encode()).hexdigest()[:10], netns)

    def outside(routes: Any) -> None:
        uplink = _up(routes, UPLINK, [(ip, _bits(ip)) for ip in ips])
        for ip in ips:
            six = ":" in ip
            routes.route("replace", dst=UNDERLAY[six], oif=uplink, scope="link", prefsrc=ip)
            for net in nets:
                routes.route("replace", dst=net.pod_cidrs[six], gateway=net.addresses[six], oif=uplink, prefsrc=ip)

    _links(netns, outside)
    for net in nets:
        _links(cluster.node_netns(node_name(net.index)), partial(_lead_outside, net, ips))


def _lead_outside(net: NodeNet, ips: Sequence[str], routes: Any) -> None:
    uplink = _index(routes, UPLINK)
    for ip in ips:
        source = net.addresses[":" in ip]
        routes.route("replace", dst=f"{ip}/{_bits(ip)}", oif=uplink, scope="link", prefsrc=source)


def unmake_outside(cluster: Cluster, namespace: str, pod: str, ips: Sequence[str], nodes: int) -> None:
    def forget(routes: Any) -> None:
        for ip in ips:
            with contextlib.suppress(netlink.NetlinkError):  # gone before: as wished
                routes.route("del", dst=f"{ip}/{_bits(ip)}")

    namespaces.delete(cluster.pod_netns(namespace, pod))
    for index in range(1, nodes + 1):
        _links(cluster.node_netns(node_name(index)), forget)


def unmake_pod(cluster: Cluster, namespace: str, pod: str) -> None:
    """The veth pair and the route go with the namespace; not waited for."""
    namespaces.delete(cluster.pod_netns(namespace, pod))
