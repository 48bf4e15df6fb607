"""Policies and objects as people write them, for tests of the dialects: a spec in YAML, the manifest around it."""

from __future__ import annotations

import textwrap

from weft.policies.dialects.registry import Parsed, parse
from weft.policies.errors import Invalid
from weft.policies.model import Policy, Rule, Spec
from weft.policies.yamldoc import documents

VERSIONS = {
    "CiliumNetworkPolicy": "cilium.io/v2",
    "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
    "MeshNetworkPolicy": "weft.dev/v1alpha1",
    "ClusterMeshNetworkPolicy": "weft.dev/v1alpha1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def declared(text: str) -> Parsed | None:
    """The one object that a text declares."""
    (document,) = documents(textwrap.dedent(text), "manifest.yaml")
    return parse(document)


def manifest(spec: str, kind: str) -> str:
    body = textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ")
    return f"apiVersion: {VERSIONS[kind]}\nkind: {kind}\nmetadata: {{name: p}}\nspec:\n{body}\n"


def policy(spec: str, kind: str = "CiliumNetworkPolicy") -> Policy:
    found = declared(manifest(spec, kind))
    assert isinstance(found, Policy)
    return found


def spec_of(spec: str, kind: str = "CiliumNetworkPolicy") -> Spec:
    (found,) = policy(spec, kind).specs
    return found


def rule_of(entry: str, section: str = "ingress", kind: str = "CiliumNetworkPolicy") -> Rule:
    """The one rule that an entry (YAML in flow style) makes."""
    (rule,) = spec_of(f"endpointSelector: {{}}\n{section}: [{entry}]", kind).rules
    return rule


def refusal(spec: str, kind: str = "CiliumNetworkPolicy") -> Invalid:
    """Why a spec is refused."""
    try:
        found = policy(spec, kind)
    except Invalid as error:
        return error
    raise AssertionError(f"was accepted: {found}")
