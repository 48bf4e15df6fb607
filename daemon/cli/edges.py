"""`weft edges`: who has connections open to whom, in Linkerd's columns, from what the kernels of these nodes track.

An outsider has its address for a name. SECURED "√": the connection is under mutual TLS; else why it is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from weft.daemon.cli import client, traffic
from weft.daemon.cli.resources import resource
from weft.daemon.cli.table import columns
from weft.daemon.cli.traffic import Cast, Workload

HEADER: Final = ("SRC", "DST", "SRC_NS", "DST_NS", "SECURED")
#: Both ends would have to have an identity of the mesh.
PLAIN: Final = "no_identity"


def register(commands: Any) -> None:
    parser = commands.add_parser("edges", help="who talks to whom", description=__doc__)
    parser.add_argument("kind", nargs="?", default="", metavar="KIND", help="of the servers: deploy, po, ... (all)")
    parser.add_argument("-n", "--namespace", default="default", help="of the servers (%(default)s)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="(%(default)s)")
    client.add_options(parser, output=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    kind = resource([options.kind])[0] if options.kind else ""
    cast = traffic.cast(options)
    connections, more = traffic.connections(options)
    if more:
        print("weft edges: not all connections were looked at, there are too many", file=sys.stderr)
    found = set()
    for connection in connections:
        server = cast.by_ip.get(connection.destination)
        if server is not None and (options.all_namespaces or server.namespace == options.namespace):
            source, source_ns = _named(cast, connection.source, kind)
            destination, destination_ns = _named(cast, connection.destination, kind)
            if destination:
                found.add((source, destination, source_ns, destination_ns, PLAIN))
    rows = sorted(found)
    if options.output == "json":
        fields = ("src", "dst", "src_namespace", "dst_namespace", "no_tls_reason")
        print(json.dumps([dict(zip(fields, row, strict=True)) for row in rows], indent=2))
    else:
        print(columns(HEADER, rows))
    return 0


def _named(cast: Cast, ip: str, kind: str) -> tuple[str, str]:
    """Name and namespace; an empty name: a workload of another kind."""
    workload = cast.by_ip.get(ip)
    if workload is None:
        return ip, "-"
    return _name(workload, ip, kind), workload.namespace


def _name(workload: Workload, ip: str, kind: str) -> str:
    if kind == "po":
        return next(pod for pod, items in workload.pods.items() if any(item.ip == ip for item in items))
    return workload.name
