"""Where a TCP connection goes: the `tls` and `tcp` rules of a host's routes, weights drawn for each connection.

Rules: the first route for the client's namespace that has rules for what the connection is; of TLS, those
with a server name go first. A connection that no rule of its route matches goes where it was addressed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from random import Random

from weft.l7proxy.core.parties import Workload
from weft.policies.mesh.model import Destination, HostRouting, TcpMatch, TcpRule


def choose(routing: HostRouting, client: Workload, port: int, ip: str, server_name: str | None) -> TcpRule | None:
    """`port`: of the service, `ip`: as addressed. `server_name` None: it is no TLS."""
    for route in routing.routes:
        if route.clients is not None and client.namespace not in route.clients:
            continue
        if route.ports and port not in route.ports:
            continue
        rules = (*route.tls, *route.tcp) if server_name is not None else route.tcp
        if rules:
            return next((rule for rule in rules if _matches(rule.matches, client, port, ip, server_name)), None)
    return None


def draw(destinations: Sequence[Destination], random: Random) -> Destination | None:
    """None: none has a share."""
    if len(destinations) == 1:
        return destinations[0]
    total = sum(destination.weight for destination in destinations)
    at = random.random() * total
    for destination in destinations:
        at -= destination.weight
        if at < 0:
            return destination
    return None


def _matches(matches: Iterable[TcpMatch], client: Workload, port: int, ip: str, server_name: str | None) -> bool:
    matches = tuple(matches)
    return not matches or any(_match(match, client, port, ip, server_name) for match in matches)


def _match(match: TcpMatch, client: Workload, port: int, ip: str, server_name: str | None) -> bool:
    """All that is set must hold."""
    return (
        (not match.port or match.port == port)
        and (not match.source_namespace or match.source_namespace == client.namespace)
        and all(client.labels.get(key) == value for key, value in match.source_labels)
        and (not match.subnets or any(_inside(ip, subnet) for subnet in match.subnets))
        and (not match.sni or (server_name is not None and any(_covers(n, server_name) for n in match.sni)))
    )


def _covers(name: str, server_name: str) -> bool:
    if name.startswith("*"):
        return server_name.endswith(name[1:].lower()) and len(server_name) >= len(name)
    return name.lower() == server_name


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def _inside(ip: str, subnet: str) -> bool:
    return ip_address(ip) in _network(subnet)
