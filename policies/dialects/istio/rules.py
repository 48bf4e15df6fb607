"""One entry of `http`: a `model.Rule`, or several that stand one after the other.

Several, because `rewrite.uri` replaces what matched, and the matches of one entry may be of different kinds: the
whole path where the match was exact or a regular expression, the prefix where it was one, `/` where it said nothing
of the path. Alternatives that follow each other are the same as alternatives in one rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

import msgspec

from weft.policies.dialects.fields import Field
from weft.policies.dialects.istio.actions import cors, direct, redirect, rewrite
from weft.policies.dialects.istio.destinations import http_destinations, mirrors
from weft.policies.dialects.istio.faults import fault
from weft.policies.dialects.istio.headers import changes, sets_authority
from weft.policies.dialects.istio.hosts import Scope
from weft.policies.dialects.istio.matches import request_matches
from weft.policies.dialects.istio.retries import retries
from weft.policies.dialects.istio.values import dns_label, duration, text_of
from weft.policies.dialects.metadata import check_name
from weft.policies.mesh.model import How, Matcher, Origin, RequestMatch, Rule

_FIELDS = (
    *("name", "match", "route", "redirect", "directResponse", "delegate", "rewrite", "timeout", "retries", "fault"),
    *("mirror", "mirrors", "mirrorPercent", "mirror_percent", "mirrorPercentage", "corsPolicy", "headers"),
)
#: What cannot stand together, in the words of the fields. (Of a direct response nothing reaches a server.)
_EXCLUSIVE = (
    *(("redirect", "route"), ("redirect", "directResponse"), ("redirect", "fault"), ("redirect", "rewrite")),
    *(("directResponse", "route"), ("directResponse", "fault"), ("directResponse", "rewrite")),
    *(("delegate", "route"), ("delegate", "redirect"), ("delegate", "directResponse")),
)
_ROOT = Matcher(How.PREFIX, "/")


def http_rules(item: Field, scope: Scope) -> list[Rule]:
    """None at all, with a warning, if the entry is for other gateways alone."""
    item.record(*_FIELDS)
    _check_action(item, scope)
    delegate = item.get("delegate")
    matches = request_matches(item, replace(scope, delegate=True) if delegate is not None else scope)
    rule = _rule(item, scope, delegate)
    if matches is None:
        scope.findings.warn(item, "matches nothing in the mesh, so it is left out")
        return []
    rule = msgspec.structs.replace(rule, matches=matches)
    return [rule] if delegate is not None else list(_by_path(rule))


def _rule(item: Field, scope: Scope, delegate: Field | None) -> Rule:
    request, response = changes(item)
    rewritten, timeout = rewrite(item), item.get("timeout")
    if rewritten is not None and rewritten.authority and sets_authority(request):
        raise item.need("headers").invalid("the authority is set here and by rewrite: one of them only")
    ref = scope.ref
    return Rule(
        origin=Origin(ref.kind, ref.namespace, ref.name, item.path),
        name=text_of(item, "name"),
        destinations=http_destinations(item, scope),
        redirect=redirect(item),
        direct=direct(item, scope.findings),
        rewrite=rewritten,
        request_headers=request,
        response_headers=response,
        fault=fault(item, scope.findings),
        mirrors=mirrors(item, scope),
        cors=cors(item, scope.findings),
        timeout=duration(timeout, zero=True) if timeout is not None else 0.0,
        retries=retries(item, scope.findings),
        delegate=_delegate(delegate, ref.namespace) if delegate is not None else "",
    )


def _check_action(item: Field, scope: Scope) -> None:
    given = {
        name
        for name in ("redirect", "directResponse", "delegate", "fault", "rewrite")
        if item.get(name) is not None
    }
    route = item.get("route")
    if route is not None and route.items():
        given.add("route")
    for one, other in _EXCLUSIVE:
        if one in given and other in given:
            raise item.need(other).invalid(f"{one} and {other} exclude each other in one rule")
    if "delegate" in given and scope.delegate:
        raise item.need("delegate").invalid("a delegate cannot delegate again: one level only")
    if not given & {"route", "redirect", "directResponse", "delegate"}:
        raise item.invalid("needs a route, redirect, directResponse or delegate")


def _delegate(field: Field, namespace: str) -> str:
    field.record("name", "namespace")
    other = field.get("namespace")
    return f"{dns_label(other) if other is not None else namespace}/{check_name(field.need('name'))}"


def _by_path(rule: Rule) -> Iterator[Rule]:
    """The rule, taken apart by what its matches say of the path, if it replaces what matched."""
    replaced = rule.rewrite.prefix if rule.rewrite is not None else rule.redirect.prefix if rule.redirect else None
    if replaced is None:
        yield rule
        return
    matches = [match if match.path is not None else _at_root(match) for match in rule.matches or (RequestMatch(),)]
    for whole, group in groupby(matches, _whole_path):
        part = msgspec.structs.replace(rule, matches=tuple(group))
        yield _on_whole_path(part, replaced) if whole else part


def _at_root(match: RequestMatch) -> RequestMatch:
    return msgspec.structs.replace(match, path=_ROOT)


def _whole_path(match: RequestMatch) -> bool:
    return match.path is not None and match.path.how is not How.PREFIX


def _on_whole_path(rule: Rule, path: str) -> Rule:
    if rule.rewrite is not None:
        return msgspec.structs.replace(rule, rewrite=msgspec.structs.replace(rule.rewrite, prefix=None, path=path))
    changed = msgspec.structs.replace(rule.redirect, prefix=None, path=path) if rule.redirect is not None else None
    return msgspec.structs.replace(rule, redirect=changed)
