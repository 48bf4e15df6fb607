"""The table of what policy means (`truth_cases`), judged offline: the same rows are measured on a live cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import live_cluster
from truth_cases import CASES, Case
from weft.policies import offline
from weft.policies.asked import ECHO_REQUEST
from weft.policies.model import Protocol
from weft.policies.verdict import Answer, Judge
from weft.policies.world import ServiceItem
from weft.policies.yamldoc import documents

NODES = {1: "node-1", 2: "node-2"}


def placed_pods() -> Iterator[dict[str, object]]:
    """The live cluster's objects as they are once they run: with nodes and addresses."""
    for at, name in NODES.items():
        addresses = [{"type": "InternalIP", "address": ip} for ip in (f"172.30.0.{at}", f"fd00:172:30::{at}")]
        yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}
    for at, thing in enumerate(live_cluster.manifests(Path("/nowhere"))):
        if thing["kind"] == "Pod" and thing["metadata"]["name"] not in live_cluster.WORLD:
            node = 2 if thing["metadata"]["name"].endswith("-far") else 1
            thing["spec"]["nodeName"] = NODES[node]
            ips = [f"10.244.{node}.{at + 10}", f"fd00:10:244:{node}::{at + 10:x}"]
            thing["status"] = {
                "podIP": ips[0],
                "podIPs": [{"ip": ip} for ip in ips],
                "conditions": [{"type": "Ready", "status": "True"}],
            }
        yield thing


def cluster_with(policies: str) -> tuple[Judge, list[str]]:
    text = yaml.safe_dump_all(placed_pods()) + "---\n" + policies
    declared = offline.read(documents(text, "case.yaml"))
    world, problems = offline.build(declared)
    assert not problems
    return Judge(world), [str(error) for error in declared.refused]


def answers(judge: Judge, probe: str) -> Iterator[Answer]:
    """A probe stands for all pods of its names, and for both families."""
    left, _, right = probe.partition(" > ")
    target, _, where = right.partition(":")
    number, _, kind = where.partition("/")
    for family in (0, 1):
        protocol = Protocol.UDP if kind == "udp" else Protocol.TCP
        if number == "ping":
            protocol = (Protocol.ICMP, Protocol.ICMPV6)[family]
        port = ECHO_REQUEST[protocol] if number == "ping" else int(number)
        for source in ends(judge, left, family):
            for end in ends(judge, target, family):
                yield judge.judge(source, end, protocol, port)


def ends(judge: Judge, name: str, family: int) -> list[str]:
    if name == "host":
        return [live_cluster.HOST[family]]
    if name in live_cluster.WORLD:
        return [live_cluster.WORLD[name][family]]
    if name == "svc":
        return ["svc/default/svc"]
    found = [judge.world.find("/".join(pod)) for pod in live_cluster.PODS[name]]
    return [party.addresses[family] for party in found if not isinstance(party, ServiceItem)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_verdict_is_what_the_specification_says(case: Case) -> None:
    judge, refused = cluster_with(case.policies)
    if case.refused:
        assert any(case.refused in reason for reason in refused), refused
    else:
        assert not refused
    expected = [(probe, True) for probe in (*case.allowed, *case.needs_proxy)]
    expected += [(probe, False) for probe in case.denied]
    assert expected
    for probe, allowed in expected:
        for answer in answers(judge, probe):
            assert answer.allowed is allowed, f"{probe}: {answer.reason}"
    for probe in case.needs_proxy:
        assert all(answer.redirected for answer in answers(judge, probe)), probe
