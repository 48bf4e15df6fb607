"""SMI: TrafficSplit (split.smi-spec.io, all four versions) and HTTPRouteGroup (specs.smi-spec.io) -> `mesh.model`.

A split of the apex service sends each request, or each TCP connection, to one of its backends by weight; all
weights zero: to none. With `matches` only the requests that one of the groups means are split, the rest goes to
the apex service itself. `serviceMember` is no field of SMI, but of an article that many have copied: it is
`service`.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.hosts import host
from weft.policies.dialects.istio.values import header_name, regex
from weft.policies.mesh.model import (
    Destination,
    Dialect,
    DirectResponse,
    How,
    Matcher,
    Named,
    Origin,
    RequestMatch,
    Route,
    RouteGroup,
    Rule,
    TcpRule,
)
from weft.policies.model import ObjectRef

SPLIT_VERSIONS = tuple(f"split.smi-spec.io/v1alpha{number}" for number in (1, 2, 3, 4))
SPECS_VERSIONS = tuple(f"specs.smi-spec.io/v1alpha{number}" for number in (1, 2, 3, 4))

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
#: Kubernetes' quantity, as v1alpha1 wrote weights: `1`, `900m`, `0.9`.
_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(m?)\Z", re.ASCII)
_MAX_WEIGHT = 2**31 - 1


def parse_split(root: Field, ref: ObjectRef) -> Route:
    findings = Findings()
    spec = root.need("spec").record("service", "backends", "matches")
    apex = host(spec.need("service"), ref.namespace, wildcard=False)
    origin = Origin(ref.kind, ref.namespace, ref.name, "spec.backends")
    destinations = _backends(spec.need("backends"), ref, findings)
    split = _rule(origin, destinations)
    matches = spec.get("matches")
    groups = tuple(_group(item, findings) for item in matches.items()) if matches is not None else ()
    groups = tuple(group for group in groups if group[0])
    created = _created(root)
    if not groups:
        tcp = (TcpRule(origin, (), destinations),) if any(d.weight for d in destinations) else ()
        return Route(ref, Dialect.SMI, (apex,), (split,), tcp=tcp, created=created, warnings=findings.warnings)
    own = Rule(Origin(ref.kind, ref.namespace, ref.name, "spec.service"), destinations=(Destination(apex),))
    matching = Rule(
        origin, groups=groups, destinations=split.destinations, direct=split.direct, retries=split.retries
    )
    return Route(ref, Dialect.SMI, (apex,), (matching, own), created=created, warnings=findings.warnings)


def _rule(origin: Origin, destinations: tuple[Destination, ...]) -> Rule:
    if any(destination.weight for destination in destinations):
        return Rule(origin, destinations=destinations)
    return Rule(origin, direct=DirectResponse(503, b"no healthy upstream"))


def _backends(field: Field, ref: ObjectRef, findings: Findings) -> tuple[Destination, ...]:
    items = field.items(at_most=256)
    if not items:
        raise field.invalid("must name at least one backend")
    read = [_backend(item, ref, findings) for item in items]
    names = [name for name, _ in read]
    for item, name in zip(items, names, strict=True):
        if names.count(name) > 1:
            raise item.invalid(f"{name} is there twice")
    # Quantities have fractions; weights are whole numbers.
    scale = math.lcm(*(weight.denominator for _, weight in read))
    return tuple(Destination(name, weight=int(weight * scale)) for name, weight in read)


def _backend(item: Field, ref: ObjectRef, findings: Findings) -> tuple[str, Fraction]:
    item.record("service", "serviceMember", "weight")
    named, member = item.get("service"), item.get("serviceMember")
    if member is not None:
        why = "left out, for service is there too" if named is not None else "read as service"
        findings.warn(member, f"is no field of SMI: {why}")
    chosen = named if named is not None else member
    if chosen is None:
        chosen = item.need("service")
    return host(chosen, ref.namespace, wildcard=False), _weight(item.need("weight"))


def _weight(field: Field) -> Fraction:
    if isinstance(field.value, str):
        found = _QUANTITY.match(field.string(32))
        if not found:
            raise field.invalid(f"{shown(field.value)} is no weight: a whole number, or a quantity such as 900m")
        return Fraction(found[1]) / (1000 if found[2] else 1)
    return Fraction(field.integer(0, _MAX_WEIGHT))


def _group(item: Field, findings: Findings) -> tuple[str, str]:
    """(HTTPRouteGroup, "" for all of its matches)."""
    item.record("kind", "name", "apiGroup")
    kind = item.need("kind").text()
    if kind != "HTTPRouteGroup":
        findings.warn(item, f"{shown(kind)} chooses no requests: left out")
        return "", ""
    return item.need("name").text(), ""


def parse_group(root: Field, ref: ObjectRef) -> RouteGroup:
    """v1alpha1 has `matches` beside `metadata`, the later ones in `spec`."""
    holder = root.get("spec")
    holder = holder.record("matches") if holder is not None else root
    found: list[RequestMatch] = []
    for item in holder.need("matches").items(at_most=256):
        found += _matches(item)
    return RouteGroup(ref, tuple(found))


def _matches(item: Field) -> list[RequestMatch]:
    """One for each method: they are alternatives, and the rest of the match holds for all."""
    item.record("name", "methods", "pathRegex", "headers")
    name, path, methods = item.get("name"), item.get("pathRegex"), item.get("methods")
    headers = tuple(_headers(item.get("headers")))
    rest = RequestMatch(
        path=Matcher(How.REGEX, regex(path)) if path is not None else None,
        headers=headers,
        name=name.text() if name is not None else "",
    )
    wanted = [method.one_of((*_METHODS, "*")) for method in methods.items()] if methods is not None else []
    if not wanted or "*" in wanted:
        return [rest]
    return [
        RequestMatch(path=rest.path, headers=headers, name=rest.name, method=Matcher(How.EXACT, method))
        for method in wanted
    ]


def _headers(field: Field | None) -> list[Named]:
    """A list of mappings, or one mapping, of names to regular expressions."""
    if field is None:
        return []
    holders = field.items() if isinstance(field.value, list) else [field]
    return [
        Named(header_name(value, name), Matcher(How.REGEX, regex(value)))
        for holder in holders
        for name, value in holder.entries()
    ]


def _created(root: Field) -> str:
    stamp = root.need("metadata").lax("creationTimestamp")
    return stamp.string() if stamp is not None and isinstance(stamp.value, str) else ""
