"""What the mesh tells of its requests, on two live nodes: metrics read by a real Prometheus, traces by a collector,
the access log, flows, and what people see in a terminal.

`near` is a server on node-1, `far` on node-2, both behind routes; `judged` is on node-2 and its own node's proxy
judges what comes to it, so that a request from node-1 goes through two proxies.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import prometheus
from mesh_lab import EXAMPLES, HERE, Mesh, Reply, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

NAME = "wt-telemetry"
ZIPKIN = "http://zipkin.istio-system:9411/spans"
COLLECTOR = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: istio-system}}
---
apiVersion: v1
kind: Pod
metadata: {{name: collector, namespace: istio-system, labels: {{app: collector}}}}
spec:
  nodeName: node-2
  containers:
  - name: c
    command: {json.dumps([sys.executable, str(HERE / "collector.py")])}
    ports: [{{containerPort: 9411}}]
    readinessProbe: {{tcpSocket: {{port: 9411}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: zipkin, namespace: istio-system}}
spec:
  selector: {{app: collector}}
  ports: [{{name: zipkin, port: 9411}}, {{name: otlp-http, port: 4318}}, {{name: otlp-grpc, port: 4317}}]
"""
JUDGED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: judged}
spec:
  endpointSelector: {matchLabels: {app: judged}}
  ingress:
  - toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{path: "/open.*"}]}
"""
BUCKETS = {
    *("0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000"),
    *("300000", "600000", "1800000", "3600000", "+Inf"),
}
STAT = ("NAME", "MESHED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN")
TOP = ("Source", "Destination", "Method", "Path", "Count", "Best", "Worst", "Last", "Success_Rate")


def route(host: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: {host}}}}}]}}]}}
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    pods = [
        Mesh.pod("near", 1, app="near", version="v1"),
        Mesh.pod("far", 2, app="far"),
        Mesh.pod("judged", 2, app="judged"),
    ]
    services = [Mesh.service(name) for name in ("near", "far", "judged")]
    routes = [route(name) for name in ("near", "far", "judged")]
    with running(NAME, *pods, *services, *routes, COLLECTOR, JUDGED) as mesh:
        yield mesh


def settings(text: str) -> str:
    """A MeshConfig."""
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
{"".join(f"    {line}" + chr(10) for line in text.strip().splitlines())}"""


# --- metrics ---


def queries() -> list[str]:
    lines = (EXAMPLES / "s2-queries.promql").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_a_real_prometheus_answers_the_queries_that_people_copy(mesh: Mesh, tmp_path: Path) -> None:
    """80 requests, of which 20 fail and all take 50 ms; rates are over five minutes."""
    near, far = (f"{name}.default.svc.cluster.local" for name in ("near", "far"))
    for client, host in (("client", "near"), ("client-far", "far")):  # so that the series are there
        mesh.get(client, f"http://{host}/?delay=0.05")
        mesh.get(client, f"http://{host}/?delay=0.05&status=500")
    targets = ["172.30.0.1:9962", "172.30.0.2:9962"]
    with prometheus.running(f"{NAME}-node-1", targets, tmp_path) as server:
        server.wait_for("istio_requests_total", 8)
        time.sleep(2.5)
        slowest = {near: 0.0, far: 0.0}  # milliseconds, as their clients saw it
        for client, host in (("client", near), ("client-far", far)):
            replies = mesh.get(client, f"http://{host}/?delay=0.05", count=60, concurrency=4)
            replies += mesh.get(client, f"http://{host}/?delay=0.05&status=500", count=20, concurrency=4)
            slowest[host] = 1000 * max(reply.seconds for reply in replies)
        time.sleep(3)
        rate, errors, p99 = ({row[0]["destination_service"]: row[1] for row in server.query(q)} for q in queries())
        counted = dict.fromkeys((near, far), 0.0)
        for labels, value in server.query('istio_requests_total{reporter="source"}'):
            counted[labels["destination_service"]] += value
        buckets = server.query("istio_request_duration_milliseconds_bucket")
    for host in (near, far):
        assert counted[host] == 82
        # Prometheus extrapolates to the range's ends by up to a scrape's distance at each.
        assert 80 / 300 * 0.95 <= rate[host] <= 80 / 300 * 1.4, rate
        assert errors[host] == pytest.approx(0.25, abs=0.02)
        # A proxy that waits for a processor reads its clock late: up to twice of what its clients saw is plausible.
        above = min(bound for bound in map(float, BUCKETS) if bound >= 2 * slowest[host])
        assert 50 < p99[host] <= above, p99
    assert {labels["reporter"] for labels, _ in buckets} == {"source", "destination"}
    assert {labels["le"] for labels, _ in buckets} == BUCKETS


def test_series_bear_istios_labels_for_both_reporters(mesh: Mesh) -> None:
    mesh.get("client", "http://far/labelled", count=3)
    found = {}
    for node in (1, 2):
        for family in text_string_to_metric_families(mesh.metrics(node)):
            for sample in family.samples:
                labels = sample.labels
                ours = labels.get("source_workload") == "client" and labels.get("destination_workload") == "far"
                if sample.name == "istio_requests_total" and ours and labels["response_code"] == "200":
                    found[labels["reporter"]] = labels
    expected = {
        "source_workload": "client", "source_workload_namespace": "default", "source_app": "client",
        "source_version": "unknown", "source_canonical_service": "client", "source_canonical_revision": "latest",
        "source_cluster": "Kubernetes", "source_principal": "unknown", "destination_workload": "far",
        "destination_workload_namespace": "default", "destination_app": "far", "destination_version": "unknown",
        "destination_canonical_service": "far", "destination_canonical_revision": "latest",
        "destination_cluster": "Kubernetes", "destination_principal": "unknown",
        "destination_service": "far.default.svc.cluster.local", "destination_service_name": "far",
        "destination_service_namespace": "default", "request_protocol": "http", "response_code": "200",
        "response_flags": "-", "grpc_response_status": "",
    }  # fmt: skip
    assert found["source"] == expected | {"reporter": "source", "connection_security_policy": "unknown"}
    assert found["destination"] == expected | {"reporter": "destination", "connection_security_policy": "none"}


@pytest.mark.parametrize("client", ["client", "client-far"])
def test_a_request_through_two_proxies_is_reported_once_by_each_side(mesh: Mesh, client: str) -> None:
    which = {"source_workload": client, "destination_workload": "judged"}
    sides = ("source", "destination")
    before = {side: mesh.total("istio_requests_total", reporter=side, **which) for side in sides}
    assert {reply.status for reply in mesh.get(client, "http://judged/open", count=25)} == {200}
    after = {side: mesh.total("istio_requests_total", reporter=side, **which) for side in sides}
    assert {side: after[side] - before[side] for side in sides} == {"source": 25, "destination": 25}


# --- traces ---


class Spans:
    """What the collector holds, by trace."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        mesh.one("client", ZIPKIN, method="DELETE")

    def now(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for span in self._mesh.one("client", ZIPKIN).json["spans"]:
            found.setdefault(span["traceId"], []).append(span)
        return found

    def settled(self, seconds: float = 2.5) -> dict[str, list[dict[str, Any]]]:
        """Spans go once a second."""
        time.sleep(seconds)
        return self.now()


@pytest.fixture
def traced(mesh: Mesh) -> Iterator[Spans]:
    text = mesh.example("s2-tracing.yaml")
    mesh.apply(text)
    yield Spans(mesh)
    mesh.delete(text)


def test_a_tenth_of_the_traces_reaches_the_collector(mesh: Mesh, traced: Spans) -> None:
    replies = mesh.get("client", "http://near/", count=1000, concurrency=2)
    replies += mesh.get("client-far", "http://near/", count=1000, concurrency=2)
    assert Counter(reply.status for reply in replies) == {200: 2000}
    sampled = {
        reply.seen["traceparent"].split("-")[1] for reply in replies if reply.seen["traceparent"].endswith("01")
    }
    spans = until(lambda: (now := traced.now()).keys() >= sampled and now, "the spans")
    assert spans.keys() == sampled, "those whose header says so, and no others"
    assert abs(len(sampled) - 200) <= 3 * math.sqrt(2000 * 0.1 * 0.9)


ONE, TWO = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FLAGS = [
    ("w3c sampled", {"traceparent": f"00-{ONE}-{TWO}-01"}, True),
    ("w3c not sampled", {"traceparent": f"00-{ONE}-{TWO}-00"}, False),
    ("b3 sampled", {"b3": f"{ONE}-{TWO}-1"}, True),
    ("b3 not sampled", {"b3": "0"}, False),
    ("b3 debug", {"b3": f"{ONE}-{TWO}-d"}, True),
    ("x-b3 sampled", {"x-b3-traceid": ONE, "x-b3-spanid": TWO, "x-b3-sampled": "1"}, True),
    ("x-b3 not sampled", {"x-b3-traceid": ONE, "x-b3-spanid": TWO, "x-b3-sampled": "0"}, False),
]


@pytest.mark.parametrize(("headers", "kept"), [row[1:] for row in FLAGS], ids=[row[0] for row in FLAGS])
def test_a_decision_that_was_made_before_wins(
    mesh: Mesh, traced: Spans, headers: dict[str, str], kept: bool
) -> None:
    replies = mesh.get("client", "http://near/decided", headers, count=30)
    if kept:
        spans = until(
            lambda: len((now := traced.now()).get(ONE, [])) >= 60 and now, "30 client and 30 server spans"
        )
        assert list(spans) == [ONE] and len(spans[ONE]) == 60
    else:
        assert traced.settled(1.5) == {}
    seen = replies[0].seen
    assert headers.keys() <= seen.keys(), "written as it was read"
    assert (ONE in str(seen)) is (headers != {"b3": "0"})


def linked(spans: list[dict[str, Any]], reply: Reply) -> None:
    """caller -> client span -> server span -> what the server was told."""
    (client,) = (span for span in spans if span["kind"] == "CLIENT")
    (server,) = (span for span in spans if span["kind"] == "SERVER")
    assert client["parentId"] == TWO
    assert server["parentId"] == client["id"]
    assert reply.seen["traceparent"] == f"00-{ONE}-{server['id']}-01"


@pytest.mark.parametrize(
    ("client", "host"),
    [("client", "near"), ("client", "far"), ("client", "judged"), ("client-far", "judged"), ("client-far", "near")],
    ids=lambda name: name,
)
def test_client_and_server_spans_are_linked(mesh: Mesh, traced: Spans, client: str, host: str) -> None:
    reply = mesh.one(client, f"http://{host}/open", {"traceparent": f"00-{ONE}-{TWO}-01", "x-request-id": "mine"})
    assert reply.status == 200
    spans = until(lambda: len(traced.now().get(ONE, [])) >= 2 and traced.settled(1.2), "two spans")
    linked(spans[ONE], reply)
    for span in spans[ONE]:
        tags = span["tags"]
        assert tags["http.method"] == "GET" and tags["http.status_code"] == "200" and tags["component"] == "proxy"
        assert tags["guid:x-request-id"] == "mine" == reply.seen["x-request-id"]
        own = client if span["kind"] == "CLIENT" else host
        assert tags["istio.canonical_service"] == f"{own}.default"


@pytest.mark.parametrize(
    ("provider", "via"),
    [
        ("{service: zipkin.istio-system.svc.cluster.local, port: 4317}", "grpc"),
        (
            "{service: istio-system/zipkin.istio-system.svc.cluster.local, port: 4318, "
            "http: {path: /v1/traces, headers: [{name: x-tenant, value: shop}]}}",
            "http shop",
        ),
    ],
    ids=["grpc", "http"],
)
def test_an_otlp_provider_of_the_meshconfig_gets_the_spans(mesh: Mesh, provider: str, via: str) -> None:
    texts = (
        settings(f"extensionProviders:\n- name: ours\n  opentelemetry: {provider}"),
        mesh.example("s2-tracing.yaml").replace("jaeger", "ours").replace("10.0", "100"),
    )
    mesh.apply(*texts)
    try:
        traced = Spans(mesh)
        reply = mesh.one("client", "http://far/otlp", {"traceparent": f"00-{ONE}-{TWO}-01"})
        spans = until(lambda: len(found := traced.now().get(ONE, [])) >= 2 and found, "two spans")
        assert {span["via"] for span in spans} == {via}
        linked(spans, reply)
    finally:
        mesh.delete(*texts)


# --- the access log ---

DEFAULT = re.compile(
    r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET (?P<path>\S+) HTTP/1\.1" (?P<code>\d+) (?P<flags>\S+) '
    r'(?P<details>\S+) - "-" 0 (?P<sent>\d+) \d+ (?P<service_time>\d+|-) "(?P<xff>\S+)" "(?P<agent>[^"]*)" '
    r'"(?P<id>[^"]+)" "(?P<authority>[^"]+)" "(?P<upstream>[^"]+)" (?P<cluster>\S+) (?P<up_local>\S+) '
    r"(?P<down_local>\S+) (?P<down_remote>\S+) - (?P<route>\S+)"
)


def log_lines(mesh: Mesh, node: int, mark: str) -> list[str]:
    told = mesh.weft("proxy", "log", "--node", f"node-{node}", "--tail", "200")
    return [line for line in told.splitlines() if mark in line]


def test_the_access_log_is_istios_default_line(mesh: Mesh) -> None:
    text = settings("accessLogFile: /dev/stdout")
    mesh.apply(text)
    try:
        mesh.get("client", "http://near/logged?status=503", {"user-agent": "curl/8", "x-request-id": "r-1"})
        lines = until(lambda: log_lines(mesh, 1, "/logged"), "the line")
        found = [DEFAULT.fullmatch(line) for line in lines]
        assert all(found) and len(lines) == 2, lines
        one = found[0]
        assert one is not None
        assert (one["code"], one["flags"], one["details"]) == ("503", "-", "via_upstream")
        assert (one["agent"], one["id"], one["authority"]) == ("curl/8", "r-1", "near")
        assert one["cluster"].endswith("near.default.svc.cluster.local")
        own = mesh.weft("local", "exec", "client", "--", "hostname", "-I").split()
        assert one["down_remote"].rpartition(":")[0].strip("[]") in own
    finally:
        mesh.delete(text)
    mesh.get("client", "http://near/unlogged")
    time.sleep(0.5)
    assert not log_lines(mesh, 1, "/unlogged")


def test_the_access_log_as_json_of_those_that_a_filter_wants(mesh: Mesh) -> None:
    telemetry = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: errors}
spec:
  accessLogging: [{providers: [{name: envoy}], filter: {expression: "response.code >= 400"}}]
"""
    texts = (settings("accessLogFile: /dev/stdout\naccessLogEncoding: JSON"), telemetry)
    mesh.apply(*texts)
    try:
        mesh.get("client", "http://near/picked")
        mesh.get("client", "http://near/picked?status=404")
        lines = until(lambda: log_lines(mesh, 1, "/picked"), "the line")
        time.sleep(0.5)
        assert [json.loads(line)["response_code"] for line in log_lines(mesh, 1, "/picked")] == [404] * len(lines)
        told = json.loads(lines[0])
        assert told["method"] == "GET" and told["authority"] == "near" and told["response_flags"] in (None, "-")
    finally:
        mesh.delete(*texts)


# --- flows ---


@pytest.fixture(scope="module")
def requests_made(mesh: Mesh) -> list[str]:
    mesh.get("client", "http://near/flow/ok", {"user-agent": "flows/1"})
    mesh.get("client", "http://near/flow/broken?status=503", {"user-agent": "flows/2"})
    mesh.get("client", "http://near/flow/missing?status=404", method="POST")
    assert mesh.one("client-far", "http://judged/closed").status == 403
    time.sleep(0.5)
    return []


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        (["--http-status", "5+"], {"/flow/broken?status=503"}),
        (["--http-status", "404"], {"/flow/missing?status=404"}),
        (["--http-method", "POST"], {"/flow/missing?status=404"}),
        (["--http-path", "/flow/o.*"], {"/flow/ok"}),
        (["--http-header", "user-agent:flows/1"], {"/flow/ok"}),
        (["--http-status", "4+", "--verdict", "FORWARDED"], {"/flow/missing?status=404"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_observe_picks_requests(mesh: Mesh, requests_made: list[str], filters: list[str], paths: set[str]) -> None:
    flows = mesh.flows("--type", "l7", "--pod", "default/client", *filters)
    found = {flow["l7"]["http"]["url"].partition("//")[2].partition("/")[2] for flow in flows}
    assert {f"/{path}" for path in found if path.startswith("flow")} == paths


def test_a_denied_request_says_which_policy_denied_it(mesh: Mesh, requests_made: list[str]) -> None:
    flows = mesh.flows("--type", "l7", "--verdict", "DROPPED", "--to-pod", "default/judged")
    (denied,) = (flow for flow in flows if flow["traffic_direction"] == "INGRESS")
    assert denied["l7"]["type"] == "REQUEST" and denied["l7"]["http"]["url"] == "http://judged/closed"
    assert denied["source"]["pod_name"] == "client-far" and denied["destination"]["pod_name"] == "judged"
    (policy,) = denied["ingress_denied_by"]
    assert (policy["kind"], policy["name"]) == ("CiliumNetworkPolicy", "judged")


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("compact", r"default/client:\d+ .*-> default/near:8080 .*http-request FORWARDED \(HTTP/1\.1 GET http://near\S*/flow/ok\)"),
        ("dict", r"SUMMARY: HTTP/1\.1 200 \d+ms \(GET http://near\S*/flow/ok\)"),
        ("json", r'"url":\s*"http://near\S*/flow/ok"'),
    ],
    ids=["compact", "dict", "json"],
)  # fmt: skip
def test_requests_in_every_form(mesh: Mesh, requests_made: list[str], form: str, pattern: str) -> None:
    told = mesh.weft("observe", "--type", "l7", "--http-path", "/flow/ok", "--last", "50", "-o", form)
    assert re.search(pattern, told), told


def test_hubbles_metrics_count_requests(mesh: Mesh, requests_made: list[str]) -> None:
    families = {family.name: family for family in text_string_to_metric_families(mesh.metrics(1))}
    assert any(sample.labels["status"] == "503" for sample in families["hubble_http_requests"].samples)
    assert families["hubble_http_request_duration_seconds"].samples


# --- in the terminal ---


def test_stat_tells_what_was_counted(mesh: Mesh) -> None:
    """Nobody else asks `judged` from node-1 in these seconds."""
    mesh.get("client", "http://judged/open", count=30)
    mesh.get("client", "http://judged/open?status=500", count=10)
    header, *rows = mesh.weft("stat", "po", "--from", "po/client", "-t", "5s").splitlines()
    assert header.split() == [
        "NAME",
        "MESHED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "TCP_CONN",
    ]
    (row,) = (row.split() for row in rows if row.startswith("judged "))
    assert row[:3] == ["judged", "1/1", "75.00%"]
    assert 2 < float(row[3].removesuffix("rps")) <= 40
    told = json.loads(mesh.weft("stat", "svc/judged", "-o", "json"))
    assert told[0]["kind"] == "svc" and 0 < told[0]["latency_ms_p50"] <= told[0]["latency_ms_p99"]


def test_stat_of_a_split(mesh: Mesh) -> None:
    split = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: both}
spec:
  service: apex
  backends: [{service: near, weight: 50}, {service: far, weight: 50}]
"""
    texts = (Mesh.service("apex", app="near"), split)
    mesh.apply(*texts)
    try:
        mesh.get("client-far", "http://apex/", count=40)
        header, *rows = mesh.weft("stat", "ts", "--from", "po/client-far", "-t", "10s").splitlines()
        assert header.split()[:5] == ["NAME", "APEX", "LEAF", "WEIGHT", "SUCCESS"]
        cells = [row.split() for row in rows]
        assert [row[:4] for row in cells] == [["both", "apex", "near", "50"], ["both", "apex", "far", "50"]]
        assert {row[4] for row in cells} == {"100.00%"}
    finally:
        mesh.delete(*texts)


def _interruptible() -> None:
    """In the background of a shell Ctrl-C is turned off for whatever is started there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def looking(mesh: Mesh, *words: str, meanwhile: Callable[[], object]) -> tuple[str, str, int]:
    """What a command that goes on until Ctrl-C prints while something happens."""
    weft = str(Path(sys.executable).with_name("weft"))
    environment = {**os.environ, "WEFT_RUN_DIR": f"/run/{NAME}"}
    process = subprocess.Popen(
        [weft, *words], env=environment, stdout=-1, stderr=-1, text=True, preexec_fn=_interruptible
    )
    try:
        time.sleep(1.5)
        meanwhile()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    return out, err, process.returncode


def test_tap_prints_each_request_and_ends_cleanly(mesh: Mesh) -> None:
    def ask() -> None:
        mesh.get("client", "http://near/tapped?status=404", count=2)
        mesh.get("client", "http://near/other")

    out, err, code = looking(mesh, "tap", "po/near", "--path", "/tapped", meanwhile=ask)
    assert (code, err) == (0, "")
    kinds = [line.split(" ", 1)[0] for line in out.splitlines()]
    assert kinds == ["req", "rsp", "end"] * 2, out
    request, response, end = out.splitlines()[:3]
    number = r"id=0:\d+ proxy=out src=\S+ dst=\S+:8080 tls=no_identity"
    assert re.fullmatch(rf"req {number} :method=GET :authority=near :path=/tapped\?status=404", request)
    assert re.fullmatch(rf"rsp {number} :status=404 latency=\d+µs", response)
    assert re.fullmatch(rf"end {number} duration=\d+µs response-length=\d+B", end)


def test_tap_tells_what_was_too_much(mesh: Mesh) -> None:
    out, err, code = looking(
        mesh, "tap", "--to", "po/near", "--max-rps", "5", "-o", "json",
        meanwhile=lambda: mesh.get("client", "http://near/much", count=300),
    )  # fmt: skip
    assert code == 0 and re.search(r"2\d\d requests not told", err), err
    assert all(json.loads(line)["proxyDirection"] == "OUTBOUND" for line in out.splitlines())


def test_top_counts_requests_by_path_once(mesh: Mesh) -> None:
    def ask() -> None:
        mesh.get("client", "http://judged/open/top", count=20)
        mesh.get("client", "http://judged/open/top?status=500", count=20)

    out, _, code = looking(mesh, "top", "--max-rps", "1000", "--duration", "30s", meanwhile=ask)
    header, *rows = out.splitlines()
    assert code == 0
    assert header.split() == [
        "Source",
        "Destination",
        "Method",
        "Path",
        "Count",
        "Best",
        "Worst",
        "Last",
        "Success_Rate",
    ]
    (row,) = (row.split() for row in rows if "/open/top" in row)
    assert row[:5] == ["client", "judged", "GET", "/open/top", "40"] and row[-1] == "50.00%"


def test_edges_name_both_ends(mesh: Mesh) -> None:
    mesh.get("client-far", "http://near/")
    rows = [line.split() for line in mesh.weft("edges").splitlines()]
    assert rows[0] == ["SRC", "DST", "SRC_NS", "DST_NS", "SECURED"]
    assert ["client-far", "near", "default", "default", "no_identity"] in rows
