"""The L7 part of a port rule: `rules.http`, and what is read but not enforced yet (DNS, Kafka, TLS, listeners).

Rules of one list are alternatives, the fields of one rule must all match (L2). An empty list is no L7 rule at all:
the port is then allowed as if `rules` were left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weft.policies.dialects import names
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.metadata import check_name
from weft.policies.dialects.re2 import BadPattern, compile_pattern
from weft.policies.model import L7, Direction, HeaderMatch, HttpRule, PortSpec, Protocol

#: The fields of a port rule beside `ports`; deny rules have none of them.
FIELDS = ("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener")

_PARSERS = ("http", "dns", "kafka")
_MISMATCH = ("", "LOG", "ADD", "DELETE", "REPLACE")
#: RFC 9110 token: what a header's name may be made of.
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """`parser`: which kind of rules there are, "" for none; `l7` is set for those that are enforced."""

    parser: str = ""
    l7: L7 | None = None


def l7_rules(
    rule: Field, direction: Direction, ports: Sequence[tuple[Field, PortSpec]], findings: Findings
) -> Parsed:
    parsed = _rules(rule, direction, ports, findings)
    _tls(rule, findings)
    _server_names(rule, parsed, findings)
    _listener(rule, direction, parsed, findings)
    return parsed


def _rules(
    rule: Field, direction: Direction, ports: Sequence[tuple[Field, PortSpec]], findings: Findings
) -> Parsed:
    field = rule.get("rules")
    if field is None:
        return Parsed()
    for gone in ("l7proto", "l7"):
        if (old := field.get(gone)) is not None:
            raise old.invalid("generic L7 rules are gone from Cilium")
    field.record(*_PARSERS)
    given = [(name, found) for name in _PARSERS if (found := field.get(name)) is not None]
    if len(given) != 1:
        raise field.invalid("needs exactly one of http, dns and kafka")
    parser, rules = given[0]
    items = rules.items()
    if not items:
        findings.warn(rules, "is empty, so there is no L7 rule: the ports are allowed as a whole")
        return Parsed()
    if parser == "dns":
        _dns(items, rules, direction, ports, findings)
        return Parsed("dns")
    if not ports:
        raise rules.invalid("L7 rules need ports beside them")
    for item, port in ports:
        _check_l7_port(item, port)
    if parser == "kafka":
        _kafka(items, rules, findings)
        return Parsed("kafka")
    return Parsed("http", L7(tuple(_http(item) for item in items)))


def _check_l7_port(item: Field, port: PortSpec) -> None:
    """L1."""
    if port.protocol is not Protocol.TCP:
        given = item.get("protocol")
        raise (given or item).invalid(f"L7 rules need protocol: TCP here, not {port.protocol.name}")
    if not port.name and port.port == 0:
        raise item.need("port").invalid("L7 rules need a port, 0 is every port")


def _http(item: Field) -> HttpRule:
    item.record("path", "method", "host", "headers", "headerMatches")
    headers, matches = item.get("headers"), item.get("headerMatches")
    return HttpRule(
        path=_regex(item, "path"),
        method=_regex(item, "method"),
        host=_regex(item, "host"),
        headers=(
            *(_header(header) for header in (headers.items() if headers is not None else ())),
            *(_header_match(match) for match in (matches.items() if matches is not None else ())),
        ),
        spec_path=item.path,
    )


def _regex(item: Field, name: str) -> str:
    field = item.get(name)
    if field is None:
        return ""
    text = field.string()
    try:
        compile_pattern(text)
    except BadPattern as error:
        raise field.invalid(f"{shown(text)} is no regular expression of RE2: {error}") from None
    return text


def _header(field: Field) -> HeaderMatch:
    """`Name`: present; `Name: value`: exactly that value (L4)."""
    name, colon, value = field.text().partition(":")
    if not colon and " " in name:
        name, _, value = name.partition(" ")  # Cilium takes "Name value" too
        colon = ":"
    elif colon and not value.startswith(" "):
        raise field.invalid(f'{shown(field.value)}: write "Name: value" with a space, or "Name" for presence')
    return HeaderMatch(_header_name(field, name), _header_value(field, value) if colon else None)


def _header_match(item: Field) -> HeaderMatch:
    item.record("name", "value", "secret", "mismatch")
    name_field = item.need("name")
    value, mismatch, secret = item.get("value"), item.get("mismatch"), item.get("secret")
    return HeaderMatch(
        name=_header_name(name_field, name_field.text()),
        value=(_header_value(value, value.string()) or None) if value is not None else None,
        mismatch=mismatch.one_of(_MISMATCH) if mismatch is not None else "",
        secret=_secret(secret) if secret is not None else None,
    )


def _header_name(field: Field, name: str) -> str:
    if not _TOKEN.match(name):
        raise field.invalid(f"{shown(name)} is no name of a header")
    return name


def _header_value(field: Field, value: str) -> str:
    if _BAD_IN_VALUE.search(value):
        raise field.invalid(f"{shown(value)}: no header's value has control characters")
    return value.strip(" \t")


def _secret(field: Field) -> tuple[str, str]:
    field.record("namespace", "name")
    namespace = field.get("namespace")
    name = check_name(field.need("name"))
    return (namespace.string() if namespace is not None else "", name)


# Read and checked, but not enforced


def _dns(
    items: list[Field],
    rules: Field,
    direction: Direction,
    ports: Sequence[tuple[Field, PortSpec]],
    findings: Findings,
) -> None:
    if direction is Direction.INGRESS:
        raise rules.invalid("DNS rules are for egress only")
    if not ports:
        raise rules.invalid("DNS rules need ports")
    for item, port in ports:
        if port.protocol is Protocol.SCTP:
            raise item.need("protocol").invalid("DNS rules need protocol: UDP, TCP or ANY")
        if port.end_port > port.port:
            raise item.need("endPort").invalid("DNS rules take no range of ports")
        if not port.name and port.port == 0:
            raise item.need("port").invalid("L7 rules need a port, 0 is every port")
    for item in items:
        names.match(item)
    findings.not_enforced(rules, "DNS rules")


def _kafka(items: list[Field], rules: Field, findings: Findings) -> None:
    for item in items:
        item.record("role", "apiKey", "apiVersion", "clientID", "topic")
        role, key = item.get("role"), item.get("apiKey")
        if role is not None and key is not None:
            raise key.invalid("role and apiKey exclude each other")
        if role is not None:
            role.one_of(("produce", "consume"))
        for name in ("apiKey", "apiVersion", "clientID", "topic"):
            if (given := item.get(name)) is not None:
                given.string(max_length=255)
    findings.not_enforced(rules, "Kafka rules")


def _tls(rule: Field, findings: Findings) -> None:
    for name in ("terminatingTLS", "originatingTLS"):
        field = rule.get(name)
        if field is None:
            continue
        field.record("secret", "trustedCA", "certificate", "privateKey")
        _secret(field.need("secret"))
        for part in ("trustedCA", "certificate", "privateKey"):
            if (given := field.get(part)) is not None:
                given.string()
        findings.not_enforced(field, name)


def _server_names(rule: Field, parsed: Parsed, findings: Findings) -> None:
    """L12."""
    field = rule.get("serverNames")
    if field is None:
        return
    items = field.items()
    for item in items:
        names.server_name(item)
    if items and parsed.parser and rule.get("terminatingTLS") is None:
        raise field.invalid("server names beside L7 rules need terminatingTLS")
    findings.not_enforced(field, "serverNames")


def _listener(rule: Field, direction: Direction, parsed: Parsed, findings: Findings) -> None:
    """L12."""
    field = rule.get("listener")
    if field is None:
        return
    field.record("envoyConfig", "name", "priority")
    field.need("name").text()
    config = field.need("envoyConfig").record("kind", "name")
    check_name(config.need("name"))
    kind, priority = config.get("kind"), field.get("priority")
    if kind is not None:
        kind.one_of(("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"))
    if priority is not None:
        priority.integer(1, 100)
    if direction is Direction.INGRESS:
        raise field.invalid("a listener is for egress only")
    if parsed.parser:
        raise field.invalid("a listener and L7 rules exclude each other")
    findings.not_enforced(field, "listener")
