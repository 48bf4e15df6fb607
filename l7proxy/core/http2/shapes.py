"""Request heads of which all but a few fields were seen together before: only those few are looked at.

In: the fields of a block, and which of them did not come from a table: a trace's id, a deadline. Out: what
`heads.request_head` makes of them, or Malformed. The rule: a shape is the fields that came from tables, and of the
others their names, all in their places. Of two heads of one shape nothing can differ but values, and only names
whose values mean nothing to the codec may be among them, so what was found of the first holds for the second.
"""

from __future__ import annotations

from typing import Final

from weft.l7proxy.core.http2.heads import RequestHead, check_values, is_plain, request_head
from weft.l7proxy.core.named import Named
from weft.l7proxy.core.stream import Headers

_FRESH: Final = 6  # fields of a block: with more of them there is not much to gain
_MOST: Final = 32  # shapes, of heads whose fresh fields are short: what one connection can make us keep
_SHORT: Final = 1024

_Shape = tuple[bytes | tuple[bytes, bytes], ...]


class Shapes:
    """Of one connection. With each shape the first head that had it, and where its fresh fields stand in there."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[_Shape, tuple[RequestHead, list[int]]] = {}

    def head(self, fields: Headers, fresh: list[int]) -> RequestHead:
        """`fresh`: places in `fields`."""
        if not 0 < len(fresh) <= _FRESH:
            return request_head(fields)
        shape: list[bytes | tuple[bytes, bytes]] = [*fields]
        for at in fresh:
            shape[at] = fields[at][0]
        key = tuple(shape)
        known = self._known.get(key)
        if known is None:
            return self._learn(key, fields, fresh)
        (method, path, authority, headers, scheme, length, expect, patient, named), places = known
        new = [fields[at] for at in fresh]
        check_values(new)
        headers = headers.copy()
        for place, field in zip(places, new, strict=True):
            headers[place] = field
        assert named is not None
        named = _like(named, new)
        return RequestHead(method, path, authority, headers, scheme, length, expect, patient, named)

    def _learn(self, shape: _Shape, fields: Headers, fresh: list[int]) -> RequestHead:
        head = request_head(fields)
        new = [fields[at] for at in fresh]
        names = [name for name, _ in head.headers]
        free = all(is_plain(name) and names.count(name) == 1 for name, _ in new)
        if free and sum([len(name) + len(value) for name, value in new]) <= _SHORT:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[shape] = head, [names.index(name) for name, _ in new]
        return head


def _like(named: Named, fields: Headers) -> Named:
    """Of a head with the same names: what they say to a proxy by being there holds for both."""
    other = Named.__new__(Named)
    dict.update(other, named)
    dict.update(other, fields)
    other.grpc, other.asking, other.private, other.steady = named.grpc, named.asking, named.private, False
    return other
