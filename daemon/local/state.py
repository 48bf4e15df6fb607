"""What the supervisor tells others, by files in the run directory: they are read whoever is alive.

config.json   what `up` was asked for; written once, before the supervisor starts
state.json    what is: replaced as a whole at each change, so a reader never sees half of one
lock          held by the supervisor while it lives: whether state.json is the present or the past
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from weft.daemon.local.names import Cluster

YOUNG = 0.4  # seconds after its start


@dataclass(frozen=True, slots=True)
class Config:
    """`watch`: folders the operator follows. `images`: image -> command line. `cwd`: of containers
    that name none. `proxy_workers`: of each node's L7 proxy; 0: none."""

    nodes: int
    namespace: str = "default"
    images: Mapping[str, str] = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    cwd: str = "/"
    proxy_workers: int = 1


@dataclass(slots=True)
class ProgramState:
    """The operator, or a node's daemon. `problem` "": it runs."""

    pid: int = 0
    restarts: int = 0
    problem: str = ""


@dataclass(slots=True)
class ContainerState:
    """`state`: waiting, running or terminated; `reason` as kubectl shows it. `since`: its last start, Unix time.
    `probed` False: there is no readiness probe, it is ready because it runs."""

    pid: int = 0
    state: str = "waiting"
    reason: str = "ContainerCreating"
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None
    since: float = 0.0
    probed: bool = False
    init: bool = False  # runs to its end before the pod is


@dataclass(slots=True)
class PodState:
    namespace: str
    name: str
    node: str = ""
    ips: list[str] = field(default_factory=list)
    phase: str = "Pending"  # Pending, Running, Succeeded, Failed
    reason: str = ""  # what it waits for or why it fails; "" nothing
    ready: bool = False
    terminating: bool = False
    started: float = 0.0  # Unix time
    workload: str = ""  # "Deployment default/orders"
    containers: dict[str, ContainerState] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return not self.terminating and (self.ready or self.phase == "Succeeded")

    def young(self, now: float) -> bool:
        """A container of it that nobody asks whether it is ready may yet fall over."""
        running = (each for each in self.containers.values() if each.state == "running" and not each.probed)
        return any(now - each.since < YOUNG for each in running)


@dataclass(slots=True)
class WorkloadState:
    """`digest`: of the manifest that `desired` and `ready` speak of."""

    digest: str
    desired: int = 0
    ready: int = 0
    old: int = 0  # pods of former templates that still run
    problem: str = ""

    @property
    def settled(self) -> bool:
        return self.ready >= self.desired and not self.old and not self.problem


@dataclass(slots=True)
class State:
    error: str = ""  # why the supervisor gave up
    operator: ProgramState = field(default_factory=ProgramState)
    nodes: dict[str, ProgramState] = field(default_factory=dict)
    pods: dict[str, PodState] = field(default_factory=dict)  # by "ns/name"
    workloads: dict[str, WorkloadState] = field(default_factory=dict)  # by "Kind ns/name"; Pods too
    problems: dict[str, str] = field(default_factory=dict)  # of other objects, by "Kind ns/name"
    notes: dict[str, str] = field(default_factory=dict)  # what is not done with an object, by "Kind ns/name"


def write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    temporary.rename(path)


def write_config(cluster: Cluster, config: Config) -> None:
    write_json(cluster.room / "config.json", dataclasses.asdict(config))


def read_config(cluster: Cluster) -> Config:
    """OSError if there is none."""
    value = json.loads((cluster.room / "config.json").read_text())
    return Config(**{**value, "watch": tuple(value["watch"])})


def write_state(cluster: Cluster, state: State) -> None:
    write_json(cluster.room / "state.json", dataclasses.asdict(state))


def read_state(cluster: Cluster) -> State:
    """An empty one where the supervisor has not written yet."""
    try:
        value = json.loads((cluster.room / "state.json").read_text())
    except FileNotFoundError:
        return State()
    return State(
        error=value["error"],
        operator=ProgramState(**value["operator"]),
        nodes={name: ProgramState(**each) for name, each in value["nodes"].items()},
        pods={name: _pod(each) for name, each in value["pods"].items()},
        workloads={name: WorkloadState(**each) for name, each in value["workloads"].items()},
        problems=value["problems"],
        notes=value["notes"],
    )


def _pod(value: dict[str, Any]) -> PodState:
    containers = {name: ContainerState(**each) for name, each in value["containers"].items()}
    return PodState(**{**value, "containers": containers})


def take_lock(cluster: Cluster) -> IO[str]:
    """For as long as the file stays open. BlockingIOError: another supervisor has it."""
    file = open(cluster.room / "lock", "a")  # noqa: SIM115  (held for the life of the process)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def alive(cluster: Cluster) -> bool:
    """Whether a supervisor runs."""
    try:
        with open(cluster.room / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
