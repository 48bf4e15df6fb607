"""Whom an Istio resource names and for whom it is: hosts, gateways, exportTo.

A name without a dot is a Service in the namespace of the rule, never of the caller; `name.namespace.svc` is one
too. Any other name with dots is taken as written, as Istio takes it: nobody could tell `orders.shop` from a domain
on the Internet. Case is folded, a dot at the end falls away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import dns_label
from weft.policies.mesh.hosts import fqdn, is_address, is_wildcard
from weft.policies.model import ObjectRef

#: The gateway that means: between workloads.
MESH = "mesh"

_NAME = re.compile(
    r"(?=.{1,254}\Z)(?:\*\.)?[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)*\.?\Z"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is being read, and where what is noticed goes. `parent`: a delegate's rules stand in another's place."""

    ref: ObjectRef
    findings: Findings
    delegate: bool = False


def host(field: Field, namespace: str, *, wildcard: bool = True) -> str:
    """Of a rule or destination. `*` alone is the caller's to judge."""
    text = plain_host(field, wildcard=wildcard)
    labels = text.split(".")
    if is_wildcard(text) or is_address(text):
        return text
    if len(labels) == 1:
        return fqdn(text, namespace)
    if len(labels) == 3 and labels[2] == "svc":
        return fqdn(labels[0], labels[1])
    return text


def plain_host(field: Field, *, wildcard: bool = True) -> str:
    """As written, but for case and a dot at the end: what a ServiceEntry declares."""
    text = field.text().lower()
    if is_address(text) or (text == "*" and wildcard):
        return text
    if not _NAME.match(text) or (is_wildcard(text) and not wildcard):
        stars = ", '*' as the whole first label" if wildcard else ", no '*'"
        raise field.invalid(f"{shown(text)} is no host: labels of a-z, 0-9 and '-' joined by dots{stars}")
    return text.removesuffix(".")


def around(name: str) -> Iterator[str]:
    """Every wildcard that covers a name, or all that another wildcard does; not itself."""
    rest = name.removeprefix("*.")
    if name == rest:
        _, _, rest = name.partition(".")
        if rest:
            yield f"*.{rest}"
    while "." in rest:
        _, _, rest = rest.partition(".")
        yield f"*.{rest}"
    if name != "*":
        yield "*"


def export_to(spec: Field, namespace: str, *, nobody: bool = False) -> tuple[str, ...] | None:
    """The namespaces of the clients it is for; None: all. `nobody`: `~` may be said."""
    field = spec.get("exportTo")
    items = field.items() if field is not None else []
    found: dict[str, Field] = {}
    for item in items:
        text = item.text()
        name = namespace if text == "." else text
        if text not in (".", "*") and not (text == "~" and nobody):
            dns_label(item)
        if name in found:
            raise item.invalid(f"{shown(text)} is there twice")
        found[name] = item
    for alone in ("*", "~"):
        if alone in found and len(found) > 1:
            raise found[alone].invalid(f'"{alone}" stands alone or not at all')
    if not found or "*" in found:
        return None
    return () if "~" in found else tuple(found)


def for_mesh(holder: Field) -> bool:
    """Whether `gateways` lets it be for traffic between workloads: so it does when it is left out."""
    field = holder.get("gateways")
    items = field.items() if field is not None else []
    names = [_gateway(item) for item in items]
    return not names or MESH in names


def _gateway(field: Field) -> str:
    """`name`, `namespace/name`, or the old `name.namespace.svc.cluster.local`."""
    text = field.text()
    namespace, slash, name = text.rpartition("/")
    if (slash and not _NAME.match(namespace)) or not _NAME.match(name) or is_wildcard(name):
        raise field.invalid(f"{shown(text)} is no gateway: [namespace/]name, or {MESH}")
    return text
