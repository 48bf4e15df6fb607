"""Istio's resources as people write them, for tests of the dialect: a spec, or a piece of one, in YAML."""

from __future__ import annotations

import textwrap
from typing import TypeVar

from declared import declared
from weft.policies.errors import Invalid
from weft.policies.mesh.model import (
    DestinationPolicy,
    LeveledPolicy,
    MeshSettings,
    Route,
    Rule,
    ServiceEntry,
    Telemetry,
    WorkloadEntry,
)

T = TypeVar("T")

VERSIONS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1beta1",
    "ServiceEntry": "networking.istio.io/v1alpha3",
    "WorkloadEntry": "networking.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
}
ROUTE = "route: [{destination: {host: b}}]"
_ACTIONS = ("route:", "redirect:", "directResponse:", "delegate:")


def istio(kind: str, spec: str, namespace: str = "shop") -> str:
    body = textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ")
    metadata = f"{{name: x, namespace: {namespace}}}"
    return f"apiVersion: {VERSIONS[kind]}\nkind: {kind}\nmetadata: {metadata}\nspec:\n{body}\n"


def parsed(wanted: type[T], kind: str, spec: str) -> T:
    found = declared(istio(kind, spec))
    assert isinstance(found, wanted)
    return found


def route(spec: str) -> Route:
    return parsed(Route, "VirtualService", spec)


def with_rule(text: str) -> str:
    """A spec with one rule of `http`, which gets a route unless it says what to do."""
    lines = textwrap.dedent(text).strip("\n")
    if not any(line.startswith(_ACTIONS) for line in lines.splitlines()):
        lines += "\n" + ROUTE
    return "hosts: [a]\nhttp:\n- " + textwrap.indent(lines, "  ").lstrip()


def rule(text: str) -> Rule:
    (found,) = route(with_rule(text)).http
    return found


def destination_rule(spec: str) -> DestinationPolicy:
    return parsed(DestinationPolicy, "DestinationRule", spec)


def traffic_policy(text: str) -> LeveledPolicy:
    return destination_rule(with_policy(text)).policy


def with_policy(text: str) -> str:
    return "host: a\ntrafficPolicy:\n" + textwrap.indent(textwrap.dedent(text).strip("\n"), "  ")


def service_entry(spec: str) -> ServiceEntry:
    return parsed(ServiceEntry, "ServiceEntry", spec)


def workload_entry(spec: str) -> WorkloadEntry:
    return parsed(WorkloadEntry, "WorkloadEntry", spec)


def telemetry(spec: str) -> Telemetry:
    return parsed(Telemetry, "Telemetry", spec)


def config_map(text: str, name: str = "istio", namespace: str = "istio-system") -> str:
    body = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    head = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  mesh: |\n"
    )
    return head + (body or "    {}") + "\n"


def mesh_settings(text: str) -> MeshSettings:
    found = declared(config_map(text))
    assert isinstance(found, MeshSettings)
    return found


def refusal(text: str) -> Invalid:
    """Why a manifest is refused."""
    try:
        found = declared(text)
    except Invalid as error:
        return error
    raise AssertionError(f"was accepted: {found}")


def reaching(value: object, path: str) -> object:
    """`http.0.timeout` of a value."""
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() and isinstance(value, tuple) else getattr(value, step)
    return value
