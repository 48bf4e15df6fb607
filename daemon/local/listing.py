"""What `weft local get` and `status` show, from the state and the store. Pure, but for the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weft.daemon.local import state
from weft.daemon.local.addresses import NodeNet
from weft.daemon.local.names import Cluster
from weft.daemon.local.state import PodState, ProgramState, State

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Listing:
    """`narrow` columns always, the others with -o wide."""

    value: Any
    columns: Sequence[str]
    cells: Sequence[Row]
    narrow: int

    def header(self, wide: bool) -> Sequence[str]:
        return self.columns if wide else self.columns[: self.narrow]

    def rows(self, wide: bool) -> list[Row]:
        return [row if wide else row[: self.narrow] for row in self.cells]


def pods(cluster: Cluster, namespace: str, now: float) -> Listing:
    found = [pod for pod in state.read_state(cluster).pods.values() if namespace in ("", pod.namespace)]
    header = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "NODE", "IP", "IPv6", "WORKLOAD", "REASON")
    return Listing([_pod_value(pod) for pod in found], header, [_pod_row(pod, now) for pod in found], 7)


def _pod_value(pod: PodState) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(pod)


def _pod_row(pod: PodState, now: float) -> Row:
    mine = [each for each in pod.containers.values() if not each.init]
    ready = sum(each.ready for each in mine)
    restarts = sum(each.restarts for each in pod.containers.values())
    four, six = ([ip for ip in pod.ips if (":" in ip) == v6] for v6 in (False, True))
    return (
        pod.namespace, pod.name, f"{ready}/{len(mine)}", pod_status(pod), restarts, age(pod.started, now),
        pod.node or "<outside>", ",".join(four) or "-", ",".join(six) or "-", pod.workload, pod.reason or "-",
    )  # fmt: skip


def pod_status(pod: PodState) -> str:
    """One word, as kubectl prints it."""
    if pod.terminating:
        return "Terminating"
    if "CrashLoopBackOff" in pod.reason:
        return "CrashLoopBackOff"
    return "Completed" if pod.phase == "Succeeded" else pod.phase


def age(since: float, now: float) -> str:
    if not since:
        return "-"
    seconds = max(0, int(now - since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def services(cluster: Cluster, namespace: str, _now: float) -> Listing:
    from weft.daemon.local import declare

    objects = list(declare.stored(cluster, ("Service", "EndpointSlice")))
    slices = [each for each in objects if each["kind"] == "EndpointSlice"]
    found = [each for each in objects if each["kind"] == "Service"]
    found = [each for each in found if namespace in ("", each["metadata"]["namespace"])]
    header = ("NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORTS", "READY", "CLUSTER-IPv6", "SELECTOR", "ENDPOINTS")
    return Listing(found, header, [_service_row(each, slices) for each in found], 6)


def _service_row(service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> Row:
    metadata, spec = service["metadata"], service.get("spec") or {}
    ips = spec.get("clusterIPs") or [spec.get("clusterIP") or "-"]
    four, six = ([ip for ip in ips if (":" in ip) == v6] for v6 in (False, True))
    ready = _ready_addresses(metadata, slices)
    selector = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
    return (
        metadata["namespace"], metadata["name"], spec.get("type") or "ClusterIP", ",".join(four) or "-",
        ",".join(_port(port) for port in spec.get("ports") or ()) or "-",
        len([ip for ip in ready if ":" not in ip]) or len(ready),
        ",".join(six) or "-", selector or "-", ",".join(ready) or "-",
    )  # fmt: skip


def _ready_addresses(metadata: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> list[str]:
    mine = [
        each
        for each in slices
        if each["metadata"]["namespace"] == metadata["namespace"]
        and (each["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == metadata["name"]
    ]
    ready = (
        e for each in mine for e in each.get("endpoints") or () if (e.get("conditions") or {}).get("ready", True)
    )
    return list(dict.fromkeys(ip for endpoint in ready for ip in endpoint["addresses"]))


def _port(port: Mapping[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol') or 'TCP'}"


def nodes(cluster: Cluster, _namespace: str, _now: float) -> Listing:
    now = state.read_state(cluster)
    header = ("NAME", "STATUS", "PODS", "RESTARTS", "ADDRESS", "IPv6", "POD-CIDR", "POD-CIDRv6", "DAEMON-PID")
    rows, values = [], []
    for name, program in now.nodes.items():
        net = NodeNet(int(name.rpartition("-")[2]))
        count = sum(pod.node == name for pod in now.pods.values())
        rows.append(
            (name, program.problem or "Ready", count, program.restarts, *net.addresses, *net.pod_cidrs, program.pid)
        )
        values.append({"name": name, "pid": program.pid, "restarts": program.restarts, "problem": program.problem})
    return Listing(values, header, rows, 5)


def workloads(cluster: Cluster, namespace: str, _now: float) -> Listing:
    found = state.read_state(cluster).workloads
    rows, values = [], []
    for name, each in sorted(found.items()):
        kind, _, key = name.partition(" ")
        where, _, short = key.partition("/")
        if kind == "Pod" or namespace not in ("", where):
            continue
        facts = {"desired": each.desired, "ready": each.ready, "old": each.old, "problem": each.problem}
        values.append({"kind": kind, "namespace": where, "name": short, **facts})
        name = f"{kind.lower()}/{short}"
        rows.append((where, name, f"{each.ready}/{each.desired}", each.old, each.problem or "-"))
    return Listing(values, ("NAMESPACE", "NAME", "READY", "OLD PODS", "PROBLEM"), rows, 5)


LISTS: Mapping[str, Callable[[Cluster, str, float], Listing]] = {
    "pods": pods,
    "services": services,
    "nodes": nodes,
    "workloads": workloads,
}


def status(name: str, now: State) -> tuple[list[str], bool]:
    """Lines, and whether all is well."""
    ready = sum(pod.settled for pod in now.pods.values())
    lines = [f"Cluster {name}: {len(now.nodes)} nodes, {ready} of {len(now.pods)} pods ready"]
    lines += [_program(each, program) for each, program in {"operator": now.operator, **now.nodes}.items()]
    bad = [f"pod {key}: {pod_status(pod)}: {pod.reason}" for key, pod in now.pods.items() if not pod.settled]
    bad += [f"{each}: {workload.problem}" for each, workload in now.workloads.items() if workload.problem]
    bad += [f"{each}: {problem}" for each, problem in now.problems.items()]
    warnings = [f"{each}: warning: {note}" for each, note in now.notes.items()]
    warnings += list(
        dict.fromkeys(f"{pod.workload}: warning: {t}" for pod in now.pods.values() for t in pod.warnings)
    )
    programs = all(not program.problem for program in (now.operator, *now.nodes.values()))
    return [*lines, *(f"  {line}" for line in bad + warnings)], programs and not bad


def _program(name: str, program: ProgramState) -> str:
    how = program.problem or f"runs, pid {program.pid}"
    return f"  {name + ':':<11}{how}" + (f", {program.restarts} restarts" if program.restarts else "")
