"""`weft version`."""

from __future__ import annotations

import argparse
from importlib import metadata
from typing import Any


def register(commands: Any) -> None:
    commands.add_parser("version", help="this build's version").set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    print(f"weft {metadata.version('weft')}")
    return 0
