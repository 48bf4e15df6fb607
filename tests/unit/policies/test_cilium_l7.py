"""L7 rules of a CiliumNetworkPolicy: what HTTP rules become, what is refused (L1 to L5, L10, L12)."""

from __future__ import annotations

import pytest

from declared import policy, refusal, spec_of
from weft.policies.model import HeaderMatch, HttpRule, PortSpec, Protocol, Rule

P80 = 'ports: [{port: "80", protocol: TCP}]'
P53 = 'ports: [{port: "53", protocol: UDP}]'


def rules(port_rules: str, section: str = "ingress") -> tuple[Rule, ...]:
    return spec_of(f"endpointSelector: {{}}\n{section}: [{{toPorts: [{port_rules}]}}]").rules


def http(rule: str) -> HttpRule:
    (found,) = rules(f"{{{P80}, rules: {{http: [{rule}]}}}}")
    assert found.l7 is not None
    (one,) = found.l7.http
    return one


PATH = "spec.ingress[0].toPorts[0].rules.http[0]"
RULES = {
    "L2 an empty rule matches every request": ("{}", HttpRule(spec_path=PATH)),
    "L3 path, method and host are regexes": (
        '{path: "/public/.*", method: "GET|HEAD", host: "[a-z]+[.]com"}',
        HttpRule("/public/.*", "GET|HEAD", "[a-z]+[.]com", spec_path=PATH),
    ),
    "L4 a header with a value": (
        '{headers: ["X-Key: true"]}',
        HttpRule(headers=(HeaderMatch("X-Key", "true"),), spec_path=PATH),
    ),
    "L4 a header's value may hold colons and spaces": (
        '{headers: ["X-At:  10:30  today "]}',
        HttpRule(headers=(HeaderMatch("X-At", "10:30  today"),), spec_path=PATH),
    ),
    "L4 a header's presence": (
        '{headers: ["X-Key"]}',
        HttpRule(headers=(HeaderMatch("X-Key"),), spec_path=PATH),
    ),
    "L4 a header's value without colon, as Cilium takes it": (
        '{headers: ["X-Key true"]}',
        HttpRule(headers=(HeaderMatch("X-Key", "true"),), spec_path=PATH),
    ),
    "L5 a header match": (
        "{headerMatches: [{name: X-Key, value: 'a'}]}",
        HttpRule(headers=(HeaderMatch("X-Key", "a"),), spec_path=PATH),
    ),
    "L5 a header match without value is presence": (
        "{headerMatches: [{name: X-Key, value: ''}]}",
        HttpRule(headers=(HeaderMatch("X-Key"),), spec_path=PATH),
    ),
    "L5 a mismatch that only logs": (
        "{headerMatches: [{name: X-Key, value: a, mismatch: LOG}]}",
        HttpRule(headers=(HeaderMatch("X-Key", "a", "LOG"),), spec_path=PATH),
    ),
    "L5 a value from a secret": (
        "{headerMatches: [{name: X-Key, secret: {namespace: shop, name: keys}, mismatch: REPLACE}]}",
        HttpRule(headers=(HeaderMatch("X-Key", None, "REPLACE", ("shop", "keys")),), spec_path=PATH),
    ),
    "L4 headers and header matches are ANDed": (
        "{headers: [A], headerMatches: [{name: B}]}",
        HttpRule(headers=(HeaderMatch("A"), HeaderMatch("B")), spec_path=PATH),
    ),
}


@pytest.mark.parametrize(("rule", "expected"), RULES.values(), ids=RULES)
def test_http(rule: str, expected: HttpRule) -> None:
    assert http(rule) == expected


def test_l2_rules_of_a_list_are_kept_in_order_with_their_paths() -> None:
    (rule,) = rules(f"{{{P80}, rules: {{http: [{{method: GET}}, {{method: PUT}}]}}}}")
    assert rule.l7 is not None
    assert [(r.method, r.spec_path[-7:]) for r in rule.l7.http] == [("GET", "http[0]"), ("PUT", "http[1]")]


def test_a_port_rule_with_l7_is_a_rule_of_its_own() -> None:
    found = rules(
        f'{{ports: [{{port: "1"}}]}}, {{{P80}, rules: {{http: [{{}}]}}}}, {{ports: [{{port: "2"}}]}}', "egress"
    )
    assert [([p.port for p in rule.ports or ()], rule.l7 is not None) for rule in found] == [
        ([1, 2], False),
        ([80], True),
    ]


@pytest.mark.parametrize("parser", ["http", "dns", "kafka"])
def test_an_empty_list_is_no_l7_rule_and_is_warned_of(parser: str) -> None:
    found = policy(f"endpointSelector: {{}}\negress: [{{toPorts: [{{{P80}, rules: {{{parser}: []}}}}]}}]")
    assert found.specs[0].rules[0].l7 is None
    (warning,) = found.warnings
    assert warning.startswith(f"spec.egress[0].toPorts[0].rules.{parser}: is empty")


@pytest.mark.parametrize(
    "port", ["{port: http, protocol: TCP}", '{port: "80", endPort: 90, protocol: TCP}'], ids=["named", "range"]
)
def test_l1_http_on_a_named_port_and_on_a_range(port: str) -> None:
    (rule,) = rules(f"{{ports: [{port}], rules: {{http: [{{}}]}}}}")
    assert rule.l7 is not None


# What is refused


def on_http(rule: str) -> str:
    return f"{{{P80}, rules: {{http: [{rule}]}}}}"


REFUSED = {
    "L1 http on UDP": (
        '{ports: [{port: "80", protocol: UDP}], rules: {http: [{}]}}',
        "ports[0].protocol",
        "need protocol: TCP here, not UDP",
    ),
    "L1 http on any protocol": (
        '{ports: [{port: "80"}], rules: {http: [{}]}}',
        "ports[0]",
        "need protocol: TCP here, not ANY",
    ),
    "L1 http on port 0": (
        '{ports: [{port: "0", protocol: TCP}], rules: {http: [{}]}}',
        "ports[0].port",
        "0 is every port",
    ),
    "L1 http on a range from 0": (
        '{ports: [{port: "0", endPort: 9, protocol: TCP}], rules: {http: [{}]}}',
        "ports[0].port",
        "0 is every port",
    ),
    "rules that name no parser": (f"{{{P80}, rules: {{}}}}", "rules", "exactly one of http, dns and kafka"),
    "L10 two parsers in one port rule": (
        f"{{{P80}, rules: {{http: [{{}}], dns: [{{matchName: a}}]}}}}",
        "rules",
        "exactly one of http, dns and kafka",
    ),
    "an unknown parser": (f"{{{P80}, rules: {{grpc: []}}}}", "rules.grpc", "unknown field"),
    "generic L7 rules": (f"{{{P80}, rules: {{l7proto: x, l7: []}}}}", "rules.l7proto", "gone from Cilium"),
    "an unknown field of an http rule": (on_http("{uri: /}"), "rules.http[0].uri", "unknown field"),
    "null for an http rule": (on_http("null"), "rules.http[0]", "is null"),
    "a path that is a list": (on_http("{path: [a]}"), "rules.http[0].path", "must be a string"),
    "L3 a path that is no regex": (on_http('{path: "/("}'), "rules.http[0].path", "no regular expression of RE2"),
    "L3 a backreference": (on_http(r"{path: '/(a)\1'}"), "rules.http[0].path", "no backreferences"),
    "L3 a look-ahead": (on_http("{path: '/(?=a)'}"), "rules.http[0].path", "no look-around"),
    "L3 a method that is no regex": (on_http("{method: '*'}"), "rules.http[0].method", "repeats nothing"),
    "L3 a host that is no regex": (on_http("{host: 'a**'}"), "rules.http[0].host", "repeats a repeat"),
    "L4 a header without the space": (
        on_http('{headers: ["X-Key:true"]}'),
        "rules.http[0].headers[0]",
        "with a space",
    ),
    "L4 a header that ends in its colon": (
        on_http('{headers: ["X-Key:"]}'),
        "rules.http[0].headers[0]",
        "with a space",
    ),
    "L4 a header without name": (
        on_http('{headers: [": x"]}'),
        "rules.http[0].headers[0]",
        "is no name of a header",
    ),
    "L4 an empty header": (on_http('{headers: [""]}'), "rules.http[0].headers[0]", "must not be empty"),
    "L4 a header with a line end": (
        on_http('{headers: ["X: a\\r\\nY: b"]}'),
        "rules.http[0].headers[0]",
        "control characters",
    ),
    "L4 a pseudo header": (on_http('{headers: [":path: /x"]}'), "rules.http[0].headers[0]", "with a space"),
    "L5 a header match without name": (
        on_http("{headerMatches: [{value: a}]}"),
        "rules.http[0].headerMatches[0].name",
        "is missing",
    ),
    "L5 an unknown mismatch": (
        on_http("{headerMatches: [{name: A, mismatch: DENY}]}"),
        "rules.http[0].headerMatches[0].mismatch",
        "is not one of",
    ),
    "L5 a secret without name": (
        on_http("{headerMatches: [{name: A, secret: {namespace: b}}]}"),
        "rules.http[0].headerMatches[0].secret.name",
        "is missing",
    ),
    "L1 dns on ingress": (f"{{{P53}, rules: {{dns: [{{matchName: a}}]}}}}", "rules.dns", "egress only"),
    "L12 a listener on ingress": (
        f"{{{P80}, listener: {{envoyConfig: {{name: a}}, name: b}}}}",
        "listener",
        "egress only",
    ),
}


@pytest.mark.parametrize(("port_rule", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(port_rule: str, path: str, reason: str) -> None:
    error = refusal(f"endpointSelector: {{}}\ningress: [{{toPorts: [{port_rule}]}}]")
    assert error.where.path == f"spec.ingress[0].toPorts[0].{path}"
    assert reason in error.reason
    assert not error.not_enforced


REFUSED_ON_EGRESS = {
    "L1 dns on a range": (
        '{ports: [{port: "53", endPort: 54, protocol: UDP}], rules: {dns: [{matchName: a}]}}',
        "ports[0].endPort",
        "no range of ports",
    ),
    "L1 dns on SCTP": (
        '{ports: [{port: "53", protocol: SCTP}], rules: {dns: [{matchName: a}]}}',
        "ports[0].protocol",
        "UDP, TCP or ANY",
    ),
    "L1 dns on port 0": (
        '{ports: [{port: "0"}], rules: {dns: [{matchName: a}]}}',
        "ports[0].port",
        "0 is every port",
    ),
    "L1 dns without ports": ("{rules: {dns: [{matchName: a}]}}", "rules.dns", "need ports"),
    "dns without name": (f"{{{P53}, rules: {{dns: [{{}}]}}}}", "rules.dns[0]", "exactly one of matchName"),
    "kafka on UDP": (f"{{{P53}, rules: {{kafka: [{{}}]}}}}", "ports[0].protocol", "need protocol: TCP"),
    "kafka with role and key": (
        f"{{{P80}, rules: {{kafka: [{{role: produce, apiKey: fetch}}]}}}}",
        "rules.kafka[0].apiKey",
        "exclude each other",
    ),
    "kafka with an unknown role": (
        f"{{{P80}, rules: {{kafka: [{{role: admin}}]}}}}",
        "rules.kafka[0].role",
        "is not one of produce, consume",
    ),
    "TLS without a secret": (f"{{{P80}, terminatingTLS: {{}}}}", "terminatingTLS.secret", "is missing"),
    "TLS with an unknown field": (
        f"{{{P80}, originatingTLS: {{secret: {{name: a}}, ca: b}}}}",
        "originatingTLS.ca",
        "unknown field",
    ),
    "L12 an empty server name": (f"{{{P80}, serverNames: ['']}}", "serverNames[0]", "must not be empty"),
    "L12 server names beside http": (
        f"{{{P80}, serverNames: [a.com], rules: {{http: [{{}}]}}}}",
        "serverNames",
        "need terminatingTLS",
    ),
    "L12 a listener beside http": (
        f"{{{P80}, listener: {{envoyConfig: {{name: a}}, name: b}}, rules: {{http: [{{}}]}}}}",
        "listener",
        "exclude each other",
    ),
    "a listener without name": (
        f"{{{P80}, listener: {{envoyConfig: {{name: a}}}}}}",
        "listener.name",
        "is missing",
    ),
    "a listener of another kind": (
        f"{{{P80}, listener: {{envoyConfig: {{kind: EnvoyFilter, name: a}}, name: b}}}}",
        "listener.envoyConfig.kind",
        "is not one of",
    ),
    "a listener's priority of 0": (
        f"{{{P80}, listener: {{envoyConfig: {{name: a}}, name: b, priority: 0}}}}",
        "listener.priority",
        "must be 1 to 100",
    ),
}


@pytest.mark.parametrize(("port_rule", "path", "reason"), REFUSED_ON_EGRESS.values(), ids=REFUSED_ON_EGRESS)
def test_is_refused_on_egress(port_rule: str, path: str, reason: str) -> None:
    error = refusal(f"endpointSelector: {{}}\negress: [{{toPorts: [{port_rule}]}}]")
    assert error.where.path == f"spec.egress[0].toPorts[0].{path}"
    assert reason in error.reason
    assert not error.not_enforced


NOT_ENFORCED = {
    "dns rules": (f"{{{P53}, rules: {{dns: [{{matchPattern: '**.a.com'}}]}}}}", "rules.dns"),
    "kafka rules": (f"{{{P80}, rules: {{kafka: [{{role: produce, topic: t}}]}}}}", "rules.kafka"),
    "terminatingTLS": (f"{{{P80}, terminatingTLS: {{secret: {{namespace: a, name: b}}}}}}", "terminatingTLS"),
    "originatingTLS": (f"{{{P80}, originatingTLS: {{secret: {{name: b}}, trustedCA: ca}}}}", "originatingTLS"),
    "serverNames": (f"{{{P80}, serverNames: [a.com, '*.b.com']}}", "serverNames"),
    "server names with http and terminatingTLS": (
        f"{{{P80}, serverNames: [a.com], rules: {{http: [{{}}]}}, terminatingTLS: {{secret: {{name: b}}}}}}",
        "terminatingTLS",
    ),
    "a listener": (
        f"{{{P80}, listener: {{envoyConfig: {{kind: CiliumEnvoyConfig, name: a}}, name: b, priority: 100}}}}",
        "listener",
    ),
}


@pytest.mark.parametrize(("port_rule", "path"), NOT_ENFORCED.values(), ids=NOT_ENFORCED)
def test_is_not_enforced_yet(port_rule: str, path: str) -> None:
    error = refusal(f"endpointSelector: {{}}\negress: [{{toPorts: [{port_rule}]}}]")
    assert error.not_enforced
    assert error.where.path == f"spec.egress[0].toPorts[0].{path}"


# L10 across entries


def conflict(first: str, second: str) -> str:
    one = f"{{{first}toPorts: [{{{P80}, rules: {{http: [{{}}]}}}}]}}"
    other = f"{{{second}toPorts: [{{{P80}, rules: {{kafka: [{{topic: t}}]}}}}]}}"
    return f"endpointSelector: {{}}\negress: [{one}, {other}]"


@pytest.mark.parametrize("peers", ["", "toEntities: [world], "], ids=["anybody", "the same peers"])
def test_l10_two_parsers_on_the_same_peers_and_port_are_refused(peers: str) -> None:
    error = refusal(conflict(peers, peers))
    assert not error.not_enforced
    assert error.where.path == "spec.egress[1].toPorts[0].ports[0]"
    assert "has kafka rules here and http rules in another entry" in error.reason


def test_l10_two_parsers_on_different_peers_are_fine() -> None:
    assert refusal(conflict("toEntities: [world], ", "toEntities: [cluster], ")).not_enforced


def test_l7_rules_of_several_entries_on_one_port_stay_separate_rules() -> None:
    entry = f"{{toPorts: [{{{P80}, rules: {{http: [{{}}]}}}}]}}"
    spec = spec_of(f"endpointSelector: {{}}\ningress: [{entry}, {entry}]")
    assert [rule.ports for rule in spec.rules] == [(PortSpec(Protocol.TCP, 80, 80),)] * 2
