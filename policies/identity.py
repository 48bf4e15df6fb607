"""Identities: one number for one set of labels. `spec` of the ranges: Cilium's reserved numbers, 1 to 255;
256 to 65535 cluster-wide, allocated by the operator; from 1<<24 up local to a node (CIDR prefixes), allocated
by the daemon; bits 16 to 23 kept for a cluster id. 0 is "any" in a policy map key and "unknown" elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weft.policies.labels import Label, Labels

ANY: Final = 0
HOST: Final = 1
WORLD: Final = 2
UNMANAGED: Final = 3
HEALTH: Final = 4
INIT: Final = 5
REMOTE_NODE: Final = 6
KUBE_APISERVER: Final = 7
INGRESS: Final = 8
WORLD_IPV4: Final = 9
WORLD_IPV6: Final = 10
#: Weft's own: the node's DNS server. Every workload may always ask it (see policies/README).
DNS: Final = 128

CLUSTER_MIN: Final = 256
CLUSTER_MAX: Final = 65535
LOCAL_MIN: Final = 1 << 24

RESERVED: Final[dict[int, str]] = {
    HOST: "host",
    WORLD: "world",
    UNMANAGED: "unmanaged",
    HEALTH: "health",
    INIT: "init",
    REMOTE_NODE: "remote-node",
    KUBE_APISERVER: "kube-apiserver",
    INGRESS: "ingress",
    WORLD_IPV4: "world-ipv4",
    WORLD_IPV6: "world-ipv6",
    DNS: "weft-dns",
}
RESERVED_BY_NAME: Final[dict[str, int]] = {name: number for number, name in RESERVED.items()}


@dataclass(frozen=True, slots=True)
class Identity:
    id: int
    labels: Labels


def reserved_identity(number: int) -> Identity:
    """A node that serves the API is a remote node still."""
    names = [RESERVED[number], *([RESERVED[REMOTE_NODE]] if number == KUBE_APISERVER else [])]
    return Identity(number, Labels([Label("reserved", name, "") for name in names]))


def is_reserved(number: int) -> bool:
    return 0 < number < CLUSTER_MIN


def is_local(number: int) -> bool:
    return number >= LOCAL_MIN
