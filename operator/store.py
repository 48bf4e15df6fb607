"""The objects as an API server would keep them: by kind, namespace and name, each with a version that grows.

One file per object in the state folder. Memory is the truth, the disk follows: an object that cannot be written
stays in force, is shown in `problems` and is tried again (`retry`). An object's `file` is the watched file that
declares it, "" if it came by the API; only that file's removal removes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weft.operator import durable
from weft.policies.model import ObjectRef

log = logging.getLogger(__name__)

#: Longest file name that common file systems take is 255 bytes; ".json.tmp" comes on top.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Stored:
    """`version` counts all changes of the store, `generation` those of this object. `json` is canonical."""

    ref: ObjectRef
    json: str
    version: int
    generation: int
    file: str = ""
    line: int = 0


class Store:
    """`changed` is called with every object that is put, and with the ref and None for one that goes."""

    def __init__(self, folder: Path) -> None:
        self.version = 0
        self.problems: dict[ObjectRef | Path, str] = {}
        self.changed: list[Callable[[ObjectRef, Stored | None], None]] = []
        self._folder = folder
        self._objects: dict[ObjectRef, Stored] = {}
        self._unsaved: set[ObjectRef] = set()
        self._unsynced: set[Path] = set()

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Stored]:
        return iter(list(self._objects.values()))

    def get(self, ref: ObjectRef) -> Stored | None:
        return self._objects.get(ref)

    def of_kinds(self, kinds: Iterable[str]) -> list[Stored]:
        """Sorted; no kinds: all."""
        wanted = set(kinds)
        found = (stored for ref, stored in self._objects.items() if not wanted or ref.kind in wanted)
        return sorted(found, key=lambda stored: stored.ref)

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for ref in self._objects:
            counts[ref.kind] = counts.get(ref.kind, 0) + 1
        return counts

    def load(self) -> None:
        """Whatever is readable; the rest is a problem each and stays on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self._folder.iterdir()):
            if path.name.endswith(durable.TEMPORARY):
                path.unlink(missing_ok=True)
                continue
            try:
                stored = _decoded(path.read_bytes())
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                self.problems[path] = f"unreadable, left out: {error}"
                log.error("%s: unreadable, left out: %s", path, error)
                continue
            self._objects[stored.ref] = stored
            self.version = max(self.version, stored.version)

    def put(self, ref: ObjectRef, text: str, file: str = "", line: int = 0) -> str:
        """What came of it: created, configured, unchanged. The file that declares an object stays its file when
        somebody else (the runtime, with a status) writes it."""
        before = self._objects.get(ref)
        if before:
            file, line = (file, line) if file else (before.file, before.line)
            if (before.json, before.file) == (text, file):
                return "unchanged"
        self.version += 1
        generation = before.generation + (before.json != text) if before else 1
        stored = self._objects[ref] = Stored(ref, text, self.version, generation, file, line)
        self._save(stored)
        if before and before.json == text:
            return "unchanged"  # only adopted by another file
        self._tell(ref, stored)
        return "configured" if before else "created"

    def remove(self, ref: ObjectRef) -> bool:
        if self._objects.pop(ref, None) is None:
            return False
        self.version += 1
        self._erase(ref)
        self._tell(ref, None)
        return True

    def retry(self) -> None:
        for ref in list(self._unsaved):
            stored = self._objects.get(ref)
            if stored:
                self._save(stored)
            else:
                self._erase(ref)

    def take_unsynced(self) -> set[Path]:
        """What was written since the last call, for `durable.sync`."""
        paths, self._unsynced = self._unsynced, set()
        return paths

    def _tell(self, ref: ObjectRef, stored: Stored | None) -> None:
        for listener in list(self.changed):
            listener(ref, stored)

    def _save(self, stored: Stored) -> None:
        path = self._folder / file_name(stored.ref)
        self._attempt(stored.ref, path, lambda: durable.write(path, _encoded(stored)))

    def _erase(self, ref: ObjectRef) -> None:
        path = self._folder / file_name(ref)
        self._attempt(ref, path, lambda: path.unlink(missing_ok=True))

    def _attempt(self, ref: ObjectRef, path: Path, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            reason = f"in force, but not saved: {error.strerror}"
            if self.problems.get(ref) != reason:
                log.error("%s: %s", ref, reason)
            self._unsaved.add(ref)
            self.problems[ref] = reason
        else:
            self._unsaved.discard(ref)
            self.problems.pop(ref, None)
            self._unsynced.add(path)


def canonical(manifest: Mapping[str, Any]) -> str:
    """Equal manifests are equal text. Raises ValueError for what is not JSON (NaN) or not text (surrogates)."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def file_name(ref: ObjectRef) -> str:
    """Readable where it can be, and one per object whatever people call it."""
    name = "@".join(quote(part, safe="") for part in (ref.kind, ref.namespace, ref.name))
    if len(name) > _LONGEST_NAME:
        name = name[:100] + "~" + hashlib.sha256(name.encode()).hexdigest()
    return name + ".json"


def _encoded(stored: Stored) -> bytes:
    ref = stored.ref
    head = {
        "ref": [ref.kind, ref.namespace, ref.name],
        "version": stored.version,
        "generation": stored.generation,
        "file": stored.file,
        "line": stored.line,
    }
    return f"{json.dumps(head)}\n{stored.json}\n".encode()


def _decoded(data: bytes) -> Stored:
    first, _, second = data.decode().partition("\n")
    if not second.endswith("\n"):
        raise ValueError("cut short")
    head = json.loads(first)
    kind, namespace, name = head["ref"]
    text = canonical(json.loads(second))
    return Stored(
        ObjectRef(str(kind), str(namespace), str(name)),
        text,
        int(head["version"]),
        int(head["generation"]),
        str(head["file"]),
        int(head["line"]),
    )
