"""Rings: `root` tests need root, bcc and a kernel that loads the programs. Elsewhere they are skipped with the
reason; with WEFT_REQUIRE_ROOT set (CI) a machine that cannot run them fails instead."""

from __future__ import annotations

import importlib.util
import os

import pytest


def _why_not() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if importlib.util.find_spec("bcc") is None:
        return "needs bcc (apt install python3-bpfcc)"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _why_not()
    if not reason or os.environ.get("WEFT_REQUIRE_ROOT"):
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=reason))
