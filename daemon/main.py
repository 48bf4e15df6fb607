"""`weft-daemon`: one for each node, in the node's network namespace. SIGTERM ends it and leaves the data plane
at work; `--remove` takes the data plane away."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from weft.daemon.settings import Settings

log = logging.getLogger("weft.daemon")

#: More than one for each CPU helps nobody; this bounds a mistake.
MOST_PROXY_WORKERS = 64


def parser() -> argparse.ArgumentParser:
    host = os.uname().nodename.partition(".")[0]
    top = argparse.ArgumentParser(prog="weft-daemon", description=__doc__)
    top.add_argument("--node", default=host, help="this node's name in the snapshot (%(default)s)")
    top.add_argument("--run-dir", type=Path, default=Path(os.environ.get("WEFT_RUN_DIR", "/run/weft")))
    top.add_argument("--operator", default="", help="where snapshots come from: unix:PATH or HOST:PORT")
    top.add_argument("--pin-dir", type=Path, default=None, help="below /sys/fs/bpf (weft/NODE)")
    top.add_argument("--cgroup", type=Path, default=None, help="version 2 group whose sockets are balanced")
    top.add_argument("--state-dir", type=Path, default=None, help="the last snapshot is kept here")
    top.add_argument("--metrics", type=address, default=None, metavar="HOST:PORT")
    top.add_argument("--dns", nargs="*", default=(), metavar="ADDR", help="serve names on these own addresses")
    top.add_argument("--audit", action="store_true", help="policy only tells what it would drop")
    top.add_argument("--trace-interval", type=float, default=5.0, metavar="SECONDS")
    top.add_argument("--flows", type=int, default=4095, help="flows kept for those who ask later (%(default)s)")
    top.add_argument(
        "--pod-start-guarded", action="store_true", help="whatever starts workloads here asks WaitEndpoint first"
    )
    top.add_argument(
        "--proxy-workers", type=count, default=1, metavar="N", help="of the L7 proxy; 0: none (%(default)s)"
    )
    top.add_argument(
        "--proxy-mark",
        type=mark,
        default=0x800,
        metavar="BIT",
        help="of fwmark, on all that the proxy sends (0x800)",
    )
    top.add_argument("--proxy-port", type=port, default=15001, metavar="PORT", help="(%(default)s)")
    top.add_argument("--proxy-program", type=shlex.split, default=(), metavar="CMD", help="(weft-l7proxy)")
    top.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    top.add_argument("--remove", action="store_true", help="detach and unpin everything of this node, and end")
    return top


def address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def count(text: str) -> int:
    if not text.isdigit() or int(text) > MOST_PROXY_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_PROXY_WORKERS}")
    return int(text)


def mark(text: str) -> int:
    """One bit: the others are kube-proxy's, Calico's, ..."""
    try:
        number = int(text, 0)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 32 or number & (number - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not one bit of 32, as 0x800")
    return number


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 61000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port below 61000, from where the proxy's own begin")
    return int(text)


def settings_of(options: argparse.Namespace) -> Settings:
    return Settings(
        node=options.node,
        run_dir=options.run_dir,
        pin_dir=options.pin_dir or Path("/sys/fs/bpf/weft") / options.node,
        state_dir=options.state_dir or Path("/var/lib/weft") / options.node,
        operator=options.operator,
        cgroup=options.cgroup,
        metrics=options.metrics,
        dns=tuple(options.dns),
        audit=options.audit,
        trace_interval_ms=int(options.trace_interval * 1000),
        flows=options.flows,
        pod_start_guarded=options.pod_start_guarded,
        proxy_workers=options.proxy_workers,
        proxy_mark=options.proxy_mark,
        proxy_port=options.proxy_port,
        proxy_program=tuple(options.proxy_program),
    )


def remove(settings: Settings) -> None:
    """The proxy, programs, maps and counters of this node go; its snapshot stays, for it is not the kernel's."""
    from weft.daemon import cgroups, steering
    from weft.daemon.datapath import programs
    from weft.daemon.local import cgroup
    from weft.daemon.proxy import processes

    processes.end_all(settings.proxy_socket)
    if settings.cgroup is not None:  # also those of another run directory: nothing steers to them any more
        cgroup.remove(settings.cgroup / processes.GROUP)
    steering.remove()
    programs.remove(settings.pin_dir)
    if settings.cgroup is not None:
        cgroups.remove(settings.cgroup)


async def serve(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    from weft.daemon.node import Node

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    node = Node(settings)
    await node.start()
    await stop.wait()
    log.info("ending; the data plane stays at work")
    await node.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    settings = settings_of(options := parser().parse_args(arguments))
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if options.remove:
        remove(settings)
        return 0
    from weft.bpf.tables import OtherShape
    from weft.daemon.loading import LoadFailed

    # Most of what is made at start lives for ever: look for garbage less often than a short-lived script would.
    gc.set_threshold(5000, 20, 20)
    try:
        asyncio.run(serve(settings))
    except (LoadFailed, OtherShape, OSError) as error:
        print(f"weft-daemon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
