"""Finds the daemons and the operator of this machine, and asks them.

One cluster is one run directory (`/run/weft`, or WEFT_RUN_DIR, or --run-dir): `operator.sock` in it, and
`daemon.sock` either there (a plain node) or in one folder for each node (`weft local`).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.daemon.cli.failure import Failure

if TYPE_CHECKING:
    from weft.policies.wire.pb import control_pb2

DEFAULT_RUN_DIR = "/run/weft"
TIMEOUT = 5.0  # seconds
#: The default authority of a unix channel is the socket's path, which HTTP/2 servers may refuse. A large cluster's
#: routes and snapshots are more than gRPC's 4 MB.
OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 512 << 20)]
FORMS = ("table", "json", "yaml")


def default_run_dir() -> str:
    return os.environ.get("WEFT_RUN_DIR") or DEFAULT_RUN_DIR


def add_options(parser: argparse.ArgumentParser, *, node: bool = True, output: bool = True) -> None:
    parser.add_argument(
        "--run-dir",
        default=default_run_dir(),
        help="where the sockets are (default: $WEFT_RUN_DIR or %(default)s)",
    )
    if node:
        parser.add_argument("--node", default="", help="only this node (default: all nodes of this machine)")
    if output:
        parser.add_argument("-o", "--output", choices=FORMS, default="table", help="(%(default)s)")


def daemons(run_dir: str, node: str = "") -> dict[str, Path]:
    """The daemons' sockets by node name; a plain node's is under "". Failure if there is none."""
    base = Path(run_dir)
    found = {path.parent.name: path for path in sorted(base.glob("*/daemon.sock"))}
    if (base / "daemon.sock").exists():
        found[""] = base / "daemon.sock"
    if node:
        found = {name: path for name, path in found.items() if name == node}
    if not found:
        what = f"daemon of node {node}" if node else "daemon"
        raise Failure(f"no {what} under {run_dir}: is weft running here? (--run-dir, WEFT_RUN_DIR)")
    return found


def call(socket: Path, service: str, method: str, request: Any, timeout: float = TIMEOUT) -> Any:
    """One unary call over a unix socket; a daemon that does not answer is a Failure that names its socket."""
    import grpc

    from weft.policies.wire.pb import control_pb2_grpc, node_pb2_grpc

    if not may_use(socket):
        raise Failure(f"{socket} is not yours to use: run it as root")
    stubs: dict[str, Any] = {"node": node_pb2_grpc.NodeStub, "objects": control_pb2_grpc.ObjectsStub}
    with grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
        try:
            return getattr(stubs[service](channel), method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise Failure(f"{socket}: {error.details() or error.code().name}") from None


def may_use(socket: Path) -> bool:
    """Whether this user may connect to a socket that is there."""
    return not os.path.exists(socket) or os.access(socket, os.R_OK | os.W_OK)


def query(socket: Path, what: str, arg: str = "", timeout: float = TIMEOUT) -> Any:
    from weft.policies.wire.pb import node_pb2

    return json.loads(call(socket, "node", "Query", node_pb2.QueryRequest(what=what, arg=arg), timeout).json)


def query_all(run_dir: str, node: str, what: str, arg: str = "") -> dict[str, Any]:
    """The answer of each daemon, by node name."""
    return {name: query(path, what, arg) for name, path in daemons(run_dir, node).items()}


#: What `owners` takes, for help texts.
ENDPOINT = "NS/POD, a workload's NS/NAME, the bare name of either, or an endpoint's number"


def owners(run_dir: str, node: str, wanted: str) -> dict[str, tuple[Path, list[str]]]:
    """The endpoints that are meant, NS/POD, by node, with the socket to ask; "" means all. Failure if a name is of
    nobody, or of things in several namespaces."""
    found = {
        name: (path, [each for each in query(path, "endpoints") if means(wanted, each)])
        for name, path in daemons(run_dir, node).items()
    }
    namespaces = {each["namespace"] for _, rows in found.values() for each in rows}
    if wanted and not namespaces:
        raise Failure(f"no endpoint {wanted}: `weft endpoint list` shows those there are")
    if wanted and "/" not in wanted and not wanted.isdigit() and len(namespaces) > 1:
        ways = " or ".join(f"{each}/{wanted}" for each in sorted(namespaces))
        raise Failure(f"{wanted} is in several namespaces: {ways}", 2)
    return {n: (path, [f"{e['namespace']}/{e['name']}" for e in rows]) for n, (path, rows) in found.items() if rows}


def means(wanted: str, endpoint: dict[str, Any]) -> bool:
    """Whether somebody who typed `wanted` means this endpoint: by number, name, or the workload it is of."""
    workload = str(endpoint.get("workload") or "").rpartition(" ")[2].rpartition("/")[2]
    names = {endpoint["name"], workload} - {""}
    qualified = {f"{endpoint['namespace']}/{name}" for name in names}
    return wanted in {"", str(endpoint["id"])} | names | qualified


def operator_status(run_dir: str) -> control_pb2.StatusReply | None:
    """None where no operator runs on this machine."""
    from weft.policies.wire.pb import control_pb2

    socket = Path(run_dir) / "operator.sock"
    if not socket.exists():
        return None
    reply: control_pb2.StatusReply = call(socket, "objects", "Status", control_pb2.StatusRequest())
    return reply
