"""HPACK's Huffman code (RFC 7541, Appendix B): bytes in, bytes out.

The code is canonical: the lengths below say all of it. Decoding walks a whole byte at a time through rows of 256
entries, one row for each inner node of the tree, made when first needed: at most 256 rows, about 6 MB if a stranger
provokes them all, 30 rows in practice.
"""

from __future__ import annotations

from typing import Any

_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b"
    "080606060505050606060606060607080f060c0a0d0607070707070707070707070707070707070707070707"
    "0807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414"
    "1616161716171717171718171818161718171717171516171617171816151416161717151716161815161717"
    "151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a"
    "1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_EOS = 256

_Row = list[tuple[bytes, int]]
_NOWHERE = -1


class BadHuffman(ValueError):
    """Padding that is none, or EOS within a string (5.2)."""


def _codes() -> list[str]:
    """Each symbol's code as a string of bits: codes of one length are consecutive, in the order of symbols."""
    codes, code, last = [""] * 257, 0, 0
    for symbol in sorted(range(257), key=lambda s: (_LENGTHS[s], s)):
        code <<= _LENGTHS[symbol] - last
        last = _LENGTHS[symbol]
        codes[symbol] = format(code, f"0{last}b")
        code += 1
    return codes


_CODES = _codes()


def _tree() -> tuple[list[list[Any]], frozenset[int]]:
    """Inner nodes as [where 0 leads, where 1 leads]: ("node", n) or ("leaf", symbol); and where a string may end:
    at the root or on the way of at most 7 ones, which is what padding is."""
    nodes: list[list[Any]] = [[None, None]]
    for symbol, code in enumerate(_CODES):
        at = 0
        for bit in code[:-1]:
            if nodes[at][int(bit)] is None:
                nodes.append([None, None])
                nodes[at][int(bit)] = ("node", len(nodes) - 1)
            at = nodes[at][int(bit)][1]
        nodes[at][int(code[-1])] = ("leaf", symbol)
    ends, at = [0], 0
    for _ in range(7):
        at = nodes[at][1][1]
        ends.append(at)
    return nodes, frozenset(ends)


_NODES, _ENDS = _tree()
_ROWS: list[_Row | None] = [None] * len(_NODES)


def _row(start: int) -> _Row:
    """What each byte does from node `start`: the symbols it completes, and the node where it leaves us."""
    row: _Row = []
    for byte in range(256):
        at, chunk = start, bytearray()
        for shift in range(7, -1, -1):
            what, number = _NODES[at][byte >> shift & 1]
            if what == "node":
                at = number
            elif number == _EOS:
                at = _NOWHERE
                break
            else:
                chunk.append(number)
                at = 0
        row.append((bytes(chunk), at))
    _ROWS[start] = row
    return row


def decode(data: bytes) -> bytes:
    out, at, rows = [], 0, _ROWS
    for byte in data:
        chunk, at = (rows[at] or _row(at))[byte]
        if at < 0:
            raise BadHuffman("EOS within a string")
        out.append(chunk)
    if at not in _ENDS:
        raise BadHuffman("padding is not of ones, or longer than 7 bits")
    return b"".join(out)


def encode(data: bytes) -> bytes:
    bits = "".join([_CODES[byte] for byte in data])
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
