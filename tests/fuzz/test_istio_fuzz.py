"""Whatever stands in one of Istio's resources: a value of `mesh.model`, or `Invalid`; nothing else is ever raised.

And what is accepted keeps the model's promises: it travels as msgpack without loss, hosts are folded, every regular
expression compiles, percentages and weights lie in their ranges, a rule has one action.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies.dialects.registry import KINDS, parse
from weft.policies.errors import Invalid
from weft.policies.mesh.model import (
    Declared,
    DestinationPolicy,
    How,
    Matcher,
    MeshSettings,
    Model,
    Route,
    Rule,
    ServiceEntry,
)
from weft.policies.wire.mesh import encode
from weft.policies.yamldoc import Document

TO = [{"destination": {"host": "b", "subset": "v1", "port": {"number": 80}}, "weight": 1, "headers": {}}]
RULE: dict[str, Any] = {
    "name": "r",
    "match": [
        {
            "uri": {"prefix": "/a"},
            "method": {"exact": "GET"},
            "headers": {"x": {"regex": "a.*"}},
            "withoutHeaders": {"y": {}},
            "queryParams": {"q": {"exact": ""}},
            "sourceLabels": {"a": "b"},
            "port": 80,
            "gateways": ["mesh"],
            "ignoreUriCase": True,
        },
        {"uri": {"exact": "/b"}, "authority": {"regex": "a"}},
    ],
    "route": [*TO, {"destination": {"host": "c.d.svc"}, "weight": 2}],
    "timeout": "1.5s",
    "retries": {"attempts": 2, "retryOn": "5xx,503, x", "perTryTimeout": "1s", "backoff": "1ms"},
    "fault": {
        "delay": {"fixedDelay": "1s", "percentage": {"value": 1.5}},
        "abort": {"grpcStatus": "NOT_FOUND", "percentage": {"value": 1}},
    },
    "mirrors": [{"destination": {"host": "c"}, "percentage": {"value": 3}}],
    "rewrite": {"uri": "/x", "authority": "h"},
    "headers": {"request": {"set": {"a": "100%%"}, "remove": ["b"]}, "response": {"add": {"c": "d"}}},
    "corsPolicy": {"allowOrigins": [{"exact": "*"}], "allowMethods": ["GET"], "maxAge": "10s"},
}
POLICY: dict[str, Any] = {
    "loadBalancer": {
        "consistentHash": {"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 251}},
        "localityLbSetting": {"distribute": [{"from": "a/*", "to": {"a/b": 40, "a/c": 60}}]},
    },
    "connectionPool": {
        "tcp": {"maxConnections": 1, "connectTimeout": "1s", "tcpKeepalive": {"time": "1s", "probes": 3}},
        "http": {"http1MaxPendingRequests": 1, "h2UpgradePolicy": "UPGRADE", "idleTimeout": "0s"},
    },
    "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s", "maxEjectionPercent": 50},
    "tls": {"mode": "MUTUAL", "clientCertificate": "c", "privateKey": "k"},
    "retryBudget": {"percent": 20.5, "minRetryConcurrency": 1},
}
SPECS: dict[str, dict[str, Any]] = {
    "VirtualService": {
        "hosts": ["a", "*.b.com"],
        "gateways": ["mesh", "ns/gw"],
        "exportTo": ["."],
        "http": [RULE, {"match": [{"uri": {"prefix": "/"}}], "redirect": {"uri": "/x", "port": 1}}],
        "tls": [
            {
                "match": [{"sniHosts": ["c.b.com"], "destinationSubnets": ["10.0.0.0/8"]}],
                "route": [{"destination": {"host": "b"}}],
            }
        ],
        "tcp": [{"match": [{"port": 1}], "route": [{"destination": {"host": "b"}, "weight": 1}]}],
    },
    "DestinationRule": {
        "host": "a",
        "trafficPolicy": {**POLICY, "portLevelSettings": [{"port": {"number": 1}, "tls": {"mode": "SIMPLE"}}]},
        "subsets": [{"name": "v1", "labels": {"a": "b"}, "trafficPolicy": POLICY}],
        "workloadSelector": {"matchLabels": {"a": "b"}},
    },
    "ServiceEntry": {
        "hosts": ["a.com"],
        "addresses": ["10.0.0.1"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
        "resolution": "STATIC",
        "location": "MESH_INTERNAL",
        "endpoints": [{"address": "10.0.0.2", "ports": {"http": 1}, "labels": {"a": "b"}, "weight": 2}],
        "exportTo": ["*"],
    },
    "WorkloadEntry": {"address": "10.0.0.1", "ports": {"http": 1}, "locality": "a/b", "weight": 1},
    "Telemetry": {
        "selector": {"matchLabels": {"a": "b"}},
        "tracing": [
            {
                "providers": [{"name": "p"}],
                "randomSamplingPercentage": 1.5,
                "customTags": {"a": {"header": {"name": "h", "defaultValue": "d"}}},
            }
        ],
        "metrics": [
            {
                "overrides": [
                    {
                        "match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"},
                        "tagOverrides": {"a": {"operation": "REMOVE"}},
                    }
                ]
            }
        ],
        "accessLogging": [{"filter": {"expression": "true"}, "disabled": False}],
    },
}
MESH = (
    "rootNamespace: a\naccessLogEncoding: JSON\nenableTracing: true\n"
    "defaultConfig: {tracing: {sampling: 5, zipkin: {address: 'a:1'}, customTags: {t: {literal: {value: v}}}}}\n"
    "extensionProviders: [{name: o, opentelemetry: {service: a, port: 1, http: {path: /v1}}}]\n"
    "defaultProviders: {tracing: [o]}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
)

WORDS = (
    *(
        "",
        "a",
        "a.b",
        "a.b.svc",
        "*",
        "*.b.com",
        "mesh",
        ".",
        "~",
        "10.0.0.1",
        "fd00::1",
        "1s",
        "0s",
        "-1s",
        "1.5h",
    ),
    *("99999999999h", "5xx", "(", "[a-z]+", "\\1", "%%", "%", "%REQ(a)%", "MUTUAL", "RANDOM", "DNS", "GET", "/x y"),
    *("a\r\nb", "ä", "\ud800", "\x00", "a/*", "é" * 300, "x" * 5000, "503,429", "host", ":path"),
)
KEYS = (
    *("exact", "prefix", "regex", "host", "hosts", "weight", "value", "percentage", "delegate", "name", "redirect"),
    *("directResponse", "status", "mirror", "mirrorPercent", "simple", "port", "number", "labels", "percent", ""),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 80, 100, 101, 65536, 2**31, 2**63, 10**400]),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS + WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


PLACES = {kind: places(spec) for kind, spec in SPECS.items()}


@st.composite
def mutants(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """The valid spec with some of its values replaced, removed, or given a neighbour."""
    spec = copy.deepcopy(SPECS[kind])
    for path in draw(st.lists(st.sampled_from(PLACES[kind]), min_size=1, max_size=3)):
        at: Any = spec
        try:
            for step in path[:-1]:
                at = at[step]
            match draw(st.integers(0, 3)):
                case 0 | 1:
                    at[path[-1]] = draw(values)
                case 2:
                    del at[path[-1]]
                case _ if isinstance(at, dict):
                    at[draw(st.sampled_from(KEYS))] = draw(values)
        except (KeyError, IndexError, TypeError):
            continue
    return spec


def whole(kind: str, spec: Any) -> Document:
    metadata = {"name": "x", "namespace": "shop"}
    value = {"apiVersion": KINDS[kind].versions[0], "kind": kind, "metadata": metadata, "spec": spec}
    return Document(value, "fuzz.yaml", 1)


def check(document: Document) -> None:
    try:
        found = parse(document)
    except Invalid as error:
        assert error.reason and error.where.file == "fuzz.yaml"
        str(error).encode("utf-8", "surrogatepass")
        return
    if found is not None:
        assert isinstance(found, Declared)
        check_value(found)


def check_value(found: Declared) -> None:
    hash(found)
    kind: type[Model] = type(found)
    assert msgspec.msgpack.decode(encode(found), type=kind) == found
    if isinstance(found, Route):
        for each in found.hosts:
            assert each and each == each.lower()
        for rule in found.http:
            check_rule(rule)
    elif isinstance(found, DestinationPolicy):
        for level in (found.policy, *(each.policy for each in found.subsets if each.policy is not None)):
            pool = level.policy.connection_pool
            assert pool is None or (pool.connect_timeout > 0 and pool.max_connections > 0)
    elif isinstance(found, ServiceEntry):
        assert found.hosts and all(each.weight > 0 for each in found.endpoints)
    elif isinstance(found, MeshSettings):
        names = [each.name for each in found.providers]
        assert len(names) == len(set(names)) and 0 <= found.tracing_sampling <= 100


def check_rule(rule: Rule) -> None:
    actions = [bool(rule.destinations), rule.redirect is not None, rule.direct is not None, bool(rule.delegate)]
    assert sum(actions) == 1
    assert len(rule.destinations) < 2 or sum(each.weight for each in rule.destinations) > 0
    assert rule.timeout >= 0 and rule.retries.attempts >= 0
    if rule.fault is not None:
        assert 0 <= rule.fault.delay_percent <= 100 and 0 <= rule.fault.abort_percent <= 100
    for match in rule.matches:
        tests = [match.path, match.method, match.scheme, match.authority]
        tests += [each.matcher for each in (*match.headers, *match.query)]
        for test in tests:
            check_matcher(test)
    if rule.rewrite is not None and rule.rewrite.regex:
        re2.compile(rule.rewrite.regex)


def check_matcher(matcher: Matcher | None) -> None:
    if matcher is not None and matcher.how is How.REGEX:
        re2.compile(matcher.value)


@pytest.mark.parametrize("kind", SPECS)
def test_the_specs_that_are_mutated_are_valid(kind: str) -> None:
    assert parse(whole(kind, SPECS[kind])) is not None


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_spec_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    check(whole(kind, data.draw(mutants(kind))))


NASTY: list[Any] = ["\ud800", "a\ud800", "\x00", 10**400, float("nan"), float("inf"), True, None, [], {}, ""]
NASTY += [{"\ud800": {"exact": "\ud800"}}, {"\ud800": "\ud800"}, ["\ud800"], [None], [{}], {"": ""}]


@pytest.mark.parametrize("kind", SPECS)
def test_a_nasty_value_in_every_place_is_read_or_refused(kind: str) -> None:
    for path in PLACES[kind]:
        for value in NASTY:
            spec = copy.deepcopy(SPECS[kind])
            at: Any = spec
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = value
            check(whole(kind, spec))


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=60, deadline=None)
@given(spec=values)
def test_any_spec_is_read_or_refused(kind: str, spec: Any) -> None:
    check(whole(kind, spec))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_mesh_config_is_read_or_refused(data: st.DataObject) -> None:
    text = list(MESH)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from([*"{}[]:,'\"\n #&*!|>-%@`", "0", "a", "null", "1e9", "\x00", "é"]))
    metadata = {"name": "istio", "namespace": "istio-system"}
    value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": "".join(text)}}
    check(Document(value, "fuzz.yaml", 1))
