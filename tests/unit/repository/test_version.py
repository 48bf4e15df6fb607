"""One version: a proxy that says another one than its daemon is replaced at every start of the daemon."""

from __future__ import annotations

import tomllib
from pathlib import Path

from weft.l7proxy.worker import VERSION

ROOT = Path(__file__).parents[3]


def test_the_proxy_says_the_packages_version() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
