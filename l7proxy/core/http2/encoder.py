"""HPACK (RFC 7541), fields into header blocks, for one direction of one connection."""

from __future__ import annotations

from collections import deque
from typing import Final

from weft.l7proxy.core.http2 import huffman
from weft.l7proxy.core.http2.hpack import DEFAULT_TABLE, OVERHEAD, Sensitive
from weft.l7proxy.core.http2.statictable import FIELDS, LAST, NAMES
from weft.l7proxy.core.stream import Headers

_SECRET = frozenset({b"authorization", b"proxy-authorization"})  # never indexed, whoever sends them
_FLEETING = frozenset(  # values that no table should be spent on, though they may come again for a while
    {
        *(b"age", b"content-length", b"content-range", b"date", b"etag", b"expires", b"if-modified-since"),
        *(b"if-none-match", b"last-modified", b"set-cookie", b"x-envoy-upstream-service-time"),
    }
)
_UNIQUE = frozenset(  # values that do not even come twice
    {
        *(b"grpc-timeout", b"traceparent", b"x-b3-parentspanid", b"x-b3-spanid", b"x-b3-traceid"),
        *(b"x-cloud-trace-context", b"x-datadog-parent-id", b"x-datadog-trace-id", b"x-request-id"),
    }
)
_SHORT = 128  # bytes of a name that is remembered
_LONG = 512  # bytes of a field that is never remembered
_LEADS = 128  # request lines that are remembered
_PATIENCE = 64  # blocks between two insertions that evict: a table that churns helps nobody


def _number(value: int, bits: int, flags: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    out = bytearray((flags | most,))
    value -= most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _plain(data: bytes) -> bytes:
    size = len(data)
    return (_SIZES[size] if size < _LONG else _number(size, 7, 0)) + data


def _coded(data: bytes) -> bytes:
    """For what is sent once and then known by its index: Huffman where it is shorter."""
    coded = huffman.encode(data)
    return _number(len(coded), 7, 0x80) + coded if len(coded) < len(data) else _plain(data)


def _indexed(name: bytes, value: bytes) -> bytes:
    index = NAMES.get(name, 0)
    return _number(index, 6, 0x40) + (b"" if index else _coded(name)) + _coded(value)


class _Starts(dict[bytes, bytes]):
    """How a literal begins that is not indexed, by its name. All connections share it."""

    __slots__ = ()

    def __missing__(self, name: bytes) -> bytes:
        index = NAMES.get(name, 0)
        start = _number(index, 4, 0) if index else b"\0" + _plain(name)
        if len(name) <= _SHORT:
            if len(self) >= 1024:
                self.clear()
            self[name] = start
        return start


_starts = _Starts()
_SIZES: Final = [_number(size, 7, 0) for size in range(_LONG)]


def _unindexed(name: bytes, value: bytes) -> bytes:
    size = len(value)
    return _starts[name] + (_SIZES[size] if size < _LONG else _number(size, 7, 0)) + value


Line = tuple[bytes, bytes, bytes, bytes]


def pseudo(line: Line) -> Headers:
    method, scheme, path, authority = line
    fields = [(b":method", method), (b":scheme", scheme), (b":path", path)]
    if authority:
        fields.append((b":authority", authority))
    return fields


class Encoder(dict[tuple[bytes, bytes], bytes]):
    """A dictionary of fields to their bytes as the table stands, which makes those that are missing.

    Which fields go into the peer's table: those that come a second time. What comes once (ids, times) is sent
    plainly: on this network bytes cost less than the time to code and to decode them."""

    __slots__ = (
        "_blocks",
        "_entries",
        "_evicted",
        "_inserted",
        "_leads",
        "_least",
        "_left",
        "_numbers",
        "_room",
        "_seen",
    )

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[tuple[bytes, bytes], int] = {}  # which insertion it was
        self._leads: dict[Line, bytes] = {}
        self._seen: set[tuple[bytes, bytes]] = set()
        self._entries: deque[tuple[tuple[bytes, bytes], int]] = deque()
        self._room = self._left = DEFAULT_TABLE
        self._least = -1  # the smallest size since the last block; -1: nothing to tell
        self._inserted = self._blocks = 0
        self._evicted = -_PATIENCE

    def encode_request(self, line: Line, headers: Headers) -> bytes:
        """`line`: method, scheme, path and authority, which come again together."""
        self._blocks += 1
        lead = self._leads.get(line)
        if lead is None:
            lead = self._lead(line)
        block = lead + b"".join(map(self.__getitem__, headers))
        return block if self._least < 0 else self._size_update() + block

    def _lead(self, line: Line) -> bytes:
        """Kept once all of it is settled, until the table changes."""
        fields = pseudo(line)
        lead = b"".join(map(self.__getitem__, fields))
        if all(map(self.__contains__, fields)):
            if len(self._leads) >= _LEADS:
                self._leads.clear()
            self._leads[line] = lead
        return lead

    def encode(self, headers: Headers) -> bytes:
        self._blocks += 1
        block = b"".join(map(self.__getitem__, headers))
        return block if self._least < 0 else self._size_update() + block

    def resize(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default. To be called between
        blocks."""
        size = min(size, DEFAULT_TABLE)
        if size == self._room and self._least < 0:
            return
        self._least = size if self._least < 0 else min(self._least, size)
        self._left += size - self._room
        self._room = size
        self._evict()

    def _size_update(self) -> bytes:
        update = _number(self._room, 5, 0x20)
        if self._least < self._room:  # it went down and up again: the peer has to see the lowest, too (4.2)
            update = _number(self._least, 5, 0x20) + update
        self._least = -1
        return update

    def __missing__(self, field: tuple[bytes, bytes]) -> bytes:
        """A field whose bytes are not known as yet. Called in the order of the block: it may insert."""
        name, value = field
        if type(field) is Sensitive or name in _SECRET:
            return self._never(field)
        if name in _UNIQUE:
            return _unindexed(name, value)
        if name in _FLEETING:
            return self._kept(field, _unindexed(name, value))
        if field in FIELDS:
            return self._kept(field, _number(FIELDS[field], 7, 0x80))
        if field in self._numbers:
            return self._kept(field, _number(LAST + self._inserted - self._numbers[field], 7, 0x80))
        if field not in self._seen:
            if len(name) + len(value) <= _LONG:
                if len(self._seen) >= 1024:
                    self._seen.clear()
                self._seen.add(field)
            return _unindexed(name, value)
        if self._worth(field):
            self._insert(field)
            return _indexed(name, value)
        return self._kept(field, _unindexed(name, value))

    def _kept(self, field: tuple[bytes, bytes], coded: bytes) -> bytes:
        if len(coded) <= _LONG:
            if len(self) >= 1024:
                self.clear()
            self[field] = coded
        return coded

    def _worth(self, field: tuple[bytes, bytes]) -> bool:
        size = len(field[0]) + len(field[1]) + OVERHEAD
        if size > self._room >> 2:
            return False
        return size <= self._left or self._blocks - self._evicted >= _PATIENCE

    @staticmethod
    def _never(field: tuple[bytes, bytes]) -> bytes:
        name, value = field
        index = NAMES.get(name, 0)
        return _number(index, 4, 0x10) + (b"" if index else _plain(name)) + _plain(value)

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        """All other indices move by one: their bytes are made anew when they are wanted."""
        self._leads.clear()
        for other in self._numbers:
            self.pop(other, None)
        size = len(field[0]) + len(field[1]) + OVERHEAD
        self._entries.append((field, size))
        self._numbers[field] = self._inserted
        self._inserted += 1
        self._left -= size
        if self._left < 0:
            self._evicted = self._blocks
            self._evict()

    def _evict(self) -> None:
        self._leads.clear()
        while self._left < 0:
            field, size = self._entries.popleft()
            self._left += size
            del self._numbers[field]
            self.pop(field, None)
