"""HPACK (RFC 7541), fields into header blocks, for one direction of one connection."""

from __future__ import annotations

from collections import deque

from weft.l7proxy.core.http2 import huffman
from weft.l7proxy.core.http2.hpack import DEFAULT_TABLE, OVERHEAD, Sensitive
from weft.l7proxy.core.http2.statictable import FIELDS, LAST, NAMES
from weft.l7proxy.core.stream import Headers

_SECRET = frozenset({b"authorization", b"proxy-authorization"})  # never indexed, whoever sends them
_FLEETING = frozenset(  # values that no table should be spent on
    {
        *(b"age", b"content-length", b"content-range", b"date", b"etag", b"expires", b"grpc-timeout"),
        *(b"if-modified-since", b"if-none-match", b"last-modified", b"set-cookie", b"traceparent"),
        *(b"x-b3-spanid", b"x-b3-traceid", b"x-request-id", b"x-envoy-upstream-service-time"),
    }
)
_LONG = 512  # bytes of a field that is never remembered
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
    return _number(len(data), 7, 0) + data


def _coded(data: bytes) -> bytes:
    """For what is sent once and then known by its index: Huffman where it is shorter."""
    coded = huffman.encode(data)
    return _number(len(coded), 7, 0x80) + coded if len(coded) < len(data) else _plain(data)


class Encoder(dict[tuple[bytes, bytes], bytes]):
    """A dictionary of fields to their bytes as the table stands, which makes those that are missing.

    Which fields go into the peer's table: those that come a second time. What comes once (ids, times) is sent
    plainly: on this network bytes cost less than the time to code and to decode them."""

    __slots__ = (
        "_blocks",
        "_entries",
        "_evicted",
        "_inserted",
        "_least",
        "_left",
        "_numbers",
        "_room",
        "_seen",
    )

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[tuple[bytes, bytes], int] = {}  # which insertion it was
        self._seen: set[tuple[bytes, bytes]] = set()
        self._entries: deque[tuple[tuple[bytes, bytes], int]] = deque()
        self._room = self._left = DEFAULT_TABLE
        self._least = -1  # the smallest size since the last block; -1: nothing to tell
        self._inserted = self._blocks = 0
        self._evicted = -_PATIENCE

    def encode(self, headers: Headers) -> bytes:
        self._blocks += 1
        if Sensitive in map(type, headers):
            parts = [self._never(h) if type(h) is Sensitive else self[h] for h in headers]
            block = b"".join(parts)
        else:
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
        if len(self) >= 1024:
            self.clear()
        if field in FIELDS:
            coded = _number(FIELDS[field], 7, 0x80)
        elif field in self._numbers:
            coded = _number(LAST + self._inserted - self._numbers[field], 7, 0x80)
        elif field[0] in _SECRET:
            return self._never(field)
        elif len(field[0]) + len(field[1]) > _LONG:
            return self._literal(field, 4, 0)
        elif field not in self._seen:
            if len(self._seen) >= 1024:
                self._seen.clear()
            self._seen.add(field)
            return self._literal(field, 4, 0)
        elif self._worth(field):
            coded = self._literal(field, 6, 0x40)
            self._insert(field)
            return coded
        else:
            coded = self._literal(field, 4, 0)
        self[field] = coded
        return coded

    def _worth(self, field: tuple[bytes, bytes]) -> bool:
        size = len(field[0]) + len(field[1]) + OVERHEAD
        if field[0] in _FLEETING or size > self._room >> 2:
            return False
        return size <= self._left or self._blocks - self._evicted >= _PATIENCE

    def _never(self, field: tuple[bytes, bytes]) -> bytes:
        return self._literal(field, 4, 0x10)

    @staticmethod
    def _literal(field: tuple[bytes, bytes], bits: int, flags: int) -> bytes:
        text = _coded if flags == 0x40 else _plain
        name = NAMES.get(field[0], 0)
        return _number(name, bits, flags) + (b"" if name else text(field[0])) + text(field[1])

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        """All other indices move by one: their bytes are made anew when they are wanted."""
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
        while self._left < 0:
            field, size = self._entries.popleft()
            self._left += size
            del self._numbers[field]
            self.pop(field, None)
