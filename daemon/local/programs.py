"""Weft's own programs of a local cluster, kept running: the operator, and a daemon on each node.

A program that ends is started again: the first time at once, then ever later while it keeps dying young. Its
output goes to a log in the run directory. It is started by the pods' launcher: cgroup and network first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from weft.daemon.local.state import ProgramState

LAUNCHER = Path(__file__).with_name("launch.py")
BACK_OFF = (0.05, 0.5, 1, 2, 5, 10)  # seconds before each start after the first that failed
GROWN_UP = 10.0  # a program that lived so long, in seconds, starts from the first again
log = logging.getLogger("weft.local")


def launcher(spec: Path, pid: int | None = None) -> list[str]:
    words = [sys.executable, "-I", "-S", str(LAUNCHER), str(spec)]
    return words if pid is None else [*words, str(pid)]


def start(words: Sequence[str], output: Path, keep: int | None = None) -> subprocess.Popen[bytes]:
    """In a session of its own (a signal to the group reaches its children too), output appended to the file."""
    with open(output, "ab") as log_file:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            cwd="/",
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
        )


async def begun(words: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    """`start` of the launcher, and until it has become its command (or ended): a pipe closes then."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()
    done = asyncio.Event()
    loop.add_reader(ours, done.set)
    try:
        try:
            process = start(words, output, keep=theirs)
        finally:
            os.close(theirs)
        await done.wait()
        return process
    finally:
        loop.remove_reader(ours)
        os.close(ours)


async def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code, as `subprocess` says it: -N is signal N. No thread waits: a pidfd does."""
    loop = asyncio.get_running_loop()
    handle = os.pidfd_open(process.pid)
    done = asyncio.Event()
    loop.add_reader(handle, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@dataclass(frozen=True, slots=True)
class Program:
    """`netns` "": the machine's own."""

    name: str
    argv: tuple[str, ...]
    cgroup: Path
    log: Path
    netns: str = ""

    def spec(self) -> dict[str, object]:
        return {
            "argv": self.argv,
            "env": {**os.environ, "PYTHONUNBUFFERED": "1"},
            "cwd": "/",
            "cgroup": str(self.cgroup),
            "netns": self.netns,
            "hostname": "",
            "files": None,
            "capabilities": None,
        }


async def keep_running(program: Program, state: ProgramState, changed: Callable[[], None]) -> None:
    """Until cancelled; `state` says how it goes."""
    failures = 0
    program.cgroup.mkdir(parents=True, exist_ok=True)
    program.log.parent.mkdir(parents=True, exist_ok=True)
    spec = program.log.with_suffix(".json")
    spec.write_text(json.dumps(program.spec()))
    while True:
        born = time.monotonic()
        process = start(launcher(spec), program.log)
        state.pid, state.problem = process.pid, ""
        changed()
        code = await ended(process)
        failures = 0 if time.monotonic() - born > GROWN_UP else failures
        wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
        failures += 1
        state.pid, state.restarts = 0, state.restarts + 1
        state.problem = f"ended with {describe(code)}, starts again"
        log.warning("%s %s in %g s: %s", program.name, state.problem, wait, last_line(program.log))
        changed()
        await asyncio.sleep(wait)


def describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def tail(path: Path, lines: int, most: int = 64 << 10) -> list[str]:
    """The last lines of a file, from its last `most` bytes; [] where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def last_line(path: Path) -> str:
    return "".join(tail(path, 1)) or "it said nothing"
