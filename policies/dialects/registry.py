"""Which kinds Weft reads, and by which module. The only door from documents to the model.

What another kind means is not Weft's business: `parse` answers None and the caller may count it. But nothing that
looks like a network policy is let pass unread: a policy kind under an apiVersion Weft does not know is refused, and
so are the policy APIs that it does not enforce.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from weft.policies import objects
from weft.policies.dialects import cilium, cluster, gateway_api, kubernetes, metadata, smi
from weft.policies.dialects.fields import Field, shown
from weft.policies.dialects.istio.destination_rule import parse_destination_rule
from weft.policies.dialects.istio.mesh_config import parse_config_map
from weft.policies.dialects.istio.service_entry import parse_service_entry, parse_workload_entry
from weft.policies.dialects.istio.telemetry import parse_telemetry
from weft.policies.dialects.istio.virtual_service import parse_virtual_service
from weft.policies.mesh import model as mesh
from weft.policies.model import ObjectRef, Policy
from weft.policies.yamldoc import Document

Parsed = Policy | objects.Object | mesh.Declared


@dataclass(frozen=True, slots=True)
class Kind:
    """`versions`: the apiVersions it is read under. `parse` gets the document's root and its checked name; None: it
    is one that Weft has no use for, by its name (ConfigMaps)."""

    name: str
    versions: tuple[str, ...]
    namespaced: bool
    parse: Callable[[Field, ObjectRef], Parsed | None]


_CILIUM = ("cilium.io/v2",)
_WEFT = ("weft.dev/v1alpha1",)
_ISTIO = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
_TELEMETRY = ("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1")

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("CiliumNetworkPolicy", _CILIUM, True, cilium.parse_policy),
        Kind("CiliumClusterwideNetworkPolicy", _CILIUM, False, cilium.parse_policy),
        Kind("MeshNetworkPolicy", _WEFT, True, cilium.parse_policy),
        Kind("ClusterMeshNetworkPolicy", _WEFT, False, cilium.parse_policy),
        Kind("CiliumCIDRGroup", ("cilium.io/v2", "cilium.io/v2alpha1"), False, cilium.parse_cidr_group),
        Kind("NetworkPolicy", ("networking.k8s.io/v1",), True, kubernetes.parse_policy),
        Kind("Namespace", ("v1",), False, cluster.parse_namespace),
        Kind("Pod", ("v1",), True, cluster.parse_pod),
        Kind("Service", ("v1",), True, cluster.parse_service),
        Kind("EndpointSlice", ("discovery.k8s.io/v1",), True, cluster.parse_endpoint_slice),
        Kind("Node", ("v1",), False, cluster.parse_node),
        Kind("VirtualService", _ISTIO, True, parse_virtual_service),
        Kind("DestinationRule", _ISTIO, True, parse_destination_rule),
        Kind("ServiceEntry", _ISTIO, True, parse_service_entry),
        Kind("WorkloadEntry", _ISTIO, True, parse_workload_entry),
        Kind("Telemetry", _TELEMETRY, True, parse_telemetry),
        Kind("ConfigMap", ("v1",), True, parse_config_map),
        Kind("HTTPRoute", gateway_api.VERSIONS, True, gateway_api.parse_http_route),
        Kind("GRPCRoute", gateway_api.VERSIONS, True, gateway_api.parse_grpc_route),
        Kind("ReferenceGrant", gateway_api.VERSIONS, True, gateway_api.parse_grant),
        Kind("TrafficSplit", smi.SPLIT_VERSIONS, True, smi.parse_split),
        Kind("HTTPRouteGroup", smi.SPECS_VERSIONS, True, smi.parse_group),
    )
}

#: API groups whose kinds above are meant, whatever version is written: a version that is not known is an error.
#: (Calico and Knative have a NetworkPolicy and a Service too, in groups of their own.)
_OLD_GROUPS = {"NetworkPolicy": ("extensions",)}
#: Groups of policies that would be silently without effect.
_NOT_ENFORCED_GROUPS = ("policy.networking.k8s.io", "security.istio.io")
#: Groups whose other kinds are refused: people would wait for what they say.
_NOT_SUPPORTED_GROUPS = ("networking.istio.io", "telemetry.istio.io", "extensions.istio.io")
_INSTEAD = {
    "Gateway": "Weft has no gateways, it is between workloads",
    "Sidecar": "there are no sidecars: every host can be routed to, and network policy says what may be reached",
    "EnvoyFilter": "there is no Envoy to be configured",
    "ProxyConfig": "there are no sidecars to be configured",
    "WorkloadGroup": "declare each workload by a WorkloadEntry",
    "WasmPlugin": "the proxy runs no plugins",
}
#: Kinds without a namespace that are met in manifests, beside those in KINDS.
_CLUSTER_SCOPED = ("PersistentVolume", "StorageClass", "ClusterRole", "ClusterRoleBinding", "IngressClass")


def parse(document: Document, default_namespace: str = "default") -> Parsed | None:
    """The policy or object that a document declares; None for a kind that is not Weft's.

    Raises `Invalid` for what is wrong, and with `not_enforced` for what is right but not enforced yet.
    """
    name, version = _kind_and_version(document)
    kind = KINDS.get(name)
    if kind is None or version not in kind.versions:
        _refuse_lookalike(document, name, version, kind)
        return None
    ref = _ref(document, name, default_namespace)
    root = Field(document, str(ref))
    found = kind.parse(root, ref)
    if isinstance(found, mesh.Model):
        _check_travels(root, found)
    return found


def _check_travels(root: Field, found: mesh.Model) -> None:
    """Routing goes to the nodes as it is: text must be text throughout. (JSON can spell half a character.)"""
    try:
        msgspec.msgpack.encode(found)
    except UnicodeEncodeError:
        raise root.invalid("has half of a surrogate pair in a text") from None


def ref_of(document: Document, default_namespace: str = "default") -> ObjectRef:
    """Kind, namespace and name, of any kind of document; `Invalid` if they are missing or ill-formed."""
    name, _ = _kind_and_version(document)
    return _ref(document, name, default_namespace)


def _kind_and_version(document: Document) -> tuple[str, str]:
    root = Field(document, _best_name(document))
    return root.need("kind").text(), root.need("apiVersion").text()


def _ref(document: Document, name: str, default_namespace: str) -> ObjectRef:
    kind = KINDS.get(name)
    namespaced = kind.namespaced if kind is not None else name not in _CLUSTER_SCOPED
    return metadata.ref_of(Field(document, _best_name(document)), name, namespaced, default_namespace)


def _best_name(document: Document) -> str:
    """What an error calls a document whose name is not known to be right yet."""
    found = document.value.get("metadata")
    named = found if isinstance(found, dict) else {}
    parts = [part for part in (named.get("namespace"), named.get("name")) if isinstance(part, str) and part]
    kind = document.value.get("kind")
    words = [kind if isinstance(kind, str) else "", "/".join(parts)]
    return " ".join(word[:200] for word in words if word)


def _refuse_lookalike(document: Document, name: str, version: str, kind: Kind | None) -> None:
    root = Field(document, _best_name(document))
    field = root.need("apiVersion")
    group = version.rpartition("/")[0]
    if group in _NOT_ENFORCED_GROUPS:
        raise root.need("kind").invalid(f"{name} of {group} is not enforced yet", not_enforced=True)
    if group in _NOT_SUPPORTED_GROUPS and (kind is None or group not in _groups(kind)):
        instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise root.need("kind").invalid(f"{name} of {group} is not supported{instead}")
    if kind is None:
        if version in _WEFT or group == "weft.dev":
            raise root.need("kind").invalid(f"{version} has no kind {shown(name)}")
        return
    groups = _groups(kind) | set(_OLD_GROUPS.get(name, ()))
    own = name.startswith(("Cilium", "Mesh", "ClusterMesh"))
    if own or group in groups:
        raise field.invalid(f"{shown(version)}: {name} is read as {' or '.join(kind.versions)}")


def _groups(kind: Kind) -> set[str]:
    return {each.rpartition("/")[0] for each in kind.versions}
