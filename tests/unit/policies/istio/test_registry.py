"""Which of Istio's kinds are read, under which versions, and what becomes of the others."""

from __future__ import annotations

import pytest

from declared import declared
from istio_manifests import ROUTE, refusal
from weft.policies.mesh.model import DestinationPolicy, Route, ServiceEntry, Telemetry, WorkloadEntry

NETWORKING = ("v1", "v1beta1", "v1alpha3")
SPECS = {
    "VirtualService": (f"{{hosts: [a], http: [{{{ROUTE}}}]}}", Route),
    "DestinationRule": ("{host: a}", DestinationPolicy),
    "ServiceEntry": ("{hosts: [a.com]}", ServiceEntry),
    "WorkloadEntry": ("{address: 10.0.0.1}", WorkloadEntry),
}
READ = [
    *((f"networking.istio.io/{version}", kind) for version in NETWORKING for kind in SPECS),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("telemetry.istio.io/v1alpha1", "Telemetry"),
]


def text_of(version: str, kind: str, spec: str = "{}") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n"


@pytest.mark.parametrize(("version", "kind"), READ)
def test_every_version_is_read_the_same(version: str, kind: str) -> None:
    spec, expected = SPECS.get(kind, ("{}", Telemetry))
    assert isinstance(declared(text_of(version, kind, spec)), expected)


@pytest.mark.parametrize(
    ("version", "kind"), [("networking.istio.io/v2", "VirtualService"), ("telemetry.istio.io/v2", "Telemetry")]
)
def test_an_unknown_version_is_refused(version: str, kind: str) -> None:
    error = refusal(text_of(version, kind))
    assert error.where.path == "apiVersion"
    assert f"{kind} is read as" in error.reason


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"])
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_what_guards_is_refused_as_not_enforced_yet(version: str, kind: str) -> None:
    error = refusal(text_of(f"security.istio.io/{version}", kind))
    assert error.not_enforced
    assert error.where.object == f"{kind} shop/x"


UNSUPPORTED = {
    "Gateway": "between workloads",
    "Sidecar": "there are no sidecars",
    "EnvoyFilter": "there is no Envoy",
    "ProxyConfig": "there are no sidecars",
    "WorkloadGroup": "by a WorkloadEntry",
    "VirtualServices": "is not supported",
}


@pytest.mark.parametrize(("kind", "reason"), UNSUPPORTED.items())
def test_what_is_not_served_is_refused_with_what_to_do(kind: str, reason: str) -> None:
    error = refusal(text_of("networking.istio.io/v1alpha3", kind))
    assert reason in error.reason and not error.not_enforced


def test_plugins_are_refused_too() -> None:
    assert "runs no plugins" in refusal(text_of("extensions.istio.io/v1alpha1", "WasmPlugin")).reason


def test_a_gateway_of_the_gateway_api_is_another_thing() -> None:
    assert declared(text_of("gateway.networking.k8s.io/v1", "Gateway")) is None


@pytest.mark.parametrize("version", ["networking.istio.io/v1", "telemetry.istio.io/v1"])
def test_a_kind_of_another_group_is_not_taken_for_istios(version: str) -> None:
    assert "is not supported" in refusal(text_of(version, "NetworkPolicy")).reason
