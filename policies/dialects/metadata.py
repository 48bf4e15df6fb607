"""Names and labels of objects: checked once, here, because they become map keys, paths and netns names later.

Reads `metadata` the way the API server does: null is the same as left out, fields not named here are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from weft.policies.dialects.fields import Field, shown
from weft.policies.model import ObjectRef

#: RFC 1123, as Kubernetes applies it to names: a label of at most 63, a subdomain of at most 253 characters.
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_DNS_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z"
)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")

#: Kinds whose names are parts of DNS names or hostnames themselves.
_LABEL_NAMED = ("Namespace", "Service")


def ref_of(root: Field, kind: str, namespaced: bool, default_namespace: str) -> ObjectRef:
    metadata = root.need("metadata")
    name = metadata.need("name")
    check_name(name, dns_label=kind in _LABEL_NAMED)
    given = metadata.lax("namespace")
    if not namespaced:
        if given is not None:
            given.string()  # and dropped, as the API server drops it
        return ObjectRef(kind, "", name.string())
    if given is None or not given.string():
        return ObjectRef(kind, default_namespace, name.string())
    check_name(given, dns_label=True)
    return ObjectRef(kind, given.string(), name.string())


def labels_of(root: Field) -> dict[str, str]:
    metadata = root.lax("metadata")
    labels = metadata.lax("labels") if metadata else None
    return checked_labels(labels) if labels else {}


def annotations_of(root: Field) -> Mapping[str, str]:
    metadata = root.lax("metadata")
    annotations = metadata.lax("annotations") if metadata else None
    return annotations.strings() if annotations else {}


def checked_labels(field: Field) -> dict[str, str]:
    """A mapping of label keys to label values, as objects carry them."""
    found = {}
    for key, value in field.entries():
        check_label_key(value, key)
        found[key] = check_label_value(value)
    return found


def check_name(field: Field, *, dns_label: bool = False) -> str:
    text = field.text()
    if not (_DNS_LABEL if dns_label else _DNS_SUBDOMAIN).match(text):
        what = "63 characters a-z, 0-9 and '-'" if dns_label else "253 characters a-z, 0-9, '-' and '.'"
        raise field.invalid(f"{shown(text)} is no name: at most {what}, first and last a letter or digit")
    return text


def check_label_key(field: Field, key: str) -> None:
    """`prefix/name` or `name`; the error is told at `field`."""
    prefix, slash, name = key.rpartition("/")
    if (slash and not _DNS_SUBDOMAIN.match(prefix)) or not _LABEL_NAME.match(name):
        raise field.invalid(
            f"{shown(key)} is no label key: [DNS prefix/]name, the name at most 63 letters, digits, '-', '_', '.'"
        )


def check_label_value(field: Field) -> str:
    text = field.string()
    if text and not _LABEL_NAME.match(text):
        raise field.invalid(f"{shown(text)} is no label value: at most 63 letters, digits, '-', '_', '.'")
    return text
