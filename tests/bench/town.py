"""A cluster of 5,000 pods and 1,000 policies, as manifests: 20 namespaces of 25 workloads of 10 pods, on 50 nodes.

Each namespace has 49 policies of eight shapes, each for one of its workloads, and one that is cluster-wide. No
randomness: the same town each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import yaml

Manifest = dict[str, Any]

NAMESPACES, WORKLOADS, REPLICAS, NODES = 20, 25, 10, 50
POLICIES = 50  # of a namespace
TIERS, TEAMS = ("web", "api", "db", "cache"), ("red", "green", "blue")


def text(manifests: Iterable[Manifest]) -> str:
    """YAML as people write it: block style."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump_all(manifests, Dumper=dumper, default_flow_style=False, sort_keys=False)


def node_name(number: int) -> str:
    return f"node-{number + 1}"


def objects() -> Iterator[Manifest]:
    for number in range(NODES):
        yield node(number)
    for space in range(NAMESPACES):
        labels = {"team": TEAMS[space % len(TEAMS)], "stage": "prod" if space % 4 else "test"}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{space}", "labels": labels}}
        for workload in range(WORKLOADS):
            for replica in range(REPLICAS):
                yield pod(space, workload, replica)


def node(number: int) -> Manifest:
    addresses = [f"172.30.0.{number + 1}", f"fd00:172:30::{number + 1:x}"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node_name(number)},
        "spec": {"podCIDRs": [f"10.244.{number + 1}.0/24", f"fd00:10:244:{number + 1:x}::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


def pod(space: int, workload: int, replica: int) -> Manifest:
    serial = (space * WORKLOADS + workload) * REPLICAS + replica
    home, place = serial % NODES, serial // NODES + 2
    ips = [f"10.244.{home + 1}.{place}", f"fd00:10:244:{home + 1:x}::{place:x}"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"app-{workload}-7d9c5b64f-{replica:05d}",
            "namespace": f"ns-{space}",
            "labels": {**labels(workload), "pod-template-hash": "7d9c5b64f"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"app-{workload}-7d9c5b64f", "controller": True}],
        },
        "spec": {
            "nodeName": node_name(home),
            "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def labels(workload: int) -> dict[str, str]:
    return {"app": f"app-{workload}", "tier": TIERS[workload % len(TIERS)]}


def policies() -> Iterator[Manifest]:
    for space in range(NAMESPACES):
        yield cluster_wide(space)
        for number in range(POLICIES - 1):
            yield policy(space, number)


def policy(space: int, number: int) -> Manifest:
    """For one workload of the namespace. `number` may be any: more of the same shapes."""
    shape = SHAPES[number % len(SHAPES)]
    made = shape(space, number % WORKLOADS, (number * 7 + 3) % WORKLOADS)
    made["metadata"] = {"name": f"policy-{number}", "namespace": f"ns-{space}"}
    return made


def cluster_wide(space: int) -> Manifest:
    tier, caller = TIERS[space % len(TIERS)], TIERS[(space + 1) % len(TIERS)]
    ports = [{"port": str(9000 + space), "protocol": "TCP"}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": f"wide-{space}"},
        "spec": {
            "endpointSelector": {"matchLabels": {"tier": tier}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"tier": caller}}], "toPorts": [{"ports": ports}]}],
        },
    }


# the shapes: (namespace, the workload it is for, another workload)


def kubernetes_ingress(space: int, workload: int, other: int) -> Manifest:
    peer = {"podSelector": {"matchLabels": {"app": f"app-{other}"}}}
    ports = [{"port": 8080}, {"port": 9000, "endPort": 9010}]
    return kubernetes(workload, ["Ingress"], ingress=[{"from": [peer], "ports": ports}])


def kubernetes_namespaces(space: int, workload: int, other: int) -> Manifest:
    peer = {
        "namespaceSelector": {"matchLabels": {"team": TEAMS[(space + 1) % len(TEAMS)]}},
        "podSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web", "api"]}]},
    }
    return kubernetes(workload, ["Ingress"], ingress=[{"from": [peer], "ports": [{"port": "http"}]}])


def kubernetes_cidr(space: int, workload: int, other: int) -> Manifest:
    block = {"cidr": f"198.51.{space}.0/24", "except": [f"198.51.{space}.128/25"]}
    return kubernetes(workload, ["Egress"], egress=[{"to": [{"ipBlock": block}], "ports": [{"port": 443}]}])


def kubernetes(workload: int, types: list[str], **rules: Any) -> Manifest:
    selector = {"matchLabels": {"app": f"app-{workload}"}}
    spec = {"podSelector": selector, "policyTypes": types, **rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {}, "spec": spec}


def cilium_ingress(space: int, workload: int, other: int) -> Manifest:
    ports = [{"port": "80", "protocol": "TCP"}, {"port": "443", "protocol": "TCP"}]
    allowed = {"fromEndpoints": [{"matchLabels": {"app": f"app-{other}"}}], "toPorts": [{"ports": ports}]}
    return cilium(workload, ingress=[allowed])


def cilium_egress(space: int, workload: int, other: int) -> Manifest:
    ports = [{"port": "5432", "protocol": "TCP"}, {"port": "30000", "endPort": 32767, "protocol": "TCP"}]
    allowed = {"toEndpoints": [{"matchLabels": {"app": f"app-{other}"}}], "toPorts": [{"ports": ports}]}
    return cilium(workload, egress=[allowed])


def cilium_deny(space: int, workload: int, other: int) -> Manifest:
    team = {"k8s:io.cilium.k8s.namespace.labels.team": TEAMS[space % len(TEAMS)]}
    return cilium(
        workload,
        ingress=[{"fromEntities": ["cluster"]}],
        ingressDeny=[{"fromEndpoints": [{"matchLabels": {**team, "tier": "cache"}}]}],
    )


def cilium_world(space: int, workload: int, other: int) -> Manifest:
    block = {"cidr": f"203.0.{space}.0/24", "except": [f"203.0.{space}.64/26"]}
    return cilium(workload, egress=[{"toEntities": ["world", "host"]}, {"toCIDRSet": [block]}])


def mesh_icmp(space: int, workload: int, other: int) -> Manifest:
    allowed = {"fromEndpoints": [{}], "icmps": [{"fields": [{"type": 8, "family": "IPv4"}]}]}
    made = cilium(workload, ingress=[allowed])
    return made | {"apiVersion": "weft.dev/v1alpha1", "kind": "MeshNetworkPolicy"}


def cilium(workload: int, **rules: Any) -> Manifest:
    spec = {"endpointSelector": {"matchLabels": {"app": f"app-{workload}"}}, **rules}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {}, "spec": spec}


SHAPES = (
    kubernetes_ingress,
    cilium_ingress,
    cilium_egress,
    kubernetes_namespaces,
    cilium_world,
    cilium_deny,
    kubernetes_cidr,
    mesh_icmp,
)
