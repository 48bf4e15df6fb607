"""Reads parts of a Pod manifest and refuses, with their path, those that are not what they should be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.policies.errors import Invalid, Where


class Reader:
    def __init__(self, manifest: Mapping[str, Any], images: Mapping[str, str]) -> None:
        self.metadata: Mapping[str, Any] = manifest["metadata"]
        self.spec: Mapping[str, Any] = manifest.get("spec") or {}
        self.object = f"Pod {self.metadata.get('namespace', 'default')}/{self.metadata['name']}"
        self.images = images
        self.warnings: list[str] = []

    def refuse(self, path: str, reason: str) -> Invalid:
        return Invalid(Where(object=self.object, path=path), reason)

    def number(self, value: Any, path: str, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refuse(path, f"expected a number from {low} to {high}")
        return value

    def mappings(self, value: Any, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The mappings of a list, each with its path; null is the empty list."""
        if not isinstance(value or [], list) or not all(isinstance(each, dict) for each in value or []):
            raise self.refuse(path, "expected a list of mappings")
        return [(f"{path}[{i}]", each) for i, each in enumerate(value or [])]

    def strings(self, value: Any, path: str) -> tuple[str, ...]:
        if not isinstance(value or [], list) or not all(isinstance(each, str) for each in value or []):
            raise self.refuse(path, "expected a list of strings")
        return tuple(value or ())
