"""weft-operator: keeps what people declare, and tells every node what follows from it.

Starts in this order, so that no node is ever told less than there is: the store and the identity numbers from the
state folder, the watched folders, one reconciliation, and only then the socket.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import grpc.aio

from weft.operator.allocate import Ledger
from weft.operator.api import Objects
from weft.operator.hub import Hub
from weft.operator.nodes import Nodes
from weft.operator.reconcile import Reconciler
from weft.operator.revision import Reservation
from weft.operator.serve import Control
from weft.operator.status import Status, own_version
from weft.operator.store import Store
from weft.operator.watch import Watch
from weft.policies.wire.pb import control_pb2_grpc as rpc

log = logging.getLogger(__name__)

_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),  # a full snapshot of a large cluster
    ("grpc.keepalive_time_ms", 20_000),  # a node that vanished without a word
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="weft-operator", description=__doc__.partition("\n")[0])
    default_run = os.environ.get("WEFT_RUN_DIR", "/run/weft")
    parser.add_argument("--run-dir", type=Path, default=Path(default_run), help="of this cluster (%(default)s)")
    parser.add_argument(
        "--watch", type=Path, action="append", default=[], metavar="DIR", help="manifests; repeatable"
    )
    parser.add_argument("--state-dir", type=Path, help="(/var/lib/<name of the run dir>/operator)")
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="unix:PATH or HOST:PORT, which nothing protects; repeatable (unix:<run dir>/operator.sock)",
    )
    parser.add_argument("--namespace", default="default", help="of objects in files that name none (%(default)s)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--version", action="version", version=own_version())
    args = parser.parse_args(argv)
    args.state_dir = args.state_dir or Path("/var/lib", args.run_dir.resolve().name, "operator")
    args.listen = args.listen or [f"unix:{args.run_dir}/operator.sock"]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    logging.basicConfig(
        level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        args.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(args.state_dir)
        asyncio.run(run(args))
    except (OSError, ValueError) as error:
        print(f"weft-operator: {error}", file=sys.stderr)
        return 1
    os.close(lock)
    return 0


async def run(args: argparse.Namespace) -> None:
    began = time.monotonic()
    hub = Hub(uuid.uuid4().hex[:12])
    reconciler, watch = _assemble(args, hub)
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection need walk it again
    nodes = Nodes(hub.epoch)
    reconciler.store.changed.append(nodes.object_changed)
    server = grpc.aio.server(options=_OPTIONS)
    rpc.add_ControlServicer_to_server(Control(reconciler, hub, nodes), server)  # type: ignore[no-untyped-call]
    objects = Objects(reconciler, Status(reconciler, nodes, watch))
    rpc.add_ObjectsServicer_to_server(objects, server)  # type: ignore[no-untyped-call]
    sockets = [_bind(server, address) for address in args.listen]
    await server.start()
    for path in filter(None, sockets):
        path.chmod(0o660)
    took = time.monotonic() - began
    log.info("ready: revision %d, %d objects, %.1f s", hub.revision, len(reconciler.store), took)
    await _until_stopped(reconciler, watch)
    await server.stop(grace=0.2)
    for path in filter(None, sockets):
        path.unlink(missing_ok=True)
    log.info("stopped at revision %d", hub.revision)


def _assemble(args: argparse.Namespace, hub: Hub) -> tuple[Reconciler, Watch]:
    store = Store(args.state_dir / "objects")
    ledger = Ledger(args.state_dir / "identities", time.time)
    store.load()
    ledger.load()
    reconciler = Reconciler(store, ledger, Reservation(args.state_dir / "revision"), hub)
    reconciler.load()
    watch = Watch(args.watch, reconciler, args.namespace)
    watch.start()
    reconciler.publish_first()
    return reconciler, watch


async def _until_stopped(reconciler: Reconciler, watch: Watch) -> None:
    """A loop that ends by itself is a defect: the operator stops, loudly, and its supervisor starts it again."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(work) for work in (reconciler.run(), reconciler.upkeep(), watch.run())]
    waiting = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, waiting):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _bind(server: grpc.aio.Server, address: str) -> Path | None:
    """Removes the socket that a killed operator left: the lock on the state folder says that it is dead."""
    path = Path(address.removeprefix("unix:")) if address.startswith("unix:") else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    server.add_insecure_port(address)
    return path


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"{folder} belongs to an operator that is running") from None
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
