"""`weft proxy`: the L7 proxies of this machine's nodes, what they have in force and what they are doing.

status shows the processes; routes, clusters, endpoints, config and connections ask the workers themselves; log
reads what they wrote; restart replaces them by hand-overs, in which no request fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from weft.daemon.cli import client, proxy_rows
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.table import show

#: Seconds for one worker's hand-over, and for its start where there is none yet.
RESTART: Final = 25.0
HOST: Final = "HOST, NS/SERVICE, or the service's name alone"

#: question -> (what `--help` says, its argument, the table's header, one answer's rows)
VIEWS: Final[dict[str, tuple[str, str, tuple[str, ...], Callable[[Any], Iterator[tuple[str, ...]]]]]] = {
    "routes": ("rules in force, in the order in which they are asked", HOST, proxy_rows.ROUTES, proxy_rows.routes),
    "clusters": ("destinations, as their clients see them", HOST, proxy_rows.CLUSTERS, proxy_rows.clusters),
    "endpoints": (
        "endpoints of the destinations, and their health",
        HOST,
        proxy_rows.ENDPOINTS,
        proxy_rows.endpoints,
    ),
    "connections": ("open connections", "ADDRESS", proxy_rows.CONNECTIONS, proxy_rows.connections),
}


def register(commands: Any) -> None:
    parser = commands.add_parser("proxy", help="the L7 proxy: state, routes, endpoints, log", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    each = actions.add_parser("status", help="its workers", description="The proxy's workers.")
    client.add_options(each)
    each.set_defaults(run=status)
    for name, (text, argument, _, _) in VIEWS.items():
        each = actions.add_parser(name, help=text, description=f"Shows {text}.")
        each.add_argument("wanted", nargs="?", default="", metavar=argument.split(",")[0], help=f"{argument} (all)")
        client.add_options(each)
        each.set_defaults(run=view)
    each = actions.add_parser(
        "config", help="all that a worker has in force", description="Shows the configuration."
    )
    client.add_options(each, output=False)
    each.add_argument("-o", "--output", choices=("json", "yaml"), default="yaml", help="(%(default)s)")
    each.set_defaults(run=config)
    _register_log(actions)
    each = actions.add_parser(
        "restart",
        help="replace the workers by new processes",
        description="Starts a successor for each worker; it takes over the listening sockets and idle connections, "
        "and the old one ends when its streams have. Exit code 1: a successor did not serve, the old one goes on.",
    )
    client.add_options(each)
    _worker(each)
    each.set_defaults(run=restart)


def _register_log(actions: Any) -> None:
    each = actions.add_parser("log", help="what the workers wrote", description="Prints what the workers wrote.")
    client.add_options(each, output=False)
    _worker(each)
    each.add_argument("-f", "--follow", action="store_true", help="and what comes")
    each.add_argument("--tail", type=int, default=-1, metavar="LINES", help="only the last so many (all)")
    each.set_defaults(run=log)


def _worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--worker", type=int, default=None, metavar="N", help="only this one (all)")


# what the daemon knows


def status(options: argparse.Namespace) -> int:
    """Exit code 1: not all workers that a node should have serve."""
    nodes = {
        name or answer["node"]: answer["proxy"]
        for name, answer in client.query_all(options.run_dir, options.node, "status").items()
    }
    rows = [(node, *row) for node, proxy in nodes.items() for row in proxy_rows.workers(proxy)]
    show(nodes, options.output, ("NODE", *proxy_rows.WORKERS), rows)
    return 0 if all(proxy["serving"] >= proxy["wanted"] for proxy in nodes.values()) else 1


def restart(options: argparse.Namespace) -> int:
    which = "" if options.worker is None else str(options.worker)
    done: dict[str, Any] = {}
    for name, socket in client.daemons(options.run_dir, options.node).items():
        wanted = client.query(socket, "status")["proxy"]["wanted"]
        done[name] = client.query(socket, "proxy", f"restart {which}", timeout=RESTART * max(wanted, 1))
    rows = [
        (node, str(row["worker"]), str(row["old_pid"] or "-"), str(row["pid"] or "-"), row["error"] or "serving")
        for node, rows in done.items()
        for row in rows
    ]
    show(done, options.output, ("NODE", "WORKER", "OLD-PID", "PID", "OUTCOME"), rows)
    return 1 if any(row["error"] for rows in done.values() for row in rows) else 0


# what the workers know


def view(options: argparse.Namespace) -> int:
    _, _, header, rows_of = VIEWS[options.action]
    found = {
        node: [item for item in items if proxy_rows.means(options.wanted, item)]
        for node, items in answers(options, options.action).items()
    }
    several = len(found) > 1
    rows = [
        (node, *row) if several else row for node, items in found.items() for item in items for row in rows_of(item)
    ]
    show(found, options.output, ("NODE", *header) if several else header, rows)
    if options.wanted and not rows:
        raise Failure(f"no {options.action} of {options.wanted}")
    return 0


def config(options: argparse.Namespace) -> int:
    show(answers(options, "config"), options.output, (), ())
    return 0


def answers(options: argparse.Namespace, what: str) -> dict[str, Any]:
    """Each node's: the workers' lists put together, each item with its worker where there are several."""
    found: dict[str, Any] = {}
    for name, socket in client.daemons(options.run_dir, options.node).items():
        told = client.query(socket, "proxy", what)
        errors = [f"worker {one['worker']}: {one['error']}" for one in told if "error" in one]
        if errors:
            raise Failure(f"{name or socket}: {'; '.join(errors)}")
        found[name] = told[0]["answer"] if what == "config" else together(told)
    return found


def together(told: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if len(told) == 1:
        return [*told[0]["answer"]]
    return [{"worker": one["worker"], **item} for one in told for item in one["answer"]]


# what they wrote


def log(options: argparse.Namespace) -> int:
    from weft.daemon.local import logs

    paths = log_files(options)
    if options.follow:
        if len(paths) > 1:
            raise Failure("whose? --node NAME --worker N", 2)
        (path,) = paths
        start = logs.last_lines(path, options.tail) if options.tail >= 0 else 0
        for data in logs.follow(path, lambda: True, start):
            write(data)
    for path in paths:
        for data in logs.read(path, logs.last_lines(path, options.tail) if options.tail >= 0 else 0):
            write(data)
    return 0


def log_files(options: argparse.Namespace) -> list[Path]:
    pattern = "proxy-*.log" if options.worker is None else f"proxy-{options.worker}.log"
    folders = [socket.parent for socket in client.daemons(options.run_dir, options.node).values()]
    found = [path for folder in folders for path in sorted(folder.glob(pattern))]
    if not found:
        raise Failure("no worker has written anything yet")
    return found


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
