"""`weft stat` and `weft edges`: tables from what daemons answer."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from weft.daemon.cli import client, stat, traffic
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.main import main
from weft.daemon.cli.resources import resource
from weft.policies.labels import Labels
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    Origin,
    Route,
    Rule,
    Subset,
)
from weft.policies.model import ObjectRef
from weft.policies.snapshot import AddressItem, ClusterPart, IdentityItem, NodeItem, ServiceItem

BOUNDS = [1.0, 10.0, 100.0]
HOST = "orders.shop.svc.cluster.local"


def address(number: int, pod: str, owner: str = "", node: str = "node-1", kind: str = "Deployment") -> AddressItem:
    workload = ("", "") if not owner else (kind, owner)
    return AddressItem(f"10.0.0.{number}", 256 + number, node, pod, (), *workload)


ADDRESSES = [
    address(1, "shop/web-1", "web"),
    address(2, "shop/web-2", "web", "outside"),
    address(3, "shop/orders-v1-a", "orders-v1"),
    address(4, "shop/orders-v2-a", "orders-v2"),
    address(5, "lab/client"),
    address(6, "shop/store-0", "store", kind="StatefulSet"),
]
SUBSETS = tuple(Subset(v, (("version", v),)) for v in ("v1", "v2"))
SPLIT = Rule(
    Origin("VirtualService", "shop", "canary", "spec.http[0]"),
    destinations=(Destination(HOST, subset="v1", weight=90), Destination(HOST, subset="v2", weight=10)),
)
WHOLE = Rule(Origin("VirtualService", "shop", "whole", "spec.http[0]"), destinations=(Destination(HOST),))
REF = ObjectRef("VirtualService", "shop", "canary")
CLUSTER = ClusterPart(
    identities={
        256 + n: IdentityItem(256 + n, Labels.k8s({"version": version})) for n, version in ((3, "v1"), (4, "v2"))
    },
    addresses={item.ip: item for item in ADDRESSES},
    nodes={"node-1": NodeItem("node-1", ("172.30.0.1",))},
    services={"shop/orders": ServiceItem("shop", "orders", "ClusterIP", ("10.96.0.1",), ())},
    routing={
        HOST: HostRouting(
            HOST,
            "shop/orders",
            (Route(REF, Dialect.ISTIO, (HOST,), http=(SPLIT, WHOLE)),),
            (DestinationPolicy(ObjectRef("DestinationRule", "shop", "orders"), HOST, subsets=SUBSETS),),
        )
    },
)


def labels(reporter: str, source: str, destination: str, code: str = "200", **more: str) -> dict[str, str]:
    (from_ns, from_name), (to_ns, to_name) = source.split("/"), destination.split("/")
    return {
        "reporter": reporter, "source_workload_namespace": from_ns, "source_workload": from_name,
        "destination_workload_namespace": to_ns, "destination_workload": to_name, "response_code": code,
        "destination_service": HOST, "destination_service_name": "orders", "destination_service_namespace": "shop",
        "request_protocol": "http", **more,
    }  # fmt: skip


def window(seconds: float = 60.0, *requests: tuple[dict[str, str], float, list[int]]) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "families": {
            traffic.REQUESTS: {
                "type": "counter", "bounds": [],
                "series": [{"labels": who, "value": count} for who, count, _ in requests],
            },
            traffic.DURATION: {
                "type": "histogram", "bounds": BOUNDS,
                "series": [{"labels": who, "value": 0, "count": sum(b), "buckets": b} for who, _, b in requests],
            },
        },
    }  # fmt: skip


STORE = {"destination_service": "store", "destination_service_name": "store"}
#: 90 requests of web to orders-v1, of which 18 fail, told by both sides; 12 of the lab's client to orders-v2.
#: Of the 6 to the store its client's side alone has told.
ONE = window(
    60.0,
    (labels("source", "shop/web", "shop/orders-v1"), 72, [0, 72, 0, 0]),
    (labels("source", "shop/web", "shop/orders-v1", "503"), 18, [0, 0, 18, 0]),
    (labels("source", "shop/web", "shop/store") | STORE, 6, [6, 0, 0, 0]),
    (labels("destination", "shop/web", "shop/orders-v1"), 72, [0, 72, 0, 0]),
    (labels("destination", "shop/web", "shop/orders-v1", "503"), 18, [0, 0, 18, 0]),
)
TWO = window(
    30.0,
    (labels("source", "lab/client", "shop/orders-v2"), 12, [12, 0, 0, 0]),
    (labels("destination", "lab/client", "shop/orders-v2"), 12, [12, 0, 0, 0]),
)
FLAGS = ["seen_reply"]


def connection(local: str, remote: str, *flags: str, origin: str = "ingress") -> dict[str, Any]:
    return {"protocol": "TCP", "origin": origin, "local": local, "remote": remote, "flags": [*FLAGS, *flags]}


CONNECTIONS = [
    connection("10.0.0.3", "10.0.0.1"),
    connection("10.0.0.3", "10.0.0.5", "from_proxy"),
    connection("10.0.0.3", "10.0.0.5", "to_proxy"),  # its first half
    connection("10.0.0.3", "10.0.0.5", "fin_in"),
    connection("10.0.0.1", "10.0.0.3", origin="egress"),
    connection("10.0.0.4", "192.0.2.1"),
]


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        "metrics-window": {"node-1": ONE, "node-2": TWO},
        "conntrack": {"node-1": {"entries": CONNECTIONS, "more": False}, "node-2": {"entries": [], "more": False}},
    }
    monkeypatch.setattr(client, "query_all", lambda run_dir, node, what, arg="": asked[what])
    monkeypatch.setattr(traffic, "cast", lambda options: traffic.Cast(CLUSTER))


def table(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    assert main([*words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


GOLDEN = ["SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"]
QUIET = ["-"] * 5
QUICK = ["100.00%", "0.4rps", "500µs", "950µs", "990µs"]


def test_deployments_show_what_they_received(mesh: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, "stat", "deploy", "-n", "shop") == [
        ["NAME", "MESHED", *GOLDEN, "TCP_CONN"],
        ["orders-v1", "1/1", "80.00%", "1.5rps", "7ms", "78ms", "95ms", "2"],
        ["orders-v2", "1/1", *QUICK, "1"],
        ["web", "1/2", *QUIET, "0"],
    ]


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("sts -n shop", [["store", "1/1", *QUIET, "0"]]),
        ("sts -n shop --from deploy/web", [["store", "1/1", "100.00%", "0.1rps", *QUICK[2:], "0"]]),
        ("deploy/orders-v2 -n shop", [["orders-v2", "1/1", *QUICK, "1"]]),
        ("deploy web --to deploy/orders-v1 -n shop",
         [["web", "1/2", "80.00%", "1.5rps", "7ms", "78ms", "95ms", "1"]]),
        (
            "deploy/orders-v1 --from po/client --from-namespace lab -n shop",
            [["orders-v1", "1/1", *QUIET, "1"]],
        ),
        ("svc -n shop", [["orders", "-", "84.21%", "1.9rps", "6ms", "74ms", "95ms", "-"]]),
        ("svc -n shop --from ns/lab", [["orders", "-", *QUICK, "-"]]),
        ("po -n lab --to svc/orders --to-namespace shop",
         [["client", "1/1", *QUICK, "0"]]),
        ("ns", [["lab", "1/1", *QUIET, "0"], ["shop", "4/5", "84.21%", "1.9rps", "6ms", "74ms", "95ms", "3"]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rows(mesh: None, capsys: pytest.CaptureFixture[str], words: str, rows: list[list[str]]) -> None:
    assert table(capsys, "stat", *words.split())[1:] == rows


def test_pods_have_figures_where_they_are_alone(mesh: None, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row[0]: row for row in table(capsys, "stat", "po", "-n", "shop")}
    assert rows["orders-v1-a"][2] == "80.00%"
    assert rows["web-1"][1:3] == ["1/1", "-"] and rows["web-2"][1:3] == ["0/1", "-"]


def test_a_split_leaf_by_leaf(mesh: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, "stat", "ts", "-A") == [
        ["NAMESPACE", "NAME", "APEX", "LEAF", "WEIGHT", *GOLDEN],
        ["shop", "canary", "orders", "orders", "subset", "v1", "90", "80.00%", "1.5rps", "7ms", "78ms", "95ms"],
        ["shop", "canary", "orders", "orders", "subset", "v2", "10", *QUICK],
    ]


def test_json_has_linkerds_fields(mesh: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stat", "deploy/orders-v1", "-n", "shop", "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["success"], row["rps"], row["meshed"]) == (pytest.approx(0.8), pytest.approx(1.5), "1/1")
    assert row["latency_ms_p50"] == pytest.approx(1 + 9 * 45 / 72)
    assert row["tcp_open_connections"] == 2 and row["kind"] == "deploy"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("deploy/nobody -n shop", "no deploy nobody in namespace shop"),
        ("deploy -n void", "no deploy in namespace void"),
        ("gateway", "no kind 'gateway'"),
        ("deploy --to deploy/nobody -n shop", "no deploy/nobody in namespace shop"),
        ("deploy --to deploy/web --from deploy/web -n shop", "--from or --to, not both"),
        ("svc --to deploy/web -n shop", "a service receives"),
        ("deploy -t 11m", "from 1s to 10m are kept"),
        ("deploy -t soon", "invalid duration"),
        ("deploy/web web", "KIND, KIND NAME or KIND/NAME"),
    ],
)
def test_what_makes_no_sense(mesh: None, capsys: pytest.CaptureFixture[str], words: str, why: str) -> None:
    assert main(["stat", *words.split()]) in (1, 2)
    assert why in capsys.readouterr().err


def test_edges_name_both_ends(mesh: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, "edges", "-A") == [
        ["SRC", "DST", "SRC_NS", "DST_NS", "SECURED"],
        ["192.0.2.1", "orders-v2", "-", "shop", "no_identity"],
        ["client", "orders-v1", "lab", "shop", "no_identity"],
        ["web", "orders-v1", "shop", "shop", "no_identity"],
    ]
    assert table(capsys, "edges", "po", "-n", "shop")[3][:2] == ["web-1", "orders-v1-a"]
    assert len(table(capsys, "edges")) == 1, "nobody in default"


@pytest.mark.parametrize(
    ("code", "protocol", "grpc", "good"),
    [
        ("200", "http", "", True),
        ("404", "http", "", True),
        ("500", "http", "", False),
        ("503", "http", "", False),
        ("0", "http", "", False),
        ("200", "grpc", "0", True),
        ("200", "grpc", "5", True),
        ("200", "grpc", "14", False),
        ("200", "grpc", "2", False),
        ("503", "grpc", "", False),
    ],
)
def test_what_is_a_success(code: str, protocol: str, grpc: str, good: bool) -> None:
    told = {"response_code": code, "request_protocol": protocol, "grpc_response_status": grpc}
    assert traffic.succeeded(told) is good


def prometheus(share: float, bounds: list[float], buckets: list[int]) -> float:
    """histogram_quantile, as promql/quantile.go has it."""
    cumulative = [sum(buckets[: i + 1]) for i in range(len(buckets))]
    rank = share * cumulative[-1]
    at = next((i for i in range(len(buckets) - 1) if cumulative[i] >= rank), len(buckets) - 1)
    if at == len(buckets) - 1:
        return bounds[-1]
    start, end, count = 0.0, bounds[at], cumulative[at]
    if at > 0:
        start, count, rank = bounds[at - 1], count - cumulative[at - 1], rank - cumulative[at - 1]
    return start + (end - start) * (rank / count)


def test_quantiles_are_prometheus_own() -> None:
    draw = random.Random(7)
    for _ in range(500):
        bounds = sorted({draw.uniform(0.1, 1000) for _ in range(draw.randint(1, 19))})
        buckets = [draw.choice((0, 0, 1, 5, 100)) for _ in range(len(bounds) + 1)]
        share = draw.choice((0.5, 0.9, 0.95, 0.99, 0.999))
        found = traffic.quantile(share, bounds, buckets)
        if not sum(buckets):
            assert found is None
        else:
            assert found is not None and math.isclose(found, prometheus(share, bounds, buckets), rel_tol=1e-9)


def test_words_for_kinds() -> None:
    assert resource(["Deployments"]) == ("deploy", "")
    assert resource(["trafficsplit", "x"]) == ("ts", "x")
    assert resource(["pod/x"]) == ("po", "x")
    with pytest.raises(Failure):
        resource(["deploy/x", "y"])


def test_a_daemon_without_a_snapshot_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reply:
        update = b""

    monkeypatch.setattr(client, "daemons", lambda run_dir, node: {"node-1": Path("/nowhere")})
    monkeypatch.setattr(client, "call", lambda *words: Reply())
    options = type("Options", (), {"run_dir": "/run/x", "node": ""})
    with pytest.raises(Failure, match="no snapshot yet"):
        traffic.cast(options)  # type: ignore[arg-type]


def test_latencies_below_a_millisecond_are_told() -> None:
    assert [stat.latency(value) for value in (None, 0.25, 1.0, 12.6)] == ["-", "250µs", "1ms", "13ms"]
