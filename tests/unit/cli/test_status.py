"""`weft status`: what people read, and the exit code that scripts read."""

from __future__ import annotations

from typing import Any

import pytest

from weft.daemon.cli import node_status, status, units
from weft.policies.wire.pb import control_pb2

NOW = 1000.0
NODE: dict[str, Any] = {
    "ok": True,
    "node": "node-1",
    "version": "0.1.0",
    "operator": {"connected": True, "since": 826.0, "reconnects": 0, "problem": ""},
    "revision": {"in_force": 10, "held": 10, "kernel": 9},
    "endpoints": {"total": 4, "ready": 4},
    "identities": 5,
    "policies": 1,
    "services": 5,
    "flows": {"current_flows": 6, "max_flows": 4095, "flows_per_second": 0.1, "lost": {"kernel_ring": 0}},
    "conntrack": {"entries": 12, "expired": 2000, "evicted": 0},
    "programs": {"attached": 4, "mode": "tcx"},
    "kernel": {"release": "6.18.4", "missing": []},
    "dns": ["10.96.0.10", "fd00:10:96::a"],
    "pod_start": "not guarded",
    "snapshot_file": {"written": 4, "failed": 0, "problem": "", "found": ""},
    "memory": {"anonymous": 38154240, "resident": 70770688},
    "uptime_seconds": 174,
    "warnings": [],
    "refused": [],
    "problems": [],
    "maps": {"ct": {"entries": 250000, "max_entries": 262144, "pressure": 0.954, "warning": True}},
    "stats": {"event_lost": 3},
}
WELL = """\
Node node-1:     OK   0.1.0, up 2m54s
  Operator:      connected for 2m54s
  Revision:      10 in force
  Endpoints:     4 ready
  In force:      1 policy, 5 identities, 5 services
  Programs:      on 4 workloads (tcx), kernel 6.18.4
  Connections:   12 now, 2,000 expired
  Flows:         Current/Max Flows: 6/4095 (0.15%), Flows/s: 0.10
  DNS:           10.96.0.10, fd00:10:96::a
  Pod start:     not guarded
  Memory:        36.4 MiB anonymous, 67.5 MiB resident"""


def shown(verbose: bool = False, **changed: Any) -> str:
    return "\n".join(node_status.lines("node-1", {**NODE, **changed}, verbose, NOW))


def test_a_node_that_is_well_says_only_what_there_is_to_say() -> None:
    assert shown() == WELL


def test_what_is_wrong_comes_first() -> None:
    lines = shown(
        ok=False,
        problems=["the disk is full"],
        refused=[{"resource": "shop/web", "reason": "no room"}],
        warnings=["map ct is 95% full"],
    ).splitlines()
    assert lines[0] == "Node node-1:     NOT OK   0.1.0, up 2m54s"
    assert lines[1:4] == [
        "  PROBLEM: the disk is full",
        "  REFUSED: shop/web: no room",
        "  warning: map ct is 95% full",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"operator": {"connected": False, "since": 940.0, "reconnects": 2, "problem": "refused"}},
            "  Operator:      NOT CONNECTED: the last snapshot stays in force for 1m0s, 2 reconnects; refused",
        ),
        ({"revision": {"in_force": 9, "held": 10}}, "  Revision:      9 in force, 10 held and not yet in force"),
        ({"endpoints": {"total": 3, "ready": 2, "waiting": 1}}, "  Endpoints:     2 ready, 1 waiting"),
        ({"kernel": {"release": "5.15", "missing": ["tcx"]}}, "kernel 5.15, which LACKS tcx"),
        ({"conntrack": {"entries": 9, "expired": 0, "evicted": 7}}, "7 EVICTED by newer ones"),
        ({"snapshot_file": {"failed": 2, "problem": "no space"}}, "  Snapshot file: no space; 2 writes FAILED"),
        ({"flows": {**NODE["flows"], "lost": {"kernel_ring": 5}}}, "Lost: 5 (kernel ring)"),
    ],
)
def test_trouble_is_in_the_line_it_belongs_to(changed: dict[str, Any], line: str) -> None:
    assert line in shown(**changed)


def test_a_daemon_that_says_less_is_shown_as_far_as_it_goes() -> None:
    assert node_status.lines("n", {"ok": True}, True) == ["Node n:          OK"]


def test_verbose_has_the_maps_and_the_counters() -> None:
    lines = shown(verbose=True).splitlines()
    assert lines[-2:] == [
        "  map ct               250,000 of 262,144 (95.4%)  NEARLY FULL",
        "  counter event_lost   3",
    ]


def operator(**fields: Any) -> control_pb2.StatusReply:
    nodes = [control_pb2.NodeStatus(name="node-1", connected=True, acknowledged=4)]
    return control_pb2.StatusReply(
        **{"version": "0.1.0", "revision": 4, "nodes": nodes, "counts": {"Pod": 2}, **fields}
    )


BAD = control_pb2.Problem(
    file="p.yaml", line=3, object="CiliumNetworkPolicy a/b", path="spec.x", reason="unknown field"
)
MILD = control_pb2.Problem(file="p.yaml", object="Pod a/b", reason="odd", warning=True)


def test_the_operator_and_what_it_refused() -> None:
    assert status.operator_lines(operator(problems=[MILD, BAD])) == [
        "Operator:        NOT OK   0.1.0, revision 4",
        "  REFUSED: p.yaml:3: CiliumNetworkPolicy a/b: spec.x: unknown field",
        "  warning: p.yaml: Pod a/b: odd",
        "  Nodes:         1/1 connected",
        "  Objects:       Pod 2",
    ]


AWAY = control_pb2.NodeStatus(name="node-2", connected=False, acknowledged=4)


@pytest.mark.parametrize(
    ("reply", "nodes", "well"),
    [
        pytest.param(operator(), {"node-1": NODE}, True, id="all is well"),
        pytest.param(None, {"": NODE}, True, id="the operator is elsewhere"),
        pytest.param(operator(problems=[MILD]), {"node-1": NODE}, True, id="a warning is no error"),
        pytest.param(operator(problems=[BAD]), {"node-1": NODE}, False, id="a refused document"),
        pytest.param(operator(nodes=[AWAY]), {"node-1": NODE}, False, id="a node that is away"),
        pytest.param(operator(), {"node-1": {**NODE, "ok": False}}, False, id="a node in trouble"),
        pytest.param(
            operator(),
            {"node-1": {**NODE, "refused": [{"resource": "x", "reason": "y"}]}},
            False,
            id="refused there",
        ),
        pytest.param(operator(), {}, False, id="no daemon"),
    ],
)
def test_the_exit_code_is_whether_all_is_well(
    reply: control_pb2.StatusReply | None, nodes: dict[str, Any], well: bool
) -> None:
    assert status.healthy(reply, nodes) == well


def test_many_kinds_take_several_lines_and_none_is_torn_from_its_number() -> None:
    lines = status.wrapped("  Objects:       ", [f"SomeLongKindOfObject{n} {n}" for n in range(9)])
    assert all(len(line) <= 112 and not line.rstrip(",").endswith("Object") for line in lines)
    assert len(lines) > 1 and lines[1].startswith(" " * 17 + "SomeLong")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m0s"), (3725, "1h2m"), (200000, "2d7h"), (-3, "0s")]
)
def test_a_span_of_time(seconds: float, text: str) -> None:
    assert units.span(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")])
def test_a_size(count: int, text: str) -> None:
    assert units.size(count) == text
