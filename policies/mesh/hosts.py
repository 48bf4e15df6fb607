"""Names of hosts: patterns, and which of two says more."""

from __future__ import annotations

from ipaddress import ip_address

CLUSTER_DOMAIN = "svc.cluster.local"


def is_wildcard(host: str) -> bool:
    return host.startswith("*")


def covers(pattern: str, host: str) -> bool:
    """`*.a.b` covers every name below a.b, and not a.b itself; `*` covers all. Case was folded before."""
    return host.endswith(pattern[1:]) and host != pattern[1:] if is_wildcard(pattern) else pattern == host


def specificity(pattern: str) -> tuple[bool, int]:
    """Greater says more: an exact name, then the longest wildcard."""
    return not is_wildcard(pattern), len(pattern)


def fqdn(name: str, namespace: str) -> str:
    return f"{name}.{namespace}.{CLUSTER_DOMAIN}"


def namespace_of(host: str) -> str:
    """Of a Kubernetes Service's host; "": it is none."""
    parts = host.split(".", 2)
    return parts[1] if len(parts) == 3 and parts[2] == CLUSTER_DOMAIN else ""


def is_address(text: str) -> bool:
    """An IP address of either family, without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
