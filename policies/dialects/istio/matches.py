"""`match` of a VirtualService: requests (`http`), and connections (`tcp`, `tls`).

Blocks are alternatives, the conditions of one block must all hold. A block that is for other gateways alone is left
out unread, with a warning; `None` says that all of a rule's blocks were, which is not the same as a rule without
any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

from weft.policies.dialects.cidrs import prefix
from weft.policies.dialects.fields import Field, shown
from weft.policies.dialects.istio.hosts import Scope, around, for_mesh, plain_host
from weft.policies.dialects.istio.values import (
    dns_label,
    flag,
    header_name,
    optional_port,
    string_match,
    text_of,
)
from weft.policies.dialects.metadata import checked_labels
from weft.policies.mesh.hosts import is_address
from weft.policies.mesh.model import How, Matcher, Named, RequestMatch, TcpMatch

M = TypeVar("M")

_REQUEST = (
    *("name", "uri", "scheme", "method", "authority", "headers", "port", "sourceLabels", "gateways"),
    *("queryParams", "ignoreUriCase", "withoutHeaders", "sourceNamespace", "statPrefix"),
)
_CONNECTION = ("destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace")
#: In `headers` they mean nothing: there are fields of their own for them.
_NOT_HEADERS = ("uri", "scheme", "method", "authority")
#: Of HTTP/2, and nevertheless met among headers: they are other fields of the match.
_PSEUDO = (":authority", ":method", ":scheme")


def request_matches(rule: Field, scope: Scope) -> tuple[RequestMatch, ...] | None:
    return _in_mesh(rule, scope, _request)


def connection_matches(
    rule: Field, scope: Scope, hosts: Collection[str] | None = None
) -> tuple[TcpMatch, ...] | None:
    """`hosts`: of the VirtualService, for a TLS route, whose server names must lie within them."""

    def read(item: Field, scope: Scope) -> TcpMatch:
        return _connection(item, scope, hosts)

    return _in_mesh(rule, scope, read)


def _in_mesh(rule: Field, scope: Scope, read: Callable[[Field, Scope], M]) -> tuple[M, ...] | None:
    field = rule.get("match")
    items = field.items() if field is not None else []
    found = []
    for item in items:
        if for_mesh(item):
            found.append(read(item, scope))
        else:
            scope.findings.warn(item, "is for other gateways than mesh, so it is left out")
    return tuple(found) if found or not items else None


def _request(item: Field, scope: Scope) -> RequestMatch:
    item.record(*_REQUEST)
    text_of(item, "statPrefix")
    namespace, labels = item.get("sourceNamespace"), item.get("sourceLabels")
    found = RequestMatch(
        path=_matcher(item, "uri", scope, ignore_case=flag(item, "ignoreUriCase")),
        method=_matcher(item, "method", scope),
        scheme=_matcher(item, "scheme", scope),
        authority=_matcher(item, "authority", scope),
        headers=(*_headers(item, "headers", scope), *_headers(item, "withoutHeaders", scope, invert=True)),
        query=_query(item, scope),
        port=optional_port(item),
        source_labels=tuple(sorted(checked_labels(labels).items())) if labels is not None else (),
        source_namespace=dns_label(namespace) if namespace is not None else "",
        name=text_of(item, "name"),
    )
    return _pseudo(item, found) if any(each.name in _PSEUDO for each in found.headers) else found


def _pseudo(item: Field, match: RequestMatch) -> RequestMatch:
    """The match with the tests of `:authority` and the like where the other such tests are. One test for each."""
    for each in match.headers:
        field = each.name[1:]
        if each.name not in _PSEUDO:
            continue
        if getattr(match, field) is not None:
            raise item.invalid(f"{each.name} among the headers and {field}: one of them only")
        match = msgspec.structs.replace(match, **{field: each.matcher})
    kept = tuple(each for each in match.headers if each.name not in _PSEUDO)
    return msgspec.structs.replace(match, headers=kept)


def _matcher(item: Field, name: str, scope: Scope, *, ignore_case: bool = False) -> Matcher | None:
    """None: anything. Each request has a path, a method and so on, so `{}` is anything, too."""
    field = item.get(name)
    if field is None:
        return None
    found = _string_match(field, scope, ignore_case=ignore_case)
    return None if found.how is How.PRESENT else found


def _string_match(field: Field, scope: Scope, *, ignore_case: bool = False, invert: bool = False) -> Matcher:
    found = string_match(field, ignore_case=ignore_case, invert=invert)
    if found.how is How.REGEX and scope.delegate:
        raise field.invalid("no regular expressions where rules are delegated: two cannot be compared")
    return found


def _headers(item: Field, name: str, scope: Scope, *, invert: bool = False) -> list[Named]:
    field = item.get(name)
    found = []
    for key, value in field.entries() if field is not None else ():
        if key.startswith("@request.auth."):
            raise value.invalid("claims of tokens are known at gateways alone", not_enforced=True)
        matcher = _string_match(value, scope, invert=invert)
        header = key.lower() if key.lower() in _PSEUDO else header_name(value, key)
        if header in _NOT_HEADERS:
            scope.findings.warn(value, f"{key} is no header here and is ignored: it has a field of its own")
        else:
            found.append(Named(header, matcher))
    return found


def _query(item: Field, scope: Scope) -> tuple[Named, ...]:
    field = item.get("queryParams")
    found = []
    for key, value in field.entries() if field is not None else ():
        if not key:
            raise value.invalid("the name of a query parameter must not be empty")
        found.append(Named(key, _string_match(value, scope)))
    return tuple(found)


def _connection(item: Field, scope: Scope, hosts: Collection[str] | None) -> TcpMatch:
    if (old := item.get("sourceSubnet")) is not None:
        raise old.invalid("sourceSubnet was never in effect in Istio: leave it out")
    item.record(*(("sniHosts",) if hosts is not None else ()), *_CONNECTION)
    subnets, namespace, labels = (
        item.get("destinationSubnets"),
        item.get("sourceNamespace"),
        item.get("sourceLabels"),
    )
    networks = [prefix(each, scope.findings, bare_address=True) for each in subnets.items()] if subnets else []
    return TcpMatch(
        port=optional_port(item),
        subnets=tuple(dict.fromkeys(str(network) for network in networks)),
        source_labels=tuple(sorted(checked_labels(labels).items())) if labels is not None else (),
        source_namespace=dns_label(namespace) if namespace is not None else "",
        sni=_server_names(item, scope, hosts) if hosts is not None else (),
    )


def _server_names(item: Field, scope: Scope, hosts: Collection[str]) -> tuple[str, ...]:
    names = item.need("sniHosts")
    items = names.items()
    if not items:
        raise names.invalid("needs at least one server name")
    return tuple(dict.fromkeys(_server_name(each, scope, hosts) for each in items))


def _server_name(field: Field, scope: Scope, hosts: Collection[str]) -> str:
    name = plain_host(field)
    if is_address(name):
        scope.findings.warn(field, "is an address, and clients send names")
        return name
    if name not in hosts and not any(each in hosts for each in around(name)):
        raise field.invalid(f"{shown(name)} lies within none of the hosts of the VirtualService")
    return name
