"""Whatever text is fed to yamldoc: documents or `Invalid`, in bounded time and memory.

Documents are plain: str, int, finite float, bool, None, list, and dict with str keys, no deeper than MAX_DEPTH and
no larger than MAX_VALUES, with a line in the text. And feeding a text twice gives the same twice.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies.errors import Invalid
from weft.policies.yamlbuilder import MAX_DEPTH, MAX_VALUES
from weft.policies.yamldoc import Document, documents
from weft.policies.yamlscalar import resolve

MANIFEST = """# a comment
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, labels: &labels {app: foo, "k8s:b": 'c'}}
spec:
  endpointSelector: &all {}
  ingress:
  - fromEndpoints:
    - matchLabels: {<<: *labels, tier: ~}
    toPorts: [{ports: [{port: "80", endPort: 0x1F, protocol: TCP}]}]
  - *all
---
kind: List
items:
- !!str text
- |
  block
"""

SIGNS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    " ",
    "\n",
    "\n  ",
    "- ",
    "? ",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "!x ",
    "'",
    '"',
    "|",
    ">",
]
WORDS = ["a", "b", "1", "0x", "-1e3", ".inf", "yes", "~", "kind: List", "items:", "---\n", "...\n", "%YAML 1.1\n"]
HOSTILE = ["\t", "\0", "\x1b", "\x85", "\u2028", "\ufeff", "\ud800", "\U0001f600", "\\", "#", ",", "@", "`", "%"]

grammar = st.lists(st.sampled_from(SIGNS + WORDS + HOSTILE), max_size=60).map("".join)
anything = st.text(st.characters(codec=None), max_size=200)
raw = st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape"))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real manifest with some of it cut out, doubled or replaced."""
    text = MANIFEST
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        text = (
            text[:start] + draw(st.sampled_from([*SIGNS, *WORDS, *HOSTILE, "", text[start:end] * 2])) + text[end:]
        )
    return text


def size(value: Any, depth: int = 0) -> int:
    """How many values, having checked that all of them are plain."""
    assert depth <= MAX_DEPTH
    if type(value) is dict:
        assert all(type(key) is str for key in value)
        return 1 + sum(size(item, depth + 1) for item in value.values())
    if type(value) is list:
        return 1 + sum(size(item, depth + 1) for item in value)
    assert value is None or type(value) in (str, int, bool, float)
    assert type(value) is not float or math.isfinite(value)
    return 1


def read(text: str) -> list[Document] | tuple[str, int]:
    started = time.monotonic()
    try:
        return documents(text, "fuzz.yaml")
    except Invalid as error:
        assert error.where.file == "fuzz.yaml"
        assert 0 <= error.where.line <= len(text) + 1
        return error.reason, error.where.line
    finally:
        assert time.monotonic() - started < 2


@settings(max_examples=400, deadline=None)
@given(st.one_of(grammar, anything, raw, mutated()))
def test_text_gives_plain_documents_or_invalid(text: str) -> None:
    found = read(text)
    assert read(text) == found
    if isinstance(found, list):
        assert sum(size(document.value) for document in found) <= MAX_VALUES
        assert all(type(document.value) is dict and document.line > 0 for document in found)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("0123456789+-_.eExXoObBabfAnN~yY"), max_size=12) | st.text(max_size=20))
def test_a_scalar_is_one_of_the_types_of_json(text: str) -> None:
    value = resolve(text)
    assert value is None or type(value) in (str, int, bool, float)
    assert type(value) is not str or value == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=10).filter(lambda key: key != "kind"), json_values, max_size=4))
def test_what_json_says_comes_out_as_it_was(value: dict[str, Any]) -> None:
    (document,) = documents(json.dumps(value))
    assert document.value == value
