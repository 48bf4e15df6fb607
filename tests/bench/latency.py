"""From a policy file that is saved to the policy in force, in a live cluster of one node.

A pod connects to another about once a millisecond and keeps a connection open; the file says in turn that it may
and that it may not. Times are those of the pod: the first attempt with the new answer, when it was begun, and the
last answer on the connection that was open.
"""

from __future__ import annotations

import contextlib
import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import live, prober, report
from tests.bench.lab import mortal
from tests.bench.live import NAMES, NODE, PORT, Live
from tests.bench.report import Report, Section, median

from weft.daemon import cgroups
from weft.daemon.local import namespaces

TIMES = 30
REST = 0.5  # seconds between two changes: what a change leaves to be tidied is done by then
PATIENCE = 5.0
AIM = 100


@dataclass
class Times:
    """Milliseconds from the save."""

    seen: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    in_force: list[float] = field(default_factory=list)


class Events:
    """What the prober says, by event, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._queues: dict[str, queue.Queue[float]] = {name: queue.Queue() for name in ("opened", "refused", "cut")}
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            event, when = line.split()
            self._queues[event].put(float(when))

    def after(self, event: str, moment: float) -> float:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                when = self._queues[event].get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                raise RuntimeError(f"no pod saw that a connection is {event}") from None
            # the last answer on a connection may be older than the change by what there is between two of them
            if when >= moment - (prober.PACE * 5 if event == "cut" else 0):
                return when


def bench(told: Report, rounds: int, patience: float) -> None:
    loaded = report.load()
    times = TIMES if rounds > 1 else 3
    with live.running() as cluster, probing(cluster) as events:
        write(cluster, allowed=True)
        events.after("opened", 0.0)
        time.sleep(1)
        found = {True: Times(), False: Times()}
        for _ in range(times):
            for allowed in (False, True):
                change(cluster, events, allowed, found[allowed])
    told.add(section(found, times, loaded))


def change(cluster: Live, events: Events, allowed: bool, found: Times) -> None:
    revision = cluster.wait_revision(0) + 1
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (cluster.wait_revision(revision), time.monotonic()))
        time.sleep(0.02)  # for the question to be asked
        saved = time.monotonic()
        write(cluster, allowed)
        _, in_force = waiting.result(PATIENCE)
    found.in_force.append((in_force - saved) * 1e3)
    found.seen.append((events.after("opened" if allowed else "refused", saved) - saved) * 1e3)
    if not allowed:
        found.cut.append((events.after("cut", saved) - saved) * 1e3)
    time.sleep(REST)


def write(cluster: Live, allowed: bool) -> None:
    """As editors save: beside, then over it."""
    path = cluster.folder / "policy.yaml"
    beside = path.with_suffix(".tmp")
    beside.write_text(POLICY.format(who="client" if allowed else "nobody"))
    beside.rename(path)


POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: server, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
    - fromEndpoints: [{{matchLabels: {{app: {who}}}}}]
"""


@contextlib.contextmanager
def probing(cluster: Live) -> Iterator[Events]:
    mounted = cgroups.mount_point()
    assert mounted is not None
    group = NAMES.pod_cgroup(mounted, NODE, "default", "client")
    netns = namespaces.path(NAMES.pod_netns("default", "client"))
    words = [sys.executable, str(Path(prober.__file__)), cluster.address("server"), str(PORT)]
    enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    process = subprocess.Popen(
        mortal(["sh", "-c", enter, "sh", "nsenter", f"--net={netns}", *words]), stdout=subprocess.PIPE, text=True
    )
    try:
        yield Events(process)
    finally:
        process.kill()
        process.wait()


def section(found: dict[bool, Times], times: int, loaded: str) -> Section:
    rows = [
        row("allowed to refused", "first connection that is refused", found[False].seen),
        row("allowed to refused", "last answer on an open connection", found[False].cut),
        row("allowed to refused", "the daemon says it is in force", found[False].in_force),
        row("refused to allowed", "first connection that opens", found[True].seen),
        row("refused to allowed", "the daemon says it is in force", found[True].in_force),
    ]
    return Section(
        "From a saved file to the kernel",
        f"`weft local`, one node; a policy file is replaced in the folder that is followed, {times} times each way,"
        " while a pod connects about once a millisecond and uses an open connection. Milliseconds since the file"
        f" was saved. Aim: a median below {AIM}. {loaded}.",
        ["change", "seen as", "median", "90 %", "lowest", "highest"],
        rows,
    )


def row(change: str, seen: str, values: Sequence[float]) -> Sequence[str]:
    ordered = sorted(values)
    ninety = ordered[math.ceil(len(ordered) * 0.9) - 1]
    return [change, seen, *(f"{value:.1f}" for value in (median(ordered), ninety, ordered[0], ordered[-1]))]
