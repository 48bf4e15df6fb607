"""Workloads to Pods: how many, what they are called, and that the same manifest always gives the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from weft.policies.dialects.registry import parse
from weft.policies.errors import Invalid
from weft.policies.objects import Owner
from weft.policies.objects import Pod as PodObject
from weft.policies.workloads import KINDS, MAX_PODS, pods
from weft.policies.yamldoc import Document, documents

NODES = ("node-1", "node-2")
SELECTS = {"matchLabels": {"app": "web"}}


def workload(kind: str, **spec: Any) -> Document:
    version, _ = KINDS[kind]
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    value = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"template": template, **spec},
    }
    return Document(value, "web.yaml", 1)


def expand(document: Document) -> list[dict[str, Any]]:
    return pods(document, "default", NODES)


def names(document: Document) -> list[str]:
    return [pod["metadata"]["name"] for pod in expand(document)]


COUNTS = {
    "a Deployment has one Pod unless it says more": ("Deployment", {"selector": SELECTS}, 1),
    "a Deployment's replicas": ("Deployment", {"selector": SELECTS, "replicas": 3}, 3),
    "no replicas": ("Deployment", {"selector": SELECTS, "replicas": 0}, 0),
    "null replicas are as left out": ("Deployment", {"selector": SELECTS, "replicas": None}, 1),
    "a ReplicaSet": ("ReplicaSet", {"selector": SELECTS, "replicas": 2}, 2),
    "a ReplicationController": ("ReplicationController", {"selector": {"app": "web"}, "replicas": 2}, 2),
    "a ReplicationController without selector": ("ReplicationController", {}, 1),
    "a StatefulSet": ("StatefulSet", {"selector": SELECTS, "replicas": 2}, 2),
    "a DaemonSet has one on each node": ("DaemonSet", {"selector": SELECTS}, 2),
    "a Job has one Pod unless it says more": ("Job", {}, 1),
    "a Job runs as many at once as it may": ("Job", {"parallelism": 3}, 3),
    "a Job runs no more than it needs": ("Job", {"parallelism": 3, "completions": 2}, 2),
}


@pytest.mark.parametrize(("kind", "spec", "count"), COUNTS.values(), ids=COUNTS)
def test_how_many(kind: str, spec: dict[str, Any], count: int) -> None:
    found = names(workload(kind, **spec))
    assert len(found) == len(set(found)) == count


def test_a_deployments_pods() -> None:
    (pod,) = expand(workload("Deployment", selector=SELECTS))
    template_hash = pod["metadata"]["labels"]["pod-template-hash"]
    assert pod["metadata"]["name"].startswith(f"web-{template_hash}-")
    assert len(template_hash) == 8 and len(pod["metadata"]["name"]) == len("web-12345678-12345")
    assert pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": template_hash}
    assert pod["metadata"]["namespace"] == "default"
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", f"web-{template_hash}", True)
    assert pod["spec"] == {"containers": [{"name": "c", "image": "x"}]}


@pytest.mark.parametrize("kind", KINDS)
def test_pods_are_read_back_with_their_workload_as_owner(kind: str) -> None:
    spec = {} if kind == "Job" else {"selector": {"app": "web"} if kind == "ReplicationController" else SELECTS}
    for pod in expand(workload(kind, **spec)):
        found = parse(Document(pod))
        assert isinstance(found, PodObject)
        assert found.owner == Owner(kind, "web")


def test_the_same_manifest_gives_the_same_pods() -> None:
    document = workload("Deployment", selector=SELECTS, replicas=20)
    assert expand(document) == expand(copy.deepcopy(document))


def test_more_replicas_keep_the_pods_there_are() -> None:
    few = names(workload("Deployment", selector=SELECTS, replicas=3))
    assert names(workload("Deployment", selector=SELECTS, replicas=5))[:3] == few


def test_a_changed_template_gives_other_pods() -> None:
    before, after = (workload("Deployment", selector=SELECTS, replicas=3) for _ in range(2))
    after.value["spec"]["template"]["spec"]["containers"][0]["image"] = "y"
    assert not set(names(before)) & set(names(after))


def test_names_of_one_workload_never_collide() -> None:
    found = names(workload("Deployment", selector=SELECTS, replicas=MAX_PODS))
    assert len(set(found)) == MAX_PODS


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "DaemonSet", "Job"])
def test_names_are_cut_where_they_are_too_long_for_a_host_name(kind: str) -> None:
    one, other = (workload(kind, **({} if kind == "Job" else {"selector": SELECTS})) for _ in range(2))
    one.value["metadata"]["name"] = "a" * 100 + "-one"
    other.value["metadata"]["name"] = "a" * 100 + "-other"
    found = names(one) + names(other)
    assert all(len(name) <= 63 for name in found)
    assert len(set(found)) == len(found)


def test_a_stateful_sets_pods_are_numbered_and_have_host_names() -> None:
    document = workload("StatefulSet", selector=SELECTS, replicas=2, serviceName="webs", ordinals={"start": 5})
    first, second = expand(document)
    assert [first["metadata"]["name"], second["metadata"]["name"]] == ["web-5", "web-6"]
    assert first["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-5"
    assert first["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "5"
    assert (first["spec"]["hostname"], first["spec"]["subdomain"]) == ("web-5", "webs")


def test_a_daemon_sets_pods_are_placed() -> None:
    found = expand(workload("DaemonSet", selector=SELECTS))
    assert [pod["spec"]["nodeName"] for pod in found] == ["node-1", "node-2"]


def test_a_daemon_set_may_name_its_node() -> None:
    document = workload("DaemonSet", selector=SELECTS)
    document.value["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-2"}
    assert [pod["spec"]["nodeName"] for pod in expand(document)] == ["node-2"]


def test_a_jobs_pods_carry_its_name_and_their_index() -> None:
    first, second = expand(workload("Job", parallelism=2, completions=2, completionMode="Indexed"))
    assert first["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "web"
    assert second["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    assert second["metadata"]["name"].startswith("web-1-")


def test_pods_share_nothing_that_is_changed_in_one_of_them() -> None:
    document = workload("Deployment", selector=SELECTS, replicas=2)
    first, second = expand(document)
    first["spec"]["nodeName"] = "node-1"
    first["metadata"]["labels"]["more"] = "x"
    assert "nodeName" not in second["spec"] and "more" not in second["metadata"]["labels"]
    assert "nodeName" not in document.value["spec"]["template"]["spec"]


def test_a_pod_gives_itself_with_its_namespace() -> None:
    document = Document({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}})
    assert pods(document, "shop", NODES) == [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}, "spec": {}}
    ]
    assert "namespace" not in document.value["metadata"]


@pytest.mark.parametrize("kind", ["Service", "CronJob", "ConfigMap", None, 5])
def test_other_kinds_give_none(kind: object) -> None:
    assert pods(Document({"apiVersion": "v1", "kind": kind}), "default", NODES) == []


# What is refused

REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a Deployment without selector": ("Deployment", {}, "spec.selector", "is missing"),
    "a selector that selects everything": ("Deployment", {"selector": {}}, "spec.selector", "selects everything"),
    "a selector that does not match the template": (
        "Deployment",
        {"selector": {"matchLabels": {"app": "db"}}},
        "spec.template",
        "do not match the selector",
    ),
    "an expression that does not match the template": (
        "StatefulSet",
        {"selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}},
        "spec.template",
        "do not match the selector",
    ),
    "a ReplicationController's selector that does not match": (
        "ReplicationController",
        {"selector": {"app": "db"}},
        "spec.template",
        "do not match the selector",
    ),
    "replicas below 0": ("Deployment", {"selector": SELECTS, "replicas": -1}, "spec.replicas", "must be 0 to"),
    "too many replicas": (
        "Deployment",
        {"selector": SELECTS, "replicas": MAX_PODS + 1},
        "spec.replicas",
        "must be 0 to",
    ),
    "replicas in quotes": ("Deployment", {"selector": SELECTS, "replicas": "3"}, "spec.replicas", "without quotes"),
    "replicas that are true": (
        "Deployment",
        {"selector": SELECTS, "replicas": True},
        "spec.replicas",
        "whole number",
    ),
    "no template": ("Deployment", {"selector": SELECTS, "template": None}, "spec.template", "is null"),
    "a template without spec": (
        "Deployment",
        {"selector": SELECTS, "template": {}},
        "spec.template.spec",
        "is missing",
    ),
    "a template whose spec is a list": (
        "Deployment",
        {"selector": SELECTS, "template": {"spec": []}},
        "spec.template.spec",
        "must be a mapping",
    ),
    "a template that is too large": (
        "Job",
        {"template": {"spec": {"x": "y" * (2 << 20)}}},
        "spec.template",
        "larger than 1536 KiB",
    ),
    "an unknown completion mode": ("Job", {"completionMode": "Some"}, "spec.completionMode", "is not one of"),
}


@pytest.mark.parametrize(("kind", "spec", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(kind: str, spec: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        expand(workload(kind, **spec))
    assert caught.value.where.path == path
    assert reason in caught.value.reason
    assert caught.value.where.file == "web.yaml"


def test_another_version_is_refused_not_ignored() -> None:
    document = workload("Deployment", selector=SELECTS)
    document.value["apiVersion"] = "extensions/v1beta1"
    with pytest.raises(Invalid, match="a Deployment is read as apps/v1"):
        expand(document)


def test_a_stateful_set_whose_names_would_be_too_long_is_refused() -> None:
    document = workload("StatefulSet", selector=SELECTS)
    document.value["metadata"]["name"] = "a" * 62
    with pytest.raises(Invalid, match="longer than 63"):
        expand(document)


def test_a_template_by_alias_is_not_changed() -> None:
    text = """
apiVersion: batch/v1
kind: Job
metadata: {name: a, labels: &l {app: web}}
spec: {parallelism: 2, template: {metadata: {labels: *l}, spec: {containers: []}}}
"""
    (document,) = documents(text)
    expand(document)
    assert document.value["metadata"]["labels"] == {"app": "web"}
