"""`make demo`: what the wire does is what was predicted, in under a minute, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_agrees_with_itself_and_cleans_up() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "demo" / "run.py")], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    assert "28 of 28 agree" in done.stdout
    assert '"service": "bank"' in done.stdout, "the whole chain answered"
    assert "ALLOWED BY payments (CiliumNetworkPolicy)" in done.stdout, "flows name their policy"
    assert "Policy denied DROPPED" in done.stdout
    assert "20 x catalog-v2" in done.stdout and "1 x 403 Access denied" in done.stdout
    assert "http-request DROPPED (HTTP/1.1 POST http://catalog/)" in done.stdout
    assert not Path("/run/weft-demo").exists() and not list(Path("/run/netns").glob("weft-demo-*"))
