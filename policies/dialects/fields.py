"""The typed way into a document: a `Field` knows its value, and where it stands if the value is wrong.

The rule: a dialect never touches a raw value. It asks a field for what it should be (`string()`, `items()`,
`record(...)`) and gets that or `Invalid` with file, line, object and path. Paths are put together only when
something is refused, so a correct document pays nothing for them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from weft.policies.errors import Invalid, Where
from weft.policies.yamldoc import Document

_NAMES = {dict: "a mapping", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}


class Field:
    """One value of a document. `value` None is null: refused wherever a value is asked for, because
    "left out" and "empty" mean different things in policies and null says neither."""

    __slots__ = ("_document", "_name", "_parent", "_step", "value")

    def __init__(self, document: Document, name: str) -> None:
        self.value: Any = document.value
        self._document = document
        self._name = name
        self._parent: Field | None = None
        self._step: str | int = ""

    def _child(self, step: str | int, value: Any) -> Field:
        child = Field.__new__(Field)
        child.value = value
        child._document = self._document
        child._name = self._name
        child._parent = self
        child._step = step
        return child

    # Where it stands

    def steps(self) -> tuple[str | int, ...]:
        found: list[str | int] = []
        at: Field | None = self
        while at is not None and at._parent is not None:
            found.append(at._step)
            at = at._parent
        return tuple(reversed(found))

    @property
    def path(self) -> str:
        return _path(self.steps())

    @property
    def where(self) -> Where:
        document = self._document
        return Where(document.file, document.line_at(self.steps()), self._name, self.path)

    def invalid(self, reason: str, *, not_enforced: bool = False) -> Invalid:
        """To be raised by the caller: `raise field.invalid("...")`."""
        return Invalid(self.where, reason, not_enforced=not_enforced)

    # What it is

    def _is(self, kind: type) -> Any:
        if type(self.value) is not kind:
            raise self.invalid(_mismatch(kind, self.value))
        return self.value

    def string(self, max_length: int = 4096) -> str:
        text: str = self._is(str)
        if len(text) > max_length:
            raise self.invalid(f"longer than {max_length} characters")
        return text

    def text(self) -> str:
        """A string that says something."""
        text = self.string()
        if not text:
            raise self.invalid("must not be empty")
        return text

    def boolean(self) -> bool:
        value: bool = self._is(bool)
        return value

    def integer(self, low: int, high: int) -> int:
        value: int = self._is(int)
        if not low <= value <= high:
            raise self.invalid(f"must be {low} to {high}, is {value}")
        return value

    def one_of(self, choices: Collection[str]) -> str:
        text = self.string()
        if text not in choices:
            raise self.invalid(f"{shown(text)} is not one of {', '.join(choices)}")
        return text

    def items(self, at_most: int | None = None) -> list[Field]:
        values = self._is(list)
        if at_most is not None and len(values) > at_most:
            raise self.invalid(f"{len(values)} entries, at most {at_most} are allowed")
        return [self._child(index, value) for index, value in enumerate(values)]

    def mapping(self) -> dict[str, Any]:
        """A mapping that is taken as it is: what is inside is another's to read."""
        value: dict[str, Any] = self._is(dict)
        return value

    def entries(self) -> Iterator[tuple[str, Field]]:
        """Of a mapping whose keys are free, like labels."""
        for key, value in self._is(dict).items():
            yield key, self._child(key, value)

    def strings(self) -> dict[str, str]:
        """A mapping of strings to strings (labels, annotations)."""
        return {key: field.string(max_length=1 << 20) for key, field in self.entries()}

    # What it holds

    def record(self, *known: str) -> Field:
        """Itself, once it is a mapping with no other keys than `known`."""
        for key in self._is(dict):
            if key not in known:
                raise self._child(key, None).invalid(_unknown(key, known))
        return self

    def get(self, key: str) -> Field | None:
        """The field under `key`, None if it is left out."""
        mapping = self._is(dict)
        return self._child(key, mapping[key]) if key in mapping else None

    def lax(self, key: str) -> Field | None:
        """As `get`, with null the same as left out: what the Kubernetes API server does with its own kinds."""
        mapping = self._is(dict)
        value = mapping.get(key)
        return None if value is None else self._child(key, value)

    def need(self, key: str) -> Field:
        found = self.get(key)
        if found is None:
            raise self._child(key, None).invalid("is missing")
        return found


class Findings:
    """What reading a policy found that is no error: warnings for the user, and what Weft does not enforce yet.

    The second refuses the whole policy, but only once all of it was read: whoever gets "not enforced yet" knows
    that nothing else is wrong.
    """

    def __init__(self) -> None:
        self._warnings: list[str] = []
        self._not_enforced: list[tuple[Field, str]] = []

    def warn(self, field: Field, sentence: str) -> None:
        self._warnings.append(f"{field.path}: {sentence}")

    def not_enforced(self, field: Field, what: str) -> None:
        self._not_enforced.append((field, what))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def settle(self) -> None:
        """Raises `Invalid(not_enforced=True)` if there is anything to raise it for."""
        if self._not_enforced:
            field, what = self._not_enforced[0]
            more = len(self._not_enforced) - 1
            also = f" (and {more} more of the kind)" if more else ""
            reason = f"{what}: not enforced yet, so the whole policy is refused{also}"
            raise field.invalid(reason, not_enforced=True)


def shown(value: object) -> str:
    """A value as an error message quotes it: JSON-like and short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:57] + "..."


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}\Z")


def _path(steps: tuple[str | int, ...]) -> str:
    """`spec.ingress[2].fromEndpoints[0].matchLabels["k8s:app"]`"""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.match(step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def _mismatch(kind: type, value: object) -> str:
    is_ = "null" if value is None else _NAMES.get(type(value), "a number")
    if value is None:
        return f"must be {_NAMES[kind]}, is null: leave the field out, or give it a value"
    if kind is str and isinstance(value, bool | int | float):
        return f"must be a string, is {is_} ({shown(value)}): put it in quotes"
    if kind is int and isinstance(value, str):
        return f"must be a whole number, is a string ({shown(value)}): without quotes"
    return f"must be {_NAMES[kind]}, is {is_}"


def _unknown(key: str, known: tuple[str, ...]) -> str:
    for name in known:
        if name.lower() == key.lower():
            return f"unknown field, did you mean {name}?"
    return f"unknown field, known here: {', '.join(known)}"
