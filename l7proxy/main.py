"""`weft-l7proxy`: one worker of the node's L7 proxy. The daemon starts it; people do only for tests and benches."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from weft.l7proxy import privileges
from weft.l7proxy.core import http2
from weft.l7proxy.worker import VERSION, Options, Plain, Worker

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_PR_SET_DUMPABLE: Final = 4
#: Requests leave no cycles, so there is little to find: with Python's 700 the search took 2 us of each request. A
#: search through the youngest 10,000 takes less than a millisecond.
_COLLECT: Final = (10_000, 20, 50)
_EPILOG: Final = """\
signals: SIGTERM accepts nothing more and ends when all streams have (60 s at most); SIGINT ends at once.
exit status: 0 ended as told, 1 it could not listen (the reason is on stderr), 2 wrong arguments.
"""


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s proxy-{options.worker}: %(message)s",
    )
    _keep_memory_private()
    _keep_memory_mapped()
    _raise_open_files()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(options))
    except OSError as error:
        print(f"weft-l7proxy: {error}", file=sys.stderr)
        return 1


async def _serve(options: Options) -> int:
    loop = asyncio.get_running_loop()
    http2.share_writes(loop.call_soon)
    worker = Worker(options, loop)
    privileges.drop()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    return await worker.run()


def _keep_memory_private() -> None:
    """No core dumps, no ptrace by the same user: keys and other people's requests are in here."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _keep_memory_mapped() -> None:
    """What is read of a large body (256 KB at once) comes from the heap, and freed memory stays in it up to a
    bound: else each piece is a mapping of its own, whose pages the kernel clears one by one."""
    libc = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_THRESHOLD, 4 << 20), (_M_TRIM_THRESHOLD, 16 << 20)):
        if hasattr(libc, "mallopt"):  # glibc's alone
            libc.mallopt(option, value)


def _raise_open_files() -> None:
    """Two sockets for each connection: as many as we may have, not the 1,024 that shells give."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="weft-l7proxy",
        description="One worker of the node's L7 proxy: routes, judges and reports requests that the daemon's"
        " programs redirect to it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--daemon", metavar="SOCKET", required=True, help="the daemon's feed (RUN_DIR/proxy.sock)")
    add("--run-dir", metavar="DIR", type=Path, required=True, help="where the hand-over socket is")
    add("--worker", metavar="N", type=int, default=0, help="which of the node's workers this is (default 0)")
    add("--generation", metavar="G", type=int, default=0, help="grows with each process that is started")
    add("--takeover", action="store_true", help="take listeners and idle connections from the running worker N")
    add(
        "--counters",
        metavar="PIN",
        type=Path,
        default=None,
        help="pinned map of the limits' counters that all workers of the node share; made where it is missing"
        " (default: this worker counts alone)",
    )
    add(
        "--plain",
        metavar="LISTEN=DESTINATION",
        type=_plain,
        action="append",
        default=[],
        help="for tests and benches, without privileges: accept at LISTEN (127.0.0.1:8080) what counts as"
        " addressed to DESTINATION (10.96.0.10:80), without mark and foreign addresses; may be repeated",
    )
    add("--version", action="version", version=f"weft-l7proxy {VERSION}")
    given = parser.parse_args(argv)
    return Options(
        given.daemon,
        given.run_dir,
        given.worker,
        given.generation,
        given.takeover,
        given.counters,
        tuple(given.plain),
    )


def _plain(text: str) -> Plain:
    listen, _, destination = text.partition("=")
    try:
        return Plain(_address(listen), _address(destination))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT=ADDRESS:PORT") from None


def _address(text: str) -> tuple[str, int]:
    ip, colon, port = text.rpartition(":")
    if not colon or not ip:
        raise ValueError(text)
    return ip.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
