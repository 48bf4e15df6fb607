"""Proxy processes: started, found again, waited for, ended. Knows nothing of what they do.

A worker is found by its command line (`--daemon SOCKET` is what makes it this node's), so whoever started it, and
whether that one still lives, does not matter. It is waited for by a pidfd, which works for other people's children.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from weft.daemon.proxy.worker import Worker

log = logging.getLogger("weft.proxy")

#: The cgroup of the workers, beside those of pods; no namespace begins so.
GROUP: Final = "_proxy"
PROGRAM: Final = "weft.l7proxy.main"


def command() -> tuple[str, ...]:
    """How a worker is started: the script beside our Python, else the module. (): there is none."""
    try:
        if importlib.util.find_spec(PROGRAM) is None:
            return ()
    except ModuleNotFoundError:
        return ()
    script = Path(sys.executable).with_name("weft-l7proxy")
    return (str(script),) if script.exists() else (sys.executable, "-m", PROGRAM)


@dataclass(frozen=True, slots=True)
class Launcher:
    """`cgroup` None: the workers stay in the daemon's. `counters`: the pin of the map in which they count limits
    together; None: each for itself."""

    words: Sequence[str]
    socket: Path
    run_dir: Path
    cgroup: Path | None = None
    counters: Path | None = None

    def log_of(self, number: int) -> Path:
        return self.run_dir / f"proxy-{number}.log"

    def start(self, number: int, generation: int, takeover: bool) -> subprocess.Popen[bytes]:
        """In a session of its own: what ends the daemon does not end it. Raises OSError."""
        argv = [*self.words, "--daemon", str(self.socket), "--run-dir", str(self.run_dir)]
        argv += ["--worker", str(number), "--generation", str(generation)]
        argv += ["--takeover"] if takeover else []
        argv += ["--counters", str(self.counters)] if self.counters is not None else []
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        output = os.open(self.log_of(number), flags, 0o600)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        finally:
            os.close(output)
        if self.cgroup is not None:
            self._enter(self.cgroup / GROUP, process.pid)
        return process

    def _enter(self, group: Path, pid: int) -> None:
        try:
            group.mkdir(parents=True, exist_ok=True)
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:  # it serves where it is, too
            log.warning("%s: %s", group, error)


@dataclass(slots=True, eq=False)
class Process:
    """One worker process. `child` None: an earlier daemon's. `worker`: its connection, while there is one."""

    number: int
    generation: int
    pid: int
    child: subprocess.Popen[bytes] | None = None
    worker: Worker | None = None
    started: float = field(default_factory=time.monotonic)
    connected_once: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None
    unanswered: int = 0
    handle: int = -1

    def watch(self, gone: Callable[[Process], None]) -> None:
        """`gone` is called once, when it has ended. Raises OSError: it has already."""
        loop = asyncio.get_running_loop()
        self.handle = os.pidfd_open(self.pid)
        loop.add_reader(self.handle, self._gone, gone)

    def forget(self) -> None:
        """It goes on without us."""
        if self.handle >= 0:
            asyncio.get_running_loop().remove_reader(self.handle)
            os.close(self.handle)
            self.handle = -1
        if self.child is not None and self.child.returncode is None:
            self.child.returncode = 0  # else Python would complain of a child that it still owes a wait

    def send(self, number: signal.Signals) -> None:
        """By the pidfd: never to a stranger who got its number."""
        if self.handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def _gone(self, gone: Callable[[Process], None]) -> None:
        if self.child is not None:
            self.code = self.child.wait()
        self.forget()
        self.ended.set()
        gone(self)


def running(socket: Path) -> dict[int, list[int]]:
    """Pids of the workers of this feed, by worker number, whoever started them."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (number := worker_number(int(entry.name), socket)) is not None:
            found.setdefault(number, []).append(int(entry.name))
    return found


def worker_number(pid: int, socket: Path) -> int | None:
    """None: not a worker of this feed, or gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    if _after(words, "--daemon") != str(socket):
        return None
    number = _after(words, "--worker")
    return int(number) if number.isdigit() else None


def _after(words: Sequence[str], word: str) -> str:
    at = words.index(word) + 1 if word in words else len(words)
    return words[at] if at < len(words) else ""


def end_all(socket: Path, seconds: float = 5.0) -> int:
    """Workers of a node whose data plane is removed: how many there were. Blocks until they are gone."""
    handles = []
    for pids in running(socket).values():
        for pid in pids:
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                handles.append(handle)
                if worker_number(pid, socket) is not None:  # still who we looked at
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
    until = time.monotonic() + seconds
    while running(socket) and time.monotonic() < until:
        time.sleep(0.01)
    for handle in handles:
        os.close(handle)
    return len(handles)


def describe(code: int | None) -> str:
    if code is None:
        return "an unknown exit code"
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
