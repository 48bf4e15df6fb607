"""`weft endpoint list|get`: the workloads of each node, their identity, and whether policy is enforced on them."""

from __future__ import annotations

import argparse
from typing import Any

from weft.daemon.cli import client
from weft.daemon.cli.table import labels_cell, show

#: Cilium's columns, for the scripts that read them; the second line is part of the header.
HEADER = (
    "ENDPOINT",
    "POLICY (ingress)",
    "POLICY (egress)",
    "IDENTITY",
    "LABELS (source:key[=value])",
    "IPv6",
    "IPv4",
    "STATUS",
)
SECOND = ("", "ENFORCEMENT", "ENFORCEMENT", "", "", "", "", "")


def register(commands: Any) -> None:
    parser = commands.add_parser("endpoint", help="workloads of a node and their enforcement", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="list|get", required=True)
    listing = verbs.add_parser("list", help="all endpoints")
    client.add_options(listing)
    listing.set_defaults(run=run_list)
    one = verbs.add_parser("get", help="one endpoint, whole")
    one.add_argument("endpoint", help=client.ENDPOINT)
    client.add_options(one)
    one.set_defaults(run=run_get, output="yaml")


def run_list(options: argparse.Namespace) -> int:
    answers = client.query_all(options.run_dir, options.node, "endpoints")
    rows = [row for node, endpoints in answers.items() for each in endpoints for row in [line(node, each)]]
    header = HEADER if len(answers) < 2 else ("NODE", *HEADER)
    second = SECOND if len(answers) < 2 else ("", *SECOND)
    rows = [row[len(row) - len(header) :] for row in rows]
    value = [{"node": node, **each} for node, endpoints in answers.items() for each in endpoints]
    show(value, options.output, header, [second, *rows])
    return 0


def line(node: str, each: dict[str, Any]) -> tuple[str, ...]:
    labels = labels_cell([f"{each['namespace']}/{each['name']}", *each["labels"]])
    fields = (each["id"], each["ingress"], each["egress"], each["identity"], labels, each["ipv6"], each["ipv4"])
    return (node, *(str(field) for field in fields), each["state"])


def run_get(options: argparse.Namespace) -> int:
    found = [
        {"node": node, **each}
        for node, (path, endpoints) in client.owners(options.run_dir, options.node, options.endpoint).items()
        for endpoint in endpoints
        for each in client.query(path, "endpoints", endpoint)
    ]
    show(found, "yaml" if options.output == "table" else options.output, (), ())
    return 0
