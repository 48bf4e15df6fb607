"""`weft service list`: what each service address is translated to, as the kernel of each node holds it."""

from __future__ import annotations

import argparse
from typing import Any

from weft.daemon.cli import client
from weft.daemon.cli.table import show

HEADER = ("ID", "Frontend", "Service Type", "Name", "Backend")


def register(commands: Any) -> None:
    parser = commands.add_parser("service", help="services and their backends", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="list", required=True)
    listing = verbs.add_parser("list", help="all services")
    client.add_options(listing)
    listing.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    answers = client.query_all(options.run_dir, options.node, "services")
    header = HEADER if len(answers) < 2 else ("NODE", *HEADER)
    rows = [(node, *line(row))[-len(header) :] for node, services in answers.items() for row in services]
    value = [{"node": node, **row} for node, services in answers.items() for row in services]
    show(value, options.output, header, rows)
    return 0


def line(row: dict[str, Any]) -> tuple[str, ...]:
    backends = [f"{n} => {each['address']} (active)" for n, each in enumerate(row["backends"], 1)]
    refused = f"REFUSED: {row['refused']}" if row["refused"] else "-"
    name = f"{row['namespace']}/{row['name']}"
    return str(row["id"]), row["frontend"], row["type"], name, "\n".join(backends) or refused
