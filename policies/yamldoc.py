"""YAML text to documents: the border where whatever bytes become plain values, or one `Invalid`.

The rule: time and memory are bounded by the length of the text, never by what the text means (`yamlbuilder`).

Scalars mean what they mean to `kubectl` (`yamlscalar`): `yes`, `on` and `y` are booleans, `010` is eight, `1e3` is
a number, a date is a string. Who wants a string there says "quote it"; nobody guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from weft.policies.errors import Invalid, Where
from weft.policies.yamlbuilder import Builder, Lines

#: A Kubernetes object is at most 1.5 MiB in etcd; a file may hold some thousands of ordinary ones.
MAX_BYTES = 8 << 20
MAX_DOCUMENTS = 20_000
#: A character beyond 16 bits as JSON's encoders escape it, or any other escape (to step over it).
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """One object as it was written. `value` is shared where the text has aliases: read it, never change it.

    `line` is where it starts (1-based, 0 unknown). `lines` has, for each list and mapping inside (by `id`), the
    line of each of its items; `line_at` walks it.
    """

    value: dict[str, Any]
    file: str = ""
    line: int = 0
    lines: Lines = field(default_factory=dict, repr=False, compare=False)

    def line_at(self, steps: tuple[str | int, ...]) -> int:
        """The line of the item that `steps` lead to, or of the last one on the way that has a line."""
        line, value = self.line, self.value
        for step in steps:
            line = self.lines.get(id(value), {}).get(step, line)
            try:
                value = value[step]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                break
        return line


def documents(text: str, file: str = "") -> list[Document]:
    """Every object of a file, in order; `kind: List` gives its items; empty documents give nothing.

    Raises `Invalid` with file and line for the first thing wrong, and then nothing of the file is to be used.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Invalid(Where(file), f"larger than {MAX_BYTES >> 20} MiB")
    if text.lstrip()[:1] == "{":
        text = _SURROGATES.sub(_joined, text)
    found: list[Document] = []
    for value, line, lines in Builder(text, file).documents():
        document = Document(value, file, line, lines)
        found.extend(_expand(document))
        if len(found) > MAX_DOCUMENTS:
            raise Invalid(Where(file, document.line), f"more than {MAX_DOCUMENTS} objects in one file")
    return found


def _joined(match: re.Match[str]) -> str:
    """YAML has no surrogates: the pair as the one character it stands for."""
    high, low = match.groups()
    if high is None:
        return match.group()
    return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))


def _expand(document: Document) -> Iterator[Document]:
    """A list object becomes its items; those of a typed list (`PodList`) take kind and version from it."""
    value, kind = document.value, document.value.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List") or not ("items" in value or kind == "List"):
        yield document
        return
    items = value.get("items")
    if items is None:
        return
    if not isinstance(items, list):
        raise Invalid(Where(document.file, document.line_at(("items",)), kind, "items"), "must be a list")
    inherited = {} if kind == "List" else {"apiVersion": value.get("apiVersion"), "kind": kind[:-4]}
    for index, item in enumerate(items):
        line = document.line_at(("items", index))
        if not isinstance(item, dict):
            raise Invalid(Where(document.file, line, kind, f"items[{index}]"), "must be an object")
        whole = {**inherited, **item} if inherited else item
        if whole is not item:
            document.lines[id(whole)] = document.lines.get(id(item), {})
        yield from _expand(Document(whole, document.file, line, document.lines))
