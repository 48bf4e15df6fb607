"""RE2's regular expressions, read strictly and turned into Python's.

Policies carry RE2 (Envoy's safe_regex, L3). Python's `re` reads another language: it has what RE2 refuses (look
around, backreferences, possessive repeats), lacks what RE2 has (`\\Q..\\E`, `\\x{..}`, flags in the middle), and
some signs mean other things (`$`, `\\s`, `\\d`). So a pattern is parsed by RE2's rules here and written anew for
`re`, where it is to be used with `fullmatch`. Groups capture nothing.

Two things of RE2 are refused with a reason: Unicode classes (`\\pL`: nothing in an HTTP head needs them) and
`\\C`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from weft.policies.dialects.re2_classes import PERL, POSIX, Ranges, bracket, complement

MAX_NESTING = 100
#: Go's and RE2's own limit, also for the product of nested ones: {1000} inside {1000} would be a million states.
MAX_REPEAT = 1000

_CONTROL = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ANCHORS = {"A": r"\A", "z": r"\Z", "b": r"\b", "B": r"\B"}

_REPEAT = re.compile(r"\{([0-9]{1,9})(?:(,)([0-9]{0,9}))?\}")
_OPEN = re.compile(r"\(\?(?:P?<([A-Za-z0-9_]+)>|([imsU]*)(-[imsU]+)?([:)]))")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,8})\})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")


class BadPattern(ValueError):
    """Why a text is no RE2 pattern, or none that Weft takes."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """For `fullmatch`. Raises `BadPattern`."""
    try:
        return re.compile(translate(pattern), re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"too complex ({error})") from None


def translate(pattern: str) -> str:
    """The same language for Python's `re` with `re.ASCII`."""
    return _Reader(pattern).read()


@dataclass(slots=True)
class _Group:
    """What stands between two parentheses. `weight`: the largest product of nested repeats inside."""

    flags: frozenset[str]
    done: list[str] = field(default_factory=list)
    atom: str | None = None  # the last one, which a repeat may still follow
    atom_weight: int = 1
    weight: int = 1
    repeated: bool = False  # the atom has its repeat: RE2 takes no second one

    def put(self, atom: str | None, weight: int = 1) -> None:
        """Takes the next atom; None at the end of an alternative."""
        if self.atom is not None:
            self.done.append(self.atom)
            self.weight = max(self.weight, self.atom_weight)
        self.atom, self.atom_weight, self.repeated = atom, weight, False


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._names: set[str] = set()
        self._stack = [_Group(frozenset())]

    def read(self) -> str:
        while self._at < len(self._text):
            self._next()
        if len(self._stack) > 1:
            raise BadPattern("a ( is not closed")
        self._stack[0].put(None)
        return "".join(self._stack[0].done)

    def _next(self) -> None:
        group, sign = self._stack[-1], self._text[self._at]
        if sign == "(":
            self._open()
        elif sign == ")":
            self._close()
        elif sign == "[":
            group.put(self._class())
        elif sign == "\\":
            self._escape()
        elif sign in "*+?" or (sign == "{" and _REPEAT.match(self._text, self._at)):
            self._repeat(group)
        else:
            self._at += 1
            self._simple(group, sign)

    def _simple(self, group: _Group, sign: str) -> None:
        multiline = "m" in group.flags
        if sign == "|":
            group.put(None)
            group.done.append("|")
        elif sign == ".":
            group.put(r"(?s:.)" if "s" in group.flags else r"[^\n]")
        elif sign == "^":
            group.put("(?m:^)" if multiline else r"\A")
        elif sign == "$":
            group.put("(?m:$)" if multiline else r"\Z")
        else:
            group.put(_literal(sign, group.flags))

    # Groups

    def _open(self) -> None:
        if len(self._stack) > MAX_NESTING:
            raise BadPattern(f"nested deeper than {MAX_NESTING}")
        flags = self._stack[-1].flags
        if not self._text.startswith("(?", self._at):
            self._at += 1
            self._stack.append(_Group(flags))
            return
        match = _OPEN.match(self._text, self._at)
        if match is None:
            raise BadPattern(
                f"{self._text[self._at : self._at + 4]!r}: RE2 has no look-around, comments or conditions"
            )
        self._at = match.end()
        name, on, off, end = match.groups()
        if name is not None:
            if name in self._names:
                raise BadPattern(f"the group {name!r} stands twice")
            self._names.add(name)
            self._stack.append(_Group(flags))
            return
        if end == ")" and not (on or off):
            raise BadPattern("'(?)' sets no flag")
        flags = (flags | set(on or "")) - set((off or "")[1:])
        if end == ":":
            self._stack.append(_Group(flags))
        else:
            self._stack[-1].put(None)
            self._stack[-1].flags = flags

    def _close(self) -> None:
        if len(self._stack) == 1:
            raise BadPattern("a ) closes nothing")
        self._at += 1
        group = self._stack.pop()
        group.put(None)
        self._stack[-1].put(f"(?:{''.join(group.done)})", group.weight)

    # Repeats

    def _repeat(self, group: _Group) -> None:
        match = _REPEAT.match(self._text, self._at)
        text = match.group() if match else self._text[self._at]
        self._at += len(text)
        if group.atom is None:
            raise BadPattern(f"{text!r} repeats nothing")
        if group.repeated:
            raise BadPattern(f"{text!r} repeats a repeat: RE2 has no possessive or double repeats")
        if match:
            group.atom_weight *= _count(match)
            if group.atom_weight > MAX_REPEAT:
                raise BadPattern(f"{text!r}: repeats more than {MAX_REPEAT} times, with those inside")
        lazy = self._text.startswith("?", self._at)
        self._at += lazy
        lazy ^= "U" in group.flags
        group.atom = f"(?:{group.atom}){text}{'?' if lazy else ''}"
        group.repeated = True

    # Escapes

    def _escape(self) -> None:
        group, rest = self._stack[-1], self._text[self._at + 1 : self._at + 2]
        if rest == "Q":
            end = self._text.find("\\E", self._at + 2)
            quoted = self._text[self._at + 2 : end if end >= 0 else None]
            self._at = end + 2 if end >= 0 else len(self._text)
            for sign in quoted:
                group.put(_literal(sign, group.flags))
        elif rest in _ANCHORS and rest:
            self._at += 2
            group.put(_ANCHORS[rest])
        elif rest.lower() in PERL and rest:
            self._at += 2
            group.put(bracket([PERL[rest.lower()]], negated=rest.isupper()))
        else:
            group.put(_literal(self._escaped_character(), group.flags))

    def _escaped_character(self) -> str:
        """The one character that the escape at the cursor stands for; moves behind it."""
        start = self._at + 1
        if start >= len(self._text):
            raise BadPattern("ends in a backslash")
        sign = self._text[start]
        number = _HEX.match(self._text, start) or _OCTAL.match(self._text, start)
        if number:
            self._at = number.end()
            digits = next((part for part in number.groups() if part), None)
            return _character(int(digits, 16) if digits else int(number.group(), 8))
        self._at = start + 1
        if sign in _CONTROL:
            return _CONTROL[sign]
        if sign.isascii() and not sign.isalnum():
            return sign
        if sign.isdigit():
            raise BadPattern(f"'\\{sign}': RE2 has no backreferences")
        if sign in "pP":
            raise BadPattern(f"'\\{sign}': Unicode classes are not supported here")
        raise BadPattern(f"'\\{sign}' is no escape of RE2")

    # Classes

    def _class(self) -> str:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        parts: list[Ranges] = []
        excluded: list[Ranges] = []
        first = True
        while first or not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                raise BadPattern("a [ is not closed")
            first = False
            self._class_item(parts, excluded)
        self._at += 1
        flags = self._stack[-1].flags
        parts += [complement(ranges) for ranges in excluded]
        text = bracket(parts, negated)
        return f"(?i:{text})" if "i" in flags else text

    def _class_item(self, parts: list[Ranges], excluded: list[Ranges]) -> None:
        """One of `[:alpha:]`, `\\d`, `a-z`, `a`. What a negated one excludes goes to `excluded`."""
        if self._text.startswith("[:", self._at):
            end = self._text.find(":]", self._at + 2)
            name = self._text[self._at + 2 : end] if end >= 0 else ""
            if end >= 0:
                if name.removeprefix("^") not in POSIX:
                    raise BadPattern(f"there is no class [:{name[:20]}:]")
                (excluded if name.startswith("^") else parts).append(POSIX[name.removeprefix("^")])
                self._at = end + 2
                return
        perl = self._text[self._at + 1 : self._at + 2] if self._text[self._at] == "\\" else ""
        if perl and perl.lower() in PERL:
            (excluded if perl.isupper() else parts).append(PERL[perl.lower()])
            self._at += 2
            return
        low = self._class_character()
        high = low
        if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
            self._at += 1
            high = self._class_character()
        if high < low:
            raise BadPattern(f"the range {low}-{high} is backwards")
        parts.append(((low, high),))

    def _class_character(self) -> str:
        if self._at >= len(self._text):
            raise BadPattern("a [ is not closed")
        if self._text[self._at] == "\\":
            return self._escaped_character()
        self._at += 1
        return self._text[self._at - 1]


def _count(match: re.Match[str]) -> int:
    low, _, high = match.groups()
    most = int(high) if high else int(low)
    if most < int(low) or most > MAX_REPEAT:
        raise BadPattern(f"{match.group()!r}: repeat counts are 0 to {MAX_REPEAT}, the second not below the first")
    return max(most, 1)


def _literal(sign: str, flags: frozenset[str]) -> str:
    text = re.escape(sign)
    return f"(?i:{text})" if "i" in flags and sign.isalpha() else text


def _character(number: int) -> str:
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise BadPattern(f"{number:#x} is no character")
    return chr(number)
