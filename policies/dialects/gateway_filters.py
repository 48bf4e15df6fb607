"""Filters of Gateway API's routes -> what `mesh.model` has for them. In: a rule's or a backend's `filters`.

A filter that is not known, or not possible where it stands, must not be skipped (the standard says so): the
requests of that rule get 500, and the warning says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import UINT32, header_name, number
from weft.policies.mesh.model import Cors, HeaderChanges, How, Matcher, Redirect, Rewrite

_STATUSES = (301, 302, 303, 307, 308)
_NAMES = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "RequestMirror": "requestMirror",
    "CORS": "cors",
    "ExtensionRef": "extensionRef",
}


@dataclass(slots=True)
class Filters:
    """`broken`: why requests cannot be served as asked; "": they can."""

    request_headers: HeaderChanges | None = None
    response_headers: HeaderChanges | None = None
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: list[Field] = field(default_factory=list)  # each a RequestMirror, for who knows backends
    cors: Cors | None = None
    broken: str = ""


def read(holder: Field, findings: Findings, *, grpc: bool = False) -> Filters:
    found = Filters()
    listed = holder.lax("filters")
    for item in listed.items(at_most=16) if listed is not None else []:
        item.record("type", *_NAMES.values())
        kind = item.need("type").text()
        if kind not in _NAMES:
            raise item.need("type").invalid(f"{shown(kind)} is not one of {', '.join(_NAMES)}")
        for other in _NAMES.values():
            if other != _NAMES[kind] and (given := item.lax(other)) is not None:
                raise given.invalid(f"does not belong to a filter of type {kind}")
        _take(found, kind, item.need(_NAMES[kind]), findings, grpc)
    if found.redirect is not None and found.rewrite is not None:
        raise holder.need("filters").invalid("RequestRedirect and URLRewrite exclude each other")
    return found


def _take(found: Filters, kind: str, given: Field, findings: Findings, grpc: bool) -> None:
    if kind == "ExtensionRef" or (grpc and kind in ("RequestRedirect", "URLRewrite", "CORS")):
        found.broken = f"{kind} is not served here"
        findings.warn(given, f"{found.broken}: its requests get 500")
        return
    if kind == "RequestMirror":
        found.mirrors.append(given)
        return
    name, value = _READERS[kind](given)
    if getattr(found, name) is not None:
        raise given.invalid(f"{kind} is there twice")
    setattr(found, name, value)


def _headers(given: Field) -> HeaderChanges:
    given.record("set", "add", "remove")
    remove = given.lax("remove")
    names = tuple(header_name(item, item.text()) for item in remove.items()) if remove is not None else ()
    return HeaderChanges(_pairs(given.lax("set")), _pairs(given.lax("add")), names)


def _pairs(listed: Field | None) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in listed.items(at_most=16) if listed is not None else []:
        item.record("name", "value")
        name = header_name(item.need("name"), item.need("name").text())
        found.setdefault(name, header_value(item.need("value")))
    return tuple(found.items())


def header_value(field: Field) -> str:
    text = field.text()
    if any(ord(letter) < 32 and letter != "\t" for letter in text) or "\x7f" in text:
        raise field.invalid("a header's value has no control characters")
    return text


def _request_headers(given: Field) -> tuple[str, Any]:
    return "request_headers", _headers(given)


def _response_headers(given: Field) -> tuple[str, Any]:
    return "response_headers", _headers(given)


def _redirect(given: Field) -> tuple[str, Any]:
    given.record("scheme", "hostname", "path", "port", "statusCode")
    scheme, hostname = given.lax("scheme"), given.lax("hostname")
    port, status = given.lax("port"), given.lax("statusCode")
    full, prefix = _path(given.lax("path"))
    chosen = scheme.one_of(("http", "https")) if scheme is not None else ""
    number = port.integer(1, 65535) if port is not None else 0
    code = status.integer(300, 399) if status is not None else 302
    if status is not None and code not in _STATUSES:
        raise status.invalid(f"{code} is not one of {', '.join(map(str, _STATUSES))}")
    # Without a port: the scheme's own where one is named, else the port that the request came to.
    derive = "" if number else ("protocol" if chosen else "request")
    return "redirect", Redirect(
        chosen, hostname.text() if hostname is not None else "", number, derive, full, prefix, code
    )


def _rewrite(given: Field) -> tuple[str, Any]:
    given.record("hostname", "path")
    hostname = given.lax("hostname")
    full, prefix = _path(given.lax("path"))
    return "rewrite", Rewrite(full, prefix, authority=hostname.text() if hostname is not None else "")


def _path(given: Field | None) -> tuple[str, str | None]:
    """(the whole path or "", the prefix or None)."""
    if given is None:
        return "", None
    given.record("type", "replaceFullPath", "replacePrefixMatch")
    kind = given.need("type").one_of(("ReplaceFullPath", "ReplacePrefixMatch"))
    value = given.need(kind[0].lower() + kind[1:])
    text = value.string(1024)
    return (text or "/", None) if kind == "ReplaceFullPath" else ("", text)


def percent(given: Field) -> float:
    """Of a RequestMirror: `percent`, or `fraction`; neither: all."""
    whole, fraction = given.lax("percent"), given.lax("fraction")
    if whole is not None and fraction is not None:
        raise fraction.invalid("percent and fraction exclude each other")
    if whole is not None:
        return float(whole.integer(0, 100))
    if fraction is None:
        return 100.0
    fraction.record("numerator", "denominator")
    below = fraction.lax("denominator")
    denominator = below.integer(1, UINT32) if below is not None else 100
    numerator = fraction.need("numerator").integer(0, UINT32)
    if numerator > denominator:
        raise fraction.invalid("is more than one")
    return 100.0 * numerator / denominator


def _cors(given: Field) -> tuple[str, Any]:
    given.record("allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge", "allowCredentials")
    age, credentials = given.lax("maxAge"), given.lax("allowCredentials")
    origins = given.lax("allowOrigins")
    return "cors", Cors(
        tuple(_origin(item) for item in origins.items(at_most=64)) if origins is not None else (),
        _texts(given, "allowMethods"),
        _texts(given, "allowHeaders"),
        _texts(given, "exposeHeaders"),
        number(age, 1, UINT32) if age is not None else 5.0,
        credentials.boolean() if credentials is not None else False,
        False,
    )


def _origin(item: Field) -> Matcher:
    """`*`, `https://a.example`, `https://*.example`, `*://a.example`."""
    text = item.text()
    if text == "*":
        return Matcher(How.PRESENT)
    if "*" not in text:
        return Matcher(How.EXACT, text)
    escaped = "".join("\\" + letter if letter in r".+?()[]{}|^$\\" else letter for letter in text)
    return Matcher(How.REGEX, escaped.replace("*", "[^/]+"))


def _texts(given: Field, name: str) -> tuple[str, ...]:
    listed = given.lax(name)
    return tuple(item.text() for item in listed.items(at_most=64)) if listed is not None else ()


_READERS = {
    "RequestHeaderModifier": _request_headers,
    "ResponseHeaderModifier": _response_headers,
    "RequestRedirect": _redirect,
    "URLRewrite": _rewrite,
    "CORS": _cors,
}
