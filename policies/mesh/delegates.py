"""VirtualServices that delegate: the child's rules stand in the place of the parent's, narrowed to what it matched.

A request must match the parent's match and the child's. Of what both set, the child's match must lie within the
parent's; where it does not, that pair is left out. What the parent's rule says besides (timeout, retries, headers,
...) holds where the child says nothing. One level only: a child that delegates again is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from weft.policies.mesh.model import DEFAULT_RETRIES, How, Matcher, RequestMatch, Route, Rule

Find = Callable[[str], Route | None]
_EVERYTHING = RequestMatch()


def inlined(rules: Iterable[Rule], find: Find) -> Iterator[Rule]:
    """`find`: "ns/name" -> the VirtualService without hosts of that name."""
    for rule in rules:
        if not rule.delegate:
            yield rule
            continue
        child = find(rule.delegate)
        for below in child.http if child is not None else ():
            narrowed = _narrowed(rule, below)
            if narrowed is not None and not below.delegate:
                yield narrowed


def _narrowed(parent: Rule, child: Rule) -> Rule | None:
    pairs = [_both(p, c) for p in parent.matches or (_EVERYTHING,) for c in child.matches or (_EVERYTHING,)]
    matches = tuple(pair for pair in pairs if pair is not None)
    if not matches:
        return None
    return msgspec.structs.replace(
        child,
        matches=matches,
        rewrite=child.rewrite or parent.rewrite,
        fault=child.fault or parent.fault,
        mirrors=child.mirrors or parent.mirrors,
        cors=child.cors or parent.cors,
        timeout=child.timeout or parent.timeout,
        retries=parent.retries if child.retries == DEFAULT_RETRIES else child.retries,
        request_headers=child.request_headers or parent.request_headers,
        response_headers=child.response_headers or parent.response_headers,
    )


def _both(parent: RequestMatch, child: RequestMatch) -> RequestMatch | None:
    """None: they exclude each other, or the child reaches beyond its parent."""
    for name in ("path", "method", "scheme", "authority"):
        if not _within(getattr(child, name), getattr(parent, name)):
            return None
    if child.port and parent.port and child.port != parent.port:
        return None
    if child.source_namespace and parent.source_namespace not in ("", child.source_namespace):
        return None
    return msgspec.structs.replace(
        child,
        path=child.path or parent.path,
        method=child.method or parent.method,
        scheme=child.scheme or parent.scheme,
        authority=child.authority or parent.authority,
        headers=parent.headers + child.headers,
        query=parent.query + child.query,
        port=child.port or parent.port,
        source_labels=tuple(sorted({*parent.source_labels, *child.source_labels})),
        source_namespace=child.source_namespace or parent.source_namespace,
    )


def _within(child: Matcher | None, parent: Matcher | None) -> bool:
    if child is None or parent is None or child == parent:
        return True
    if parent.how is How.PREFIX and child.how in (How.EXACT, How.PREFIX):
        return child.value.startswith(parent.value)
    return False
