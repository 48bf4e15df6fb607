"""`weft list nodes|namespaces`: what the observers know of them, in Hubble's columns."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from weft.daemon.cli import observers, times
from weft.daemon.cli.printer import to_json
from weft.daemon.cli.table import columns
from weft.policies.wire.pb import observer_pb2, relay_pb2

_NA = "N/A"


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "list", help="nodes and namespaces, as the observer API knows them", description=__doc__
    )
    kinds = parser.add_subparsers(dest="kind", metavar="nodes|namespaces", required=True)
    for name, run in (("nodes", list_nodes), ("namespaces", list_namespaces)):
        kind = kinds.add_parser(name, aliases=["node"] if name == "nodes" else ["namespace", "ns"])
        kind.add_argument(
            "-o", "--output", choices=("table", "wide", "json"), default="table", help="(%(default)s)"
        )
        observers.add_options(kind)
        kind.set_defaults(run=run)


def _ask(options: argparse.Namespace, method: str, request: Any) -> tuple[list[Any], dict[str, str]]:
    async def ask() -> tuple[list[Any], dict[str, str]]:
        async with observers.Observers(options) as servers:
            answers = await servers.ask(method, request)
            return list(answers.values()), servers.missing

    return asyncio.run(ask())


def list_nodes(options: argparse.Namespace) -> int:
    answers, missing = _ask(options, "GetNodes", observer_pb2.GetNodesRequest())
    nodes = [node for answer in answers for node in answer.nodes]
    nodes += [observer_pb2.Node(name=name, state=relay_pb2.NODE_UNAVAILABLE) for name in missing]
    nodes.sort(key=lambda node: node.name)
    if options.output == "json":
        print("[" + ",".join(to_json(node) for node in nodes) + "]")
    else:
        header = ["NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS"]
        wide = options.output == "wide"
        print(
            columns(
                [*header, "VERSION", "ADDRESS", "TLS"] if wide else header, [node_row(node, wide) for node in nodes]
            )
        )
    return 0


def node_row(node: observer_pb2.Node, wide: bool) -> list[str]:
    seconds = round(node.uptime_ns / 1e9)
    share = (
        f"{node.num_flows}/{node.max_flows} ({100 * node.num_flows / node.max_flows:6.2f}%)"
        if node.max_flows
        else _NA
    )
    row = [
        node.name,
        relay_pb2.NodeState.Name(node.state).removeprefix("NODE_").removesuffix("_NODE_STATE").capitalize(),
        times.elapsed(seconds * 10**9) if seconds else _NA,
        f"{node.seen_flows / seconds:.2f}" if seconds else _NA,
        share,
    ]
    tls = ("Enabled" if node.tls.enabled else "Disabled") if node.HasField("tls") else _NA
    return [*row, node.version or _NA, node.address, tls] if wide else row


def list_namespaces(options: argparse.Namespace) -> int:
    answers, missing = _ask(options, "GetNamespaces", observer_pb2.GetNamespacesRequest())
    found = sorted({(one.namespace, one.cluster) for answer in answers for one in answer.namespaces})
    for name, why in missing.items():
        print(f"weft: {name}: {why}", file=sys.stderr)
    if options.output == "json":
        print("[" + ",".join(to_json(observer_pb2.Namespace(cluster=c, namespace=n)) for n, c in found) + "]")
    elif options.output == "wide":
        print(columns(["NAMESPACE", "CLUSTER"], found))
    else:
        print(columns(["NAMESPACE"], [(namespace,) for namespace, _ in found]))
    return 0
