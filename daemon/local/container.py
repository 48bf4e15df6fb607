"""One container of a pod: a process, restarted as the pod's policy says, with its probes.

    waiting --start--> running --exit--> terminated --back-off--> running ...
                        |  probes: ready, alive

Its files are in the pod's folder: NAME.json (how to start it; `exec` reads it too), NAME.log and, of the run
before, NAME.previous.log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

from weft.daemon.local import launch, probes
from weft.daemon.local.manifests import Container, Probe
from weft.daemon.local.programs import begun, describe, ended, launcher, signal_group, start
from weft.daemon.local.state import ContainerState

#: Seconds before a restart. A kubelet begins with 10; here somebody waits and watches.
BACK_OFF = (0.1, 1, 2, 4, 8, 15, 30)
GROWN_UP = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container runs. `probe_from`: the network namespace that its probes come from."""

    folder: Path
    cgroup: Path
    netns: str  # path
    hostname: str
    files: Mapping[str, str]
    env: Mapping[str, str]  # what every container has, before its own
    cwd: str
    probe_from: str
    ip: str


class Runner:
    """`changed` is called after each change of `state`."""

    def __init__(
        self, container: Container, place: Place, state: ContainerState, changed: Callable[[], None]
    ) -> None:
        self.state = state
        self._container = container
        self._place = place
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    @property
    def log(self) -> Path:
        return self._place.folder / f"{self._container.name}.log"

    def _spec(self) -> dict[str, object]:
        return {
            "argv": self._container.argv,
            "env": {**self._place.env, **dict(self._container.env)},
            "cwd": self._container.cwd or self._place.cwd,
            "cgroup": str(self._place.cgroup),
            "netns": self._place.netns,
            "hostname": self._place.hostname,
            "files": self._place.files,
            "capabilities": self._container.capabilities,
        }

    async def run_once(self) -> int:
        """Start to exit; the exit code."""
        spec = self._place.folder / f"{self._container.name}.json"
        write_private(spec, self._spec())
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        self._process = process = await begun(launcher(spec), self.log)
        probed = self._container.readiness is not None
        self._set(pid=process.pid, state="running", reason="", ready=not probed, probed=probed, since=time.time())
        watch = asyncio.create_task(self._probe())
        try:
            code = await ended(process)
        finally:
            watch.cancel()
        signal_group_left(process)
        self._set(pid=0, state="terminated", reason=outcome(code), ready=False, exit_code=code)
        return code

    async def run(self, restart: str) -> int:
        """By the pod's restart policy, until it is not to be started again; the last exit code."""
        failures = 0
        while True:
            born = time.monotonic()
            code = await self.run_once()
            if self._stopping or restart == "Never" or (restart == "OnFailure" and code == 0):
                return code
            failures = 0 if time.monotonic() - born > GROWN_UP else failures
            wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            failures += 1
            if failures > 1:
                self._set(state="waiting", reason=f"CrashLoopBackOff ({outcome(code)})")
            await asyncio.sleep(wait)
            self.state.restarts += 1

    async def stop(self, grace: float) -> None:
        """TERM, and KILL after `grace` seconds; `run` returns."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        signal_group(process, SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await ended(process)
        except TimeoutError:
            signal_group(process, SIGKILL)

    def _set(self, **values: object) -> None:
        for key, value in values.items():
            setattr(self.state, key, value)
        self._changed()

    async def _probe(self) -> None:
        if self._container.startup is not None:
            self._set(ready=False)
            await self._watch(self._container.startup, self._started, start=False)
        watches = []
        if self._container.readiness is not None:
            watches.append(self._watch(self._container.readiness, self._readiness, start=False))
        elif self._container.startup is not None:
            self._set(ready=True)
        if self._container.liveness is not None:
            watches.append(self._watch(self._container.liveness, self._liveness, start=True))
        await asyncio.gather(*watches)

    async def _watch(self, probe: Probe, take: Callable[[bool, str], bool], start: bool) -> None:
        """Asks until `take` says that it was enough. Before the first success it asks more often than `period`:
        nobody gains by hearing late that a pod is up."""
        judge = probes.Judge(probe, start)
        await asyncio.sleep(probe.delay)
        pause = 0.05
        while True:
            why = await probes.ask(probe, self._place.probe_from, self._place.ip, self.execute)
            if take(judge.take(not why), why):
                return
            await asyncio.sleep(probe.period if judge.state else min(pause, probe.period))
            pause *= 1.5

    def _started(self, success: bool, why: str) -> bool:
        self._set(reason="" if success else f"startup probe: {why}")
        return success

    def _readiness(self, ready: bool, why: str) -> bool:
        reason = f"readiness probe: {why}" if why and not ready else ""
        if (ready, reason) != (self.state.ready, self.state.reason):
            self._set(ready=ready, reason=reason)
        return False

    def _liveness(self, alive: bool, why: str) -> bool:
        if alive or self._process is None:
            return False
        self._set(reason=f"liveness probe: {why}", ready=False)
        signal_group(self._process, SIGKILL)
        return True

    async def execute(self, command: tuple[str, ...]) -> int:
        """A command beside the container's own, as `exec` probes want it; its exit code."""
        if self._process is None or self._process.returncode is not None:
            return launch.CANNOT_ENTER
        spec = self._place.folder / f"{self._container.name}.probe.json"
        write_private(spec, {**self._spec(), "argv": command})
        process = start(launcher(spec, self._process.pid), spec.with_suffix(".log"))
        try:
            return await ended(process)
        finally:
            signal_group(process, SIGKILL)


def signal_group_left(process: subprocess.Popen[bytes]) -> None:
    """Children that the container's process left behind end with it, as they would in a container."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, SIGKILL)


def write_private(path: Path, value: object) -> None:
    """For root alone: an environment may hold secrets."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)


def outcome(code: int) -> str:
    return "Completed" if code == 0 else f"Error: {describe(code)}"
