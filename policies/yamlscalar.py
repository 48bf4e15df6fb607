"""What an unquoted YAML scalar means: the rules of go-yaml, because those are what `kubectl` reads manifests by.

Not YAML 1.2 (`yes` is true, `010` is eight) and not PyYAML (`1:30` and dates stay strings, `1e3` is a number).
"""

from __future__ import annotations

import math
import re

_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(_NULL),
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: -math.inf for word in (".inf", ".Inf", ".INF")},
}
_FIRST_OF_NUMBER = frozenset("+-.0123456789")
_INT = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))\Z")
_BASES = (16, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
#: Integers that Go holds; larger ones are floats, as in JSON.
_INT_RANGE = range(-(1 << 63), 1 << 64)
#: Longer than any double is ever printed (1,077 digits at the extreme, 25 in practice): infinite.
_MAX_DIGITS = 400


def resolve(text: str) -> str | int | float | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST_OF_NUMBER:
        return text
    if len(text) > _MAX_DIGITS:
        return math.inf if _FLOAT.match(text) else text
    digits = text.replace("_", "")
    match = _INT.match(digits)
    if match:
        value = _integer(match)
        return value if value in _INT_RANGE else float(value)
    return float(digits) if _FLOAT.match(digits) else text


def _integer(match: re.Match[str]) -> int:
    for base, digits in zip(_BASES, match.groups()[1:], strict=True):
        if digits is not None:
            value = int(digits, base)
            return -value if match[1] == "-" else value
    raise AssertionError("one group always matches")
