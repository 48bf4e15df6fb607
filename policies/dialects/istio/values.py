"""The small things that Istio's messages are made of: durations, percentages, names of headers, string matches.

In: a `Field`; out: a value of Python's own or of `mesh.model`, or `Invalid` at that field. A field that is left out
is the caller's business; null is refused, as the API server refuses it for these kinds.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

import re2

from weft.policies.dialects.fields import Field, shown
from weft.policies.dialects.metadata import checked_labels
from weft.policies.dialects.re2 import BadPattern, compile_pattern
from weft.policies.mesh.model import How, Matcher

UINT32 = 2**32 - 1
INT32 = 2**31 - 1
#: Istio's own limit; Envoy's program size is bounded by it.
MAX_REGEX = 1024
#: protobuf's, about 10,000 years.
_MAX_SECONDS = 315_576_000_000
_UNITS = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}
_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(h|ms|m|us|µs|ns|s)", re.ASCII)
#: RFC 9110 token.
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_QUIET = re2.Options()
_QUIET.log_errors = False


def duration(field: Field, *, zero: bool = False) -> float:
    """Seconds, of `1h30m`, `1.5s`, `100ms`: at least one millisecond and whole ones. `zero`: `0s` is taken too."""
    text = field.string(max_length=64)
    total, at = Fraction(0), 0
    while at < len(text) and (part := _PART.match(text, at)):
        total += Fraction(part[1].rstrip(".")) * _UNITS[part[2]]
        at = part.end()
    if not text or (at < len(text) and text != "0"):
        raise field.invalid(
            f"{shown(text)} is no duration: a number and a unit each, such as 10s, 1.5s, 100ms, 1h30m"
        )
    if total > _MAX_SECONDS:
        raise field.invalid(f"{shown(text)} is longer than {_MAX_SECONDS} seconds")
    if total == 0 and not zero:
        raise field.invalid(f"{shown(text)}: must be at least 1ms")
    if (total * 1000).denominator != 1:
        raise field.invalid(f"{shown(text)}: whole milliseconds only")
    return float(total)


def number(field: Field, low: float, high: float) -> float:
    """A whole number or a fraction."""
    value = field.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise field.invalid("must be a number" + ("" if value is None else f", is {shown(value)}"))
    if not low <= value <= high or math.isnan(value):
        raise field.invalid(f"must be {low:g} to {high:g}, is {shown(value)}")
    return float(value)


def percentage(field: Field) -> float:
    """`{value: 0.1}`; without a value it is 0, as protobuf has it."""
    value = field.record("value").get("value")
    return number(value, 0, 100) if value is not None else 0.0


def optional_percentage(parent: Field, name: str) -> float | None:
    field = parent.get(name)
    return percentage(field) if field is not None else None


def flag(parent: Field, name: str, default: bool = False) -> bool:
    field = parent.get(name)
    return field.boolean() if field is not None else default


def text_of(parent: Field, name: str, max_length: int = 4096) -> str:
    """ "" if it is left out."""
    field = parent.get(name)
    return field.string(max_length) if field is not None else ""


def port(field: Field) -> int:
    return field.integer(1, 65535)


def optional_port(parent: Field, name: str = "port") -> int:
    """0 if it is left out."""
    field = parent.get(name)
    return port(field) if field is not None else 0


def dns_label(field: Field) -> str:
    text = field.text()
    if not _LABEL.match(text):
        raise field.invalid(
            f"{shown(text)}: at most 63 characters a-z, 0-9 and '-', first and last a letter or digit"
        )
    return text


def header_name(field: Field, name: str) -> str:
    """Lower case; the error is told at `field`."""
    if not _TOKEN.match(name):
        raise field.invalid(f"{shown(name)} is no name of a header")
    return name.lower()


def regex(field: Field) -> str:
    """RE2's, as the proxy will run it, and in the part of it that all of Weft's programs read."""
    text = field.text()
    if len(text) > MAX_REGEX:
        raise field.invalid(f"a regular expression of more than {MAX_REGEX} characters")
    try:
        compile_pattern(text)
        re2.compile(text, _QUIET)
    except (BadPattern, re2.error) as error:
        said = error.args[0] if error.args else ""
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise field.invalid(f"{shown(text)} is no regular expression of RE2: {said}") from None
    except UnicodeEncodeError:
        raise field.invalid(f"{shown(text)} has half of a surrogate pair") from None
    return text


def string_match(field: Field, *, ignore_case: bool = False, invert: bool = False) -> Matcher:
    """`{exact: ...}`, `{prefix: ...}` or `{regex: ...}`; `{}` is any value."""
    field.record("exact", "prefix", "regex")
    given = [(how, found) for how in ("exact", "prefix", "regex") if (found := field.get(how)) is not None]
    if len(given) > 1:
        raise field.invalid("exact, prefix and regex exclude each other")
    if not given:
        return Matcher(How.PRESENT, invert=invert)
    how, value = given[0]
    if how == "regex":
        return Matcher(How.REGEX, regex(value), invert=invert)
    text = value.text() if how == "prefix" else value.string()
    return Matcher(How(how), text, ignore_case, invert)


def created_of(root: Field) -> str:
    """RFC 3339, as the API server wrote it; "": it did not. Older objects win, and only the text is compared."""
    stamp = root.need("metadata").lax("creationTimestamp")
    return stamp.string(max_length=64) if stamp is not None else ""


def selector_labels(field: Field, name: str) -> tuple[tuple[str, str], ...]:
    """Of a selector that knows equality alone, under `name`."""
    labels = field.record(name).get(name)
    found = checked_labels(labels) if labels is not None else {}
    return tuple(sorted(found.items()))
