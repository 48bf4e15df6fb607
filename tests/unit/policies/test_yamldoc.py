"""YAML to documents: what comes out, what is refused, and that hostile text costs no more than honest text."""

from __future__ import annotations

import time

import pytest

from weft.policies import yamlbuilder, yamldoc
from weft.policies.errors import Invalid
from weft.policies.yamldoc import Document, documents


def values(text: str) -> list[dict[str, object]]:
    return [document.value for document in documents(text)]


def refusal(text: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        documents(text, "bad.yaml")
    assert caught.value.where.file == "bad.yaml"
    return caught.value


ACCEPTED = {
    "an empty file has no documents": ("", []),
    "comments are no documents": ("# nothing\n---\n# here\n", []),
    "several documents come in order": ("a: 1\n---\nb: 2\n---\n---\nc: 3\n", [{"a": 1}, {"b": 2}, {"c": 3}]),
    "JSON is YAML": ('{"a": [1, 2.5, null, true, "x"]}', [{"a": [1, 2.5, None, True, "x"]}]),
    "a byte order mark is skipped": ("\ufeffa: 1", [{"a": 1}]),
    "carriage returns end lines": ("a: 1\r\nb: 2\r\n", [{"a": 1, "b": 2}]),
    "kind List gives its items": (
        "kind: List\nitems:\n- {kind: A}\n- {kind: B}\n",
        [{"kind": "A"}, {"kind": "B"}],
    ),
    "lists inside lists are opened too": (
        "kind: List\nitems: [{kind: List, items: [{kind: A}]}, {kind: B}]",
        [{"kind": "A"}, {"kind": "B"}],
    ),
    "an empty List gives nothing": ("kind: List\nitems: []", []),
    "a List without items gives nothing": ("kind: List", []),
    "items of a typed list take its kind and version": (
        "{kind: PodList, apiVersion: v1, items: [{metadata: {name: a}}]}",
        [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}],
    ),
    "a kind that only ends in List is left alone": (
        "{kind: AllowList, spec: 1}",
        [{"kind": "AllowList", "spec": 1}],
    ),
    "an alias repeats what it names": ("a: &x {b: 1}\nc: *x", [{"a": {"b": 1}, "c": {"b": 1}}]),
    "an anchor may be set again": (
        "[a: &x 1, b: *x, c: &x 2, d: *x]".replace("[", "{").replace("]", "}"),
        [{"a": 1, "b": 1, "c": 2, "d": 2}],
    ),
    "an alias may be a key": ("{a: &x k, *x : 1}", [{"a": "k", "k": 1}]),
    "a merge key fills in what the mapping has not": (
        "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}",
        [{"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}],
    ),
    "of several merged mappings the first wins": (
        "d:\n  <<: [{b: 1}, {b: 2, c: 3}]\n",
        [{"d": {"b": 1, "c": 3}}],
    ),
    "a quoted << is an ordinary key": ('{"<<": {a: 1}}', [{"<<": {"a": 1}}]),
    "quoted scalars are strings": ("{a: '1', b: \"true\", c: 'null'}", [{"a": "1", "b": "true", "c": "null"}]),
    "a tag says what a scalar is": (
        "{a: !!str 1, b: !!int '1', c: !!float 1, d: !!bool yes, e: !!null ''}",
        [{"a": "1", "b": 1, "c": 1.0, "d": True, "e": None}],
    ),
    "block scalars keep their text": ("a: |\n  x\n  y\n", [{"a": "x\ny\n"}]),
    "JSON's escape of such text is the same text": (
        r'{"a": "\ud83d\ude00", "b": "\\ud83d\\ude00", "c": "\u00e9"}',
        [{"a": "\U0001f600", "b": r"\ud83d\ude00", "c": "\u00e9"}],
    ),
    "text beyond the basic plane is text": ('{a: "\U0001f600"}', [{"a": "\U0001f600"}]),
}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_is_read(text: str, expected: list[dict[str, object]]) -> None:
    assert values(text) == expected


REFUSED = {
    "a duplicate key": ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice"),
    "a duplicate key deep inside names its path": ("spec:\n  x:\n  - k: 1\n    k: 2\n", 4, "stands twice"),
    "a duplicate key by an alias": ("{a: &x a, *x : 1}", 1, "stands twice"),
    "a number as key": ("{1: a}", 1, "a key must be a string"),
    "a boolean as key": ("on: a", 1, "reads this one as true"),
    "null as key": ("~: a", 1, "reads this one as null"),
    "a list as key": ("? [a]\n: b", 1, "a key must be a string"),
    "a mapping as key": ("? {a: 1}\n: b", 1, "a key must be a string"),
    "an alias to a mapping as key": ("a: &x {b: 1}\n? *x\n: 1", 2, "a key must be a string"),
    "a list at the top": ("- a\n- b\n", 1, "this is a list"),
    "a scalar at the top": ("just text", 1, "this is a single value"),
    "a tab for indentation": ("a:\n\tb: 1\n", 2, "cannot start any token"),
    "a NUL": ("a: 1\nb: \0\n", 2, "U+0000"),
    "an escape character": ("a: \x1b[31m", 1, "U+001B"),
    "a lone surrogate": ("a: x\nb: \udcff\n", 2, "U+DCFF"),
    "an unclosed quote": ('a: "x\n', 2, "not YAML"),
    "an unclosed mapping": ("{a: 1", 2, "did not find expected"),
    "bad indentation": ("a: 1\n  b: 2\n", 2, "not YAML"),
    "an alias without an anchor": ("a: *x", 1, "names no anchor"),
    "an alias to what it stands in": ("a: &x [*x]", 1, "names no anchor that is complete"),
    "an alias to an anchor of another document": ("a: &x 1\n---\nb: *x", 3, "names no anchor"),
    "a merge of something that is no mapping": ("{<<: 1}", 1, "a merge key (<<) takes"),
    "two merge keys": ("{<<: {a: 1}, <<: {b: 1}}", 1, "second merge key"),
    "a Python object": ("a: !!python/object/apply:os.system [ls]", 1, "not supported here"),
    "a tag of one's own": ("a: !secret x", 1, "not supported here"),
    "binary data": ("a: !!binary aGVsbG8=", 1, "not supported here"),
    "a mapping tagged as a set": ("a: !!set {b, c}", 1, "not supported here"),
    "a tag that lies": ("a: !!int hello", 1, "not supported here"),
    "infinity": ("a: .inf", 1, "no number that JSON knows"),
    "not a number": ("a: .nan", 1, "no number that JSON knows"),
    "a number above every double": ("a: 1e999", 1, "no number that JSON knows"),
    "a number of a thousand digits": ("a: 1" + "0" * 1000, 1, "no number that JSON knows"),
    "a List whose items are a mapping": ("kind: List\nitems: {a: 1}", 2, "must be a list"),
    "a List with an item that is no object": ("kind: List\nitems:\n- {kind: A}\n- 5\n", 4, "must be an object"),
    "a directive for another YAML": ("%YAML 3.0\n---\na: 1", 1, "not YAML"),
}


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(text: str, line: int, reason: str) -> None:
    error = refusal(text)
    assert reason in error.reason
    assert error.where.line == line


def test_an_error_names_the_object_and_the_path_as_far_as_they_were_read() -> None:
    error = refusal("kind: Pod\nmetadata: {name: a, namespace: ns}\nspec:\n  c:\n  - x: 1\n  - x: 1\n    x: 2\n")
    assert (error.where.object, error.where.path) == ("Pod ns/a", "spec.c[1].x")
    assert str(error) == "bad.yaml:7: Pod ns/a: spec.c[1].x: 'x' stands twice in one mapping (first in line 6)"


def test_one_bad_document_refuses_the_whole_file() -> None:
    refusal("kind: A\n---\nkind: B\nkind: C\n")


# Bounds


def test_text_above_the_limit_is_refused() -> None:
    assert "8 MiB" in refusal("a: " + "x" * yamldoc.MAX_BYTES).reason


def test_the_limit_counts_bytes_not_characters() -> None:
    assert "8 MiB" in refusal("a: " + "\u20ac" * (yamldoc.MAX_BYTES // 2)).reason


def test_nesting_is_bounded() -> None:
    depth = yamlbuilder.MAX_DEPTH - 1
    assert values("a: " + "[" * depth + "]" * depth)
    assert "nested deeper" in refusal("a: " + "[" * (depth + 1) + "]" * (depth + 1)).reason


@pytest.mark.parametrize("text", ["[" * 1_000_000, "{a: " * 1_000_000, "- " * 100_000, "? " * 100_000])
def test_endless_nesting_is_refused_at_once(text: str) -> None:
    started = time.monotonic()
    refusal(text)
    assert time.monotonic() - started < 2


def billion_laughs(levels: int = 9, width: int = 9) -> str:
    lines = ["a0: &a0 lol"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
    return "\n".join(lines)


BOMBS = {
    "lists of aliases of lists": billion_laughs(),
    "mappings of aliases of mappings": billion_laughs().replace("[", "{x: [").replace("]", "]}"),
    "merges of merges": "a0: &a0 {"
    + ", ".join(f"k{i}: {i}" for i in range(1000))
    + "}\n"
    + "\n".join(f"b{i}: {{<<: *a0}}" for i in range(2000)),
    "many aliases of long text": f'a: &a "{"x" * 1_000_000}"\nb: [' + "*a, " * 100_000 + "]",
    "a List of aliases of Lists": "kind: List\nitems:\n- &a {kind: List, items: ["
    + "{kind: A}, " * 1000
    + "]}\n"
    + "- *a\n" * 2000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_aliases_are_charged_with_what_they_repeat(text: str) -> None:
    started = time.monotonic()
    error = refusal(text)
    assert "counting what aliases repeat" in error.reason or "objects in one file" in error.reason
    assert time.monotonic() - started < 5


def test_ordinary_aliases_are_fine() -> None:
    (value,) = values("a: &a {x: 1}\nb: [" + "*a, " * 1000 + "]")
    assert value["b"] == [{"x": 1}] * 1000


def test_a_thousand_policies_load_in_a_fraction_of_a_second() -> None:
    one = """---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: p
spec:
  endpointSelector:
    matchLabels: {app: s}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: foo}
    toPorts:
    - ports:
      - {port: "80", protocol: TCP}
"""
    started = time.monotonic()
    assert len(documents(one * 1000)) == 1000
    assert time.monotonic() - started < 2


# Lines


def test_each_document_and_item_knows_its_line() -> None:
    found = documents("# comment\na: 1\n---\nkind: List\nitems:\n- kind: A\n- kind: B\n")
    assert [document.line for document in found] == [2, 6, 7]


def test_each_field_knows_its_line() -> None:
    (document,) = documents("kind: A\nspec:\n  list:\n  - a: 1\n    b:\n      c: 2\n  - x\n")
    lines = {
        ("kind",): 1,
        ("spec", "list"): 3,
        ("spec", "list", 0, "b", "c"): 6,
        ("spec", "list", 1): 7,
        ("spec", "list", 0, "b", "missing"): 5,
        ("nowhere", 3): 1,
    }
    assert {steps: document.line_at(steps) for steps in lines} == lines


def test_fields_of_a_typed_list_keep_their_lines() -> None:
    (document,) = documents("kind: PodList\nitems:\n- metadata:\n    name: a\n")
    assert document.line_at(("metadata", "name")) == 4


def test_a_document_made_by_hand_has_no_lines() -> None:
    assert Document({"a": {"b": 1}}).line_at(("a", "b")) == 0
