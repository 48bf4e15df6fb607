"""Character classes of RE2: Perl's, POSIX's, and how a set of ranges is written for Python's `re`.

All of them are ASCII, as RE2 has it; that `\\s` has no vertical tab is RE2's too.
"""

from __future__ import annotations

#: First and last character of each range.
Ranges = tuple[tuple[str, str], ...]

_DIGIT = (("0", "9"),)
_SPACE = (("\t", "\n"), ("\f", "\r"), (" ", " "))
_WORD = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
PERL = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
POSIX = {
    "alnum": (("0", "9"), ("A", "Z"), ("a", "z")),
    "alpha": (("A", "Z"), ("a", "z")),
    "ascii": (("\0", "\x7f"),),
    "blank": (("\t", "\t"), (" ", " ")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": _DIGIT,
    "graph": (("!", "~"),),
    "lower": (("a", "z"),),
    "print": ((" ", "~"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": (("\t", "\r"), (" ", " ")),
    "upper": (("A", "Z"),),
    "word": _WORD,
    "xdigit": (("0", "9"), ("A", "F"), ("a", "f")),
}


def bracket(parts: list[Ranges], negated: bool) -> str:
    text = "".join(f"{_code(low)}-{_code(high)}" for ranges in parts for low, high in ranges)
    return f"[{'^' if negated else ''}{text}]"


def _code(sign: str) -> str:
    return f"\\U{ord(sign):08x}"


def complement(ranges: Ranges) -> Ranges:
    found, low = [], 0
    for first, last in ranges:
        if ord(first) > low:
            found.append((chr(low), chr(ord(first) - 1)))
        low = ord(last) + 1
    return (*found, (chr(low), chr(0x10FFFF)))
