"""`weft tap` and `weft top`: lines and tables of records, and a stream from a daemon of our own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from weft.daemon.cli import tap, taps, top
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.main import main
from weft.policies.wire.pb import node_pb2, node_pb2_grpc

WEB = {"namespace": "shop", "pod": "web-1", "workload": "web", "kind": "Deployment"}
ORDERS = {"namespace": "shop", "pod": "orders-1", "workload": "orders", "kind": "Deployment"}


def record(**fields: Any) -> dict[str, Any]:
    """A request that is over, 5 ms long, its response's head after 3."""
    told: dict[str, Any] = {
        "id": (7 << 32) + 4, "egress": True, "source_ip": "10.0.0.1", "source_port": 4000, "upstream_ip": "fd00::3",
        "upstream_port": 8080, "destination_ip": "10.96.0.1", "destination_port": 80, "method": "GET",
        "authority": "orders", "path": "/a?b", "scheme": "http", "protocol": "HTTP/1.1", "status": 200,
        "duration_ns": 5_000_000, "latency_ns": 3_000_000, "response_bytes": 12, "source": WEB,
        "destination": ORDERS, "flags": "-",
    }  # fmt: skip
    return {key: value for key, value in {**told, **fields}.items() if value is not None}


def start(**fields: Any) -> dict[str, Any]:
    return record(start=True, status=None, duration_ns=None, latency_ns=None, upstream_ip=None, **fields)


FLOW = "proxy=out src=10.0.0.1:4000 dst=[fd00::3]:8080 tls=no_identity"


def test_a_request_is_three_lines() -> None:
    teller = tap.Teller()
    (begun,) = teller.lines(start())
    assert begun == (
        "req id=0:4 proxy=out src=10.0.0.1:4000 dst=10.96.0.1:80 tls=no_identity"
        " :method=GET :authority=orders :path=/a?b"
    )
    assert [*teller.lines(record())] == [
        f"rsp id=0:4 {FLOW} :status=200 latency=3000µs",
        f"end id=0:4 {FLOW} duration=2000µs response-length=12B",
    ]


def test_an_end_that_comes_alone_brings_its_beginning() -> None:
    assert [line[:3] for line in tap.Teller().lines(record())] == ["req", "rsp", "end"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": None, "flags": "UC"}, "reset-error=UC duration=5000µs response-length=12B"),
        ({"grpc_status": 14, "grpc": True}, "grpc-status=Unavailable duration=2000µs response-length=12B"),
        ({"latency_ns": None, "status": 503}, "duration=0µs response-length=12B"),
    ],
    ids=["no response", "gRPC", "an answer of the proxy's own"],
)
def test_ends(fields: dict[str, Any], said: str) -> None:
    *_, last = tap.Teller().lines(record(**fields))
    assert last == f"end id=0:4 {FLOW} {said}"


def test_workers_have_numbers_of_their_own() -> None:
    teller = tap.Teller()
    ids = [
        next(teller.lines(record(id=number))).split()[1] for number in ((9 << 32) + 1, (3 << 32) + 1, (9 << 32) + 2)
    ]
    assert ids == ["id=0:1", "id=1:1", "id=0:2"]


def test_wide_says_who_they_are() -> None:
    line = next(tap.Teller(wide=True).lines(record(route="shop/orders", egress=False)))
    assert "proxy=in " in line
    assert line.endswith(
        " src_res=deployment/web src_pod=web-1 src_ns=shop dst_res=deployment/orders dst_pod=orders-1 dst_ns=shop"
        " rt_route='shop/orders'"
    )


def test_json_is_an_event_a_line() -> None:
    events = [json.loads(line) for line in tap.Teller().objects(record())]
    assert [sorted(event.keys() - {"source", "destination", "proxyDirection"}) for event in events] == [
        ["requestInitEvent"], ["responseInitEvent"], ["responseEndEvent"],
    ]  # fmt: skip
    assert events[0]["requestInitEvent"]["path"] == "/a?b" and events[1]["responseInitEvent"]["httpStatus"] == 200
    assert events[2]["responseEndEvent"]["sinceResponseInit"] == {"seconds": 0, "nanos": 2_000_000}
    assert events[0]["source"] == {"ip": "10.0.0.1", "port": 4000, "metadata": WEB}
    assert events[0]["destination"]["metadata"] == ORDERS


def test_connections_are_no_requests() -> None:
    teller = tap.Teller()
    assert not [*teller.lines(record(protocol="TCP")), *teller.objects(record(protocol="TCP"))]


# --- top ---


def test_top_adds_up_by_path_without_query() -> None:
    table = top.Table()
    for duration, status in ((3, 200), (1, 200), (2, 500)):
        table.add(record(duration_ns=duration * 1_000_000, status=status, path=f"/a?{duration}"))
    table.add(record(path="/b", duration_ns=400_000))
    table.add(start())
    header, *rows = (line.split() for line in table.shown().splitlines())
    assert header == [*top.HEADER]
    assert rows == [
        ["web-1", "orders-1", "GET", "/a", "3", "1ms", "3ms", "2ms", "66.67%"],
        ["web-1", "orders-1", "GET", "/b", "1", "400µs", "400µs", "400µs", "100.00%"],
    ]


def test_a_request_of_two_proxies_counts_once() -> None:
    table = top.Table()
    table.add(record())
    table.add(record(egress=False, source_port=61234))
    table.add(record(egress=False, source_port=40000))  # only this one carried it
    table.add(record(egress=False, source_port=61234, source={}, source_ip="192.0.2.1"))  # an outsider's
    assert sorted(row.count for row in table.rows.values()) == [1, 2]


def test_top_is_bounded_and_keeps_the_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "MOST", 3)
    table = top.Table(hide_sources=True)
    for path in ("/a", "/a", "/b", "/b", "/c", "/d", "/d"):
        table.add(record(path=path))
    assert {path for _, _, _, path in table.rows} == {"/a", "/b", "/d"}
    assert {source for source, *_ in table.rows} == {"-"}


@pytest.mark.parametrize(
    ("fields", "good"),
    [({}, True), ({"status": 404}, True), ({"status": 500}, False), ({"status": None}, False),
     ({"grpc_status": 5}, True), ({"grpc_status": 13}, False)],
)  # fmt: skip
def test_successes(fields: dict[str, Any], good: bool) -> None:
    assert top.succeeded(record(**fields)) is good


# --- whom it is about ---


def options(**given: Any) -> argparse.Namespace:
    defaults: dict[str, Any] = {
        "from": "", "from_namespace": "", "to": "", "to_namespace": "", "resource": [], "namespace": "shop",
        "all_namespaces": False,
    }  # fmt: skip
    return argparse.Namespace(**{**defaults, **given})


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({}, [("shop/", ""), ("", "shop/")]),
        ({"all_namespaces": True}, [("", "")]),
        ({"resource": ["deploy", "web"]}, [("shop/web", ""), ("", "shop/web")]),
        ({"resource": ["ns/lab"]}, [("lab/", ""), ("", "lab/")]),
        ({"resource": ["deploy/web"], "to": "svc/orders"}, [("shop/web", "shop/orders")]),
        ({"to": "svc/orders", "to_namespace": "lab"}, [("", "lab/orders")]),
        ({"from": "po/x", "to": "po/y"}, [("shop/x", "shop/y")]),
    ],
)
def test_calls_that_together_see_it(given: dict[str, Any], calls: list[tuple[str, str]]) -> None:
    assert taps.Wanted.read(options(**given)).calls() == calls


class Daemon(node_pb2_grpc.NodeServicer):
    """Tells each caller the same two requests, and that others were lost."""

    def __init__(self) -> None:
        self.asked: list[node_pb2.TapRequest] = []

    def Tap(self, request: node_pb2.TapRequest, context: grpc.ServicerContext) -> Iterator[node_pb2.TapReply]:
        self.asked.append(request)
        for number in (1, 2):
            yield node_pb2.TapReply(json=json.dumps(record(id=number)).encode(), lost=number)
        yield node_pb2.TapReply(lost=4)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    (tmp_path / "node-1").mkdir()
    server, told = grpc.server(futures.ThreadPoolExecutor(4)), Daemon()
    node_pb2_grpc.add_NodeServicer_to_server(told, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{tmp_path / 'node-1/daemon.sock'}")
    server.start()
    monkeypatch.setenv("WEFT_RUN_DIR", str(tmp_path))
    yield told
    server.stop(None).wait()


def test_tap_prints_what_two_calls_tell_once(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "deploy/web", "-n", "shop", "--method", "get", "--max-rps", "7"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [
        [kind, f"id=0:{number}"] for number in (1, 2) for kind in ("req", "rsp", "end")
    ]
    assert "7 requests not told" in err
    assert sorted((asked.source, asked.destination) for asked in daemon.asked) == [
        ("", "shop/web"),
        ("shop/web", ""),
    ]
    assert {(asked.method, asked.max_rate) for asked in daemon.asked} == {("GET", 7)}


def test_top_that_is_piped_is_one_table(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "-A"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[4] for line in out.splitlines()] == ["Count", "2"]
    assert "7 requests not counted" in err


def test_a_daemon_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_RUN_DIR", str(tmp_path))
    (tmp_path / "node-1").mkdir()
    (tmp_path / "node-1/daemon.sock").touch()
    parsed = options(method="", authority="", path="", max_rps=1, run_dir=str(tmp_path), node="")
    with pytest.raises(Failure, match=r"node-1/daemon\.sock"), taps.Stream(parsed) as stream:
        list(stream.records())
