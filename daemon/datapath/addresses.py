"""What the ipcache should hold: who has an address, as an identity. Longest prefix wins, in the kernel too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from weft.daemon.datapath.rows import Prefix, host_prefix, prefix_of
from weft.policies import identity
from weft.policies.model import Network
from weft.policies.snapshot import ClusterPart

#: The node's end of every workload's veth, as its workloads see it: their default gateway.
GATEWAYS = ("169.254.1.1", "fe80::1")
#: What no router carries on, so who can be meant on a workload's link is the node alone: groups and broadcast are
#: heard by its sockets, and its loopback by who sets route_localnet, as kube-proxy does.
LINK = ("fe80::/10", "ff01::/16", "ff02::/16", "224.0.0.0/24", "255.255.255.255/32", "127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Node:
    """This node: its name in the snapshot, its addresses as netlink tells them, and where it serves names."""

    name: str
    addresses: frozenset[str] = frozenset()
    dns: tuple[str, ...] = ()


def wanted(cluster: ClusterPart, node: Node, prefixes: Mapping[Network, int]) -> dict[Prefix, int]:
    """Later claims win, so this is the precedence, lowest first:

    1. prefixes that policies name, and the two whole families (world);
    2. the nodes of the cluster, those that serve the API by an identity of their own (7), 3. its workloads:
       identity wins over CIDR (C1), so an API server that is no node has its prefix's number;
    4. this node's own addresses, its workloads' gateway, and what never leaves their links;
    5. the node's DNS server, which is an address of the node as well.
    """
    rows = {prefix_of(network): number for network, number in prefixes.items()}
    rows.update(_all_as(_addresses_of_nodes(cluster), identity.REMOTE_NODE))
    rows.update((host_prefix(item.ip), item.identity) for item in cluster.addresses.values())
    own = cluster.nodes.get(node.name)
    rows.update(_all_as(own.addresses if own else (), identity.HOST))
    rows.update(_all_as((*node.addresses, *GATEWAYS), identity.HOST))
    rows.update((prefix_of(ip_network(text)), identity.HOST) for text in LINK)
    rows.update(_all_as(node.dns, identity.DNS))
    return rows


def _addresses_of_nodes(cluster: ClusterPart) -> Iterable[str]:
    return (address for item in cluster.nodes.values() for address in item.addresses)


def _all_as(addresses: Iterable[str], number: int) -> Iterable[tuple[Prefix, int]]:
    return ((host_prefix(address), number) for address in addresses)


def fit(rows: dict[Prefix, int], have: Mapping[Prefix, int], room: int) -> tuple[dict[Prefix, int], list[Prefix]]:
    """The rows that there is room for, and those left out: workloads and nodes go before prefixes that only
    policies name. What is there already stays until it is removed, so it counts."""
    fresh = [prefix for prefix in rows if prefix not in have]
    excess = len(have) + len(fresh) - room
    if excess <= 0:
        return rows, []
    left_out = sorted(fresh, key=lambda prefix: identity.is_local(rows[prefix]))[-excess:]
    dropped = set(left_out)
    return {prefix: number for prefix, number in rows.items() if prefix not in dropped}, left_out
