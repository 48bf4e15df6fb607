"""The environment of a container: plain values, fields of the pod, ConfigMaps and Secrets. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weft.daemon.local.reader import Reader

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.][A-Za-z0-9_.-]*)\)")
_KINDS_OF_REF = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a pod only once it is placed; fieldRefs are answered from it. `sources` answers with the
    data of a ConfigMap or Secret of the pod's namespace, by kind and name; None where there is none."""

    node: str = ""
    node_ip: str = ""
    ips: tuple[str, ...] = ()
    sources: Callable[[str, str], Mapping[str, str] | None] = lambda _kind, _name: None


class NotYet(Exception):
    """A ConfigMap, Secret or key that a container's environment names is not there; it may come."""


def environment(reader: Reader, value: Mapping[str, Any], path: str, facts: Facts) -> tuple[tuple[str, str], ...]:
    env: dict[str, str] = {}
    for at, each in reader.mappings(value.get("envFrom"), f"{path}.envFrom"):
        data = _data(reader, each, "configMapRef", "secretRef", at, facts)
        env |= {f"{each.get('prefix') or ''}{key}": text for key, text in data.items()}
    for at, each in reader.mappings(value.get("env"), f"{path}.env"):
        name = each.get("name")
        if not isinstance(name, str) or not name or "=" in name:
            raise reader.refuse(f"{at}.name", "expected the name of a variable")
        if each.get("valueFrom") is not None:
            known = _value_from(reader, each["valueFrom"], f"{at}.valueFrom", facts)
            env |= {} if known is None else {name: known}
        else:
            plain = each.get("value")
            if not isinstance(plain if plain is not None else "", str):
                raise reader.refuse(f"{at}.value", "expected a string: quote it")
            env[name] = expand(plain or "", env)
    return tuple(env.items())


def _value_from(reader: Reader, source: Any, path: str, facts: Facts) -> str | None:
    """None: an optional key that is not there, and the variable neither."""
    if not isinstance(source, dict):
        raise reader.refuse(path, "expected a mapping")
    for field_name in ("configMapKeyRef", "secretKeyRef"):
        if field_name in source:
            ref = source[field_name] if isinstance(source[field_name], dict) else {}
            data, key = _data(reader, source, "configMapKeyRef", "secretKeyRef", path, facts), ref.get("key")
            if not isinstance(key, str) or not key:
                raise reader.refuse(f"{path}.{field_name}.key", "expected the name of a key")
            if key not in data and ref.get("optional") is not True:
                raise NotYet(f"{_KINDS_OF_REF[field_name]} {ref['name']} has no key {key}")
            return data.get(key)
    return _field(reader, source, path, facts)


def _data(
    reader: Reader, source: Mapping[str, Any], config: str, secret: str, path: str, facts: Facts
) -> Mapping[str, str]:
    """Of the ConfigMap or Secret that `source` names; {} if it is optional and not there."""
    name = config if config in source else secret
    ref = source.get(name)
    if not isinstance(ref, dict) or not isinstance(ref.get("name"), str):
        raise reader.refuse(path, f"expected {config} or {secret}, with a name")
    kind = _KINDS_OF_REF[name]
    data = facts.sources(kind, ref["name"])
    if data is None and ref.get("optional") is not True:
        namespace = reader.metadata.get("namespace", "default")
        raise NotYet(f"there is no {kind} {namespace}/{ref['name']}")
    return data or {}


def source_data(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The strings of a ConfigMap or Secret; what is no text, or not well encoded, is left out."""
    plain = manifest.get("stringData") if manifest.get("kind") == "Secret" else manifest.get("data")
    found = {str(key): str(text) for key, text in (plain if isinstance(plain, dict) else {}).items()}
    if manifest.get("kind") == "Secret" and isinstance(manifest.get("data"), dict):
        found = {key: text for key, text in map(_decoded, manifest["data"].items()) if text is not None} | found
    return found


def _decoded(item: tuple[str, Any]) -> tuple[str, str | None]:
    try:
        return item[0], base64.b64decode(str(item[1]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return item[0], None


def _field(reader: Reader, source: Mapping[str, Any], path: str, facts: Facts) -> str:
    wanted = (source.get("fieldRef") or {}).get("fieldPath") if isinstance(source.get("fieldRef"), dict) else None
    if isinstance(source.get("resourceFieldRef"), dict):
        reader.warnings.append(f"{path}.resourceFieldRef is 0: a local cluster sets no limits")
        return "0"
    metadata = reader.metadata
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", "default"),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": reader.spec.get("serviceAccountName") or "default",
        "status.podIP": facts.ips[0] if facts.ips else "",
        "status.podIPs": ",".join(facts.ips),
        "status.hostIP": facts.node_ip,
    }
    if wanted in fields:
        return str(fields[wanted])
    if named := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", str(wanted)):
        return str((metadata.get(named[1]) or {}).get(named[2], ""))
    known = "configMapKeyRef, secretKeyRef, fieldRef of " + ", ".join(fields) + ", labels and annotations"
    raise reader.refuse(path, f"a local cluster knows {known}")


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) becomes its value, `$$` one `$`; what is not known stays as it is, as Kubernetes has it."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return _REFERENCE.sub(one, text)
