"""Kubernetes NetworkPolicy: the same words as Cilium's with other meanings."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from declared import policy, refusal, spec_of
from weft.policies.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, Labels
from weft.policies.model import Action, CidrPeer, Direction, EndpointPeer, PortSpec, Protocol, Rule

KIND = "NetworkPolicy"
TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP


def rule(entry: str, section: str = "ingress") -> Rule:
    (found,) = spec_of(f"podSelector: {{}}\npolicyTypes: [Ingress, Egress]\n{section}: [{entry}]", KIND).rules
    return found


ISOLATION = {
    "Ingress always": ("podSelector: {}", (True, False)),
    "no podSelector is every pod": ("{}", (True, False)),
    "Egress if there are egress rules": ("podSelector: {}\negress: [{}]", (True, True)),
    "an empty egress section is none": ("podSelector: {}\negress: []", (True, False)),
    "policyTypes Ingress only": ("podSelector: {}\npolicyTypes: [Ingress]\negress: [{}]", (True, False)),
    "policyTypes Egress only": ("podSelector: {}\npolicyTypes: [Egress]", (False, True)),
    "policyTypes both": ("podSelector: {}\npolicyTypes: [Ingress, Egress]", (True, True)),
    "policyTypes empty is as left out": ("podSelector: {}\npolicyTypes: []", (True, False)),
    "null is as left out": ("podSelector:\npolicyTypes:\ningress:\negress:", (True, False)),
}


@pytest.mark.parametrize(("spec", "expected"), ISOLATION.values(), ids=ISOLATION)
def test_isolates(spec: str, expected: tuple[bool, bool]) -> None:
    found = spec_of(spec, KIND)
    assert (found.default_deny_ingress, found.default_deny_egress) == expected


def test_rules_of_a_direction_that_is_not_listed_have_no_effect_and_are_warned_of() -> None:
    found = policy("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]", KIND)
    assert found.specs[0].rules == ()
    assert found.warnings == ("spec.ingress: has no effect: policyTypes does not list Ingress",)


ANYBODY = {
    "an empty entry allows everything": "{}",
    "a missing from is anybody": "{ports: []}",
    "an empty from is anybody": "{from: []}",
    "a null from is anybody": "{from: , ports: }",
}


@pytest.mark.parametrize("entry", ANYBODY.values(), ids=ANYBODY)
def test_allows_everything(entry: str) -> None:
    found = rule(entry)
    assert (found.peers, found.ports, found.action) == (None, None, Action.ALLOW)


def test_rules_know_their_direction_and_where_they_stand() -> None:
    spec = spec_of("podSelector: {}\ningress: [{}, {}]\negress: [{}]", KIND)
    assert [(r.direction, r.origin.path) for r in spec.rules] == [
        (Direction.INGRESS, "spec.ingress[0]"),
        (Direction.INGRESS, "spec.ingress[1]"),
        (Direction.EGRESS, "spec.egress[0]"),
    ]


# Who is meant


def pod(namespace: str, team: str, **labels: str) -> Labels:
    return Labels.k8s({NAMESPACE_KEY: namespace, NAMESPACE_LABEL_PREFIX + "team": team, **labels})


EVERYBODY = {
    "foo": pod("default", "a", app="foo"),
    "bar": pod("default", "a", app="bar"),
    "other-foo": pod("other", "b", app="foo"),
    "bare": Labels.k8s({NAMESPACE_KEY: "bare", "app": "foo"}),
    "host": Labels([Label("reserved", "host", "")]),
    "world": Labels([Label("reserved", "world", "")]),
}

PEERS = {
    "an empty podSelector is every pod of the namespace": ("{podSelector: {}}", {"foo", "bar"}),
    "a podSelector": ("{podSelector: {matchLabels: {app: foo}}}", {"foo"}),
    "a podSelector with an expression": (
        "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [foo]}]}}",
        {"bar"},
    ),
    "an empty namespaceSelector is every pod of every namespace": (
        "{namespaceSelector: {}}",
        {"foo", "bar", "other-foo", "bare"},
    ),
    "a namespaceSelector": ("{namespaceSelector: {matchLabels: {team: b}}}", {"other-foo"}),
    "a negative namespaceSelector does not reach the world": (
        "{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}",
        {"bare"},
    ),
    "both are ANDed": (
        "{namespaceSelector: {}, podSelector: {matchLabels: {app: foo}}}",
        {"foo", "other-foo", "bare"},
    ),
    "null members are as left out": ("{podSelector: {matchLabels: , matchExpressions: }}", {"foo", "bar"}),
}


@pytest.mark.parametrize(("entry", "names"), PEERS.values(), ids=PEERS)
def test_selects(entry: str, names: set[str]) -> None:
    peers = rule(f"{{from: [{entry}]}}").peers
    assert peers is not None
    (peer,) = peers
    assert isinstance(peer, EndpointPeer)
    assert {name for name, labels in EVERYBODY.items() if peer.selector.matches(labels)} == names


def test_entries_of_from_are_alternatives() -> None:
    peers = rule(
        "{from: [{podSelector: {matchLabels: {app: foo}}}, {podSelector: {matchLabels: {app: bar}}}]}"
    ).peers
    assert peers is not None and len(peers) == 2


def test_the_subject_is_of_the_policys_namespace() -> None:
    subject = spec_of("podSelector: {matchLabels: {app: foo}}", KIND).subject
    assert {name for name, labels in EVERYBODY.items() if subject.matches(labels)} == {"foo"}


def test_ip_block_matches_pods_too() -> None:
    found = rule("{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}", "egress")
    assert found.peers == (CidrPeer(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),), includes_pods=True),)


# Ports

PORTS = {
    "TCP is the default": ("{port: 80}", PortSpec(TCP, 80, 80)),
    "a protocol": ("{port: 53, protocol: UDP}", PortSpec(UDP, 53, 53)),
    "SCTP": ("{port: 9, protocol: SCTP}", PortSpec(SCTP, 9, 9)),
    "without port every port of the protocol": ("{protocol: UDP}", PortSpec(UDP, 0, 0)),
    "an empty port entry is every port of TCP": ("{}", PortSpec(TCP, 0, 0)),
    "a named port": ("{port: http-alt}", PortSpec(TCP, name="http-alt")),
    "a range": ("{port: 80, endPort: 90}", PortSpec(TCP, 80, 90)),
    "a range of one": ("{port: 80, endPort: 80}", PortSpec(TCP, 80, 80)),
    "null is as left out": ("{port: , endPort: , protocol: }", PortSpec(TCP, 0, 0)),
}


@pytest.mark.parametrize(("item", "expected"), PORTS.values(), ids=PORTS)
def test_port(item: str, expected: PortSpec) -> None:
    assert rule(f"{{ports: [{item}]}}").ports == (expected,)


def test_labels_say_where_the_policy_comes_from() -> None:
    assert policy("podSelector: {}", KIND).labels == (
        "k8s:io.cilium.k8s.policy.derived-from=NetworkPolicy",
        "k8s:io.cilium.k8s.policy.name=p",
        "k8s:io.cilium.k8s.policy.namespace=default",
    )


# What is refused


def entry(text: str) -> str:
    return f"podSelector: {{}}\ningress: [{text}]"


REFUSED = {
    "an unknown field of the spec": ("endpointSelector: {}", "spec.endpointSelector", "unknown field"),
    "an unknown field of an entry": (entry("{to: []}"), "spec.ingress[0].to", "unknown field"),
    "an unknown policyType": ("podSelector: {}\npolicyTypes: [ingress]", "spec.policyTypes[0]", "is not one of"),
    "three policyTypes": (
        "podSelector: {}\npolicyTypes: [Ingress, Egress, Ingress]",
        "spec.policyTypes",
        "at most 2",
    ),
    "a null entry": (entry("null"), "spec.ingress[0]", "is null"),
    "a peer that names nobody": (entry("{from: [{}]}"), "spec.ingress[0].from[0]", "needs podSelector"),
    "a null peer": (entry("{from: [null]}"), "spec.ingress[0].from[0]", "is null"),
    "an ipBlock beside a selector": (
        entry("{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}"),
        "spec.ingress[0].from[0].ipBlock",
        "excludes podSelector",
    ),
    "an ipBlock without cidr": (
        entry("{from: [{ipBlock: {}}]}"),
        "spec.ingress[0].from[0].ipBlock.cidr",
        "is missing",
    ),
    "an ipBlock with a bare address": (
        entry("{from: [{ipBlock: {cidr: 10.0.0.1}}]}"),
        "spec.ingress[0].from[0].ipBlock.cidr",
        "is no prefix",
    ),
    "an except outside": (
        entry("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}"),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        "does not lie inside",
    ),
    "an except that is the whole": (
        entry("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}"),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        "must be a part of it",
    ),
    "a label with a source": (
        entry("{from: [{podSelector: {matchLabels: {'k8s:app': foo}}}]}"),
        'spec.ingress[0].from[0].podSelector.matchLabels["k8s:app"]',
        "is no label key",
    ),
    "port 0": (entry("{ports: [{port: 0}]}"), "spec.ingress[0].ports[0].port", "must be 1 to 65535"),
    "a port above 65535": (
        entry("{ports: [{port: 65536}]}"),
        "spec.ingress[0].ports[0].port",
        "must be 1 to 65535",
    ),
    "a number in quotes": (entry('{ports: [{port: "80"}]}'), "spec.ingress[0].ports[0].port", "without quotes"),
    "a name in upper case": (entry("{ports: [{port: HTTP}]}"), "spec.ingress[0].ports[0].port", "is no port name"),
    "an endPort below": (
        entry("{ports: [{port: 80, endPort: 79}]}"),
        "spec.ingress[0].ports[0].endPort",
        "79 is below port 80",
    ),
    "an endPort beside a name": (
        entry("{ports: [{port: http, endPort: 80}]}"),
        "spec.ingress[0].ports[0].endPort",
        "by number",
    ),
    "an endPort without port": (
        entry("{ports: [{endPort: 80}]}"),
        "spec.ingress[0].ports[0].endPort",
        "needs a port",
    ),
    "an unknown protocol": (
        entry("{ports: [{port: 1, protocol: ICMP}]}"),
        "spec.ingress[0].ports[0].protocol",
        "is not one of TCP, UDP, SCTP",
    ),
    "a boolean for a port": (
        entry("{ports: [{port: true}]}"),
        "spec.ingress[0].ports[0].port",
        "must be a whole number",
    ),
}


@pytest.mark.parametrize(("spec", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(spec: str, path: str, reason: str) -> None:
    error = refusal(spec, KIND)
    assert error.where.path == path
    assert reason in error.reason
    assert error.where.object == "NetworkPolicy default/p"
