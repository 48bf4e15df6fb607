"""The one error of everything that reads what people declare."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """Where in what people wrote: `file` ("" when it came by API), `line` (1-based, 0 unknown), `object` as
    `Kind ns/name` ("" before it is known) and `path` inside the object (`spec.ingress[2].toPorts[0]`)."""

    file: str = ""
    line: int = 0
    object: str = ""
    path: str = ""

    def __str__(self) -> str:
        file = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return ": ".join(part for part in (file, self.object, self.path) if part)


class Invalid(ValueError):
    """A declared thing that is refused. Nothing is changed by it; the last good version stays in force.

    `not_enforced` marks what is well-formed but what Weft does not enforce yet: refused, never ignored.
    """

    def __init__(self, where: Where, reason: str, *, not_enforced: bool = False) -> None:
        super().__init__(f"{where}: {reason}" if str(where) else reason)
        self.where = where
        self.reason = reason
        self.not_enforced = not_enforced
