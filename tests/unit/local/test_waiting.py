"""When `up` and `apply` stop waiting: nothing is left that could come right by itself."""

from __future__ import annotations

import pytest

from weft.daemon.local.state import PodState, State, WorkloadState
from weft.daemon.local.up import doomed

NAME = "Deployment shop/web"


def pod(name: str, phase: str, *, terminating: bool = False) -> PodState:
    return PodState("shop", name, phase=phase, workload=NAME, ready=phase == "Running", terminating=terminating)


@pytest.mark.parametrize(
    ("pods", "hopeless"),
    [
        pytest.param([pod("a", "Failed")], True, id="all have failed for good"),
        pytest.param([pod("a", "Failed"), pod("b", "Running")], True, id="those that are missing have"),
        pytest.param([pod("a", "Failed"), pod("b", "Pending")], False, id="one may yet come"),
        pytest.param([pod("a", "Failed", terminating=True)], False, id="the failed one is being replaced"),
        pytest.param([], False, id="nothing was tried yet"),
    ],
)
def test_failed_pods_are_waited_for_only_while_others_may_come(pods: list[PodState], hopeless: bool) -> None:
    workload = WorkloadState("d", desired=2, ready=sum(each.ready for each in pods))
    now = State(pods={each.name: each for each in pods}, workloads={NAME: workload})
    assert doomed(now, {NAME: "d"}) == hopeless


def test_what_is_settled_is_no_reason() -> None:
    assert not doomed(State(workloads={NAME: WorkloadState("d", 1, 1)}), {NAME: "d"})
