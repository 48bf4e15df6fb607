"""Patterns of flow filters: names with `*`, node names, and regular expressions of clients.

Hubble's filters are RE2, which never takes long. Python's can: what RE2 has not (look-around, back references)
is refused, and so is what makes backtracking explode (a repeat or an alternative inside a repeat).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as _ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

MAX_LENGTH: Final = 1000
_MAX_WAYS: Final = 1000
_NAME: Final = r"(?:[-0-9_a-z]+(?:\.[-0-9_a-z]+)*)"
_REPEATS: Final = (_ops.MAX_REPEAT, _ops.MIN_REPEAT)
_NOT_RE2: Final = (
    _ops.ASSERT, _ops.ASSERT_NOT, _ops.GROUPREF, _ops.GROUPREF_EXISTS, _ops.ATOMIC_GROUP, _ops.POSSESSIVE_REPEAT,
)  # fmt: skip


def names(patterns: Iterable[str]) -> re.Pattern[str]:
    """Domain names with `*`, which also matches dots. Any of them, whole, in lower case."""
    return re.compile("|".join(_name(pattern) for pattern in patterns))


def nodes(patterns: Iterable[str]) -> re.Pattern[str]:
    """`node`, `cluster/node`, `cluster/`: matched against `cluster/node`."""
    return re.compile("|".join(_node(pattern) for pattern in patterns))


def _node(pattern: str) -> str:
    if not pattern:
        raise ValueError("empty pattern")
    if pattern.count("/") > 1:
        raise ValueError(f"too many slashes in pattern {pattern!r}")
    cluster, _, node = pattern.rpartition("/")
    return f"{_name(cluster) if cluster else _NAME}/{_name(node) if node else _NAME}"


def _name(pattern: str) -> str:
    text = pattern.strip().removesuffix(".").lower()
    if not text:
        raise ValueError("empty pattern")
    if text.endswith("."):
        raise ValueError(f"multiple trailing dots in pattern {pattern!r}")
    if bad := re.sub(r"[-._*0-9a-z]", "", text):
        raise ValueError(f"{bad[0]!r}: invalid character in pattern {pattern!r}")
    return re.sub(r"\*+", "[-.0-9a-z]*", text.replace(".", r"\."))


def regex(pattern: str) -> re.Pattern[str]:
    """For `search`. ValueError: too long, not a regular expression, or one that could take very long."""
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"regular expression of {len(pattern)} characters, at most {MAX_LENGTH}")
    try:
        compiled = re.compile(pattern)
        _ways(_parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern}: {error}") from None
    return compiled


def _ways(parsed: Iterable[tuple[Any, Any]]) -> float:
    """In how many ways a text can be tried: what a repeat around it is raised to. re.error: too many."""
    ways = 1.0
    for op, argument in parsed:
        if op in _NOT_RE2:
            raise re.error("look-around, back references and possessive repeats are not supported")
        if op in _REPEATS:
            least, most, inner = argument
            inside = _ways(inner)
            if inside > 1 and most > 1 and inside ** min(most, 100) > _MAX_WAYS:
                raise re.error("a repeat or an alternative inside a repeat is not supported")
            ways *= float("inf") if most is _ops.MAXREPEAT else most - least + 1
        elif op is _ops.SUBPATTERN:
            ways *= _ways(argument[-1])
        elif op is _ops.BRANCH:
            ways *= sum(_ways(branch) for branch in argument[1])
    return ways
