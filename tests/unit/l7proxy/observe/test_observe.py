"""What is told of requests: ids, context, sums, log lines, spans, each from entries as the exchange fills them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from weft.l7proxy.core.ids import Ids
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Peer, Request
from weft.l7proxy.observe import context, telemetry
from weft.l7proxy.observe.accesslog import JsonLine, Line
from weft.l7proxy.observe.metrics import BOUNDS
from weft.l7proxy.observe.observer import MeshObserver, told
from weft.l7proxy.reports import Ring
from weft.policies.mesh.model import (
    AccessLogging,
    CustomTag,
    MeshSettings,
    MetricOverride,
    Metrics,
    Provider,
    TagOverride,
    Telemetry,
    Tracing,
)
from weft.policies.model import ObjectRef
from weft.policies.snapshot import ServiceItem
from weft.policies.wire.pb import proxy_pb2 as pb

CLIENT = Workload(
    "10.0.0.1", 300, "shop", "web-1", {"app": "web", "version": "v1"}, "Deployment", "web", local=True
)
SERVER = Workload("10.0.0.2", 301, "shop", "orders-1", {"app": "orders"}, "Deployment", "orders", local=True)
WORLD = Workload("192.0.2.1", 9)


@dataclass(eq=False)
class Backend:
    workload: Workload
    ip: str = "10.0.0.2"
    port: int = 8080


def entry(**fields: object) -> Entry:
    made = Entry(100.0, 1_700_000_000.0)
    made.client, made.endpoint = CLIENT, Backend(SERVER)
    made.method, made.path, made.authority, made.scheme = b"GET", b"/a?b=c", b"orders", b"http"
    made.cluster, made.host = "outbound|80||orders.shop.svc.cluster.local", "orders.shop.svc.cluster.local"
    made.service = made.destination = "shop/orders"
    made.source_port, made.destination_ip, made.destination_port = 40000, "10.96.0.9", 80
    made.status, made.ended = 200, 100.007
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Logs(dict[str, str]):
    def write(self, file: str, text: str) -> None:
        self[file] = self.get(file, "") + text


def observer(
    *declared: Telemetry,
    settings: MeshSettings | None = None,
    draw: float = 0.5,
    logs: Logs | None = None,
    tell: Callable[[object], None] = lambda item: None,
) -> MeshObserver:
    write = (logs if logs is not None else Logs()).write
    made = MeshObserver(lambda: draw, write, tell, {"ZONE": "eu"})
    made.settle(settings or MeshSettings(), declared)
    return made


def declared_telemetry(name: str = "t", namespace: str = "shop", **fields: object) -> Telemetry:
    return Telemetry(ObjectRef("Telemetry", namespace, name), **fields)  # type: ignore[arg-type]


def begin(made: MeshObserver, *headers: tuple[bytes, bytes], client: Workload = CLIENT) -> tuple[Request, Entry]:
    request, filled = Request(b"GET", b"/", b"orders", list(headers)), entry()
    made.begin(request, Peer((client.ip, 1), ("10.96.0.9", 80)), client, filled)
    return request, filled


def header(request: Request, name: bytes) -> bytes | None:
    return next((value for key, value in request.headers if key == name), None)


# ids and trace context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JAEGER = declared_telemetry(tracing=(Tracing(providers=("jaeger",), sampling_percent=10.0),))


def test_a_request_without_an_id_gets_one_and_one_with_an_id_keeps_it() -> None:
    request, filled = begin(observer())
    uuid = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(uuid, header(request, b"x-request-id") or b"")
    assert filled.request_id == header(request, b"x-request-id")
    request, filled = begin(observer(), (b"x-request-id", b"mine"))
    assert [value for name, value in request.headers if name == b"x-request-id"] == [b"mine"]


def test_ids_differ() -> None:
    ids = Ids()
    assert len({ids.request() for _ in range(5000)} | {ids.span() for _ in range(5000)}) == 10_000


READ = [
    ("w3c", {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}, (TRACE, SPAN, True, "w3c")),
    ("w3c, not sampled", {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode()}, (TRACE, SPAN, False, "w3c")),
    ("w3c of a later version", {b"traceparent": f"cc-{TRACE}-{SPAN}-01-what".encode()}, (TRACE, SPAN, True, "w3c")),
    ("w3c of version ff", {b"traceparent": f"ff-{TRACE}-{SPAN}-01".encode()}, None),
    ("w3c with too much", {b"traceparent": f"00-{TRACE}-{SPAN}-01-x".encode()}, None),
    ("w3c in capitals", {b"traceparent": f"00-{TRACE.upper()}-{SPAN}-01".encode()}, None),
    ("a trace of zeros", {b"traceparent": f"00-{'0' * 32}-{SPAN}-01".encode()}, None),
    ("a span of zeros", {b"traceparent": f"00-{TRACE}-{'0' * 16}-01".encode()}, None),
    ("b3", {b"b3": f"{TRACE}-{SPAN}-1-{SPAN}".encode()}, (TRACE, SPAN, True, "b3")),
    ("b3 of 64 bits", {b"b3": f"{TRACE[:16]}-{SPAN}-0".encode()}, (TRACE[:16], SPAN, False, "b3")),
    ("b3, undecided", {b"b3": f"{TRACE}-{SPAN}".encode()}, (TRACE, SPAN, None, "b3")),
    ("b3: only no", {b"b3": b"0"}, ("", "", False, "b3")),
    ("b3 nonsense", {b"b3": b"hello"}, None),
    (
        "several b3",
        {b"x-b3-traceid": TRACE.encode(), b"x-b3-spanid": SPAN.encode(), b"x-b3-sampled": b"1"},
        (TRACE, SPAN, True, "x-b3"),
    ),
    ("several b3: only yes", {b"x-b3-sampled": b"1"}, ("", "", True, "x-b3")),
    ("several b3: debug", {b"x-b3-flags": b"1"}, ("", "", True, "x-b3")),
    ("several b3: half", {b"x-b3-traceid": TRACE.encode()}, None),
    ("w3c before b3", {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"b3": b"0"}, (TRACE, SPAN, True, "w3c")),
    ("b3 where w3c is ill-formed", {b"traceparent": b"junk", b"b3": b"0"}, ("", "", False, "b3")),
    ("nothing", {}, None),
]


@pytest.mark.parametrize(("headers", "wanted"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_context_is_read(headers: dict[bytes, bytes], wanted: tuple[str, str, bool | None, str] | None) -> None:
    found = context.read(headers)
    assert (found and (found.trace, found.span, found.sampled, found.form)) == wanted


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("w3c", [(b"traceparent", f"00-{TRACE}-{SPAN}-01")]),
        ("b3", [(b"b3", f"{TRACE}-{SPAN}-1-ffffffffffffffff")]),
        (
            "x-b3",
            [
                (b"x-b3-traceid", TRACE),
                (b"x-b3-spanid", SPAN),
                (b"x-b3-parentspanid", "ffffffffffffffff"),
                (b"x-b3-sampled", "1"),
            ],
        ),
    ],
)
def test_context_is_written_as_it_was_read(form: str, wanted: list[tuple[bytes, str]]) -> None:
    given = context.Context(TRACE, "ffffffffffffffff", True, form)
    before = [(b"b3", b"old"), (b"accept", b"*/*"), (b"traceparent", b"old"), (b"tracestate", b"a=b")]
    found = context.write(before, given, SPAN, "ffffffffffffffff")
    assert found == [(b"accept", b"*/*"), (b"tracestate", b"a=b"), *((n, v.encode()) for n, v in wanted)]


def test_a_trace_begins_where_none_was_and_the_server_sees_its_own_span() -> None:
    made = observer(JAEGER, draw=0.05)
    request, filled = begin(made)
    made.attempt(request, filled)
    parent = header(request, b"traceparent")
    assert parent is not None
    _, trace, span, flags = parent.decode().split("-")
    assert (header(request, b"x-b3-traceid"), header(request, b"x-b3-spanid")) == (trace.encode(), span.encode())
    assert flags == "01"
    made.over(filled)
    jaeger = next(p for p in MeshSettings().providers if p.name == "jaeger")
    first, second = made.outbox.take(jaeger)
    assert (first.kind, second.kind, second.parent, second.span) == ("CLIENT", "SERVER", first.span, span)
    assert first.trace == trace
    assert first.tags["http.status_code"] == "200"
    assert (first.local[0], second.local[0]) == ("web.shop", "orders.shop")


def test_a_server_whose_own_proxy_reports_gets_the_clients_span() -> None:
    made = observer(JAEGER, draw=0.05)
    request, filled = begin(made)
    filled.reports_destination = False
    made.attempt(request, filled)
    made.over(filled)
    jaeger = next(p for p in MeshSettings().providers if p.name == "jaeger")
    (only,) = made.outbox.take(jaeger)
    assert header(request, b"x-b3-spanid") == only.span.encode()


def test_the_second_proxys_server_span_is_a_child_of_the_firsts_client_span() -> None:
    made = observer(JAEGER)
    request, filled = begin(made, (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode()))
    filled.reports_source = False
    made.attempt(request, filled)
    made.over(filled)
    jaeger = next(p for p in MeshSettings().providers if p.name == "jaeger")
    (only,) = made.outbox.take(jaeger)
    assert (only.kind, only.parent) == ("SERVER", SPAN)
    assert header(request, b"traceparent") == f"00-{TRACE}-{only.span}-01".encode()


@pytest.mark.parametrize(
    ("sampled", "draw", "reported"),
    [(None, 0.05, True), (None, 0.5, False), (b"1", 0.99, True), (b"0", 0.0, False)],
    ids=["drawn", "not drawn", "decided before: yes", "decided before: no"],
)
def test_who_decided_first_decides(sampled: bytes | None, draw: float, reported: bool) -> None:
    made = observer(JAEGER, draw=draw)
    _, filled = begin(made, *([(b"x-b3-sampled", sampled)] if sampled else []))
    made.over(filled)
    assert bool(made.outbox.providers()) is reported


def test_sampling_meets_its_rate() -> None:
    import random

    source = random.Random(1)
    made = MeshObserver(source.random, Logs().write)
    made.settle(MeshSettings(), [JAEGER])
    sampled = sum(begin(made)[1].trace.context.sampled for _ in range(10_000))
    assert abs(sampled - 1000) < 90  # three sigma


def test_where_nobody_traces_the_context_goes_on_as_it_came() -> None:
    made = observer()
    given = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    request, filled = begin(made, given)
    made.attempt(request, filled)
    made.over(filled)
    assert given in request.headers
    assert not made.outbox.providers()


def test_a_trace_that_is_not_reported_still_goes_on() -> None:
    made = observer(
        declared_telemetry(tracing=(Tracing(providers=("zipkin",), sampling_percent=100.0, disabled=True),))
    )
    request, filled = begin(made)
    made.attempt(request, filled)
    made.over(filled)
    assert header(request, b"traceparent")
    assert not made.outbox.providers()


def test_custom_tags_come_from_literals_headers_and_the_environment() -> None:
    tags = (
        CustomTag("a", "literal", "1"),
        CustomTag("b", "header", "X-B", "none"),
        CustomTag("c", "environment", "ZONE"),
        CustomTag("d", "header", "missing", "fallback"),
    )
    made = observer(
        declared_telemetry(tracing=(Tracing(providers=("zipkin",), sampling_percent=100.0, tags=tags),))
    )
    _, filled = begin(made)
    filled.headers = [(b"x-b", b"2")]
    made.over(filled)
    zipkin = next(p for p in MeshSettings().providers if p.name == "zipkin")
    span = made.outbox.take(zipkin)[0]
    assert {key: span.tags[key] for key in "abcd"} == {"a": "1", "b": "2", "c": "eu", "d": "fallback"}


# telemetry: which level says what


def test_a_workload_says_more_than_its_namespace_and_that_more_than_the_root() -> None:
    root = declared_telemetry("r", "istio-system", tracing=(Tracing(providers=("jaeger",), sampling_percent=1.0),))
    space = declared_telemetry("n", tracing=(Tracing(sampling_percent=5.0),))
    own = declared_telemetry("w", selector=(("app", "web"),), tracing=(Tracing(sampling_percent=50.0),))
    plans = [
        telemetry.plan(MeshSettings(), declared, CLIENT, telemetry.CLIENT).tracing
        for declared in ([root], [root, space], [root, space, own])
    ]
    assert [plan and plan.sampling for plan in plans] == [1.0, 5.0, 50.0]
    assert all(plan and plan.providers[0].name == "jaeger" for plan in plans)
    other = telemetry.plan(MeshSettings(), [root, space, own], SERVER, telemetry.CLIENT).tracing
    assert other is not None and other.sampling == 5.0


def test_a_mode_is_for_one_side() -> None:
    declared = [declared_telemetry(tracing=(Tracing("SERVER", ("zipkin",)),))]
    assert telemetry.plan(MeshSettings(), declared, CLIENT, telemetry.CLIENT).tracing is None
    assert telemetry.plan(MeshSettings(), declared, CLIENT, telemetry.SERVER).tracing is not None


def test_of_two_on_one_level_the_older_counts() -> None:
    old = declared_telemetry("b", created="2024-01-01T00:00:00Z", tracing=(Tracing(providers=("zipkin",)),))
    young = declared_telemetry("a", created="2025-01-01T00:00:00Z", tracing=(Tracing(providers=("jaeger",)),))
    found = telemetry.plan(MeshSettings(), [young, old], CLIENT, telemetry.CLIENT).tracing
    assert found is not None and found.providers[0].name == "zipkin"


# metrics


def series(
    counts: pb.Counts | None, before: pb.Counts | None = None
) -> dict[tuple[str, str], tuple[dict[str, str], pb.Sample]]:
    assert counts is not None
    described = {each.id: each for each in [*(before.series if before else ()), *counts.series]}
    return {
        (described[sample.id].family, described[sample.id].labels["reporter"]): (
            dict(described[sample.id].labels),
            sample,
        )
        for sample in counts.samples
    }


ALL_LABELS = {
    "reporter": "source",
    "source_workload": "web",
    "source_workload_namespace": "shop",
    "source_principal": "unknown",
    "source_app": "web",
    "source_version": "v1",
    "source_canonical_service": "web",
    "source_canonical_revision": "v1",
    "source_cluster": "Kubernetes",
    "destination_workload": "orders",
    "destination_workload_namespace": "shop",
    "destination_principal": "unknown",
    "destination_app": "orders",
    "destination_version": "unknown",
    "destination_canonical_service": "orders",
    "destination_canonical_revision": "latest",
    "destination_cluster": "Kubernetes",
    "destination_service": "orders.shop.svc.cluster.local",
    "destination_service_name": "orders",
    "destination_service_namespace": "shop",
    "request_protocol": "http",
    "response_code": "200",
    "response_flags": "-",
    "grpc_response_status": "",
    "connection_security_policy": "unknown",
}


def test_a_request_counts_once_under_each_reporter_with_all_labels() -> None:
    made = observer()
    made.over(entry(request_bytes=3, response_bytes=70))
    found = series(made.metrics.drain())
    assert found["istio_requests_total", "source"][0] == ALL_LABELS
    server = {**ALL_LABELS, "reporter": "destination", "connection_security_policy": "none"}
    assert found["istio_requests_total", "destination"][0] == server
    duration = found["istio_request_duration_milliseconds", "source"][1]
    assert (duration.count, duration.value) == (1, pytest.approx(7.0))
    assert duration.buckets[BOUNDS.index(10)] == 1
    assert found["istio_response_bytes", "source"][1].buckets[BOUNDS.index(100)] == 1
    assert found["istio_request_bytes", "destination"][1].value == 3


def test_what_was_sent_is_not_sent_again_and_a_series_is_described_once() -> None:
    made = observer()
    made.over(entry())
    first = made.metrics.drain()
    assert made.metrics.drain() is None
    made.over(entry())
    made.over(entry())
    second = made.metrics.drain()
    assert first is not None and second is not None
    assert len(first.series) == 8 and len(second.series) == 0
    numbers = {each.id for each in first.series if each.family == "istio_requests_total"}
    assert [sample.value for sample in second.samples if sample.id in numbers] == [2, 2]


def test_a_bound_is_inside_its_bucket() -> None:
    made = observer()
    made.over(entry(ended=100.25))
    made.over(entry(ended=100.0 + 3601))
    buckets = series(made.metrics.drain())["istio_request_duration_milliseconds", "source"][1].buckets
    assert (buckets[BOUNDS.index(250)], buckets[-1], len(buckets)) == (1, 1, 20)


def test_grpc_has_its_status_and_counts_messages() -> None:
    made = observer()
    made.over(entry(grpc=True, grpc_status=14, request_messages=2, response_messages=5))
    found = series(made.metrics.drain())
    labels, _ = found["istio_requests_total", "source"]
    assert (labels["request_protocol"], labels["grpc_response_status"]) == ("grpc", "14")
    assert found["istio_request_messages_total", "source"][1].value == 2
    assert found["istio_response_messages_total", "destination"][1].value == 5


def test_a_connection_counts_when_it_opens_moves_and_closes() -> None:
    made = observer()
    filled = entry(protocol="TCP", status=0, request_bytes=10, response_bytes=20)
    made.carried(filled)
    first = made.metrics.drain()
    found = series(first)
    assert found["istio_tcp_connections_opened_total", "source"][1].value == 1
    assert found["istio_tcp_received_bytes_total", "source"][1].value == 10
    assert "response_code" not in found["istio_tcp_connections_opened_total", "source"][0]
    filled.request_bytes, filled.response_bytes = 15, 20
    made.over(filled)
    found = series(made.metrics.drain(), first)
    assert found["istio_tcp_received_bytes_total", "source"][1].value == 5
    assert ("istio_tcp_sent_bytes_total", "source") not in found
    assert found["istio_tcp_connections_closed_total", "destination"][1].value == 1


@pytest.mark.parametrize(
    ("fields", "reporters"),
    [
        ({}, {"source", "destination"}),
        ({"reports_destination": False}, {"source"}),
        ({"reports_source": False}, {"destination"}),
        ({"client": WORLD}, {"destination"}),
        ({"endpoint": None}, {"source"}),
    ],
    ids=[
        "one pass on one node",
        "the other node's proxy reports",
        "the client's proxy did",
        "from outside",
        "no server",
    ],
)
def test_who_reports(fields: dict[str, object], reporters: set[str]) -> None:
    made = observer()
    made.over(entry(**fields))
    assert {reporter for _, reporter in series(made.metrics.drain())} == reporters


def test_who_is_not_known_is_unknown() -> None:
    made = observer()
    made.over(entry(client=WORLD, cluster="", host="", service="", destination="", authority=b"api.example"))
    labels, _ = series(made.metrics.drain())["istio_requests_total", "destination"]
    assert labels["source_workload"] == labels["source_app"] == "unknown"
    assert (labels["destination_service"], labels["destination_service_name"]) == (
        "api.example",
        "PassthroughCluster",
    )


def test_telemetry_takes_labels_away_changes_them_and_turns_families_off() -> None:
    overrides = (
        MetricOverride(
            "REQUEST_COUNT",
            tags=(TagOverride("source_app", remove=True), TagOverride("path", value="request.url_path")),
        ),
        MetricOverride("REQUEST_SIZE", mode="CLIENT", disabled=True),
    )
    made = observer(declared_telemetry(metrics=(Metrics(overrides=overrides),)))
    made.over(entry())
    found = series(made.metrics.drain())
    labels, _ = found["istio_requests_total", "source"]
    assert "source_app" not in labels and labels["path"] == "/a"
    assert ("istio_request_bytes", "source") not in found
    assert ("istio_request_bytes", "destination") in found


def test_a_client_that_addressed_a_pod_is_told_of_by_the_pods_service() -> None:
    service = ServiceItem("shop", "orders", "ClusterIP", ("10.96.0.9",), ())
    made = MeshObserver(
        lambda: 0.5, Logs().write, behind=lambda ip, port: service if (ip, port) == ("10.0.0.2", 8080) else None
    )
    made.over(entry(cluster="PassthroughCluster", host="", service="", destination=""))
    labels, _ = series(made.metrics.drain())["istio_requests_total", "source"]
    assert labels["destination_service"] == "orders.shop.svc.cluster.local"
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == ("orders", "shop")


# the log


def test_istios_default_line() -> None:
    filled = entry(
        headers=[(b"user-agent", b"curl"), (b"x-request-id", b"id-1")], upstream_local=("10.0.0.1", 61000)
    )
    filled.request_bytes, filled.response_bytes, filled.details, filled.route = 3, 70, "via_upstream", "default"
    filled.response_headers = [(b"x-envoy-upstream-service-time", b"6")]
    assert Line().render(filled) == (
        '[2023-11-14T22:13:20.000Z] "GET /a?b=c HTTP/1.1" 200 - via_upstream - "-" 3 70 7 6 "-" "curl" "id-1" '
        '"orders" "10.0.0.2:8080" outbound|80||orders.shop.svc.cluster.local 10.0.0.1:61000 10.96.0.9:80 '
        "10.0.0.1:40000 - default\n"
    )


def test_what_a_client_sends_cannot_end_its_line_or_its_quotes() -> None:
    filled = entry(path=b'/a" 200 - "\xff', headers=[(b"user-agent", b"a\tb\x7f\\")])
    line = Line('"%REQ(:PATH)%" "%REQ(User-Agent)%"\n').render(filled)
    assert line == '"/a\\x22 200 - \\x22ÿ" "a\\x09b\\x7f\\x5c"\n'


def test_operators_cut_choose_and_say_what_they_do_not_know() -> None:
    line = Line("%REQ(X-NO?:METHOD):2% %START_TIME(%Y)% 100%% %WHAT%")
    assert line.render(entry()) == "GE 2023 100% -"
    assert line.unknown == ["%WHAT%"]


def test_json_has_numbers_as_numbers_and_what_is_missing_as_null() -> None:
    text = JsonLine((("code", "%RESPONSE_CODE%"), ("agent", "%REQ(USER-AGENT)%"), ("who", "a %PROTOCOL%"))).render(
        entry()
    )
    assert json.loads(text) == {"code": 200, "agent": None, "who": "a HTTP/1.1"}


def test_nothing_is_logged_until_somebody_says_so() -> None:
    logs = Logs()
    made = observer(logs=logs)
    made.over(entry())
    made.flush()
    assert logs == {}


def test_both_sides_write_their_line_to_the_meshs_file() -> None:
    logs = Logs()
    made = observer(settings=MeshSettings(access_log_file="/dev/stdout"), logs=logs)
    made.over(entry())
    made.over(entry(reports_destination=False))
    made.flush()
    assert logs["/dev/stdout"].count("\n") == 3


def test_a_filter_chooses_lines() -> None:
    logs = Logs()
    declared = declared_telemetry(
        access_logging=(AccessLogging(mode="CLIENT", providers=("envoy",), filter="response.code >= 400"),)
    )
    made = observer(declared, logs=logs)
    for status in (200, 404, 503):
        made.over(entry(status=status))
    made.flush()
    assert [line.split()[4] for line in logs["/dev/stdout"].splitlines()] == ["404", "503"]


def test_a_filter_that_cannot_be_told_logs_and_is_counted() -> None:
    logs = Logs()
    declared = declared_telemetry(access_logging=(AccessLogging(mode="CLIENT", filter="nobody.knows == 1"),))
    made = observer(declared, logs=logs)
    made.over(entry())
    made.flush()
    assert logs["/dev/stdout"].count("\n") == 1
    assert made.expressions.failed == {"nobody.knows == 1": 1}
    assert made.expressions.problem("a ==") != ""


def test_istios_own_provider_writes_as_the_mesh_says() -> None:
    logs = Logs()
    settings = MeshSettings(access_log_file="/var/log/mesh", access_log_json=True)
    declared = declared_telemetry(access_logging=(AccessLogging(mode="CLIENT", providers=("envoy",)),))
    made = observer(declared, settings=settings, logs=logs)
    made.over(entry(reports_destination=False))
    made.flush()
    assert json.loads(logs["/dev/stdout"])["response_code"] == 200 and len(logs) == 1


def test_a_workload_turns_its_namespaces_log_off() -> None:
    logs = Logs()
    space = declared_telemetry("n", access_logging=(AccessLogging(providers=("envoy",)),))
    own = declared_telemetry("w", selector=(("app", "web"),), access_logging=(AccessLogging(disabled=True),))
    made = observer(space, own, logs=logs)
    made.over(entry(reports_destination=False))
    made.flush()
    assert logs == {}


def test_a_providers_own_format_is_used() -> None:
    logs = Logs()
    settings = MeshSettings(providers=(Provider("mine", "file", log_file="/tmp/x", format="%RESPONSE_CODE%"),))
    made = observer(
        declared_telemetry(access_logging=(AccessLogging(mode="CLIENT", providers=("mine",)),)),
        settings=settings,
        logs=logs,
    )
    made.over(entry())
    made.flush()
    assert logs == {"/tmp/x": "200\n"}


# records


def test_a_record_has_what_flows_need_and_no_credentials() -> None:
    ring = Ring(told)
    made = observer(tell=ring.add)
    headers = [(b"authorization", b"secret"), (b"cookie", b"secret"), (b"user-agent", b"curl")]
    made.over(
        entry(headers=headers, status=403, verdict="DROPPED", denied_by=("CiliumNetworkPolicy shop/p",), id=7)
    )
    message = ring.take()
    assert message is not None
    (record,) = message.records
    assert (record.source_ip, record.source_identity, record.upstream_ip) == ("10.0.0.1", 300, "10.0.0.2")
    assert (record.egress, record.ingress, record.status, record.verdict) == (True, True, 403, "DROPPED")
    assert list(record.denied_by) == ["CiliumNetworkPolicy shop/p"]
    assert [(each.name, each.value) for each in record.headers] == [("user-agent", "curl")]
    assert record.duration_ns == pytest.approx(7_000_000, abs=10_000)


def test_beyond_its_room_records_are_counted_as_lost_and_metrics_are_whole() -> None:
    ring = Ring(told, size=30)
    made = observer(tell=ring.add)
    for _ in range(150):
        made.over(entry())
    message = ring.take()
    assert message is not None
    assert (len(message.records), message.lost) == (30, 120)
    assert series(made.metrics.drain())["istio_requests_total", "source"][1].value == 150


def test_tap_sees_requests_begin() -> None:
    ring = Ring(told)
    made = observer(tell=ring.add)
    made.tapped = True
    begin(made)
    message = ring.take()
    assert message is not None
    assert [record.start for record in message.records] == [True]
