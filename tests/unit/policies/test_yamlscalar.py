"""Unquoted scalars mean what they mean to kubectl."""

from __future__ import annotations

import pytest

from weft.policies.yamlscalar import resolve

MEANS = {
    "words are strings": ("hello", "hello"),
    "nothing is null": ("", None),
    "a tilde is null": ("~", None),
    "null in three spellings": ("NULL", None),
    "nULL is a string": ("nULL", "nULL"),
    "true": ("true", True),
    "yes is true": ("yes", True),
    "y is true": ("y", True),
    "On is true": ("On", True),
    "NO is false": ("NO", False),
    "off is false": ("off", False),
    "tRUE is a string": ("tRUE", "tRUE"),
    "zero": ("0", 0),
    "a decimal number": ("-42", -42),
    "a plus is allowed": ("+7", 7),
    "underscores are skipped": ("1_000", 1000),
    "a leading zero makes it octal": ("010", 8),
    "file modes": ("0644", 420),
    "0o is octal too": ("0o17", 15),
    "hexadecimal": ("0x1F", 31),
    "negative hexadecimal": ("-0x10", -16),
    "binary": ("0b101", 5),
    "08 is no octal number, so a float": ("08", 8.0),
    "the largest unsigned number": (str((1 << 64) - 1), (1 << 64) - 1),
    "above it, a float": (str(1 << 64), float(1 << 64)),
    "a decimal point": ("1.5", 1.5),
    "a point alone in front": (".5", 0.5),
    "a point alone behind": ("1.", 1.0),
    "an exponent": ("1e3", 1000.0),
    "a commit that looks like a number": ("12e4", 120000.0),
    "an address is a string": ("10.0.0.1", "10.0.0.1"),
    "a prefix is a string": ("10.0.0.0/8", "10.0.0.0/8"),
    "a date is a string": ("2024-01-31", "2024-01-31"),
    "a time is a string": ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
    "no base 60": ("1:30", "1:30"),
    "a version is a string": ("1.2.3", "1.2.3"),
    "a sign alone is a string": ("-", "-"),
    "a dot alone is a string": (".", "."),
    "an underscore alone is a string": ("_", "_"),
    "digits in other scripts are strings": ("١٢", "١٢"),
}


@pytest.mark.parametrize(("text", "value"), MEANS.values(), ids=MEANS)
def test_means(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)
