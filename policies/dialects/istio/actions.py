"""What a rule does besides routing: redirect, direct response, rewrite, CORS."""

from __future__ import annotations

import base64
import binascii

import re2

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import (
    duration,
    flag,
    header_name,
    optional_port,
    regex,
    string_match,
    text_of,
)
from weft.policies.mesh.model import Cors, DirectResponse, How, Matcher, Redirect, Rewrite

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "*")
_DERIVED = {"FROM_PROTOCOL_DEFAULT": "protocol", "FROM_REQUEST_PORT": "request"}
_MAX_BODY, _LARGE_BODY = 1 << 20, 100 << 10


def redirect(rule: Field) -> Redirect | None:
    """`uri` replaces the whole path, `prefixRewrite` the prefix that matched."""
    field = rule.get("redirect")
    if field is None:
        return None
    field.record("uri", "authority", "port", "derivePort", "scheme", "redirectCode", "prefixRewrite")
    scheme, derived, code = field.get("scheme"), field.get("derivePort"), field.get("redirectCode")
    prefix, authority = field.get("prefixRewrite"), field.get("authority")
    if derived is not None and field.get("port") is not None:
        raise derived.invalid("port and derivePort exclude each other")
    host, own_port = _authority(authority) if authority is not None and authority.string() else ("", 0)
    if own_port and (derived is not None or field.get("port") is not None) and authority is not None:
        raise authority.invalid("has a port, and there is another beside it")
    if prefix is not None and text_of(field, "uri"):
        raise prefix.invalid("uri and prefixRewrite exclude each other")
    found = Redirect(
        scheme=scheme.one_of(("http", "https", "")) if scheme is not None else "",
        host=host,
        port=optional_port(field) or own_port,
        derive_port=_DERIVED[derived.one_of(_DERIVED)] if derived is not None else "",
        path=_path(field, "uri"),
        prefix=_path(field, "prefixRewrite") if prefix is not None else None,
        status=code.integer(300, 399) if code is not None else 301,
    )
    if not (found.path or found.host or found.scheme or found.port or derived or prefix is not None):
        raise field.invalid("needs uri, authority, scheme or port")
    return found


def _path(field: Field, name: str) -> str:
    """A path that may stand in a head."""
    text = text_of(field, name)
    if any(sign <= " " or sign == "\x7f" for sign in text):
        raise field.need(name).invalid(f"{shown(text)} has characters that no path may have")
    return text


def _authority(field: Field) -> tuple[str, int]:
    """`host` or `host:port`; 0: no port."""
    text = field.string()
    name, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536) or text.endswith("]"):
        name, port = text, "0"
    bare = name.removeprefix("[").removesuffix("]")
    if not bare or any(sign <= " " or sign in "/@?#\x7f" for sign in bare) or (":" in bare and bare == name):
        raise field.invalid(f"{shown(text)} is no authority: host, or host:port")
    return name, int(port)


def direct(rule: Field, findings: Findings) -> DirectResponse | None:
    field = rule.get("directResponse")
    if field is None:
        return None
    field.record("status", "body")
    status, body = field.need("status").integer(200, 599), field.get("body")
    content = _body(body) if body is not None else b""
    if body is not None and len(content) > _LARGE_BODY:
        findings.warn(body, "is large, and every node keeps it in memory")
    return DirectResponse(status, content)


def _body(field: Field) -> bytes:
    field.record("string", "bytes")
    plain, encoded = field.get("string"), field.get("bytes")
    if plain is not None and encoded is not None:
        raise field.invalid("string and bytes exclude each other")
    content = b""
    if plain is not None:
        content = plain.string(max_length=_MAX_BODY).encode("utf-8", "surrogatepass")
    elif encoded is not None:
        try:
            content = base64.b64decode(encoded.string(max_length=2 * _MAX_BODY), validate=True)
        except (binascii.Error, ValueError):
            raise encoded.invalid("must be in base64") from None
    if len(content) > _MAX_BODY:
        raise field.invalid(f"larger than {_MAX_BODY >> 20} MiB")
    return content


def rewrite(rule: Field) -> Rewrite | None:
    """`uri` comes out as `prefix`, whatever it replaces: `rules` knows what the request was matched by."""
    field = rule.get("rewrite")
    if field is None:
        return None
    field.record("uri", "authority", "uriRegexRewrite")
    uri, expression = _path(field, "uri"), field.get("uriRegexRewrite")
    given = field.get("authority")
    authority = given.string() if given is not None else ""
    if given is not None and authority:
        _authority(given)
    if uri and expression is not None:
        raise expression.invalid("uri and uriRegexRewrite exclude each other")
    if not uri and not authority and expression is None:
        raise field.invalid("needs uri, uriRegexRewrite or authority")
    if expression is None:
        return Rewrite(prefix=uri or None, authority=authority)
    expression.record("match", "rewrite")
    pattern, substitution = regex(expression.need("match")), expression.need("rewrite")
    _check_substitution(substitution, pattern)
    return Rewrite(regex=pattern, substitution=substitution.text(), authority=authority)


def _check_substitution(field: Field, pattern: str) -> None:
    """RE2's: `\\0` to `\\9` are groups, `\\\\` is a backslash."""
    text, groups = field.text(), re2.compile(pattern).groups
    at = text.find("\\")
    while at >= 0:
        sign = text[at + 1 : at + 2]
        if not (sign == "\\" or (sign.isascii() and sign.isdigit() and int(sign) <= groups)):
            raise field.invalid(f"{shown(text)}: \\0 to \\{groups} stand for groups, \\\\ for a backslash")
        at = text.find("\\", at + 2)


def cors(rule: Field, findings: Findings) -> Cors | None:
    field = rule.get("corsPolicy")
    if field is None:
        return None
    field.record(
        *("allowOrigin", "allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"),
        *("allowCredentials", "unmatchedPreflights"),
    )
    age, unmatched = field.get("maxAge"), field.get("unmatchedPreflights")
    seconds = duration(age, zero=True) if age is not None else None
    if age is not None and seconds is not None and seconds % 1:
        raise age.invalid("whole seconds only")
    preflights = unmatched.one_of(("UNSPECIFIED", "FORWARD", "IGNORE")) if unmatched is not None else "FORWARD"
    return Cors(
        allow_origins=_origins(field, findings),
        allow_methods=tuple(item.one_of(_METHODS) for item in _items(field, "allowMethods")),
        allow_headers=tuple(_cors_header(item) for item in _items(field, "allowHeaders")),
        expose_headers=tuple(_cors_header(item) for item in _items(field, "exposeHeaders")),
        max_age=seconds,
        allow_credentials=flag(field, "allowCredentials"),
        forward_unmatched=preflights != "IGNORE",
    )


def _items(field: Field, name: str) -> list[Field]:
    found = field.get(name)
    return found.items() if found is not None else []


def _cors_header(field: Field) -> str:
    """As written: it is sent to the browser."""
    text = field.text()
    header_name(field, text)
    return text


def _origins(field: Field, findings: Findings) -> tuple[Matcher, ...]:
    """`allowOrigin` is the old form: exact ones, or `*` for any."""
    found = []
    for item in _items(field, "allowOrigins"):
        match = string_match(item)
        if not match.value:
            raise item.invalid("needs exact, prefix or regex, and something in it")
        found.append(_any_origin(match))
    if (old := field.get("allowOrigin")) is not None:
        findings.warn(old, "allowOrigin is deprecated: use allowOrigins" + (", which wins here" if found else ""))
        named = [_any_origin(Matcher(How.EXACT, item.text())) for item in old.items()]
        found = found or named
    return tuple(found)


def _any_origin(match: Matcher) -> Matcher:
    return Matcher(How.PRESENT) if match.value == "*" and match.how is not How.REGEX else match
