"""Whom a CiliumNetworkPolicy and its entries are about (statements S1 to S11, C1 to C7)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from declared import policy, refusal, rule_of, spec_of
from weft.policies.dialects.peers import ENTITIES
from weft.policies.labels import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    Label,
    Labels,
    Op,
    Requirement,
    Selector,
)
from weft.policies.model import CidrGroupPeer, CidrPeer, EndpointPeer, EntityPeer, ServicePeer

CCNP = "CiliumClusterwideNetworkPolicy"


def pod(namespace: str = "default", **labels: str) -> Labels:
    return Labels.k8s({NAMESPACE_KEY: namespace, CLUSTER_KEY: "default", **labels})


FOO, BAR = pod(app="foo"), pod(app="bar")
OTHER = pod("other", app="foo") | Labels.k8s({NAMESPACE_LABEL_PREFIX + "team": "a"})
HOST, WORLD = Labels([Label("reserved", "host", "")]), Labels([Label("reserved", "world", "")])
EVERYBODY = {"foo": FOO, "bar": BAR, "other": OTHER, "host": HOST, "world": WORLD}

# Selectors: who of EVERYBODY an entry of fromEndpoints selects

CNP_PEERS = {
    "S3 {} is every endpoint of the policy's namespace": ("{}", {"foo", "bar"}),
    "S3 a label selects in the policy's namespace only": ("{matchLabels: {app: foo}}", {"foo"}),
    "S7 naming the namespace reaches across": (
        "{matchLabels: {app: foo, k8s:io.kubernetes.pod.namespace: other}}",
        {"other"},
    ),
    "S7 naming it without a source does too": (
        "{matchLabels: {io.kubernetes.pod.namespace: other}}",
        {"other"},
    ),
    "S7 naming it in an expression does too": (
        "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: In, values: [default, other]},"
        " {key: app, operator: In, values: [foo]}]}",
        {"foo", "other"},
    ),
    "S7 Exists on the namespace is every namespace": (
        "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: Exists}]}",
        {"foo", "bar", "other"},
    ),
    "S7 a label of the namespace reaches across": (
        "{matchLabels: {k8s:io.cilium.k8s.namespace.labels.team: a}}",
        {"other"},
    ),
    "S7 reserved selectors are untouched": ("{matchLabels: {reserved:host: ''}}", {"host"}),
    "S7 reserved in an expression": (
        "{matchExpressions: [{key: reserved:world, operator: Exists}]}",
        {"world"},
    ),
    "S8 labels are ANDed": ("{matchLabels: {app: foo, tier: web}}", set()),
    "S8 labels and expressions are ANDed": (
        "{matchLabels: {app: foo}, matchExpressions: [{key: app, operator: NotIn, values: [foo]}]}",
        set(),
    ),
    "S8 In": ("{matchExpressions: [{key: app, operator: In, values: [foo, bar]}]}", {"foo", "bar"}),
    "S8 NotIn": ("{matchExpressions: [{key: app, operator: NotIn, values: [foo]}]}", {"bar"}),
    "S8 NotIn matches those without the label": (
        "{matchExpressions: [{key: tier, operator: NotIn, values: [foo]}]}",
        {"foo", "bar"},
    ),
    "S8 Exists": ("{matchExpressions: [{key: app, operator: Exists}]}", {"foo", "bar"}),
    "S8 DoesNotExist": ("{matchExpressions: [{key: app, operator: DoesNotExist}]}", set()),
    "S8 several expressions are ANDed": (
        "{matchExpressions: [{key: app, operator: Exists}, {key: app, operator: NotIn, values: [bar]}]}",
        {"foo"},
    ),
    "S11 k8s: is a source": ("{matchLabels: {k8s:app: foo}}", {"foo"}),
    "S11 any: is what no source means": ("{matchLabels: {any:app: foo}}", {"foo"}),
    "S11 another source does not match": ("{matchLabels: {container:app: foo}}", set()),
}


def selected(entry: str, kind: str = "CiliumNetworkPolicy") -> set[str]:
    peers = rule_of(f"{{fromEndpoints: [{entry}]}}", kind=kind).peers
    assert peers is not None
    (peer,) = peers
    assert isinstance(peer, EndpointPeer)
    return {name for name, labels in EVERYBODY.items() if peer.selector.matches(labels)}


@pytest.mark.parametrize(("entry", "names"), CNP_PEERS.values(), ids=CNP_PEERS)
def test_selects(entry: str, names: set[str]) -> None:
    assert selected(entry) == names


CCNP_PEERS = {
    "S4 {} is every pod, not the host and not the world": ("{}", {"foo", "bar", "other"}),
    "S4 a label selects in every namespace": ("{matchLabels: {app: foo}}", {"foo", "other"}),
    "S4 a negative expression does not reach the world": (
        "{matchExpressions: [{key: app, operator: NotIn, values: [foo]}]}",
        {"bar"},
    ),
    "S7 naming a namespace": ("{matchLabels: {k8s:io.kubernetes.pod.namespace: other}}", {"other"}),
    "S7 reserved selectors are untouched": ("{matchLabels: {reserved:world: ''}}", {"world"}),
}


@pytest.mark.parametrize(("entry", "names"), CCNP_PEERS.values(), ids=CCNP_PEERS)
def test_selects_clusterwide(entry: str, names: set[str]) -> None:
    assert selected(entry, CCNP) == names


def test_s4_a_policy_about_initialising_endpoints_selects_peers_without_a_namespace() -> None:
    spec = spec_of("endpointSelector: {matchLabels: {reserved:init: ''}}\ningress: [{fromEndpoints: [{}]}]", CCNP)
    assert spec.rules[0].peers == (EndpointPeer(Selector()),)


def test_s8_entries_of_the_list_are_alternatives() -> None:
    peers = rule_of("{fromEndpoints: [{matchLabels: {app: foo}}, {matchLabels: {app: bar}}]}").peers
    assert peers is not None and len(peers) == 2


def test_selectors_that_say_the_same_are_equal() -> None:
    one = rule_of("{fromEndpoints: [{matchLabels: {a: x, b: z}}]}")
    other = rule_of(
        "{fromEndpoints: [{matchExpressions: [{key: b, operator: In, values: [z]},"
        " {key: a, operator: In, values: [x, x]}]}]}"
    )
    assert one.peers == other.peers


# The subject

SUBJECTS = {
    "{} is every endpoint of the namespace": ("{}", {"foo", "bar"}, 0),
    "S6 the policy's own namespace may be named": (
        "{matchLabels: {k8s:io.kubernetes.pod.namespace: default}}",
        {"foo", "bar"},
        0,
    ),
    "S6 a foreign namespace is overridden with a warning": (
        "{matchLabels: {app: foo, k8s:io.kubernetes.pod.namespace: other}}",
        {"foo"},
        1,
    ),
    "S6 in an expression too": (
        "{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: In, values: [other]}]}",
        {"foo", "bar"},
        1,
    ),
    "S6 several namespaces are overridden": (
        "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: In, values: [other, default]}]}",
        {"foo", "bar"},
        1,
    ),
    "S6 excluding the own namespace selects nobody": (
        "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: NotIn, values: [default]}]}",
        set(),
        0,
    ),
    "S6 a label of the namespace does not lead out of it": (
        "{matchLabels: {k8s:io.cilium.k8s.namespace.labels.team: a}}",
        set(),
        0,
    ),
}


@pytest.mark.parametrize(("selector", "names", "warnings"), SUBJECTS.values(), ids=SUBJECTS)
def test_is_about(selector: str, names: set[str], warnings: int) -> None:
    found = policy(f"endpointSelector: {selector}\ningress: [{{}}]")
    subject = found.specs[0].subject
    assert {name for name, labels in EVERYBODY.items() if subject.matches(labels)} == names
    assert len(found.warnings) == warnings


def test_s4_a_clusterwide_subject_is_taken_as_it_is() -> None:
    assert spec_of("endpointSelector: {}\ningress: [{}]", CCNP).subject == Selector()


# Missing, empty, one kind


def test_s1_without_an_l3_member_ports_are_open_to_anybody() -> None:
    assert rule_of('{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}').peers is None


MEMBERS = {
    "ingress": ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromGroups", "fromNodes"),
    "egress": (
        "toEndpoints",
        "toCIDR",
        "toCIDRSet",
        "toEntities",
        "toGroups",
        "toNodes",
        "toServices",
        "toFQDNs",
    ),
}
MEMBERS |= {"ingressDeny": MEMBERS["ingress"], "egressDeny": MEMBERS["egress"][:-1]}


@pytest.mark.parametrize(
    ("section", "member"), [(section, member) for section, members in MEMBERS.items() for member in members]
)
@pytest.mark.parametrize("ports", ["", ', toPorts: [{ports: [{port: "80"}]}]'], ids=["alone", "with ports"])
def test_s2_an_empty_list_selects_nobody(section: str, member: str, ports: str) -> None:
    assert rule_of(f"{{{member}: []{ports}}}", section).peers == ()


def test_s2_an_empty_list_is_warned_of() -> None:
    found = policy("endpointSelector: {}\ningress: [{fromEndpoints: []}]")
    assert found.warnings == ("spec.ingress[0].fromEndpoints: is an empty list, so this entry is about nobody",)


def test_s2_an_empty_list_beside_a_full_one_still_selects_nobody() -> None:
    assert rule_of("{fromEndpoints: [], fromEntities: [world]}").peers == ()


def test_s10_two_kinds_in_one_entry_are_refused() -> None:
    error = refusal("endpointSelector: {}\ningress: [{fromEndpoints: [{}], fromCIDR: [10.0.0.0/8]}]")
    assert error.where.path == "spec.ingress[0].fromCIDR"
    assert "combining fromEndpoints and fromCIDR in one entry is not supported" in error.reason


def test_s9_l3_and_l4_stand_together_in_one_rule() -> None:
    rule = rule_of('{fromEntities: [world], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}')
    assert rule.peers == (EntityPeer("world"),)
    assert rule.ports is not None and [port.port for port in rule.ports] == [80]


# CIDRs


def cidrs(entry: str, section: str = "ingress") -> list[tuple[str, list[str]]]:
    peers = rule_of(entry, section).peers
    assert peers is not None and all(isinstance(peer, CidrPeer) and not peer.includes_pods for peer in peers)
    return [(str(peer.cidr), [str(e) for e in peer.excepts]) for peer in peers if isinstance(peer, CidrPeer)]


CIDRS = {
    "C3 a bare address is that address": ("{fromCIDR: [20.1.1.1]}", [("20.1.1.1/32", [])]),
    "C3 a bare IPv6 address too": ("{fromCIDR: ['2001:DB8::1']}", [("2001:db8::1/128", [])]),
    "a prefix": ("{fromCIDR: [10.0.0.0/8, fd00::/8]}", [("10.0.0.0/8", []), ("fd00::/8", [])]),
    "C2 everything of IPv4": ("{fromCIDR: [0.0.0.0/0]}", [("0.0.0.0/0", [])]),
    "bits behind the length are cut off": ("{fromCIDR: [10.1.2.3/8]}", [("10.0.0.0/8", [])]),
    "the same prefix twice is one": ("{fromCIDR: [10.0.0.0/8, 10.1.0.0/8]}", [("10.0.0.0/8", [])]),
    "C4 a prefix with excepts": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.3.4/32]}]}",
        [("10.0.0.0/8", ["10.1.0.0/16", "10.2.3.4/32"])],
    ),
    "C4 an except as large as the prefix leaves nothing": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}",
        [("10.0.0.0/8", ["10.0.0.0/8"])],
    ),
    "C4 no excepts": ("{fromCIDRSet: [{cidr: 'fd00::/8', except: []}]}", [("fd00::/8", [])]),
}


@pytest.mark.parametrize(("entry", "expected"), CIDRS.values(), ids=CIDRS)
def test_cidr(entry: str, expected: list[tuple[str, list[str]]]) -> None:
    assert cidrs(entry) == expected


def test_bits_behind_the_length_are_warned_of() -> None:
    (warning,) = policy("endpointSelector: {}\negress: [{toCIDR: [10.1.2.3/8]}]").warnings
    assert warning == "spec.egress[0].toCIDR[0]: 10.1.2.3/8 has bits behind its length, it means 10.0.0.0/8"


def test_c5_a_group_by_name_and_by_labels() -> None:
    rule = rule_of(
        "{toCIDRSet: [{cidrGroupRef: partners, except: [10.1.0.0/16]},"
        " {cidrGroupSelector: {matchLabels: {a: b}}}]}",
        "egress",
    )
    assert rule.peers == (
        CidrGroupPeer(name="partners", excepts=(ip_network("10.1.0.0/16"),)),
        CidrGroupPeer(selector=Selector((Requirement("any", "a", Op.IN, ("b",)),))),
    )


# Entities and services


@pytest.mark.parametrize("entity", ENTITIES)
def test_c6_entity(entity: str) -> None:
    assert rule_of(f"{{fromEntities: [{entity}]}}").peers == (EntityPeer(entity),)


SERVICES = {
    "C7 by name": (
        "{k8sService: {serviceName: db, namespace: shop}}",
        ServicePeer("shop", "db"),
        0,
    ),
    "C7 by name in every namespace": ("{k8sService: {serviceName: db}}", ServicePeer("", "db"), 1),
    "C7 by labels": (
        "{k8sServiceSelector: {selector: {matchLabels: {tier: db}}, namespace: shop}}",
        ServicePeer("shop", selector=Selector((Requirement("any", "tier", Op.IN, ("db",)),))),
        0,
    ),
    "C7 by labels in every namespace": (
        "{k8sServiceSelector: {selector: {}}}",
        ServicePeer("", selector=Selector()),
        1,
    ),
}


@pytest.mark.parametrize(("entry", "peer", "warnings"), SERVICES.values(), ids=SERVICES)
def test_service(entry: str, peer: ServicePeer, warnings: int) -> None:
    found = policy(
        f'endpointSelector: {{}}\negress: [{{toServices: [{entry}], toPorts: [{{ports: [{{port: "1"}}]}}]}}]'
    )
    assert found.specs[0].rules[0].peers == (peer,)
    assert len(found.warnings) == warnings


# What is refused

REFUSED = {
    "an unknown field of a selector": (
        "{fromEndpoints: [{matchLabel: {}}]}",
        "fromEndpoints[0].matchLabel",
        "unknown",
    ),
    "a label value that is a number": (
        "{fromEndpoints: [{matchLabels: {app: 5}}]}",
        "fromEndpoints[0].matchLabels.app",
        "must be a string, is a whole number (5): put it in quotes",
    ),
    "a label value that YAML takes for a boolean": (
        "{fromEndpoints: [{matchLabels: {k8s:on: yes}}]}",
        'fromEndpoints[0].matchLabels["k8s:on"]',
        "put it in quotes",
    ),
    "a label value that is none": (
        "{fromEndpoints: [{matchLabels: {app: 'a b'}}]}",
        "fromEndpoints[0].matchLabels.app",
        "is no label value",
    ),
    "a label value of 64 characters": (
        f"{{fromEndpoints: [{{matchLabels: {{app: {'a' * 64}}}}}]}}",
        "fromEndpoints[0].matchLabels.app",
        "is no label value",
    ),
    "a label key that is none": (
        "{fromEndpoints: [{matchLabels: {'a b': c}}]}",
        'fromEndpoints[0].matchLabels["a b"]',
        "is no label key",
    ),
    "S11 an unknown source": (
        "{fromEndpoints: [{matchLabels: {'gke:app': c}}]}",
        'fromEndpoints[0].matchLabels["gke:app"]',
        "no such label source",
    ),
    "S8 an unknown operator": (
        "{fromEndpoints: [{matchExpressions: [{key: a, operator: Equals, values: [b]}]}]}",
        "fromEndpoints[0].matchExpressions[0].operator",
        "is not one of In, NotIn, Exists, DoesNotExist",
    ),
    "S8 In without values": (
        "{fromEndpoints: [{matchExpressions: [{key: a, operator: In, values: []}]}]}",
        "fromEndpoints[0].matchExpressions[0].values",
        "needs at least one value",
    ),
    "S8 Exists with values": (
        "{fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}",
        "fromEndpoints[0].matchExpressions[0].values",
        "takes no values",
    ),
    "S8 an expression without key": (
        "{fromEndpoints: [{matchExpressions: [{operator: Exists}]}]}",
        "fromEndpoints[0].matchExpressions[0].key",
        "is missing",
    ),
    "null for a selector": ("{fromEndpoints: [null]}", "fromEndpoints[0]", "is null"),
    "null for matchLabels": ("{fromEndpoints: [{matchLabels: }]}", "fromEndpoints[0].matchLabels", "is null"),
    "fromRequires": ("{fromRequires: []}", "fromRequires", "gone from Cilium"),
    "C3 no address": ("{fromCIDR: [example.com]}", "fromCIDR[0]", "no IPv4 or IPv6 prefix"),
    "C3 a number": ("{fromCIDR: [10]}", "fromCIDR[0]", "must be a string"),
    "an empty string": ("{fromCIDR: ['']}", "fromCIDR[0]", "no IPv4 or IPv6 prefix"),
    "a netmask": ("{fromCIDR: [10.0.0.0/255.0.0.0]}", "fromCIDR[0]", "one decimal number"),
    "a length above 32": ("{fromCIDR: [10.0.0.0/33]}", "fromCIDR[0]", "no IPv4 or IPv6 prefix"),
    "a length with a leading zero": ("{fromCIDR: [10.0.0.0/08]}", "fromCIDR[0]", "one decimal number"),
    "a negative length": ("{fromCIDR: [10.0.0.0/-1]}", "fromCIDR[0]", "one decimal number"),
    "a length that is empty": ("{fromCIDR: [10.0.0.0/]}", "fromCIDR[0]", "one decimal number"),
    "octets with leading zeros": ("{fromCIDR: [010.0.0.1]}", "fromCIDR[0]", "no IPv4 or IPv6 prefix"),
    "a zone": ("{fromCIDR: ['fe80::1%eth0']}", "fromCIDR[0]", "zones mean nothing"),
    "IPv4 inside IPv6": ("{fromCIDR: ['::ffff:10.0.0.1']}", "fromCIDR[0]", "write 10.0.0.1"),
    "C3 a bare address in a set": ("{fromCIDRSet: [{cidr: 20.1.1.1}]}", "fromCIDRSet[0].cidr", "is no prefix"),
    "C4 an except outside": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}",
        "fromCIDRSet[0].except[0]",
        "11.0.0.0/16 does not lie inside 10.0.0.0/8",
    ),
    "C4 an except around": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}]}",
        "fromCIDRSet[0].except[0]",
        "does not lie inside",
    ),
    "C4 an except of the other family": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: ['fd00::/16']}]}",
        "fromCIDRSet[0].except[0]",
        "does not lie inside",
    ),
    "C4 a bare address as except": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.1]}]}",
        "fromCIDRSet[0].except[0]",
        "is no prefix",
    ),
    "C5 neither cidr nor group": ("{fromCIDRSet: [{}]}", "fromCIDRSet[0]", "needs exactly one of cidr"),
    "C5 cidr and group": (
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]}",
        "fromCIDRSet[0]",
        "needs exactly one of cidr",
    ),
    "C5 two forms of group": (
        "{fromCIDRSet: [{cidrGroupRef: g, cidrGroupSelector: {}}]}",
        "fromCIDRSet[0]",
        "needs exactly one of cidr",
    ),
    "C5 a group name that is none": (
        "{fromCIDRSet: [{cidrGroupRef: 'A B'}]}",
        "fromCIDRSet[0].cidrGroupRef",
        "no name",
    ),
    "C6 an unknown entity": ("{fromEntities: [internet]}", "fromEntities[0]", 'unsupported entity "internet"'),
    "C6 entities are lower case": ("{fromEntities: [World]}", "fromEntities[0]", "unsupported entity"),
    "a group of no provider": ("{fromGroups: [{}]}", "fromGroups[0].aws", "is missing"),
    "a group of another provider": ("{fromGroups: [{gcp: {}}]}", "fromGroups[0].gcp", "unknown field"),
}


@pytest.mark.parametrize(("entry", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(entry: str, path: str, reason: str) -> None:
    error = refusal(f"endpointSelector: {{}}\ningress: [{entry}]")
    assert error.where.path == f"spec.ingress[0].{path}"
    assert reason in error.reason
    assert not error.not_enforced


REFUSED_ON_EGRESS = {
    "toRequires": ("{toRequires: [{}]}", "toRequires", "gone from Cilium"),
    "C7 neither form of service": ("{toServices: [{}]}", "toServices[0]", "needs exactly one of k8sService"),
    "C7 both forms of service": (
        "{toServices: [{k8sService: {serviceName: a}, k8sServiceSelector: {selector: {}}}]}",
        "toServices[0]",
        "needs exactly one of k8sService",
    ),
    "C7 a service without a name": (
        "{toServices: [{k8sService: {namespace: a}}]}",
        "toServices[0].k8sService.serviceName",
        "is missing",
    ),
    "C7 a service selector without selector": (
        "{toServices: [{k8sServiceSelector: {}}]}",
        "toServices[0].k8sServiceSelector.selector",
        "is missing",
    ),
    "S10 services and CIDRs": (
        "{toServices: [{k8sService: {serviceName: a}}], toCIDR: [10.0.0.0/8]}",
        "toServices",
        "combining toCIDR and toServices",
    ),
    "a name and a pattern": ("{toFQDNs: [{matchName: a, matchPattern: b}]}", "toFQDNs[0]", "needs exactly one"),
    "neither name nor pattern": ("{toFQDNs: [{}]}", "toFQDNs[0]", "needs exactly one"),
    "C8 a star in a name": ("{toFQDNs: [{matchName: '*.a.com'}]}", "toFQDNs[0].matchName", "is no DNS name"),
    "C8 two dots": ("{toFQDNs: [{matchPattern: 'a..com'}]}", "toFQDNs[0].matchPattern", "is no DNS pattern"),
    "C8 a name of 256 characters": (
        f"{{toFQDNs: [{{matchName: {'a' * 256}}}]}}",
        "toFQDNs[0].matchName",
        "is no DNS name",
    ),
    "C8 a name made to be slow": (
        f"{{toFQDNs: [{{matchName: '{'a' * 254}!'}}]}}",
        "toFQDNs[0].matchName",
        "is no DNS name",
    ),
}


@pytest.mark.parametrize(("entry", "path", "reason"), REFUSED_ON_EGRESS.values(), ids=REFUSED_ON_EGRESS)
def test_is_refused_on_egress(entry: str, path: str, reason: str) -> None:
    error = refusal(f"endpointSelector: {{}}\negress: [{entry}]")
    assert error.where.path == f"spec.egress[0].{path}"
    assert reason in error.reason
    assert not error.not_enforced
