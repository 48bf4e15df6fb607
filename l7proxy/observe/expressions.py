"""CEL expressions of Telemetry: filters of access logs, values of labels. Compiled once, run by the library `cel`.

The library is imported when somebody declares an expression: it is as large as the rest of the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Expressions:
    """`failed` counts evaluations that came to nothing, by expression: shown, for a filter that always fails logs
    everything."""

    def __init__(self) -> None:
        self.failed: dict[str, int] = {}
        self._compiled: dict[str, Any] = {}

    def problem(self, expression: str) -> str:
        """Why it cannot be compiled; "": it can."""
        try:
            self._program(expression)
        except ValueError as error:
            return f"{expression!r} is no CEL expression: {error}"
        return ""

    def holds(self, expression: str, facts: Mapping[str, object]) -> bool:
        """Of a filter. What cannot be told counts as true: rather a line too many than one that is missing."""
        value = self._value(expression, facts)
        return value if isinstance(value, bool) else True

    def text(self, expression: str, facts: Mapping[str, object]) -> str | None:
        """Of a label. None: there is no value."""
        value = self._value(expression, facts)
        if value is None:
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _value(self, expression: str, facts: Mapping[str, object]) -> object:
        try:
            return self._program(expression).execute(dict(facts))
        except Exception:  # the library raises what it likes: a missing key, a wrong type
            self.failed[expression] = self.failed.get(expression, 0) + 1
            return None

    def _program(self, expression: str) -> Any:
        program = self._compiled.get(expression)
        if program is None:
            import cel

            program = self._compiled[expression] = cel.compile(expression)
        return program
