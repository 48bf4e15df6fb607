"""Prefixes and addresses as people write them. Stricter than Python's `ipaddress`, as strict as Go's `netip`: no
netmasks, no zones, no IPv4 inside IPv6, no leading zeros."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.model import Network


def prefix(field: Field, findings: Findings, *, bare_address: bool = False) -> Network:
    """`10.0.0.0/8`; with `bare_address` also `10.1.2.3`, which is that one address (C3)."""
    text = field.string()
    address, slash, bits = text.partition("/")
    if not slash and not bare_address:
        raise field.invalid(f"{shown(text)} is no prefix: address/length, such as 10.0.0.0/8 or 2001:db8::/32")
    if slash and not (bits.isascii() and bits.isdigit() and str(int(bits[:4])) == bits):
        raise field.invalid(f"{shown(text)} is no prefix: the length is one decimal number")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise field.invalid(f"{shown(text)} is no IPv4 or IPv6 prefix") from None
    _refuse_unusual(field, network.network_address, text)
    if slash and ip_address(address) != network.network_address:
        findings.warn(field, f"{text} has bits behind its length, it means {network}")
    return network


def excepts(field: Field, cidr: Network | None, findings: Findings, *, strict: bool = False) -> tuple[Network, ...]:
    """Prefixes that lie inside `cidr` (C4); None: it is not known here, being a group's. `strict`: none may be
    equal to it (Kubernetes)."""
    found = []
    for item in field.items():
        network = prefix(item, findings)
        if cidr is not None and not inside(network, cidr):
            raise item.invalid(f"{network} does not lie inside {cidr}")
        if strict and network == cidr:
            raise item.invalid(f"{network} is all of the cidr: it must be a part of it")
        found.append(network)
    return unique(found)


def inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv6Network) or isinstance(outer, IPv6Network):
        return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)
    return inner.subnet_of(outer)


def address(field: Field) -> str:
    """One address, in canonical form."""
    text = field.string()
    try:
        found = ip_address(text)
    except ValueError:
        raise field.invalid(f"{shown(text)} is no IPv4 or IPv6 address") from None
    _refuse_unusual(field, found, text)
    return str(found)


def unique(networks: Iterable[Network]) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(networks))


def _refuse_unusual(field: Field, found: IPv4Address | IPv6Address, text: str) -> None:
    if "%" in text:
        raise field.invalid(f"{shown(text)}: zones mean nothing to other machines")
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise field.invalid(f"{shown(text)} is IPv4 inside IPv6: write {found.ipv4_mapped}")
