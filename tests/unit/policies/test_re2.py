"""RE2's language in Python's engine: what is accepted means what it means to Envoy, the rest is refused."""

from __future__ import annotations

import contextlib
import time

import pytest

from weft.policies.dialects.re2 import MAX_NESTING, BadPattern, compile_pattern

# pattern, texts that match whole, texts that do not
MATCHES: dict[str, tuple[str, list[str], list[str]]] = {
    "L3 a match is a full match": ("/public", ["/public"], ["/public?x=1", "/publi", "x/public"]),
    "L3 an anchor at the end changes nothing": ("/path1$", ["/path1"], ["/path1\n", "/path12"]),
    "an anchor at the start": ("^/a", ["/a"], ["b/a"]),
    "alternatives": ("GET|PUT", ["GET", "PUT"], ["GETPUT", "GE"]),
    "an empty alternative": ("(a|)b", ["ab", "b"], ["a"]),
    "a dot is no newline": ("a.c", ["abc", "a/c"], ["a\nc", "ac"]),
    "(?s) makes it one": ("(?s)a.c", ["a\nc"], []),
    "repeats": ("a*b+c?", ["b", "aabbc"], ["ac"]),
    "lazy repeats match the same": ("a*?b+?c??", ["b", "aabbc"], ["ac"]),
    "counts": ("a{2}b{1,2}c{1,}", ["aabc", "aabbccc"], ["abc", "aabbbc"]),
    "a brace that is no count is itself": ("a{,5}{x}", ["a{,5}{x}"], ["aaa"]),
    "a group that captures": ("(ab)+", ["abab"], ["aba"]),
    "a named group of Python's kind": ("(?P<n>a)b", ["ab"], []),
    "a named group of Perl's kind": ("(?<n>a)b", ["ab"], []),
    "a group that does not capture": ("(?:ab)+", ["abab"], []),
    "a repeated anchor": ("^*a", ["a"], []),
    "flags for a group": ("(?i:ab)c", ["ABc", "abc"], ["abC"]),
    "flags for the rest of the group": ("a(?i)b|c", ["ab", "aB", "C"], ["AB"]),
    "flags end with their group": ("(a(?i)b)c", ["aBc"], ["aBC"]),
    "flags taken back": ("(?i)a(?-i)b", ["Ab"], ["AB"]),
    "(?i) and classes": ("(?i)[a-c]", ["B"], ["d"]),
    "(?i) and negated classes": ("(?i)[^a]", ["b"], ["a", "A"]),
    "(?m) has lines": ("(?m)a$\n^b", ["a\nb"], []),
    "without (?m) there is one": ("a$\n^b", [], ["a\nb"]),
    "(?U) changes what repeats prefer, not what matches": ("(?U)a*b", ["aab"], []),
    "digits are ASCII": (r"\d+", ["12"], ["١٢", "a"]),
    "not digits": (r"\D", ["a", "١"], ["1"]),
    "words are ASCII": (r"\w+", ["aZ_9"], ["é", "-"]),
    "space has no vertical tab": (r"\s", [" ", "\t", "\f"], ["\v", "x"]),
    "word boundaries": (r"a\b.b\B.", ["a-bc"], ["abbc"]),
    "the start and the end of the text": (r"\Aa\z", ["a"], ["a\n"]),
    "punctuation is escaped": (r"\.\*\/\-\_\{", [".*/-_{"], []),
    "control characters": (r"\a\f\n\r\t\v", ["\a\f\n\r\t\v"], []),
    "hexadecimal": (r"\x41\x{1F600}", ["A\U0001f600"], []),
    "octal": (r"\101\07", ["A\a"], []),
    "quoted": (r"\Qa.b*\E+", ["a.b*", "a.b**"], ["axb"]),
    "quoted to the end": (r"\Qa.b", ["a.b"], ["axb"]),
    "classes": ("[a-z0-9_]+", ["a_9"], ["A"]),
    "a bracket first in a class": ("[]a]+", ["]a"], []),
    "a hyphen at the ends of a class": ("[-a][a-]", ["-a", "a-"], ["bb"]),
    "a caret later in a class": ("[a^]", ["^"], ["b"]),
    "escapes in a class": (r"[\]\\\n\x41]+", ["]\\\nA"], []),
    "Perl's classes in a class": (r"[\d\s-]+", ["1 -"], ["a"]),
    "negated ones in a class": (r"[\D5]", ["a", "5"], ["4"]),
    "negated twice": (r"[^\D]", ["4"], ["a"]),
    "POSIX classes": ("[[:alpha:][:digit:]-]+", ["aZ9-"], ["_"]),
    "negated POSIX classes": ("[[:^alpha:]]", ["1"], ["a"]),
    "nothing special about other text": ("/é%20&", ["/é%20&"], []),
}


@pytest.mark.parametrize(("pattern", "yes", "no"), MATCHES.values(), ids=MATCHES)
def test_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [text for text in yes if not compiled.fullmatch(text)] == []
    assert [text for text in no if compiled.fullmatch(text)] == []


REFUSED = {
    "look-ahead": "(?=a)",
    "negative look-ahead": "(?!a)",
    "look-behind": "(?<=a)b",
    "negative look-behind": "(?<!a)b",
    "a backreference": r"(a)\1",
    "a named backreference": "(?P<n>a)(?P=n)",
    "a condition": "(a)?(?(1)b)",
    "an atomic group": "(?>a)",
    "a comment": "(?#a)",
    "a possessive repeat": "a++",
    "a possessive count": "a{2}+",
    "two repeats": "a**",
    "a repeat of a lazy repeat": "a*??",
    "nothing to repeat": "*a",
    "nothing to repeat in an alternative": "a|*",
    "nothing to repeat in a group": "(*a)",
    "a count of nothing": "{2}",
    "a count above 1000": "a{1001}",
    "counts that multiply above 1000": "((a{10}){10}){11}",
    "a count backwards": "a{2,1}",
    "an open group": "(a",
    "a group that was never open": "a)",
    "an open class": "[a",
    "an empty class": "[]",
    "a range backwards": "[z-a]",
    "a range to a class": r"[a-\d]",
    "an unknown POSIX class": "[[:foo:]]",
    "a boundary in a class": r"[\b]",
    "a backslash at the end": "a\\",
    "Python's end of text": r"\Z",
    "Python's Unicode escape": r"\u0041",
    "Python's named character": r"\N{DIGIT ONE}",
    "one byte": r"\C",
    "a Unicode class": r"\pL",
    "a Unicode class by name": r"\p{Greek}",
    "no character": r"\x{110000}",
    "half a character": r"\x{D800}",
    "one hexadecimal digit": r"\x4",
    "flags that do not exist": "(?x)a",
    "no flags": "(?)a",
    "two groups of one name": "(?P<n>a)(?P<n>b)",
    "a name that is none": "(?P<a-b>a)",
    "an endless group": "(" * (MAX_NESTING + 1) + ")" * (MAX_NESTING + 1),
}


@pytest.mark.parametrize("pattern", REFUSED.values(), ids=REFUSED)
def test_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(" * 4000, "[" * 4000, "a{999}" * 600, "(?i)" * 1000, "\\" * 4000, "[[:" * 1300, "(?:a|" * 900, "a|" * 2000],
)
def test_hostile_patterns_are_read_or_refused_quickly(pattern: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(BadPattern):
        compile_pattern(pattern)
    assert time.monotonic() - started < 1
