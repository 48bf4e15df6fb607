"""What `weft local get` and `status` show."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.daemon.cli.table import columns
from weft.daemon.local import listing, state
from weft.daemon.local.names import Cluster
from weft.daemon.local.state import ContainerState, PodState, ProgramState, State, WorkloadState

NOW = State(
    operator=ProgramState(pid=10),
    nodes={"node-1": ProgramState(pid=11, restarts=1)},
    pods={
        "shop/web-a": PodState(
            "shop", "web-a", "node-1", ["10.244.1.2", "fd00::2"], "Running", ready=True, started=100.0,
            workload="Deployment shop/web", warnings=["volumes are not mounted"],
            containers={"prep": ContainerState(init=True), "web": ContainerState(ready=True, restarts=2)},
        ),
        "shop/web-b": PodState(
            "shop", "web-b", "node-1", ["10.244.1.3", "fd00::3"], "Running", "web: CrashLoopBackOff (exit code 1)",
            started=100.0, workload="Deployment shop/web", warnings=["volumes are not mounted"],
            containers={"web": ContainerState()},
        ),
    },
    workloads={"Deployment shop/web": WorkloadState("d", 2, 1, 0), "Pod shop/x": WorkloadState("d", 1, 1)},
    notes={"Ingress shop/in": "ignored"},
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    found = Cluster(tmp_path / "run")
    found.room.mkdir(parents=True)
    state.write_state(found, NOW)
    return found


def shown(found: listing.Listing) -> str:
    return columns(found.header(False), found.rows(False))


def test_pods_as_kubectl_lists_them_without_containers_that_are_done(cluster: Cluster) -> None:
    assert shown(listing.pods(cluster, "", 165.0)) == (
        "NAMESPACE   NAME    READY   STATUS             RESTARTS   AGE   NODE\n"
        "shop        web-a   1/1     Running            2          1m    node-1\n"
        "shop        web-b   0/1     CrashLoopBackOff   0          1m    node-1"
    )


def test_workloads_and_how_many_of_their_pods_are_ready(cluster: Cluster) -> None:
    assert shown(listing.workloads(cluster, "", 0)) == (
        "NAMESPACE   NAME             READY   OLD PODS   PROBLEM\nshop        deployment/web   1/2     0          -"
    )
    assert not listing.workloads(cluster, "other", 0).cells


def test_status_says_what_is_wrong_first_and_each_warning_once() -> None:
    lines, healthy = listing.status("weft", NOW)
    assert not healthy
    assert lines == [
        "Cluster weft: 1 nodes, 1 of 2 pods ready",
        "  operator:  runs, pid 10",
        "  node-1:    runs, pid 11, 1 restarts",
        "  pod shop/web-b: CrashLoopBackOff: web: CrashLoopBackOff (exit code 1)",
        "  Ingress shop/in: warning: ignored",
        "  Deployment shop/web: warning: volumes are not mounted",
    ]
