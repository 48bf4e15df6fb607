"""Where a rule sends to: `route` with its weights, and mirrors."""

from __future__ import annotations

import msgspec

from weft.policies.dialects.fields import Field
from weft.policies.dialects.istio.headers import changes
from weft.policies.dialects.istio.hosts import Scope, host
from weft.policies.dialects.istio.values import INT32, dns_label, optional_percentage, port
from weft.policies.mesh.model import Destination, Mirror


def http_destinations(rule: Field, scope: Scope) -> tuple[Destination, ...]:
    return _weighted(rule, scope, headers=True)


def tcp_destinations(rule: Field, scope: Scope) -> tuple[Destination, ...]:
    found = _weighted(rule, scope, headers=False)
    if not found:
        raise (rule.get("route") or rule).invalid("needs a route with at least one destination")
    return found


def _weighted(rule: Field, scope: Scope, *, headers: bool) -> tuple[Destination, ...]:
    """Of several, one without a weight gets nothing: protobuf's 0, which is easily not what was meant."""
    field = rule.get("route")
    items = field.items() if field is not None else []
    found = [_one(item, scope, headers=headers) for item in items]
    if len(found) == 1:
        return (msgspec.structs.replace(found[0][0], weight=1 if found[0][1] is None else found[0][1]),)
    if field is not None and found and not any(weight for _, weight in found):
        raise field.invalid("the weights of several destinations must not all be 0 or left out")
    for item, (_, weight) in zip(items, found, strict=True):
        if weight is None:
            scope.findings.warn(item, "has no weight, so it gets nothing")
    return tuple(msgspec.structs.replace(each, weight=weight or 0) for each, weight in found)


def _one(item: Field, scope: Scope, *, headers: bool) -> tuple[Destination, int | None]:
    item.record("destination", "weight", *(("headers",) if headers else ()))
    to, weight = item.need("destination"), item.get("weight")
    inner = to.record("host", "port", "subset", "weight").get("weight")
    if inner is not None:
        said = "belongs beside destination, not into it; it is read as if it stood there"
        scope.findings.warn(inner, said if weight is None else "is ignored: the weight beside destination holds")
        inner.integer(0, INT32)
    weight = weight if weight is not None else inner
    found = destination(to, scope)
    if headers:
        request, response = changes(item)
        found = msgspec.structs.replace(found, request_headers=request, response_headers=response)
    return found, weight.integer(0, INT32) if weight is not None else None


def destination(field: Field, scope: Scope) -> Destination:
    """`port` is a number: Istio's names of ports are long gone."""
    to, subset, selector = field.need("host"), field.get("subset"), field.get("port")
    name = host(to, scope.ref.namespace)
    if name == "*":
        raise to.invalid('"*" is no destination')
    return Destination(
        host=name,
        port=port(selector.record("number").need("number")) if selector is not None else 0,
        subset=dns_label(subset) if subset is not None and subset.string() else "",
    )


def mirrors(rule: Field, scope: Scope) -> tuple[Mirror, ...]:
    """`mirror` with a percentage beside it, or `mirrors` with one in each; without one, every request."""
    one, several = rule.get("mirror"), rule.get("mirrors")
    percent = _mirror_percent(rule, scope)
    if one is None and percent is not None:
        scope.findings.warn(rule, "has a percentage to mirror, but no mirror")
    items = several.items() if several is not None else []
    if one is not None:
        if items and several is not None:
            raise several.invalid("mirror and mirrors exclude each other")
        one.record("host", "port", "subset")
        return (Mirror(destination(one, scope), 100.0 if percent is None else percent),)
    found = []
    for item in items:
        to = item.record("destination", "percentage").need("destination").record("host", "port", "subset")
        share = optional_percentage(item, "percentage")
        found.append(Mirror(destination(to, scope), 100.0 if share is None else share))
    return tuple(found)


def _mirror_percent(rule: Field, scope: Scope) -> float | None:
    found = optional_percentage(rule, "mirrorPercentage")
    for name in ("mirrorPercent", "mirror_percent"):
        old = rule.get(name)
        if old is None:
            continue
        whole = old.integer(0, 100)
        scope.findings.warn(old, f"{name} is deprecated: use mirrorPercentage")
        found = float(whole) if found is None else found
    return found
