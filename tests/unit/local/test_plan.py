"""Have and want in, the next steps out; a table of situations, and whole rollouts played to their end."""

from __future__ import annotations

from typing import Any

import pytest

from weft.daemon.local import plan
from weft.daemon.local.plan import Have, Want, Wanted
from weft.policies.model import ObjectRef

NODES = ("node-1", "node-2")


def deployment(replicas: int, version: str = "1", strategy: str = "RollingUpdate") -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": strategy},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "env": [{"name": "V", "value": version}]}]},
            },
        },
    }


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c"}]}}


def store(*manifests: dict[str, Any]) -> dict[ObjectRef, dict[str, Any]]:
    return {ObjectRef(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]): m for m in manifests}


def have(want: Want, *, ready: bool = True, terminating: bool = False) -> Have:
    return Have(want.key, want.digest, want.workload, ready, terminating)


def test_a_deployment_and_a_declared_pod_are_wanted_and_what_was_generated_is_not_wanted_for_itself() -> None:
    generated = pod("web-old", annotations={plan.WORKLOAD: "Deployment default/web"})
    want = plan.wanted(store(deployment(2), pod("alone"), generated), NODES)
    assert len(want.pods) == 3 and "default/alone" in want.pods and "default/web-old" not in want.pods
    assert set(want.workloads) == {"Deployment default/web", "Pod default/alone"}
    mine = [each for each in want.pods.values() if each.workload == "Deployment default/web"]
    assert all(plan.generated(each.manifest) == "Deployment default/web" for each in mine)


def test_a_workload_that_cannot_be_read_keeps_what_it_has() -> None:
    good = plan.wanted(store(deployment(1)), NODES)
    broken = deployment(1)
    broken["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    want = plan.wanted(store(broken), NODES)
    assert "Deployment default/web" in want.problems
    assert plan.steps(want, [have(each) for each in good.pods.values()]) == plan.Steps((), ())


def test_a_status_or_a_node_that_the_runtime_wrote_makes_no_difference() -> None:
    declared = pod("one")
    told = {**declared, "status": {"phase": "Running"}, "spec": {**declared["spec"], "nodeName": "node-1"}}
    assert plan.digest(declared) == plan.digest(told)
    assert plan.digest(declared) != plan.digest({**declared, "spec": {"containers": []}})


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param(deployment(3), deployment(3, "2"), id="a new template"),
        pytest.param(deployment(3), deployment(1), id="fewer"),
        pytest.param(deployment(1), deployment(4), id="more"),
        pytest.param(deployment(3), deployment(2, "2"), id="fewer of a new template"),
    ],
)
def test_a_rollout_ends_with_what_is_wanted(before: dict[str, Any], after: dict[str, Any], strategy: str) -> None:
    after["spec"]["strategy"] = {"type": strategy}
    want = plan.wanted(store(after), NODES)
    there = {key: have(each) for key, each in plan.wanted(store(before), NODES).pods.items()}
    least = len(there)
    for _ in range(50):
        steps = plan.steps(want, there.values())
        if not steps.start and not steps.stop:
            break
        for key in steps.stop:
            del there[key]
        least = min(least, len(there))
        for each in steps.start:
            there[each.key] = have(each)
    assert there == {key: have(each) for key, each in want.pods.items()}
    rolling = strategy == "RollingUpdate"
    assert least >= min(before["spec"]["replicas"], after["spec"]["replicas"]) or not rolling


def test_old_pods_stay_until_new_ones_are_ready() -> None:
    old = [have(each) for each in plan.wanted(store(deployment(2)), NODES).pods.values()]
    want = plan.wanted(store(deployment(2, "2")), NODES)
    new = list(want.pods.values())
    assert plan.steps(want, old) == plan.Steps(tuple(new), ())
    unready = [*old, have(new[0], ready=False), have(new[1], ready=False)]
    assert plan.steps(want, unready).stop == ()
    assert len(plan.steps(want, [*old, have(new[0]), have(new[1], ready=False)]).stop) == 1
    assert set(plan.steps(want, [*old, *map(have, new)]).stop) == {each.key for each in old}


def test_recreate_starts_none_before_the_last_old_pod_is_gone() -> None:
    (old,) = (have(each) for each in plan.wanted(store(deployment(1)), NODES).pods.values())
    want = plan.wanted(store(deployment(1, "2", "Recreate")), NODES)
    assert plan.steps(want, [old]) == plan.Steps((), (old.key,))
    ending = Have(old.key, old.digest, old.workload, False, True)
    assert plan.steps(want, [ending]) == plan.Steps((), ())
    assert len(plan.steps(want, []).start) == 1


def test_a_pod_declared_anew_is_stopped_first_and_started_when_it_is_gone() -> None:
    changed = {**pod("one"), "spec": {"containers": [{"name": "c", "args": ["x"]}]}}
    want = plan.wanted(store(changed), NODES)
    old = Have("default/one", "another", "Pod default/one", True, False)
    assert plan.steps(want, [old]) == plan.Steps((), ("default/one",))
    assert plan.steps(want, [Have(old.key, old.digest, old.workload, False, True)]) == plan.Steps((), ())
    assert [each.key for each in plan.steps(want, []).start] == ["default/one"]


def test_nothing_wanted_stops_everything_once() -> None:
    (old,) = (have(each) for each in plan.wanted(store(deployment(1)), NODES).pods.values())
    nothing = Wanted({})
    assert plan.steps(nothing, [old]) == plan.Steps((), (old.key,))
    assert plan.steps(nothing, [Have(old.key, old.digest, old.workload, False, True)]) == plan.Steps((), ())


LABELS = {name: {"kubernetes.io/hostname": name} for name in NODES}


@pytest.mark.parametrize(
    "spec, load, node",
    [
        pytest.param({}, {}, "node-1", id="the first of equals"),
        pytest.param({}, {"node-1": 1}, "node-2", id="the emptier"),
        pytest.param({"nodeName": "node-1"}, {"node-1": 9}, "node-1", id="the one it names"),
        pytest.param(
            {"nodeSelector": {"kubernetes.io/hostname": "node-2"}},
            {"node-2": 9},
            "node-2",
            id="the one with the labels",
        ),
    ],
)
def test_a_place_for_a_pod(spec: dict[str, Any], load: dict[str, int], node: str) -> None:
    assert plan.place({"spec": spec}, LABELS, load) == node


@pytest.mark.parametrize(
    "spec, why",
    [({"nodeName": "mars"}, "no node mars"), ({"nodeSelector": {"disk": "ssd"}}, '{"disk": "ssd"}')],
)
def test_no_place_says_why(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(LookupError, match=why):
        plan.place({"spec": spec}, LABELS, {})
