"""DNS names in policies: `matchName`, `matchPattern` (C8), and TLS server names. Checked, not enforced.

All checks are linear: Cilium's own expressions (`^([-a-zA-Z0-9_]+[.]?)+$`) would take for ever in a backtracking
engine.
"""

from __future__ import annotations

import re

from weft.policies.dialects.fields import Field, shown

MAX_NAME = 255
_NAME = re.compile(r"[-a-zA-Z0-9_]+(?:\.[-a-zA-Z0-9_]+)*\.?\Z")
_PATTERN = re.compile(r"[-a-zA-Z0-9_*]+(?:\.[-a-zA-Z0-9_*]+)*\.?\Z")


def match(field: Field) -> None:
    """`{matchName: ...}` or `{matchPattern: ...}`."""
    field.record("matchName", "matchPattern")
    name, pattern = field.get("matchName"), field.get("matchPattern")
    if (name is None) == (pattern is None):
        raise field.invalid("needs exactly one of matchName and matchPattern")
    if name is not None:
        _check(name, _NAME, "DNS name")
    if pattern is not None:
        _check(pattern, _PATTERN, "DNS pattern")


def server_name(field: Field) -> None:
    """A TLS server name: `*` for one label or a part of one, a leading `**.` for one or more labels."""
    _check(field, _PATTERN, "server name")


def _check(field: Field, pattern: re.Pattern[str], what: str) -> None:
    text = field.text()
    if len(text) > MAX_NAME or not pattern.match(text):
        stars = ", '*'" if pattern is _PATTERN else ""
        raise field.invalid(
            f"{shown(text)} is no {what}: labels of letters, digits, '-', '_'{stars}, joined by single dots"
        )
