"""CiliumNetworkPolicy as a whole: specs, sections, default deny, names and labels (E1 to E9, S12, A1)."""

from __future__ import annotations

import pytest

from declared import declared, manifest, policy, refusal, rule_of, spec_of
from weft.policies.errors import Invalid
from weft.policies.labels import NAMESPACE_KEY, Labels
from weft.policies.model import Action, Direction, HttpRule, ObjectRef, Policy

INGRESS_FOO = "endpointSelector: {}\ningress: [{fromEndpoints: [{matchLabels: {app: foo}}]}]"

# Default deny

DEFAULT_DENY = {
    "E2 ingress turns ingress to default deny, egress is independent": ("ingress: [{}]", (True, False)),
    "E2 ingressDeny does so too": ("ingressDeny: [{}]", (True, False)),
    "E2 egress": ("egress: [{}]", (False, True)),
    "E2 egressDeny": ("egressDeny: [{}]", (False, True)),
    "E2 both": ("ingress: [{}]\negress: [{}]", (True, True)),
    "E4 an empty list beside a full one does not count": ("ingress: []\negress: [{}]", (False, True)),
    "E5 false leaves the direction as it was": (
        "ingressDeny: [{}]\nenableDefaultDeny: {ingress: false}",
        (False, False),
    ),
    "E5 true denies without a section": ("egress: [{}]\nenableDefaultDeny: {ingress: true}", (True, True)),
    "E5 each direction has its own switch": (
        "ingress: [{}]\negress: [{}]\nenableDefaultDeny: {egress: false}",
        (True, False),
    ),
    "E5 an empty switch changes nothing": ("ingress: [{}]\nenableDefaultDeny: {}", (True, False)),
    "E9 deny alone enables default deny": ("egressDeny: [{toEntities: [world]}]", (False, True)),
}


@pytest.mark.parametrize(("sections", "expected"), DEFAULT_DENY.values(), ids=DEFAULT_DENY)
def test_default_deny(sections: str, expected: tuple[bool, bool]) -> None:
    spec = spec_of("endpointSelector: {}\n" + sections)
    assert (spec.default_deny_ingress, spec.default_deny_egress) == expected


# Entries


def test_e3_an_empty_entry_matches_nobody() -> None:
    rule = rule_of("{}")
    assert (rule.peers, rule.ports) == ((), None)


def test_each_section_makes_rules_of_its_direction_and_action() -> None:
    spec = spec_of("endpointSelector: {}\ningress: [{}]\ningressDeny: [{}]\negress: [{}]\negressDeny: [{}]")
    assert [(rule.direction, rule.action, rule.origin.path) for rule in spec.rules] == [
        (Direction.INGRESS, Action.ALLOW, "spec.ingress[0]"),
        (Direction.INGRESS, Action.DENY, "spec.ingressDeny[0]"),
        (Direction.EGRESS, Action.ALLOW, "spec.egress[0]"),
        (Direction.EGRESS, Action.DENY, "spec.egressDeny[0]"),
    ]


def test_each_entry_is_a_rule_of_its_own() -> None:
    spec = spec_of("endpointSelector: {}\ningress: [{fromEntities: [host]}, {fromEntities: [world]}]")
    assert [rule.origin.path for rule in spec.rules] == ["spec.ingress[0]", "spec.ingress[1]"]


def test_e7_an_l7_rule_gets_a_wildcard_where_default_deny_is_off() -> None:
    entry = '{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]}'
    body = f"endpointSelector: {{}}\ningress: [{entry}]"
    (strict,) = spec_of(body).rules
    (loose,) = spec_of(body + "\nenableDefaultDeny: {ingress: false}").rules
    assert strict.l7 is not None and [rule.method for rule in strict.l7.http] == ["GET"]
    assert loose.l7 is not None and [rule.method for rule in loose.l7.http] == ["GET", ""]
    assert loose.l7.http[1] == HttpRule(spec_path="spec.ingress[0]")


def test_a1_authentication_that_is_disabled_changes_nothing() -> None:
    entry = "{fromEntities: [world], authentication: {mode: disabled}}"
    assert rule_of(entry) == rule_of("{fromEntities: [world]}")


# Specs


def test_spec_and_specs_may_stand_together() -> None:
    found = declared(
        """
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: p}
        spec: {endpointSelector: {}, ingress: [{}]}
        specs:
        - {endpointSelector: {}, egress: [{}]}
        - {endpointSelector: {}, egressDeny: [{}]}
        """
    )
    assert isinstance(found, Policy)
    paths = [rule.origin.path for spec in found.specs for rule in spec.rules]
    assert paths == ["spec.ingress[0]", "specs[0].egress[0]", "specs[1].egressDeny[0]"]


@pytest.mark.parametrize("body", ["", "specs: []\n"], ids=["neither spec nor specs", "specs without one"])
def test_a_policy_needs_a_spec(body: str) -> None:
    with pytest.raises(Invalid, match="needs a spec, or specs"):
        declared("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n" + body)


def test_what_the_operator_writes_in_status_is_not_read() -> None:
    text = manifest(INGRESS_FOO, "CiliumNetworkPolicy") + "status: {conditions: [{type: Valid, whatever: 1}]}\n"
    assert isinstance(declared(text), Policy)


# Names and labels


def test_the_derived_labels_say_where_the_policy_comes_from() -> None:
    assert policy(INGRESS_FOO).labels == (
        "k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy",
        "k8s:io.cilium.k8s.policy.name=p",
        "k8s:io.cilium.k8s.policy.namespace=default",
    )


def test_labels_of_the_rule_and_the_uid_stand_beside_them() -> None:
    found = declared(
        """
        apiVersion: cilium.io/v2
        kind: CiliumClusterwideNetworkPolicy
        metadata: {name: p, uid: 4e1f}
        specs:
        - endpointSelector: {}
          ingress: [{}]
          labels: [{key: team, value: a, source: k8s}, {key: plain}]
        - endpointSelector: {}
          egress: [{}]
          labels: [{key: team, value: a, source: k8s}]
        """
    )
    assert isinstance(found, Policy)
    assert found.labels == (
        "k8s:io.cilium.k8s.policy.derived-from=CiliumClusterwideNetworkPolicy",
        "k8s:io.cilium.k8s.policy.name=p",
        "k8s:io.cilium.k8s.policy.uid=4e1f",
        "k8s:team=a",
        "unspec:plain",
    )


def test_log_value_and_description_are_taken() -> None:
    assert (
        spec_of(INGRESS_FOO + "\nlog: {value: team-a ingress}\ndescription: who may call s").log == "team-a ingress"
    )
    assert spec_of(INGRESS_FOO + "\nlog: {}").log == ""


@pytest.mark.parametrize("kind", ["MeshNetworkPolicy", "ClusterMeshNetworkPolicy"])
def test_wefts_own_kinds_have_the_same_schema_and_keep_their_name(kind: str) -> None:
    cilium = {
        "MeshNetworkPolicy": "CiliumNetworkPolicy",
        "ClusterMeshNetworkPolicy": "CiliumClusterwideNetworkPolicy",
    }[kind]
    ours, theirs = policy(INGRESS_FOO, kind), policy(INGRESS_FOO, cilium)
    assert ours.ref == ObjectRef(kind, "default" if kind == "MeshNetworkPolicy" else "", "p")
    assert ours.specs[0].subject == theirs.specs[0].subject
    assert ours.specs[0].rules[0].peers == theirs.specs[0].rules[0].peers
    assert ours.labels[0] == f"k8s:io.cilium.k8s.policy.derived-from={kind}"


def test_the_namespace_comes_from_the_metadata_or_from_the_caller() -> None:
    assert policy(INGRESS_FOO).ref.namespace == "default"
    text = manifest(INGRESS_FOO, "CiliumNetworkPolicy").replace("{name: p}", "{name: p, namespace: shop}")
    found = declared(text)
    assert isinstance(found, Policy) and found.ref == ObjectRef("CiliumNetworkPolicy", "shop", "p")
    assert found.specs[0].subject.matches(Labels.k8s({NAMESPACE_KEY: "shop"}))


# What is refused

BODY = "endpointSelector: {}\n"
REFUSED = {
    "E4 no section": (BODY, "spec", "at least one entry in ingress"),
    "E4 an empty section": (BODY + "ingress: []", "spec", "at least one entry"),
    "E4 four empty sections": (
        BODY + "ingress: []\ningressDeny: []\negress: []\negressDeny: []",
        "spec",
        "at least one entry",
    ),
    "S12 neither selector": ("ingress: [{}]", "spec", "needs an endpointSelector"),
    "S12 both selectors": (
        "endpointSelector: {}\nnodeSelector: {}\ningress: [{}]",
        "spec.nodeSelector",
        "exclude each other",
    ),
    "S12 a nodeSelector in a namespaced policy": (
        "nodeSelector: {}\ningress: [{}]",
        "spec.nodeSelector",
        "for clusterwide policies",
    ),
    "an unknown field of the spec": (BODY + "ingres: [{}]", "spec.ingres", "unknown field"),
    "a field in wrong case names the right one": (
        BODY + "Ingress: [{}]",
        "spec.Ingress",
        "did you mean ingress?",
    ),
    "an unknown field of an entry": (
        BODY + "ingress: [{fromEndpoint: []}]",
        "spec.ingress[0].fromEndpoint",
        "unknown field",
    ),
    "a field of the other direction": (
        BODY + "ingress: [{toEndpoints: []}]",
        "spec.ingress[0].toEndpoints",
        "unknown field",
    ),
    "authentication in a deny": (
        BODY + "ingressDeny: [{authentication: {mode: disabled}}]",
        "spec.ingressDeny[0].authentication",
        "unknown field",
    ),
    "toFQDNs in a deny": (BODY + "egressDeny: [{toFQDNs: []}]", "spec.egressDeny[0].toFQDNs", "unknown field"),
    "toFQDNs on ingress": (BODY + "ingress: [{toFQDNs: []}]", "spec.ingress[0].toFQDNs", "unknown field"),
    "toServices on ingress": (BODY + "ingress: [{toServices: []}]", "spec.ingress[0].toServices", "unknown field"),
    "an authentication without mode": (
        BODY + "ingress: [{authentication: {}}]",
        "spec.ingress[0].authentication.mode",
        "is missing",
    ),
    "an unknown mode of authentication": (
        BODY + "ingress: [{authentication: {mode: on-demand}}]",
        "spec.ingress[0].authentication.mode",
        "is not one of",
    ),
    "null for a section": (BODY + "ingress:", "spec.ingress", "is null: leave the field out"),
    "null for an entry": (BODY + "ingress: [null]", "spec.ingress[0]", "must be a mapping, is null"),
    "a mapping for a section": (BODY + "ingress: {}", "spec.ingress", "must be a list, is a mapping"),
    "a string for an entry": (BODY + "ingress: [all]", "spec.ingress[0]", "must be a mapping, is a string"),
    "a string for a switch": (
        BODY + 'ingress: [{}]\nenableDefaultDeny: {ingress: "false"}',
        "spec.enableDefaultDeny.ingress",
        "must be true or false, is a string",
    ),
    "null for a switch": (
        BODY + "ingress: [{}]\nenableDefaultDeny: {ingress: }",
        "spec.enableDefaultDeny.ingress",
        "is null",
    ),
    "an unknown switch": (
        BODY + "ingress: [{}]\nenableDefaultDeny: {inbound: false}",
        "spec.enableDefaultDeny.inbound",
        "unknown field",
    ),
    "a log value of 33 characters": (
        BODY + f"ingress: [{{}}]\nlog: {{value: {'x' * 33}}}",
        "spec.log.value",
        "longer",
    ),
    "a log value with a newline": (BODY + 'ingress: [{}]\nlog: {value: "a\\nb"}', "spec.log.value", "printed"),
    "a log value that is a number": (BODY + "ingress: [{}]\nlog: {value: 5}", "spec.log.value", "put it in quotes"),
    "a label without a key": (BODY + "ingress: [{}]\nlabels: [{value: a}]", "spec.labels[0].key", "is missing"),
    "a description that is a list": (
        BODY + "ingress: [{}]\ndescription: []",
        "spec.description",
        "must be a string",
    ),
}


@pytest.mark.parametrize(("spec", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(spec: str, path: str, reason: str) -> None:
    error = refusal(spec)
    assert error.where.path == path
    assert reason in error.reason
    assert not error.not_enforced
    assert (error.where.file, error.where.object) == ("manifest.yaml", "CiliumNetworkPolicy default/p")


def test_an_error_has_the_line_of_the_field() -> None:
    error = refusal("endpointSelector: {}\ningress:\n- {}\n- fromEntities:\n  - host\n  - hsot\n")
    start = "manifest.yaml:10: CiliumNetworkPolicy default/p: spec.ingress[1].fromEntities[1]: "
    assert str(error).startswith(start + 'unsupported entity "hsot"')


# Read, but not enforced

NOT_ENFORCED = {
    "toFQDNs": (
        "CiliumNetworkPolicy",
        BODY + "egress: [{toFQDNs: [{matchName: a.com}]}]",
        "spec.egress[0].toFQDNs[0]",
    ),
    "authentication required": (
        "CiliumNetworkPolicy",
        BODY + "ingress: [{fromEntities: [all], authentication: {mode: required}}]",
        "spec.ingress[0].authentication.mode",
    ),
    "authentication that always fails": (
        "CiliumNetworkPolicy",
        BODY + "egress: [{toEntities: [all], authentication: {mode: test-always-fail}}]",
        "spec.egress[0].authentication.mode",
    ),
    "nodeSelector": (
        "CiliumClusterwideNetworkPolicy",
        "nodeSelector: {matchLabels: {role: edge}}\ningress: [{}]",
        "spec.nodeSelector",
    ),
    "fromNodes": (
        "CiliumNetworkPolicy",
        BODY + "ingress: [{fromNodes: [{matchLabels: {role: edge}}]}]",
        "spec.ingress[0].fromNodes[0]",
    ),
    "toNodes": ("CiliumNetworkPolicy", BODY + "egress: [{toNodes: [{}]}]", "spec.egress[0].toNodes[0]"),
    "fromGroups": (
        "CiliumNetworkPolicy",
        BODY + "ingress: [{fromGroups: [{aws: {securityGroupsIds: [sg-1], region: x}}]}]",
        "spec.ingress[0].fromGroups[0]",
    ),
    "toGroups in a deny": (
        "CiliumNetworkPolicy",
        BODY + "egressDeny: [{toGroups: [{aws: {labels: {a: b}}}]}]",
        "spec.egressDeny[0].toGroups[0]",
    ),
}


@pytest.mark.parametrize(("kind", "spec", "path"), NOT_ENFORCED.values(), ids=NOT_ENFORCED)
def test_is_not_enforced_yet_and_refuses_the_whole_policy(kind: str, spec: str, path: str) -> None:
    error = refusal(spec, kind)
    assert error.not_enforced
    assert error.where.path == path
    assert "not enforced yet, so the whole policy is refused" in error.reason


def test_what_is_wrong_is_told_before_what_is_not_enforced() -> None:
    error = refusal(BODY + "egress: [{toFQDNs: [{matchName: a.com}]}, {toEntities: [nowhere]}]")
    assert not error.not_enforced
    assert error.where.path == "spec.egress[1].toEntities[0]"


def test_several_things_not_enforced_are_counted() -> None:
    error = refusal(BODY + "egress: [{toFQDNs: [{matchName: a.com}, {matchName: b.com}]}]")
    assert "toFQDNs: not enforced yet" in error.reason and "(and 1 more of the kind)" in error.reason
