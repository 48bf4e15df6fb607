"""The ways in which servers read one path: a rule that names a path must hold for all of them.

In: a request's path with its query, as it will be sent. Out: its readings, itself first. `/public/../private` is
two paths: what stands there, and what most servers make of it. Nothing is rewritten, for we cannot know which
server is behind; a rule that means only one of the readings does not let the request pass (nothing fails open).

Read so: dot segments are taken away (RFC 3986, 5.2.4), also written as `%2e` or with parameters (`..;x`, servlet
containers); `//` is `/`; `\\`, `%2f`, `%5c` are `/`, in overlong UTF-8, too; a fragment ends the path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

#: A path without any of these has one reading.
_ODD: Final = re.compile(r"[\\%#]|//|/\.")
_ESCAPED: Final = re.compile(r"%(?:c0%ae|c0%af|c1%9c|[0-9a-f]{2})", re.IGNORECASE)
_OVERLONG: Final = {"%c0%ae": ".", "%c0%af": "/", "%c1%9c": "/"}
_DOT: Final = re.compile(r"%2e", re.IGNORECASE)


def readings(path: str) -> tuple[str, ...]:
    bare = path.partition("?")[0]
    return _readings(path) if _ODD.search(bare) else (path,)


@lru_cache(maxsize=64)
def _readings(path: str) -> tuple[str, ...]:
    bare, mark, query = path.partition("?")
    cut = bare.partition("#")[0]
    strict = _without_dots(_DOT.sub(".", cut), merged=False)
    loose = _without_dots(_ESCAPED.sub(_unescaped, cut).replace("\\", "/"), merged=True)
    rest = mark + query
    return tuple(dict.fromkeys((path, strict + rest, loose + rest)))


def _unescaped(match: re.Match[str]) -> str:
    text = match[0].lower()
    return _OVERLONG.get(text) or chr(int(text[1:3], 16))


def _without_dots(path: str, *, merged: bool) -> str:
    """`merged`: `//` is `/`, and a segment's parameters do not keep it from being one of dots."""
    if not path.startswith("/"):
        return path
    kept: list[str] = []
    segments = path[1:].split("/")
    last = len(segments) - 1
    for at, segment in enumerate(segments):
        name = segment.partition(";")[0] if merged else segment
        if name in (".", ".."):
            if name == ".." and kept:
                kept.pop()
            if at == last:
                kept.append("")
        elif segment or not merged or at == last:
            kept.append(segment)
    return "/" + "/".join(kept)
