"""What a local cluster does not do with what was declared, in a line for each object. Pure.

Nothing here is an error: people bring the manifests they have. But nobody should wait for a node port that no one
serves, or wonder where the Ingress is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.policies import workloads
from weft.policies.dialects import registry
from weft.policies.model import ObjectRef

SOURCES = ("ConfigMap", "Secret")  # the environment of containers may come from them
#: Read by nobody, and nobody misses anything: a service account is a name in a pod, a quota is not needed.
SILENT = frozenset({"ServiceAccount", "PodDisruptionBudget", "LimitRange", "ResourceQuota", "PriorityClass"})
KNOWN = frozenset({*registry.KINDS, *workloads.KINDS, *SOURCES}) | SILENT


def notes(objects: Mapping[ObjectRef, Mapping[str, Any]]) -> dict[str, str]:
    """By object, "Kind ns/name"."""
    found = {str(ref): note(ref, manifest) for ref, manifest in sorted(objects.items())}
    return {name: text for name, text in found.items() if text}


def note(ref: ObjectRef, manifest: Mapping[str, Any]) -> str:
    if ref.kind == "Service":
        spec = manifest.get("spec")
        return "; ".join(_service(spec)) if isinstance(spec, dict) else ""
    return "" if ref.kind in KNOWN else "ignored: Weft does nothing with this kind"


def _service(spec: Mapping[str, Any]) -> list[str]:
    kind, said = spec.get("type"), []
    if kind in ("NodePort", "LoadBalancer"):
        said.append(f"{kind}: node ports are not served yet; its name and cluster address are, in pods")
    if kind == "ExternalName":
        said.append("ExternalName: names outside the cluster are not resolved")
    if spec.get("externalIPs"):
        said.append("externalIPs are not served yet")
    if spec.get("sessionAffinity") == "ClientIP":
        said.append("sessionAffinity is not kept yet: each connection chooses a backend anew")
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(field) == "Local":
            said.append(f"{field}: Local is not kept yet: backends of all nodes are chosen")
    return said
