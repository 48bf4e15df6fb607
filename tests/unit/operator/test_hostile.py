"""Whatever a manifest contains, it is refused with `Invalid` or it reaches the bytes that nodes are sent."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from weft.operator.admit import admit, carried_over
from weft.operator.declared import read
from weft.operator.store import canonical
from weft.policies.cluster import Cluster, Numbers
from weft.policies.errors import Invalid
from weft.policies.wire.convert import decode_cluster, encode_cluster
from weft.policies.yamldoc import Document

META = {"name": "x", "namespace": "d", "labels": {"app": "x"}, "annotations": {"a": "b"}}
PEER = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
PORTS = [
    {
        "ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}],
        "rules": {"http": [{"path": "/a", "headers": ["A: b"]}]},
    }
]
BLOCK = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}
RANGE = {"port": 1, "endPort": 9}
MANIFESTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d", "labels": {"team": "a"}}},
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": META | {"ownerReferences": [{"kind": "ReplicaSet", "name": "x-abc", "controller": True}]},
        "spec": {
            "nodeName": "n",
            "serviceAccountName": "s",
            "hostNetwork": False,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": META,
        "spec": {
            "selector": {"app": "x"},
            "clusterIPs": ["10.96.0.1"],
            "type": "NodePort",
            "ports": [{"name": "p", "port": 80, "targetPort": "http", "nodePort": 30000, "appProtocol": "http"}],
            "externalIPs": ["192.0.2.1"],
        },
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": META | {"labels": {"kubernetes.io/service-name": "x"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.9"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "x"}}
        ],
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
    },
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n"},
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.1"}]},
    },
    {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": META,
        "spec": {
            "endpointSelector": PEER,
            "ingress": [{"fromEndpoints": [PEER], "toPorts": PORTS}],
            "egress": [
                {"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]},
                {"toServices": [{"k8sService": {"serviceName": "x", "namespace": "d"}}]},
                {"toEntities": ["world", "cluster"], "icmps": [{"fields": [{"family": "IPv4", "type": 8}]}]},
            ],
            "egressDeny": [{"toCIDR": ["192.0.2.1"]}],
            "log": {"value": "v"},
        },
    },
    {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "g"},
        "spec": {"externalCIDRs": ["192.0.2.0/24"]},
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": META,
        "spec": {
            "podSelector": PEER,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"ipBlock": BLOCK}], "ports": [{"port": 80}]}],
            "egress": [{"to": [{"podSelector": PEER, "namespaceSelector": {}}], "ports": [RANGE]}],
        },
    },
]

NUMBERS = [None, True, False, 0, -1, 70000, 2**31, 2**70, 1.5, 1e300]
TEXTS = ["", " ", "/", "0", "::", "\0", "\ud800", "a/b", "x" * 300, "-", "..", "ü", "a\nb"]
ADDRESSES = ["10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.1", "010.0.0.1", "0x10", "10.0.0.1/8"]
SHAPES = [[], {}, [[]], [None], [{}], {"": ""}, {"a": {"b": {}}}, {"k8s:": ""}, {"=": "="}, ["10.0.0.1"] * 3]
hostile = st.sampled_from([*NUMBERS, *TEXTS, *ADDRESSES, *SHAPES]) | st.text(max_size=5) | st.integers()


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in below for path in paths(item, (*here, key)))]


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """A manifest of which up to three places hold something else, or nothing."""
    manifest = copy.deepcopy(draw(st.sampled_from(MANIFESTS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(manifest)[1:] or [("kind",)]))
        *way, last = path
        parent = manifest
        for step in way:
            parent = parent[step]
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[last]
            parent[draw(st.text(max_size=4))] = copy.deepcopy(draw(hostile))
        else:
            parent[last] = copy.deepcopy(draw(hostile))
    return manifest


def fresh() -> Cluster:
    cluster = Cluster(Numbers())
    for meaning in MEANINGS:
        assert meaning is not None
        cluster.put(meaning)
    return cluster


MEANINGS = [admit(Document(manifest), "default").meaning for manifest in MANIFESTS]


def test_the_manifests_as_they_are_all_come_through() -> None:
    step = fresh().delta()
    assert step and decode_cluster(encode_cluster(step.cluster)) == step.cluster
    assert len(step.cluster.policies) == 2 and step.cluster.services and step.cluster.addresses


@given(spoiled())
@settings(max_examples=600, deadline=None)
def test_a_spoiled_manifest_is_refused_or_reaches_the_wire(manifest: dict[str, Any]) -> None:
    cluster = fresh()
    cluster.delta()
    try:
        admitted = admit(Document(manifest), "default")
        merged = carried_over(MANIFESTS[0], admitted.manifest)
        assert json.loads(canonical(merged)) == merged
        if admitted.meaning is not None:
            Cluster.check(admitted.meaning)
    except Invalid as error:
        assert error.reason
        return
    if admitted.meaning is not None:
        cluster.put(admitted.meaning)
        step = cluster.delta()
        if step:
            assert decode_cluster(encode_cluster(step.cluster)) == step.cluster


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(list("-:{}[]&*!|>'\"#%@`,? \n\tax0")), max_size=60).map("".join)
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_file_that_declares_something_or_says_why_not(text: str) -> None:
    contents = read(text, "/w/a.yaml", "default")
    assert contents.certain or contents.notices
