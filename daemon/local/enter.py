"""`weft local exec`: becomes a command inside a pod.

The process of the command line itself joins the pod and turns into the command: its standard streams, terminal,
signals and exit code are the command's own, with nothing in between. So it must have one thread, and imports
nothing that starts another.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from weft.daemon.cli.failure import Failure
from weft.daemon.local import cgroup, launch, state, teardown
from weft.daemon.local.names import Cluster
from weft.daemon.local.state import PodState, State

#: Before `/`: what kind of thing is named. There is one name for a workload and its pods anyway.
POD_WORDS = ("pod", "pods", "po")
WORKLOAD_WORDS = (
    "deploy",
    "deployment",
    "deployments",
    "sts",
    "statefulset",
    "ds",
    "daemonset",
    "rs",
    "replicaset",
)
KIND_WORDS = frozenset((*POD_WORDS, *WORKLOAD_WORDS, "job", "svc", "service"))
STARTING = 2.0  # seconds that a container which is just being started is waited for


def find_pod(now: State, namespace: str, name: str) -> PodState:
    """By its own name, or as the first (the ready before others) of the workload of that name. `kind/NAME` is taken
    as kubectl does, `NS/NAME` as Weft's other commands."""
    where, slash, wanted = name.rpartition("/")
    if slash and where.lower() not in KIND_WORDS:
        namespace = where
    if pod := now.pods.get(f"{namespace}/{wanted}"):
        return pod
    mine = [pod for pod in now.pods.values() if pod.workload.partition(" ")[2] == f"{namespace}/{wanted}"]
    if not mine:
        there = ", ".join(sorted(now.pods)) or "none"
        raise Failure(f"no pod {namespace}/{wanted}, and no workload of that name; pods: {there}")
    return min(mine, key=lambda pod: (not pod.ready, pod.name))


def container_of(pod: PodState, name: str) -> str:
    """The container of that name; "": the first that is not there only to initialise."""
    names = list(pod.containers)
    if not names:
        raise Failure(f"pod {pod.namespace}/{pod.name} has no container yet: {pod.reason}")
    if name and name not in names:
        raise Failure(f"pod {pod.namespace}/{pod.name} has no container {name}: {', '.join(names)}")
    running = [each for each in names if pod.containers[each].pid]
    lasting = [each for each in names if not pod.containers[each].init]
    return name or (running or lasting or names)[0]


def pid_of(cluster: Cluster, pod: PodState, container: str) -> int:
    """Of the container's process, which is seen to be in the pod's cgroup and past its launcher."""
    where = pod.node or teardown.OUTSIDE
    group = cluster.pod_cgroup(cgroup.mount_point(), where, pod.namespace, pod.name)
    end = time.monotonic() + STARTING
    while True:
        now = state.read_state(cluster).pods.get(f"{pod.namespace}/{pod.name}", pod)
        pid = now.containers[container].pid if container in now.containers else 0
        if pid and pid in cgroup.processes(group) and _entered(pid):
            return pid
        if time.monotonic() > end:
            reason = now.containers[container].reason if container in now.containers else now.reason
            raise Failure(
                f"container {container} of {pod.namespace}/{pod.name} does not run: {reason or 'no process'}"
            )
        time.sleep(0.01)


def _entered(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/uts") != os.readlink("/proc/self/ns/uts")
    except OSError:
        return False


def execute(
    cluster: Cluster, namespace: str, name: str, container: str, command: Sequence[str], keep_stdin: bool
) -> None:
    """Does not return. Failure if the pod is not there or does not run."""
    if os.geteuid() != 0:
        raise Failure("joining a pod needs root")
    pod = find_pod(state.read_state(cluster), namespace, name)
    container = container_of(pod, container)
    pid = pid_of(cluster, pod, container)
    spec = json.loads((cluster.pod_dir(pod.namespace, pod.name) / f"{container}.json").read_text())
    spec["argv"] = list(command)
    if term := os.environ.get("TERM"):
        spec["env"].setdefault("TERM", term)
    if not keep_stdin:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    try:
        launch.enter(spec, pid)
    except OSError as error:
        raise Failure(f"cannot enter {pod.namespace}/{pod.name}: {error}", launch.CANNOT_ENTER) from None
