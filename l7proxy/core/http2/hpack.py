"""HPACK (RFC 7541) for one direction of one connection: `Decoder` turns header blocks into fields, `Encoder` the
other way round.

The rule: work for a block that was seen before is one dictionary look-up. `Decoder.known` holds what the codec made
of a whole block, for as long as the dynamic table stands as it did; `Encoder` remembers the bytes of each field.
A field is a pair of bytes. One that its sender marked "never indexed" is a `Sensitive` pair, and stays never
indexed when it is sent on.

Memory: a block is at most `limits.head` bytes on the wire, fields that come from a table are references, and no
more than `limit` bytes (names, values and 32 for each, as RFC 9113 counts them) are ever held of one block.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from weft.l7proxy.core.http2 import huffman
from weft.l7proxy.core.http2.statictable import FIELDS, LAST, NAMES, STATIC
from weft.l7proxy.core.stream import Headers

DEFAULT_TABLE = 4096
_OVERHEAD = 32  # of an entry, beside name and value (4.1)
_STATIC_SIZES = [len(name) + len(value) + _OVERHEAD for name, value in STATIC]


class BadBlock(Exception):
    """The table is out of step with the peer's: nothing after it can be understood (COMPRESSION_ERROR)."""


class Oversize(Exception):
    """A block of more fields or bytes than the limits allow. The table is in step: others may go on."""


class Sensitive(tuple[bytes, bytes]):
    """A field that its sender wants in no table on the way (7.1.3)."""

    __slots__ = ()


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The rest of an integer (5.1) whose prefix was full. Four more bytes reach 2^28: more is an attack."""
    value = prefix
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BadBlock("integer too long")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    first = block[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, length)
    end = at + length
    if end > len(block):
        raise BadBlock("string ends beyond the block")
    if first < 0x80:
        return block[at:end], end
    try:
        return huffman.decode(block[at:end]), end
    except huffman.BadHuffman as error:
        raise BadBlock(str(error)) from None


class Decoder:
    """`limit`, `most`: bytes and fields of one block. `allowed`: the table size that we have announced. `changed`:
    whether the last block changed the table; if not, what was made of it may be kept in `known`."""

    __slots__ = ("_entries", "_left", "_limit", "_most", "_room", "_sizes", "allowed", "changed", "known")

    def __init__(self, limit: int, most: int, allowed: int = DEFAULT_TABLE) -> None:
        self._entries: list[tuple[bytes, bytes]] = []  # the newest last: index 62 is [-1]
        self._sizes: list[int] = []
        self._room = self._left = self.allowed = allowed  # of the table, and what of it is free
        self._limit, self._most = limit, most
        self.changed = False
        self.known: dict[bytes, Any] = {}

    def decode(self, block: bytes) -> Headers:
        self.changed = False
        try:
            fields, over = self._fields(block, self._updates(block))
        except IndexError:
            raise BadBlock("no such index, or the block ends within a field") from None
        if over or len(fields) > self._most:
            raise Oversize
        return fields

    def keep(self, block: bytes, made: Any) -> None:
        """What was made of the block just decoded, for the next time that it comes."""
        if not self.changed:
            if len(self.known) >= 256:
                self.known.clear()
            self.known[block] = made

    def _fields(self, block: bytes, at: int) -> tuple[Headers, bool]:
        fields: Headers = []
        entries, sizes, size, over = self._entries, self._sizes, len(block), False
        left = self._limit
        while at < size:
            first = block[at]
            at += 1
            if first >= 0x80:  # indexed (6.1)
                index = first & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, index)
                if index > LAST:
                    field = entries[LAST - index]
                    left -= sizes[LAST - index]
                elif index:
                    field = STATIC[index]
                    left -= _STATIC_SIZES[index]
                else:
                    raise BadBlock("index 0")
            else:
                field, at = self._literal(block, at, first)
                left -= len(field[0]) + len(field[1]) + _OVERHEAD
            if left < 0:  # go on, for the table's sake, but hold nothing more
                over = True
            else:
                fields.append(field)
        return fields, over

    def _literal(self, block: bytes, at: int, first: int) -> tuple[tuple[bytes, bytes], int]:
        """With incremental indexing (6.2.1), without (6.2.2), or never indexed (6.2.3)."""
        if 0x20 <= first < 0x40:
            raise BadBlock("table size update within a block")
        mask = 0x3F if first >= 0x40 else 0x0F
        index = first & mask
        if index == mask:
            index, at = _integer(block, at, index)
        if index > LAST:
            name = self._entries[LAST - index][0]
        elif index:
            name = STATIC[index][0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if first >= 0x40:
            field = (name, value)
            self._insert(field)
            return field, at
        return (Sensitive((name, value)) if first >= 0x10 else (name, value)), at

    def _updates(self, block: bytes) -> int:
        """Table size updates (6.3): only in front, and no more than two make sense (4.2)."""
        at = 0
        for _ in range(2):
            if at == len(block) or not 0x20 <= block[at] < 0x40:
                break
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                size, at = _integer(block, at, size)
            if size > self.allowed:
                raise BadBlock("table size over what was announced")
            self._left += size - self._room
            self._room = size
            self._evict()
        return at

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        self._entries.append(field)
        self._sizes.append(size)
        self._left -= size
        self._evict()

    def _evict(self) -> None:
        """The oldest go until there is room; an entry larger than the table empties it (4.4)."""
        self.changed = True
        if self.known:
            self.known.clear()
        gone = 0
        while self._left < 0:
            self._left += self._sizes[gone]
            gone += 1
        if gone:
            del self._entries[:gone], self._sizes[:gone]


_SECRET = frozenset({b"authorization", b"proxy-authorization"})  # never indexed, whoever sends them
_FLEETING = frozenset(  # values that no table should be spent on
    {
        *(b"age", b"content-length", b"content-range", b"date", b"etag", b"expires", b"grpc-timeout"),
        *(b"if-modified-since", b"if-none-match", b"last-modified", b"set-cookie", b"traceparent"),
        *(b"x-b3-spanid", b"x-b3-traceid", b"x-request-id", b"x-envoy-upstream-service-time"),
    }
)
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
        if len(coded) <= 256:
            self[field] = coded
        return coded

    def _worth(self, field: tuple[bytes, bytes]) -> bool:
        size = len(field[0]) + len(field[1]) + _OVERHEAD
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
        size = len(field[0]) + len(field[1]) + _OVERHEAD
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
