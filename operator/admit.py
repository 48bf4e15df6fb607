"""The border: a document becomes an object that may enter the store, or `Invalid` says why not.

What enters is JSON and text throughout (no NaN, no half surrogates), has a kind and a name, and what it means has
passed `policies`. Kinds that are not the mesh's (Deployments, ConfigMaps) are kept: others watch them here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.operator.store import canonical
from weft.policies.dialects import registry
from weft.policies.errors import Invalid, Where
from weft.policies.model import ObjectRef
from weft.policies.yamldoc import Document

#: Of one object: etcd takes 1.5 MiB.
MAX_OBJECT = 2 << 20


@dataclass(frozen=True, slots=True)
class Admitted:
    """`manifest` is what is declared, `meaning` what `policies` makes of it (None: nothing)."""

    ref: ObjectRef
    manifest: Mapping[str, Any]
    meaning: registry.Parsed | None
    warnings: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


def admit(document: Document, default_namespace: str) -> Admitted:
    """Raises Invalid. The manifest of a namespaced object names its namespace afterwards."""
    ref = registry.ref_of(document, default_namespace)
    try:
        text = canonical(document.value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(Where(document.file, document.line, str(ref)), f"is not plain JSON: {error}") from None
    if len(text) > MAX_OBJECT:
        raise Invalid(Where(document.file, document.line, str(ref)), f"larger than {MAX_OBJECT >> 20} MiB")
    meaning = registry.parse(document, default_namespace)
    manifest = _named(document.value, ref)
    warnings: tuple[str, ...] = getattr(meaning, "warnings", ())
    return Admitted(ref, manifest, meaning, warnings, document.file, document.line)


def document_of(text: str, file: str = "", line: int = 0) -> Document:
    """From JSON. Raises Invalid."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(Where(file, line), f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid(Where(file, line), "must be an object")
    return Document(value, file, line)


def meaning_of(text: str) -> registry.Parsed | None:
    """Of an object from the store. Raises Invalid."""
    return registry.parse(document_of(text))


def carried_over(before: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """`declared` with what others have added to the object and it is silent about, as an API server keeps it: the
    status, the node of a Pod, the addresses and node ports of a Service."""
    merged = dict(declared)
    if "status" in before and "status" not in declared:
        merged["status"] = before["status"]
    spec, held = declared.get("spec"), before.get("spec")
    if isinstance(spec, dict) and isinstance(held, dict):
        if declared.get("kind") == "Pod":
            merged["spec"] = _with(spec, held, "nodeName")
        elif declared.get("kind") == "Service":
            addressed = "clusterIP" in spec or "clusterIPs" in spec
            merged["spec"] = spec if addressed else _with(spec, held, "clusterIP", "clusterIPs", "ipFamilies")
            if "ports" in spec:
                merged["spec"] = {**merged["spec"], "ports": _with_node_ports(spec["ports"], held.get("ports"))}
    return merged


def _with(spec: dict[str, Any], held: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {**{key: held[key] for key in keys if key in held}, **spec}


def _with_node_ports(ports: Any, held: Any) -> Any:
    """A port keeps its node port as long as its number and protocol stay."""
    if not isinstance(ports, list) or not isinstance(held, list):
        return ports
    given = {_port_key(port): port["nodePort"] for port in held if isinstance(port, dict) and "nodePort" in port}
    return [
        {"nodePort": given[_port_key(port)], **port}
        if isinstance(port, dict) and _port_key(port) in given
        else port
        for port in ports
    ]


def _port_key(port: dict[str, Any]) -> str:
    return f"{port.get('protocol') or 'TCP'}/{port.get('port')}"


def _named(value: Mapping[str, Any], ref: ObjectRef) -> Mapping[str, Any]:
    metadata = value.get("metadata")
    if not ref.namespace or not isinstance(metadata, dict) or metadata.get("namespace"):
        return value
    return {**value, "metadata": {**metadata, "namespace": ref.namespace}}
