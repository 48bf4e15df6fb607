"""`weft local up`: starts the supervisor, hands it what the user gave, and waits until it is all so.

"So" is: every workload in the store runs as it is declared now and is ready, and every node has the operator's
revision in force. While it waits it says what it waits for; when time is up it says which pods keep it, why, and
what they wrote last.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from weft.daemon.cli.failure import Failure
from weft.daemon.local import cgroup, declare, plan, programs, state, teardown
from weft.daemon.local.addresses import MAX_NODES
from weft.daemon.local.names import BPFFS, Cluster
from weft.daemon.local.programs import Program, tail
from weft.daemon.local.state import Config, PodState, State
from weft.policies import workloads
from weft.policies.wire.pb import control_pb2, node_pb2, node_pb2_grpc

POLL = 0.05  # seconds
LOG_LINES = 10
DOOMED = 1.0  # seconds
CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?")
Say = Callable[[str], None]


def check_machine(cluster: Cluster, nodes: int) -> None:
    """Failure says what is missing, and what to do."""
    if os.geteuid() != 0:
        raise Failure("a local cluster makes namespaces and loads programs: run it as root")
    if not CLUSTER_NAME.fullmatch(cluster.name) or len(cluster.run_dir.parts) < 3:
        raise Failure(
            f"{cluster.run_dir}: the last part names the cluster: small letters, digits, '-'; 32 at most", 2
        )
    if not 1 <= nodes <= MAX_NODES:
        raise Failure(f"--nodes is from 1 to {MAX_NODES}", 2)
    if state.alive(cluster):
        raise Failure(
            f"cluster {cluster.name} runs already: `weft local apply` to add to it, `weft local down` first"
        )
    if path := teardown.foreign(cluster):
        raise Failure(f"{path} is used by another Weft: choose another --run-dir")
    try:
        cgroup.mount_point()
    except LookupError as error:
        raise Failure(str(error)) from None
    if not os.path.ismount(BPFFS) and subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)]).returncode:
        raise Failure(f"cannot mount {BPFFS}")


def start(cluster: Cluster, config: Config) -> None:
    """What a former cluster of that name left is removed first. Returns when the supervisor holds its lock."""
    teardown.remove(cluster)
    teardown.mark(cluster)
    state.write_config(cluster, config)
    supervisor = programs.start(programs.launcher(supervisor_spec(cluster)), cluster.log)
    while not state.alive(cluster):
        if supervisor.poll() is not None:
            raise Failure("the supervisor ended:\n" + "\n".join(tail(cluster.log, LOG_LINES)))
        time.sleep(POLL)


def supervisor_spec(cluster: Cluster) -> Path:
    """It is in its cgroup before it is anything else, so that a `down` at any moment finds it."""
    group = cgroup.make(cluster.cgroup(cgroup.mount_point(), teardown.SUPERVISOR))
    argv = (sys.executable, "-m", "weft.daemon.local.supervisor", str(cluster.run_dir))
    spec = cluster.room / "supervisor.json"
    spec.write_text(json.dumps(Program("supervisor", argv, group, cluster.log).spec()))
    return spec


class Waiting:
    """Waits for the machine to be as the store says, for `timeout` seconds in all."""

    def __init__(self, cluster: Cluster, timeout: float, say: Say) -> None:
        self._cluster = cluster
        self._end = time.monotonic() + timeout
        self._timeout = timeout
        self._say = say
        self._said: dict[str, str] = {}
        self._doomed = 0.0  # since when nothing is left to wait for

    def forget_what_is(self) -> None:
        """Only what changes from now on is told."""
        say, self._say = self._say, lambda _: None
        self.tell()
        self._say = say

    def tell(self) -> None:
        """What is worth a line and was not said yet."""
        self._progress(state.read_state(self._cluster))

    def left(self) -> float:
        return self._end - time.monotonic()

    def for_operator(self) -> None:
        """The operator's socket answers."""
        with declare.channel(self._cluster) as channel:
            while True:
                try:
                    declare.stub(channel).Status(control_pb2.StatusRequest(), timeout=1, wait_for_ready=True)
                    return
                except grpc.RpcError:
                    self._check(lambda now: f"the operator does not answer\n{self._tail('operator.log')}")

    def for_workloads(self, only: Iterable[str] | None = None) -> None:
        """All workloads in the store (or `only` these, by "Kind ns/name") run as declared and are ready."""
        expected = self._expected()
        if only is not None:
            expected = {name: digest for name, digest in expected.items() if name in set(only)}
        while True:
            now = state.read_state(self._cluster)
            self._progress(now)
            if not unsettled(now, expected) and not any(p.young(time.time()) for p in now.pods.values()):
                return
            self._check(lambda now: "not all pods run:\n" + self._explain(now, expected))
            if self._hopeless(now, expected):
                raise Failure("these pods will not run as they are declared:\n" + self._explain(now, expected))
            time.sleep(POLL)

    def _hopeless(self, now: State, expected: Mapping[str, str]) -> bool:
        """For a second already: then it is no state between two others."""
        if not doomed(now, expected):
            self._doomed = 0.0
        self._doomed = self._doomed or time.monotonic() * doomed(now, expected)
        return bool(self._doomed) and time.monotonic() - self._doomed > DOOMED

    def for_revision(self, revision: int = 0) -> None:
        """Every node has it in force; 0: the newest that the operator has."""
        with declare.channel(self._cluster) as channel:
            revision = revision or declare.stub(channel).Status(control_pb2.StatusRequest(), timeout=5).revision
        for index in range(1, state.read_config(self._cluster).nodes + 1):
            node = f"node-{index}"
            target = f"unix:{self._cluster.daemon_socket(node)}"
            stub: Any = node_pb2_grpc.NodeStub
            while True:
                try:
                    with grpc.insecure_channel(target, options=declare.OPTIONS) as channel:
                        request = node_pb2.WaitRevisionRequest(revision=revision)
                        stub(channel).WaitRevision(request, timeout=2, wait_for_ready=True)
                    break
                except grpc.RpcError as error:
                    why = f"{node} has not put revision {revision} in force: {error.details()}"
                    self._check(lambda now, n=node, w=why: f"{w}\n{self._tail(f'{n}/daemon.log')}")  # type: ignore[misc]

    def refused(self) -> list[str]:
        """The documents of followed folders that are not in force, a line for each."""
        with declare.channel(self._cluster) as channel:
            problems = declare.stub(channel).Status(control_pb2.StatusRequest(), timeout=5).problems
        return [f"{p.file}: {p.object} {p.path}: {p.reason}" for p in problems if not p.warning]

    def _expected(self) -> Mapping[str, str]:
        kinds = ("Pod", *workloads.KINDS)
        manifests = [m for m in declare.stored(self._cluster, kinds) if not plan.generated(m)]
        return {
            f"{m['kind']} {m['metadata']['namespace']}/{m['metadata']['name']}": plan.digest(m) for m in manifests
        }

    def _check(self, explain: Callable[[State], str]) -> None:
        now = state.read_state(self._cluster)
        if now.error or not state.alive(self._cluster):
            raise Failure(f"the supervisor gave up: {now.error}\n{self._tail('local.log')}")
        if self.left() <= 0:
            raise Failure(f"not within {self._timeout:g} s: {explain(now)}")

    def _tail(self, log: str) -> str:
        return indent(tail(self._cluster.run_dir / log, LOG_LINES))

    def _progress(self, now: State) -> None:
        for name, program in {"operator": now.operator, **now.nodes}.items():
            self._once(name, program.problem if program.restarts else "")
        for key, pod in now.pods.items():
            where = ", ".join([f"on {pod.node}" if pod.node else "outside", *pod.ips[:1]])
            self._once(f"pod {key}", f"ready ({where})" if pod.settled else crash(pod))
        for name, workload in now.workloads.items():
            self._once(name, workload.problem)
        for name, problem in now.problems.items():
            self._once(name, problem)
        for name, note in now.notes.items():
            self._once(f"{name}: warning", note)

    def _once(self, what: str, text: str) -> None:
        if text and self._said.get(what) != text:
            self._said[what] = text
            self._say(f"{what}: {text}")

    def _explain(self, now: State, expected: Mapping[str, str]) -> str:
        lines = []
        for name in unsettled(now, expected):
            problem = now.workloads[name].problem if name in now.workloads else "not taken up yet"
            lines += [f"{name}: {problem}"] if problem else []
        for key, pod in now.pods.items():
            if not pod.settled:
                lines += [f"pod {key}: {pod.phase}: {pod.reason or 'not ready'}", *self._pod_logs(pod)]
        for name, program in {"operator": now.operator, **now.nodes}.items():
            if program.problem:
                log = "operator.log" if name == "operator" else f"{name}/daemon.log"
                lines += [f"{name}: {program.problem}", self._tail(log)]
        return indent(lines)

    def _pod_logs(self, pod: PodState) -> list[str]:
        folder = self._cluster.pod_dir(pod.namespace, pod.name)
        found = []
        for name, container in pod.containers.items():
            if not container.ready and container.reason != "Completed":
                path = folder / f"{name}.log"
                lines = tail(path, LOG_LINES) or tail(folder / f"{name}.previous.log", LOG_LINES)
                found += [f"  {name} | {line}" for line in lines]
        return found


def unsettled(now: State, expected: Mapping[str, str]) -> list[str]:
    """The workloads, by name, that are not as declared."""
    return [
        name
        for name, digest in expected.items()
        if (found := now.workloads.get(name)) is None or found.digest != digest or not found.settled
    ]


def doomed(now: State, expected: Mapping[str, str]) -> bool:
    """Whether each workload that is not as declared has pods that failed for good, and none that may yet do."""
    for name in unsettled(now, expected):
        mine = [pod for pod in now.pods.values() if pod.workload == name and not pod.settled]
        if not mine or any(pod.phase != "Failed" or pod.terminating for pod in mine):
            return False
    return bool(unsettled(now, expected))


def crash(pod: PodState) -> str:
    """Worth a line while it is not too late to look; that a pod is still starting is not."""
    return pod.reason if pod.phase == "Failed" or "CrashLoopBackOff" in pod.reason or not pod.ips else ""


def indent(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for text in lines for line in text.split("\n"))


def up(cluster: Cluster, config: Config, given: declare.Given, timeout: float, say: Say) -> None:
    began = time.monotonic()
    declare.check(given.documents, config.namespace)
    check_machine(cluster, config.nodes)
    start(cluster, config)
    waiting = Waiting(cluster, timeout, say)
    waiting.for_operator()
    say(f"cluster {cluster.name}: {config.nodes} nodes, operator runs")
    if given.documents:
        for outcome in declare.apply(cluster, given.documents, config.namespace).outcomes:
            say(declare.outcome_line(outcome))
    waiting.for_workloads()
    waiting.for_revision()
    waiting.tell()
    if refused := waiting.refused():
        raise Failure("the cluster runs, without what was refused:\n" + indent(refused))
    pods = state.read_state(cluster).pods
    say(f"{len(pods)} pods run and policy is in force ({time.monotonic() - began:.1f} s)")
