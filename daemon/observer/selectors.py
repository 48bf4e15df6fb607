"""Label selectors as kubectl writes them (`app=web,tier in (a, b),!canary`), with Cilium's sources before keys
(`k8s:app=web`, `reserved:world`); a key without one matches any source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from weft.policies.labels import Label, Labels, Op, Requirement, Selector, split_source

_KEY: Final = r"[^\s=!,()<>]+"
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALS: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([^\s=!,()<>]*)")
_EXISTS: Final = re.compile(rf"(!?)\s*({_KEY})")


def parse(text: str) -> Selector:
    """ValueError says what is wrong with it. Empty: everything is selected."""
    return Selector(tuple(_requirement(part) for part in _split(text))) if text.strip() else Selector()


def _split(text: str) -> list[str]:
    """At commas that stand in no parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _requirement(text: str) -> Requirement:
    part = text.strip()
    if found := _SET.fullmatch(part):
        key, word, values = found.groups()
        op = Op.IN if word == "in" else Op.NOT_IN
        return _with_key(key, op, tuple(value.strip() for value in values.split(",")))
    if found := _EQUALS.fullmatch(part):
        key, sign, value = found.groups()
        return _with_key(key, Op.NOT_IN if sign == "!=" else Op.IN, (value,))
    if found := _EXISTS.fullmatch(part):
        missing, key = found.groups()
        return _with_key(key, Op.DOES_NOT_EXIST if missing else Op.EXISTS)
    raise ValueError(f"unable to parse label selector {text!r}")


def _with_key(text: str, op: Op, values: tuple[str, ...] = ()) -> Requirement:
    source, key = split_source(text)
    return Requirement(source, key, op, values)


def labels(texts: Iterable[str]) -> Labels:
    """A flow's labels, `source:key=value`; those without a source match `any:` keys only."""
    return _labels(tuple(texts))


@lru_cache(1024)
def _labels(texts: tuple[str, ...]) -> Labels:
    return Labels(Label.parse(text) for text in texts)
