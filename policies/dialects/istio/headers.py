"""`headers` of rules and destinations: what to set, add and remove.

Values are literal in the model: `%%` is taken apart here. What stands between two `%` is Envoy's language of
formatters, which Weft does not speak: refused, for a literal `%REQ(x)%` in a header would be a wrong value.
"""

from __future__ import annotations

import re

from weft.policies.dialects.fields import Field, shown
from weft.policies.dialects.istio.values import header_name
from weft.policies.mesh.model import HeaderChanges

AUTHORITY = ("host", ":authority")

_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PERCENT = re.compile(r"%(%|[^%]*%)?")


def changes(holder: Field) -> tuple[HeaderChanges | None, HeaderChanges | None]:
    """(to the request, to the response) of a rule or a destination."""
    field = holder.get("headers")
    if field is None:
        return None, None
    field.record("request", "response")
    return _operations(field, "request", authority=True), _operations(field, "response", authority=False)


def sets_authority(request: HeaderChanges | None) -> bool:
    return request is not None and any(name == "host" for name, _ in (*request.set, *request.add))


def _operations(field: Field, side: str, *, authority: bool) -> HeaderChanges | None:
    given = field.get(side)
    if given is None:
        return None
    given.record("set", "add", "remove")
    remove = given.get("remove")
    found = HeaderChanges(
        set=_pairs(given.get("set"), authority=authority),
        add=_pairs(given.get("add"), authority=authority),
        remove=tuple(_name(item, item.text()) for item in remove.items()) if remove is not None else (),
    )
    return found if found.set or found.add or found.remove else None


def _pairs(field: Field | None, *, authority: bool) -> tuple[tuple[str, str], ...]:
    if field is None:
        return ()
    return tuple((_name(value, key, authority=authority), literal(value)) for key, value in field.entries())


def _name(field: Field, text: str, *, authority: bool = False) -> str:
    """`:authority` and `host` are one, in requests alone; the other parts of the head are nobody's to change."""
    if text.lower() in AUTHORITY and authority:
        return "host"
    if text.startswith(":") or text.lower() == "host":
        raise field.invalid(f"{shown(text)} cannot be changed here")
    return header_name(field, text)


def literal(field: Field) -> str:
    """A header's value without what Envoy would put into it."""
    text = field.string()
    if _BAD_IN_VALUE.search(text):
        raise field.invalid(f"{shown(text)} has characters that no header may have")

    def plain(match: re.Match[str]) -> str:
        if match[1] is None:
            raise field.invalid(f"{shown(text)}: a % that stands for itself is written %%")
        if match[1] != "%":
            raise field.invalid(f"{match[0]}: formatters in headers", not_enforced=True)
        return "%"

    return _PERCENT.sub(plain, text)
