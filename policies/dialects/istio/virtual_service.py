"""VirtualService: documents to `model.Route`.

The first rule of `http` that matches decides. A VirtualService of which nothing is for the mesh becomes a Route
without rules and hosts, so that it stands in nobody's way; where it says so itself, it is read no further. One
without hosts is a delegate, whose rules stand in the place of another's.
"""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings
from weft.policies.dialects.istio.destinations import tcp_destinations
from weft.policies.dialects.istio.hosts import Scope, around, export_to, for_mesh, host
from weft.policies.dialects.istio.matches import connection_matches
from weft.policies.dialects.istio.rules import http_rules
from weft.policies.dialects.istio.values import created_of
from weft.policies.mesh.model import Dialect, Origin, Route, Rule, TcpRule
from weft.policies.model import ObjectRef

_SECTIONS = ("http", "tls", "tcp")


def parse_virtual_service(root: Field, ref: ObjectRef) -> Route:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    spec = root.need("spec").record("hosts", "gateways", *_SECTIONS, "exportTo")
    findings = Findings()
    named = spec.get("hosts")
    if not for_mesh(spec) and named is not None and named.items():
        said = "is without mesh: it is for gateways alone, and routes nothing here"
        findings.warn(spec.need("gateways"), said)
        return Route(ref, Dialect.ISTIO, (), created=created_of(root), warnings=findings.warnings)
    hosts = _hosts(spec, ref)
    scope = Scope(ref, findings, delegate=not hosts)
    _check_sections(spec, scope)
    _check_hosts(spec, hosts)
    http = _http(spec, scope)
    tls, tcp = _connections(spec, "tls", scope, frozenset(hosts)), _connections(spec, "tcp", scope, None)
    return Route(
        ref=ref,
        dialect=Dialect.ISTIO,
        hosts=hosts if http or tls or tcp else (),
        http=http,
        tls=tls,
        tcp=tcp,
        clients=export_to(spec, ref.namespace),
        created=created_of(root),
        warnings=findings.warnings,
    )


def _hosts(spec: Field, ref: ObjectRef) -> tuple[str, ...]:
    field = spec.get("hosts")
    return tuple(host(item, ref.namespace) for item in field.items()) if field is not None else ()


def _check_hosts(spec: Field, hosts: tuple[str, ...]) -> None:
    """No two may speak for the same name, for it would not be clear which of them did."""
    field, there = spec.get("hosts"), set[str]()
    for name in hosts:
        if name in there and field is not None:
            raise field.invalid(f"{name} and {name} overlap")
        there.add(name)
    for name in hosts:
        other = next((each for each in around(name) if each in there), None)
        if other is not None and field is not None:
            raise field.invalid(f"{other} and {name} overlap")
    if "*" in hosts:
        raise spec.need("hosts").invalid('"*" is for gateways: in the mesh, a VirtualService names its hosts')


def _check_sections(spec: Field, scope: Scope) -> None:
    given = [name for name in _SECTIONS if (section := spec.get(name)) is not None and section.items()]
    if not given:
        raise spec.invalid("needs rules in http, tls or tcp")
    if not scope.delegate:
        return
    for name in ("tls", "tcp", "gateways"):
        field = spec.get(name)
        if field is not None and field.items():
            raise field.invalid("a VirtualService without hosts is a delegate: it has http rules and nothing else")


def _http(spec: Field, scope: Scope) -> tuple[Rule, ...]:
    field = spec.get("http")
    found: list[Rule] = []
    for item in field.items() if field is not None else ():
        if found and not found[-1].matches and not scope.delegate:
            scope.findings.warn(item, f"is never reached: {found[-1].origin.path} matches every request")
        found += http_rules(item, scope)
    return tuple(found)


def _connections(spec: Field, name: str, scope: Scope, hosts: frozenset[str] | None) -> tuple[TcpRule, ...]:
    """`hosts` for `tls`, whose rules need server names within them."""
    field = spec.get(name)
    found = []
    for item in field.items() if field is not None else ():
        item.record("match", "route")
        if hosts is not None and not item.need("match").items():
            raise item.need("match").invalid("needs at least one match with sniHosts")
        matches, to = connection_matches(item, scope, hosts), tcp_destinations(item, scope)
        if matches is None:
            scope.findings.warn(item, "matches nothing in the mesh, so it is left out")
        else:
            origin = Origin(scope.ref.kind, scope.ref.namespace, scope.ref.name, item.path)
            found.append(TcpRule(origin, matches, to))
    return tuple(found)
