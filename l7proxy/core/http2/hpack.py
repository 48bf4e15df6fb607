"""HPACK (RFC 7541), header blocks into fields, for one direction of one connection. The way back is in `encoder`.

The rule: work for a block that was seen before is one dictionary look-up. `Decoder.known` holds what the codec made
of a whole block, for as long as the dynamic table stands as it did; `Encoder` remembers the bytes of each field.
A field is a pair of bytes. One that its sender marked "never indexed" is a `Sensitive` pair, and stays never
indexed when it is sent on.

Memory: a block is at most `limits.head` bytes on the wire, fields that come from a table are references, and no
more than `limit` bytes (names, values and 32 for each, as RFC 9113 counts them) are ever held of one block.
"""

from __future__ import annotations

from typing import Any

from weft.l7proxy.core.http2 import huffman
from weft.l7proxy.core.http2.statictable import LAST, STATIC
from weft.l7proxy.core.stream import Headers

DEFAULT_TABLE = 4096
_KEPT = 128  # blocks, of at most _SHORT bytes: what one connection can make us keep
_SHORT = 1024
_MARKS = 512
OVERHEAD = 32  # of an entry, beside name and value (4.1)
_STATIC_SIZES = [len(name) + len(value) + OVERHEAD for name, value in STATIC]


class BadBlock(Exception):
    """The table is out of step with the peer's: nothing after it can be understood (COMPRESSION_ERROR)."""


class Oversize(Exception):
    """A block of more fields or bytes than the limits allow. The table is in step: others may go on."""


class Sensitive(tuple[bytes, bytes]):
    """A field that its sender wants in no table on the way (7.1.3). It equals its plain twin, but a table of plain
    fields does not find it: whoever looks it up there sees its type before its bytes."""

    __slots__ = ()

    def __hash__(self) -> int:
        return ~tuple.__hash__(self)


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
    whether the last block changed the table; if not, what was made of it may be kept in `known`. `fresh`: which of
    its fields came from no table."""

    __slots__ = (
        "_entries",
        "_left",
        "_limit",
        "_marks",
        "_most",
        "_room",
        "_sizes",
        "allowed",
        "changed",
        "fresh",
        "known",
    )

    def __init__(self, limit: int, most: int, allowed: int = DEFAULT_TABLE) -> None:
        self._entries: list[tuple[bytes, bytes]] = []  # the newest last: index 62 is [-1]
        self._sizes: list[int] = []
        self._room = self._left = self.allowed = allowed  # of the table, and what of it is free
        self._limit, self._most = limit, most
        self.changed = False
        self.known: dict[bytes, Any] = {}
        self.fresh: list[int] = []
        self._marks: set[int] = set()

    def decode(self, block: bytes) -> Headers:
        self.changed = False
        try:
            fields, over = self._fields(block, self._updates(block))
        except IndexError:
            raise BadBlock("no such index, or the block ends within a field") from None
        if over or len(fields) > self._most:
            raise Oversize
        return fields

    def keep(self, block: bytes, made: Any) -> bool:
        """What was made of the block just decoded, for the next time that it comes: whether it is kept. It is from
        the second time on, so that blocks with ids and times in them do not drive out the others."""
        if self.changed or len(block) > _SHORT:
            return False
        mark = hash(block)
        if mark not in self._marks:
            if len(self._marks) >= _MARKS:
                self._marks.clear()
            self._marks.add(mark)
            return False
        if len(self.known) >= _KEPT:
            self.known.clear()
        self.known[block] = made
        return True

    def _fields(self, block: bytes, at: int) -> tuple[Headers, bool]:
        fields: Headers = []
        entries, sizes, size, over = self._entries, self._sizes, len(block), False
        left = self._limit
        self.fresh = fresh = []
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
                fresh.append(len(fields))
                left -= len(field[0]) + len(field[1]) + OVERHEAD
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
            length = block[at]
            if length < 0x7F:  # neither Huffman nor long: most are so, and need no call
                at += length + 1
                name = block[at - length : at]
            else:
                name, at = _string(block, at)
        length = block[at]
        if length < 0x7F:
            at += length + 1
            value = block[at - length : at]
            if at > len(block):
                raise BadBlock("string ends beyond the block")
        else:
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
        size = len(field[0]) + len(field[1]) + OVERHEAD
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
