"""What the processes hold: a small live cluster at rest, and a daemon that is streamed a large one.

Anonymous memory is what a process alone costs; resident counts the files it shares with others (the interpreter,
the libraries) as well. The large cluster is `town`: a real operator reads its manifests from a folder and streams
to a real daemon, on whose node every endpoint has an interface, so that all of it is in force in the kernel.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import live, report, town
from tests.bench.lab import mortal, run
from tests.bench.report import Report, Section, spread

from weft.daemon.datapath import programs
from weft.daemon.local import namespaces
from weft.policies.wire.pb import control_pb2, control_pb2_grpc, node_pb2, node_pb2_grpc

NAME = "weft-bench-town"
PINS = Path("/sys/fs/bpf") / NAME
NODE = town.node_name(0)
AIM = 60  # MB, of the daemon
SETTLE = 6.0  # seconds: retries, tidying up and a sweep are over
MORE = 20
PATIENCE = 60.0


@dataclass(frozen=True)
class Held:
    """MB."""

    anonymous: float
    resident: float
    peak: float


def held(pid: int) -> Held:
    told = live.status(pid)
    return Held(*(int(told[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "VmRSS", "VmHWM")))


def bench(told: Report, rounds: int, patience: float) -> None:
    loaded = report.load()
    rows: list[list[str]] = []
    with live.running() as cluster:
        time.sleep(SETTLE)
        for name, pid in cluster.processes().items():
            rows.append(row(f"{len(live.PODS)} pods, 1 node", name, held(pid)))
    with Town() as large:
        large.start()
        rows += large.measured("5,000 pods, 1,000 policies")
        changes = large.add_policies()
        rows += large.measured(f"and {MORE} more, one by one")
    told.add(section(rows, loaded))
    told.add(end_to_end(large.took, changes))


def row(cluster: str, process: str, found: Held) -> list[str]:
    return [cluster, process, f"{found.anonymous:.1f}", f"{found.resident:.1f}", f"{found.peak:.1f}"]


class Town:
    """An operator and a daemon as processes; the daemon in a namespace with an interface for each endpoint."""

    def __enter__(self) -> Town:
        self.remove()
        self.base = Path(tempfile.mkdtemp(prefix="weft-bench-"))
        (self.base / "manifests").mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.took = 0.0
        return self

    def start(self) -> None:
        (self.base / "manifests/objects.yaml").write_text(town.text(town.objects()))
        (self.base / "manifests/policies.yaml").write_text(town.text(town.policies()))
        self.make_node()
        started = time.monotonic()
        self.spawn("operator", self.operator())
        self.spawn("daemon", [*("nsenter", f"--net={namespaces.path(NAME)}"), *self.daemon()])
        self.revision = self.in_force()
        self.took = time.monotonic() - started

    def make_node(self) -> None:
        namespaces.create(NAME)
        lines = ["addr add 172.30.0.1/32 dev lo", "link set lo up"]
        own = [made for made in town.objects() if made.get("spec", {}).get("nodeName") == NODE]
        for number, pod in enumerate(own):
            lines += [f"link add pod{number} type veth peer name peer{number}", f"link set pod{number} up"]
            lines += [f"route add {each['ip']} dev pod{number}" for each in pod["status"]["podIPs"]]
        batch = self.base / "ip"
        batch.write_text("\n".join(lines) + "\n")
        run("ip", "-n", NAME, "-batch", str(batch))

    def operator(self) -> list[str]:
        where = [f"--{name}-dir={self.base / name}" for name in ("run", "state")]
        return [sys.executable, "-m", "weft.operator.main", *where, f"--watch={self.base / 'manifests'}"]

    def daemon(self) -> list[str]:
        where = [f"--{name}-dir={self.base / 'node' / name}" for name in ("run", "state")]
        address = f"unix:{self.base / 'run/operator.sock'}"
        words = [sys.executable, "-m", "weft.daemon.main", *where, "--node", NODE, "--operator", address]
        return [*words, "--pin-dir", str(PINS)]

    def spawn(self, name: str, words: list[str]) -> None:
        with (self.base / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(mortal(words), stdout=log, stderr=log)

    def in_force(self) -> int:
        """When the daemon holds all that the operator has: the revision."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(Exception):  # not there yet
                with live.channel(self.base / "run/operator.sock") as operator:
                    stub = control_pb2_grpc.ObjectsStub(operator)  # type: ignore[no-untyped-call]
                    told = stub.Status(control_pb2.StatusRequest(), timeout=5)
                if told.counts.get("Pod", 0) >= town.NAMESPACES * town.WORKLOADS * town.REPLICAS:
                    return self.wait(told.revision)
            time.sleep(0.1)
        logs = {path.name: path.read_text()[-500:] for path in self.base.glob("*.log")}
        raise RuntimeError(f"not in force in {PATIENCE} s: {logs}")

    def wait(self, revision: int) -> int:
        with live.channel(self.base / "node/run/daemon.sock") as daemon:
            stub = node_pb2_grpc.NodeStub(daemon)  # type: ignore[no-untyped-call]
            return int(stub.WaitRevision(node_pb2.WaitRevisionRequest(revision=revision), timeout=10).revision)

    def measured(self, cluster: str) -> Iterator[list[str]]:
        time.sleep(SETTLE)
        for name, process in self.processes.items():
            yield row(cluster, name, held(process.pid))

    def add_policies(self) -> list[float]:
        """Milliseconds from the save of each to the daemon that has it in force."""
        found = []
        for number in range(1000, 1000 + MORE):
            text = town.text([town.policy(number % town.NAMESPACES, number)])
            path = self.base / f"manifests/more-{number}.yaml"
            revision = self.wait(0) + 1
            saved = time.monotonic()
            path.write_text(text)
            self.wait(revision)
            found.append((time.monotonic() - saved) * 1e3)
            time.sleep(0.5)
        return found

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.remove()
        shutil.rmtree(self.base)

    def remove(self) -> None:
        programs.remove(PINS)
        namespaces.delete(NAME)


def section(rows: list[list[str]], loaded: str) -> Section:
    return Section(
        "Memory of the processes",
        "MB (a million bytes), some seconds after the last change. *Anonymous* is what the process alone costs;"
        f" *resident* includes files shared with others; *peak* is the most that was ever resident. Aim: {AIM} MB"
        f" anonymous for the daemon. {loaded}.",
        ["cluster", "process", "anonymous", "resident", "peak"],
        rows,
    )


def end_to_end(took: float, changes: list[float]) -> Section:
    return Section(
        "The large cluster, by processes",
        "A real operator reads the manifests and streams to a real daemon with 100 endpoints.",
        ["what", "takes"],
        [
            ["both started, manifests read, everything in force on the node", f"{took:.1f} s"],
            [f"one more policy, from the saved file to in force ({MORE} of them)", f"{spread(changes, 1)} ms"],
        ],
    )
