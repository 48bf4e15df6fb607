"""Whatever JSON-like value stands in a manifest: a Policy, an object, or `Invalid`; nothing else is ever raised.

And what is accepted keeps the model's promises: no empty `ports`, ports in range, patterns that compile, CIDRs that
contain their excepts, and a warning or an error always with a path into the document.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies.dialects.cidrs import inside
from weft.policies.dialects.re2 import BadPattern, compile_pattern
from weft.policies.dialects.registry import KINDS, parse, ref_of
from weft.policies.errors import Invalid
from weft.policies.model import CidrPeer, Policy, Protocol, Rule
from weft.policies.workloads import KINDS as WORKLOADS
from weft.policies.workloads import pods
from weft.policies.yamldoc import Document

CNP_SPEC: dict[str, Any] = {
    "endpointSelector": {"matchLabels": {"app": "s"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]},
    "enableDefaultDeny": {"ingress": True},
    "labels": [{"key": "k", "value": "v", "source": "k8s"}],
    "description": "d",
    "log": {"value": "x"},
    "ingress": [
        {"fromEndpoints": [{"matchLabels": {"k8s:app": "foo"}}], "authentication": {"mode": "disabled"}},
        {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidrGroupRef": "g"}]},
        {
            "fromEntities": ["world"],
            "toPorts": [
                {"ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}, {"port": "http"}]},
                {
                    "ports": [{"port": "80", "protocol": "TCP"}],
                    "rules": {"http": [{"path": "/a.*", "method": "GET", "headers": ["X: y"]}]},
                },
            ],
        },
        {"icmps": [{"fields": [{"family": "IPv6", "type": 128}, {"type": "EchoReply"}]}]},
    ],
    "ingressDeny": [{"fromCIDR": ["10.0.0.1", "fd00::/8"]}],
    "egress": [{"toServices": [{"k8sService": {"serviceName": "a", "namespace": "b"}}]}],
    "egressDeny": [{}],
}
NP_SPEC: dict[str, Any] = {
    "podSelector": {"matchLabels": {"app": "s"}},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [
        {
            "from": [
                {"podSelector": {}, "namespaceSelector": {}},
                {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]}},
            ],
            "ports": [{"port": 80, "endPort": 90, "protocol": "UDP"}, {"port": "http"}],
        }
    ],
    "egress": [{}],
}
POD: dict[str, Any] = {
    "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "http"}]}]},
    "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]},
}
MANIFESTS: dict[str, dict[str, Any]] = {
    "CiliumNetworkPolicy": {"spec": CNP_SPEC},
    "ClusterMeshNetworkPolicy": {"specs": [CNP_SPEC]},
    "NetworkPolicy": {"spec": NP_SPEC},
    "CiliumCIDRGroup": {"spec": {"externalCIDRs": ["10.0.0.0/8"]}},
    "Pod": POD,
    "Service": {
        "spec": {"clusterIPs": ["10.0.0.1"], "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "x"}]}
    },
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    "Node": {
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "::1"}]},
    },
    "Namespace": {},
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 40), 1 << 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "0", "80", "010", "http", "10.0.0.0/8", "::/0", "world", "TCP", "In", "a" * 300, "(a+)+$"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fields_of(value: object) -> set[str]:
    """Every key of a manifest: what a document made at random should be made of, to get past the first look."""
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in fields_of(item)}
    if isinstance(value, list):
        return {key for item in value for key in fields_of(item)}
    return set()


NAMES = sorted(fields_of(MANIFESTS))
shaped = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


def mutate(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """The value with one place in it changed: dropped, doubled, or replaced by anything."""
    at = value
    for _ in range(draw(st.integers(0, 8))):
        steps = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not steps:
            break
        step = draw(st.sampled_from(steps))
        if isinstance(at[step], dict | list) and draw(st.booleans()):
            at = at[step]
            continue
        change = draw(st.sampled_from(["drop", "replace", "copy", "add"]))
        if change == "drop":
            del at[step]
        elif change == "replace":
            at[step] = draw(values)
        elif change == "copy" and isinstance(at, list):
            at.append(copy.deepcopy(at[step]))
        elif isinstance(at, dict):
            at[draw(st.sampled_from(NAMES))] = draw(values)
        break
    return value


@st.composite
def mutants(draw: st.DrawFn, kind: str) -> Document:
    body = copy.deepcopy(MANIFESTS[kind])
    whole = {"apiVersion": KINDS[kind].versions[0], "kind": kind, "metadata": {"name": "p"}, **body}
    for _ in range(draw(st.integers(1, 4))):
        whole = mutate(draw, whole)
    return Document(whole, "fuzz.yaml", 1)


def check(document: Document) -> None:
    try:
        found = parse(document)
    except Invalid as error:
        assert error.reason and error.where.file == "fuzz.yaml"
        str(error).encode("utf-8", "surrogatepass")
        return
    if isinstance(found, Policy):
        hash(found)
        for spec in found.specs:
            for rule in spec.rules:
                check_rule(rule)


def check_rule(rule: Rule) -> None:
    assert rule.ports != ()
    for port in rule.ports or ():
        assert 0 <= port.port <= port.end_port <= 65535
        assert not port.name or (port.port, port.end_port) == (0, 0)
        if port.protocol in (Protocol.ICMP, Protocol.ICMPV6):
            assert port.port == port.end_port <= 255
    for peer in rule.peers or ():
        if isinstance(peer, CidrPeer):
            assert all(inside(each, peer.cidr) for each in peer.excepts)
    if rule.l7 is not None:
        assert rule.l7.http and rule.ports is not None
        for http in rule.l7.http:
            for pattern in (http.path, http.method, http.host):
                compile_pattern(pattern)


@pytest.mark.parametrize("kind", MANIFESTS)
def test_the_manifests_that_are_mutated_are_valid(kind: str) -> None:
    whole = {"apiVersion": KINDS[kind].versions[0], "kind": kind, "metadata": {"name": "p"}, **MANIFESTS[kind]}
    assert parse(Document(whole)) is not None


@pytest.mark.parametrize("kind", MANIFESTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_manifest_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    check(data.draw(mutants(kind)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(spec=shaped, metadata=shaped)
def test_a_manifest_made_of_the_right_words_is_read_or_refused(kind: str, spec: Any, metadata: Any) -> None:
    version = KINDS[kind].versions[0]
    check(Document({"apiVersion": version, "kind": kind, "metadata": {"name": "p"}, "spec": spec}, "fuzz.yaml"))
    check(Document({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": CNP_SPEC}, "fuzz.yaml"))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["kind", "apiVersion", "metadata", "spec"]), values))
def test_any_document_has_a_name_or_is_refused(value: dict[str, Any]) -> None:
    with contextlib.suppress(Invalid):
        parse(Document(value))
    with contextlib.suppress(Invalid):
        ref_of(Document(value))


@pytest.mark.parametrize("kind", WORKLOADS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_workload_is_expanded_or_refused(kind: str, data: st.DataObject) -> None:
    version, _ = WORKLOADS[kind]
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"nodeSelector": {"x": "y"}, "containers": [{"name": "c"}]},
    }
    selector: dict[str, Any] = {"a": "b"} if kind == "ReplicationController" else {"matchLabels": {"a": "b"}}
    spec = {"template": template, "selector": selector, "replicas": 2, "parallelism": 2, "ordinals": {"start": 1}}
    whole: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": {"name": "w"}, "spec": spec}
    whole = mutate(data.draw, copy.deepcopy(whole))
    with contextlib.suppress(Invalid):
        for pod in pods(Document(whole), "default", ["n1", "n2"]):
            json.dumps(pod)


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("ab01(){}[]|*+?.^$\\-,:<>=!PQEdDwWsSxzZi\n"), max_size=25))
def test_any_pattern_compiles_or_is_refused(pattern: str) -> None:
    with contextlib.suppress(BadPattern):
        compile_pattern(pattern).fullmatch("ab")
