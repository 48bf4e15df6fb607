"""From YAML's events to plain values, with the line of each: what `yamldoc` builds documents by.

The rule of this file: nothing recurses, and nothing is ever built that was not charged for. An alias is charged
with the size of all it repeats; a value is null, bool, int, finite float, str, list or dict with str keys, or the
text is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import yaml

from weft.policies.errors import Invalid, Where
from weft.policies.yamlscalar import resolve

#: libyaml's parser; without it, the same events from Python, 20 times slower.
_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

#: Values in one file, keys too, aliases counted as often as they are used. 20,000 policies of 20 lines are 800,000;
#: the worst million takes 3 s and 300 MB.
MAX_VALUES = 1_000_000
#: A CiliumNetworkPolicy is 12 deep, a Pod 14; JSON in Go stops at 10,000, C stacks much earlier.
MAX_DEPTH = 64
#: A scalar is charged one value more for each so many characters, so that aliases of long text count too.
TEXT_PER_VALUE = 64

_TAG = "tag:yaml.org,2002:"
_TYPES: dict[str, type] = {_TAG + "int": int, _TAG + "float": float, _TAG + "bool": bool, _TAG + "null": type(None)}

#: For each list and mapping of a document, by `id`: the line of each of its items.
Lines = dict[int, Mapping[str | int, int]]


class Built(NamedTuple):
    value: dict[str, Any]
    line: int
    lines: Lines


class _Frame:
    """One list or mapping that is being built. `key`: what the next value is stored under, None before a key;
    `merging`: that value is of a merge key."""

    __slots__ = ("anchor", "container", "key", "line", "lines", "merges", "merging", "size_before")

    def __init__(self, container: dict[str, Any] | list[Any], anchor: str | None, line: int, size: int) -> None:
        self.container = container
        self.anchor = anchor
        self.line = line
        self.size_before = size
        self.key: str | None = None
        self.lines: dict[str | int, int] = {}
        self.merges: list[dict[str, Any]] | None = None
        self.merging = False


class Builder:
    """Builds the documents of one text from the parser's events, on a stack of its own."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._size = 0
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._lines: Lines = {}

    def documents(self) -> Iterator[Built]:
        on: dict[type, Callable[[Any], Built | None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open_mapping,
            yaml.SequenceStartEvent: self._open_sequence,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start_document,
        }
        for event in self._events():
            handler = on.get(type(event))
            found = handler(event) if handler else None
            if found is not None:
                yield found

    def _events(self) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(self._text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = ", ".join(part for part in (error.context, error.problem) if part)
            raise Invalid(Where(self._file, mark.line + 1 if mark else 0), f"not YAML: {reason}") from None
        except (yaml.YAMLError, UnicodeError):
            bad = yaml.reader.Reader.NON_PRINTABLE.search(self._text)
            line = self._text.count("\n", 0, bad.start()) + 1 if bad else 0
            shown = f" (U+{ord(bad.group()):04X})" if bad else ""
            raise Invalid(
                Where(self._file, line), f"not YAML: a character that YAML does not allow{shown}"
            ) from None

    def _start_document(self, event: yaml.Event) -> None:
        self._anchors, self._lines = {}, {}

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line = _line(event)
        self._charge(1 + len(event.value) // TEXT_PER_VALUE, line)
        frame = self._stack[-1] if self._stack else None
        plain = event.tag is None and event.implicit[0]
        if frame and frame.key is None and plain and event.value == "<<" and isinstance(frame.container, dict):
            if frame.merges is not None:
                self._refuse(line, "a second merge key (<<) in one mapping: give it a list")
            frame.merges, frame.key, frame.merging = [], "<<", True
            return
        value = resolve(event.value) if plain else self._tagged(event, line)
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse(line, f"{event.value[:40]!r} is no number that JSON knows: quote it if it is a string")
        if event.anchor:
            self._anchors[event.anchor] = (value, 1 + len(event.value) // TEXT_PER_VALUE)
        self._add(value, line)

    def _tagged(self, event: yaml.ScalarEvent, line: int) -> Any:
        """What stands in quotes or carries a tag."""
        if event.tag is None or event.tag in ("!", _TAG + "str"):
            return event.value
        value = resolve(event.value)
        if event.tag == _TAG + "float" and type(value) is int:
            return float(value)
        if event.tag not in _TYPES or type(value) is not _TYPES[event.tag]:
            self._refuse(line, f"the tag {event.tag[:60]!r} is not supported here")
        return value

    def _open_mapping(self, event: yaml.MappingStartEvent) -> None:
        self._open({}, event, _TAG + "map")

    def _open_sequence(self, event: yaml.SequenceStartEvent) -> None:
        self._open([], event, _TAG + "seq")

    def _open(self, container: dict[str, Any] | list[Any], event: Any, tag: str) -> None:
        line = _line(event)
        if event.tag not in (None, "!", tag):
            self._refuse(line, f"the tag {event.tag[:60]!r} is not supported here")
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(line, f"nested deeper than {MAX_DEPTH}")
        if self._stack and isinstance(self._stack[-1].container, dict) and self._stack[-1].key is None:
            self._refuse(line, "a key must be a string, not a list or a mapping")
        if event.anchor:
            self._anchors.pop(event.anchor, None)  # until it is complete: an alias inside would be a circle
        self._charge(1, line)
        self._stack.append(_Frame(container, event.anchor, line, self._size - 1))

    def _close(self, event: yaml.Event) -> Built | None:
        frame = self._stack.pop()
        if frame.merges:
            self._merge(frame)
        self._lines[id(frame.container)] = frame.lines
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.container, self._size - frame.size_before)
        if self._stack:
            self._add(frame.container, frame.line)
            return None
        if not isinstance(frame.container, dict):
            self._refuse(frame.line, "an object must be a mapping, this is a list")
        return Built(frame.container, frame.line, self._lines)

    def _merge(self, frame: _Frame) -> None:
        """`<<`: keys of the mapping itself win, then the first one merged."""
        assert frame.merges is not None and isinstance(frame.container, dict)
        for merged in frame.merges:
            for key, value in merged.items():
                if key not in frame.container:
                    frame.container[key] = value
                    frame.lines[key] = frame.line

    def _alias(self, event: yaml.AliasEvent) -> None:
        line, anchor = _line(event), event.anchor or ""
        if anchor not in self._anchors:
            self._refuse(line, f"the alias *{anchor[:60]} names no anchor that is complete before it")
        value, size = self._anchors[anchor]
        self._charge(size, line)
        self._add(value, line)

    def _add(self, value: Any, line: int) -> None:
        """Puts a complete value where it belongs; a scalar at the top is an empty document or a mistake."""
        if not self._stack:
            if value is not None:
                self._refuse(line, "an object must be a mapping, this is a single value")
            return
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            frame.lines[len(frame.container)] = line
            frame.container.append(value)
        elif frame.key is None:
            self._start_key(frame, frame.container, value, line)
        elif frame.merging:
            self._keep_merge(frame, value, line)
            frame.key, frame.merging = None, False
        else:
            frame.container[frame.key] = value
            frame.key = None

    def _start_key(self, frame: _Frame, mapping: dict[str, Any], key: Any, line: int) -> None:
        if not isinstance(key, str):
            shown = "null" if key is None else str(key).lower() if isinstance(key, bool) else key
            self._refuse(line, f"a key must be a string, YAML reads this one as {shown!s:.60}: quote it")
        if key in mapping:
            first, frame.key = frame.lines.get(key, frame.line), key
            self._refuse(line, f"{key[:60]!r} stands twice in one mapping (first in line {first})")
        frame.key = key
        frame.lines[key] = line

    def _keep_merge(self, frame: _Frame, value: Any, line: int) -> None:
        assert frame.merges is not None
        for merged in value if isinstance(value, list) else [value]:
            if not isinstance(merged, dict):
                self._refuse(line, "a merge key (<<) takes a mapping or a list of mappings")
            frame.merges.append(merged)

    def _charge(self, size: int, line: int) -> None:
        self._size += size
        if self._size > MAX_VALUES:
            self._refuse(line, f"more than {MAX_VALUES} values in one file, counting what aliases repeat")

    def _refuse(self, line: int, reason: str) -> NoReturn:
        path = ""
        for frame in self._stack:
            if isinstance(frame.container, list):
                path += f"[{len(frame.container)}]"
            elif frame.key is not None:
                path += f".{frame.key[:60]}" if path else frame.key[:60]
        raise Invalid(Where(self._file, line, self._object(), path), reason)

    def _object(self) -> str:
        """`Kind ns/name` of the document so far, as much as has been read."""
        root = self._stack[0].container if self._stack else None
        if not isinstance(root, dict):
            return ""
        metadata = root.get("metadata")
        names = (metadata.get("namespace"), metadata.get("name")) if isinstance(metadata, dict) else ()
        name = "/".join(part[:80] for part in names if isinstance(part, str))
        kind = root.get("kind")
        return " ".join(part for part in (kind[:80] if isinstance(kind, str) else "", name) if part)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
