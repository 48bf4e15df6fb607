"""Patterns that judge requests: RE2's answers, in linear time, refused with the reason."""

from __future__ import annotations

import re

import pytest

from weft.policies.dialects.re2 import translate
from weft.policies.l7 import HeaderChange, HttpLimits, Request, judge
from weft.policies.model import HeaderMatch, HttpRule, ObjectRef, Origin
from weft.policies.regex import BadPattern, Literal, compile_linear

TEXTS = ["", "/", "/a", "/a/1", "/A/1", "/a\n", "GET", "get", "a.b", "axb", "  ", "ab" * 20, "é", "/a/é"]
PATTERNS = [
    "/a(/[0-9]+)?",
    "(?i)/a/[[:digit:]]",
    "a.b",
    r"a\.b",
    "^/a$",
    "GET|PUT",
    r"\Qa.b\E",
    "(ab)*",
    ".*",
    r"/\S+",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_re2_answers_as_the_translation_that_was_tested_before(pattern: str) -> None:
    ours, theirs = compile_linear(pattern), re.compile(translate(pattern), re.ASCII)
    assert [bool(ours.fullmatch(text)) for text in TEXTS] == [bool(theirs.fullmatch(text)) for text in TEXTS]


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "a**", "(((((a{100}){10}){10}){10}){10}){10}"])
def test_a_pattern_that_is_no_re2_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_linear(pattern)


def test_a_pattern_that_takes_too_much_memory_is_refused_with_re2s_words() -> None:
    with pytest.raises(BadPattern, match="too large"):
        compile_linear("[^a]{1000}" * 100)


def test_a_text_without_signs_is_compared_as_it_stands() -> None:
    assert isinstance(compile_linear("GET"), Literal)
    assert not compile_linear("GET").fullmatch("GETS")


def test_nested_repeats_do_not_take_exponential_time() -> None:
    assert not compile_linear("(a|a)*b|(a+)+c").fullmatch("a" * 20_000)


def limits(*headers: HeaderMatch) -> HttpLimits:
    origin = Origin(ObjectRef("CiliumNetworkPolicy", "default", "x"), "spec.ingress[0]")
    return HttpLimits(((origin, HttpRule(headers=headers)),))


def test_a_header_that_differs_is_changed_as_the_rule_says() -> None:
    asked = limits(
        HeaderMatch("X-A", "1", "REPLACE"), HeaderMatch("X-B", "2", "ADD"), HeaderMatch("X-C", "3", "LOG")
    )
    answer = judge(asked, Request(headers={"x-a": ("0",), "x-c": ("3",)}))
    assert answer.allowed
    assert answer.changes == (HeaderChange("REPLACE", "x-a", "1"), HeaderChange("ADD", "x-b", "2"))


def test_a_rule_with_a_bad_pattern_lets_nothing_pass() -> None:
    origin = Origin(ObjectRef("CiliumNetworkPolicy", "default", "x"), "spec.ingress[0]")
    assert not judge(HttpLimits(((origin, HttpRule(path="(")),)), Request(path="(")).allowed
