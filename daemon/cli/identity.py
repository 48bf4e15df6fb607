"""`weft identity list|get`: numbers and the labels they stand for."""

from __future__ import annotations

import argparse
from typing import Any

from weft.daemon.cli import client
from weft.daemon.cli.table import labels_cell, show


def register(commands: Any) -> None:
    parser = commands.add_parser("identity", help="identities and their labels", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="list|get", required=True)
    listing = verbs.add_parser("list", help="all identities")
    listing.add_argument("--endpoints", action="store_true", help="also how many endpoints of the node bear each")
    client.add_options(listing)
    listing.set_defaults(run=run, identity="")
    one = verbs.add_parser("get", help="one identity")
    one.add_argument("identity", help="its number")
    client.add_options(one)
    one.set_defaults(run=run, endpoints=True)


def run(options: argparse.Namespace) -> int:
    """The same identity has the same labels on every node; node-local ones (CIDR) are that node's own."""
    merged: dict[tuple[str, int], dict[str, Any]] = {}
    for node, rows in client.query_all(options.run_dir, options.node, "identities", options.identity).items():
        for row in rows:
            known = merged.setdefault((node if row["kind"] == "cidr" else "", row["id"]), {**row, "endpoints": 0})
            known["endpoints"] += row["endpoints"]
    value = [{"node": node, **row} if node else row for (node, _), row in merged.items()]
    header = ("ID", "LABELS", "REFCOUNT") if options.endpoints else ("ID", "LABELS")
    rows = [(row["id"], labels_cell(row["labels"]), row["endpoints"])[: len(header)] for row in value]
    show(value, options.output, header, rows)
    return 0
