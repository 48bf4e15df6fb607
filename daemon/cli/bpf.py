"""`weft bpf policy|ct|ipcache|lb|metrics list`: what the kernel holds, read from its maps by the daemon.

`weft policy` says what was declared; this says what is enforced. Where they differ, this is what happens.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from weft.daemon.cli import client, service
from weft.daemon.cli.table import labels_cell, show

POLICY = (
    "POLICY",
    "DIRECTION",
    "LABELS (source:key[=value])",
    "PORT/PROTO",
    "MATCH",
    "BYTES",
    "PACKETS",
    "PREFIX",
    "RULES",
)
CT = (
    "PROTO",
    "LOCAL",
    "REMOTE",
    "IDENTITY",
    "ORIGIN",
    "VERDICT",
    "FLAGS",
    "PACKETS in/out",
    "BYTES in/out",
    "IDLE",
)
IPCACHE = ("IP PREFIX/ADDRESS", "IDENTITY", "SOURCE", "POD")
METRICS = ("REASON", "DIRECTION", "PACKETS", "BYTES")


def register(commands: Any) -> None:
    parser = commands.add_parser("bpf", help="what the kernel holds: policy, ct, ipcache, lb", description=__doc__)
    things = parser.add_subparsers(dest="thing", metavar="policy|ct|ipcache|lb|metrics", required=True)
    listing(things, "policy", "compiled policy of an endpoint", run_policy, endpoint=True)
    listing(things, "ct", "connections", run_ct, endpoint=True)
    listing(things, "ipcache", "identity of each address", run_ipcache)
    listing(things, "lb", "services and backends", service.run)
    listing(things, "metrics", "packets forwarded and dropped, by reason", run_metrics)


def listing(
    things: Any, name: str, text: str, run: Callable[[argparse.Namespace], int], *, endpoint: bool = False
) -> None:
    verbs = things.add_parser(name, help=text).add_subparsers(dest="verb", metavar="list", required=True)
    words = ("list", "get") if name == "policy" else ("list",)
    for word in words:
        parser = verbs.add_parser(word, help=text)
        if endpoint:
            parser.add_argument("endpoint", nargs="?", default="", help=f"{client.ENDPOINT} (default: all)")
            parser.add_argument("-n", "--numeric", action="store_true", help="identities as numbers")
        client.add_options(parser)
        parser.set_defaults(run=run)


def run_policy(options: argparse.Namespace) -> int:
    tables = []
    for node, (path, endpoints) in client.owners(options.run_dir, options.node, options.endpoint).items():
        for endpoint in endpoints:
            tables.append({"node": node, **client.query(path, "policy-table", endpoint)})
    if options.output != "table":
        show(tables, options.output, (), ())
        return 0
    for table in tables:
        print(f"Endpoint {table['id']} {table['endpoint']}   ingress {table['ingress']}, egress {table['egress']}")
        if table["entries"]:
            show(table, "table", POLICY, [policy_line(entry, options.numeric) for entry in table["entries"]])
        else:
            print("Policy stats empty. Perhaps the policy enforcement is disabled?")
        print()
    return 0


def policy_line(entry: dict[str, Any], numeric: bool) -> tuple[str, ...]:
    identity = str(entry["identity"])
    labels = identity if numeric else labels_cell(entry["labels"]) if entry["identity"] else "ANY"
    rules = "\n".join(f"{rule['policy']} {rule['path']}" for rule in entry["rules"]) or "-"
    counted = (str(entry["bytes"]), str(entry["packets"]), str(entry["prefix"]))
    verdict = entry["verdict"].capitalize()
    return verdict, entry["direction"].capitalize(), labels, ports(entry), entry["match"], *counted, rules


def ports(entry: dict[str, Any]) -> str:
    first, last = entry["port"], entry["end_port"]
    span = "0" if not last else str(first) if first == last else f"{first}-{last}"
    return f"{span}/{entry['protocol']}" if entry["protocol"] != "ANY" else "ANY"


def run_ct(options: argparse.Namespace) -> int:
    rows: list[Sequence[object]] = []
    value: list[dict[str, Any]] = []
    more = False
    for node, (path, endpoints) in client.owners(options.run_dir, options.node, options.endpoint).items():
        for endpoint in endpoints if options.endpoint else [""]:
            answer = client.query(path, "conntrack", endpoint)
            value += [{"node": node, **entry} for entry in answer["entries"]]
            rows += [ct_line(entry) for entry in answer["entries"]]
            more = more or answer["more"]
    show(value, options.output, CT, rows)
    if more and options.output == "table":
        print("... and more: name an endpoint")
    return 0


def ct_line(entry: dict[str, Any]) -> tuple[object, ...]:
    return (
        entry["protocol"],
        address(entry["local"], entry["local_port"]),
        address(entry["remote"], entry["remote_port"]),
        entry["remote_identity"],
        entry["origin"],
        entry["verdict"],
        ",".join(entry["flags"]) or "-",
        "/".join(map(str, entry["packets"])),
        "/".join(map(str, entry["bytes"])),
        f"{entry['idle_seconds']:.0f}s",
    )


def address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def run_ipcache(options: argparse.Namespace) -> int:
    answers = client.query_all(options.run_dir, options.node, "addresses")
    header = IPCACHE if len(answers) < 2 else ("NODE", *IPCACHE)
    rows = [
        (node, row["prefix"], row["identity"], row["source"], row["pod"] or "-")[-len(header) :]
        for node, found in answers.items()
        for row in found
    ]
    show([{"node": node, **row} for node, found in answers.items() for row in found], options.output, header, rows)
    return 0


def run_metrics(options: argparse.Namespace) -> int:
    answers = client.query_all(options.run_dir, options.node, "metrics")
    header = METRICS if len(answers) < 2 else ("NODE", *METRICS)
    rows = []
    for node, found in answers.items():
        every = [{"reason": "Success", **row} for row in found["forwarded"]] + found["drops"]
        rows += [
            (node, row["reason"], row["direction"].upper(), row["packets"], row["bytes"])[-len(header) :]
            for row in every
        ]
    show(answers, options.output, header, rows)
    return 0
