"""Events as the programs write them, and a directory of a small cluster, for tests of flows."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from weft.bpf import layout
from weft.daemon.observer.directory import Owner, PolicyName, ServiceName

CLIENT = Owner(
    1001,
    ("k8s:app=frontend", "k8s:io.kubernetes.pod.namespace=default"),
    "default",
    "frontend-1",
    "Deployment",
    "frontend",
    11,
)
SERVER = Owner(
    1002,
    ("k8s:app=orders", "k8s:io.kubernetes.pod.namespace=shop"),
    "shop",
    "orders-1",
    "StatefulSet",
    "orders",
    12,
)
NODE = Owner(1, ("reserved:host",))
ALLOW = PolicyName("CiliumNetworkPolicy", "shop", "allow-frontend", ("k8s:team=a",), 7)
DENY = PolicyName("NetworkPolicy", "shop", "deny-rest", (), 3)
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "sctp": 132}


def packed(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


def record(
    kind: layout.EventType = layout.EventType.TRACE,
    *,
    source: str = "10.244.1.5",
    destination: str = "10.244.2.7",
    ports: tuple[int, int] = (40000, 8080),
    protocol: str = "tcp",
    flags: int = 0x02,
    src_mac: bytes = bytes(6),
    dst_mac: bytes = bytes(6),
    **fields: int,
) -> bytes:
    """A packet of CLIENT to SERVER, by default the SYN as it reaches its endpoint."""
    event = layout.Event(
        type=kind,
        family=6 if ":" in source else 4,
        protocol=PROTOCOLS.get(protocol, 0),
        tcp_flags=flags,
        src_port=socket.htons(ports[0]),
        dst_port=socket.htons(ports[1]),
    )
    defaults = {"time_ns": 1_000_000_000, "ep_id": 12, "src_identity": 1001, "dst_identity": 1002}
    for name, value in {**defaults, **fields}.items():
        setattr(event, name, value)
    for into, address in ((event.src, source), (event.dst, destination)):
        raw = packed(address)
        into[: len(raw)] = raw
    event.src_mac[:], event.dst_mac[:] = src_mac, dst_mac
    return bytes(event)


@dataclass
class Cluster:
    """A Directory: two pods, a node and a service."""

    owners: dict[bytes, Owner] = field(
        default_factory=lambda: {
            packed("10.244.1.5"): CLIENT,
            packed("10.244.2.7"): SERVER,
            packed("fd00:10:244:1::5"): CLIENT,
            packed("fd00:10:244:2::7"): SERVER,
            packed("172.30.0.1"): NODE,
        }
    )
    services: dict[tuple[bytes, int], ServiceName] = field(
        default_factory=lambda: {(packed("10.96.0.20"), 80): ServiceName("shop", "orders")}
    )
    dns: dict[bytes, tuple[str, ...]] = field(
        default_factory=lambda: {packed("203.0.113.10"): ("api.example.com",)}
    )

    def owner(self, address: bytes) -> Owner | None:
        return self.owners.get(address)

    def endpoint(self, endpoint_id: int) -> Owner | None:
        return {11: CLIENT, 12: SERVER}.get(endpoint_id)

    def identity_labels(self, identity: int) -> tuple[str, ...]:
        return {2: ("reserved:world",), 9: ("reserved:world-ipv4",)}.get(identity, ())

    def policies(self, cookie: int) -> tuple[PolicyName, ...]:
        return {5: (ALLOW,), 6: (DENY,)}.get(cookie, ())

    def policy(self, text: str, egress: bool) -> PolicyName | None:
        return {named(ALLOW): None if egress else ALLOW, named(DENY): DENY}.get(text)

    def service(self, address: bytes, port: int) -> ServiceName | None:
        return self.services.get((address, port))

    def names(self, address: bytes) -> Sequence[str]:
        return self.dns.get(address, ())

    def interface(self, index: int) -> str:
        return {7: "lxc7"}.get(index, "")


def named(policy: PolicyName) -> str:
    """As the L7 proxy names it."""
    return f"{policy.kind} {policy.namespace}/{policy.name}"
