"""Small snapshots: pods of one node, services, policies, each in a line."""

from __future__ import annotations

from ipaddress import ip_network

from weft.policies.labels import Labels
from weft.policies.model import Action, CidrPeer, Direction, ObjectRef, Origin, PortSpec, Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
    EndpointItem,
    IdentityItem,
    NodeItem,
    NodePart,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
    Snapshot,
)

NODE = "node-1"


def pod(name: str, number: int, identity: int = 0) -> EndpointItem:
    ips = (f"10.244.1.{number}", f"fd00:10:244:1::{number:x}")
    return EndpointItem("default", name, ips, identity or 300 + number)


def policy(
    name: str,
    subject: int,
    *peers: int,
    ports: tuple[int, ...] = (80,),
    cidrs: tuple[str, ...] = (),
    revision: int = 1,
) -> PolicyItem:
    """Ingress to `subject`: default deny, but for these peers on these TCP ports."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", name)
    rule = ResolvedRule(
        Origin(ref, "spec.ingress[0]"),
        Direction.INGRESS,
        Action.ALLOW,
        ResolvedPeers(identities=frozenset(peers), cidrs=tuple(CidrPeer(ip_network(cidr)) for cidr in cidrs)),
        tuple(PortSpec(Protocol.TCP, port, port) for port in ports),
    )
    return PolicyItem(ref, revision, (), (ResolvedSpec(frozenset({subject}), True, False, (rule,)),))


def service(name: str, address: str, *backends: tuple[str, int], port: int = 80) -> ServiceItem:
    items = tuple(BackendItem(ip, target) for ip, target in backends)
    return ServiceItem(
        "default", name, "ClusterIP", (address,), (ServicePortItem("", Protocol.TCP, port, 0, "", items),)
    )


def snapshot(
    revision: int,
    pods: tuple[EndpointItem, ...] = (),
    policies: tuple[PolicyItem, ...] = (),
    services: tuple[ServiceItem, ...] = (),
) -> Snapshot:
    identities = {p.identity: IdentityItem(p.identity, Labels.k8s({"app": p.name})) for p in pods}
    addresses = {ip: AddressItem(ip, p.identity, NODE, p.key) for p in pods for ip in p.ips}
    cluster = ClusterPart(
        identities,
        addresses,
        {NODE: NodeItem(NODE, ("172.30.0.1",)), "node-2": NodeItem("node-2", ("172.30.0.2",))},
        {item.key: item for item in services},
        {item.ref: item for item in policies},
    )
    return Snapshot(revision, NODE, cluster, NodePart({p.key: p for p in pods}))
