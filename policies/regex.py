"""RE2 patterns that take time linear in the text, whoever wrote them: what judges requests uses no other.

Syntax is read strictly (`dialects.re2`, the same refusals with the same words), matching is done by google-re2. A
pattern without any sign that means something is compared as a string.
"""

from __future__ import annotations

from typing import Final, Protocol

from weft.policies.dialects.re2 import BadPattern, translate

__all__ = ["BadPattern", "Pattern", "compile_linear"]

#: Bytes that one compiled pattern may take, RE2's own default. Beyond it RE2 refuses the pattern.
MEMORY: Final = 8 << 20
_SIGNS: Final = frozenset("\\.+*?()|[]{}^$")


class Pattern(Protocol):
    def fullmatch(self, text: str) -> object | None:
        """None: the whole text does not match."""


class Literal:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def fullmatch(self, text: str) -> object | None:
        return True if text == self.text else None


def compile_linear(pattern: str) -> Pattern:
    """Raises `BadPattern`. Compile once and keep it: it takes some 50 us."""
    translate(pattern)
    if _SIGNS.isdisjoint(pattern):
        return Literal(pattern)
    import re2  # the command line starts without it

    options = re2.Options()
    options.log_errors, options.max_mem = False, MEMORY
    try:
        return re2.compile(pattern, options)  # type: ignore[no-any-return]
    except re2.error as error:
        reason = error.args[0] if error.args else "refused"
        raise BadPattern(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
