"""Requests that the proxy carried, as Hubble's L7 flows: what they say, how they are found, printed and counted."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from flow_records import ALLOW, CLIENT, DENY, SERVER, Cluster, named, record
from weft.bpf.layout import EventType
from weft.daemon.cli import monitor
from weft.daemon.cli.flow_filters import Filters
from weft.daemon.cli.printer import Options, Printer
from weft.daemon.observer.reader import Reader
from weft.daemon.observer.service import Observer
from weft.policies.wire.pb import flow_pb2, observer_pb2
from weft.policies.wire.pb import proxy_pb2 as pb

AT = 1_700_000_000_000_000_000


def request(**fields: Any) -> pb.Record:
    """GET of CLIENT to SERVER by way of a service, both on this node, allowed."""
    defaults: dict[str, Any] = {
        "time_ns": AT,
        "duration_ns": 1_900_000,
        "source_ip": "10.244.1.5",
        "source_port": 40000,
        "destination_ip": "10.96.0.20",
        "destination_port": 80,
        "upstream_ip": "10.244.2.7",
        "upstream_port": 8080,
        "source_identity": 1001,
        "destination_identity": 1002,
        "service": "shop/orders",
        "destination_service": "shop/orders",
        "egress": True,
        "ingress": True,
        "protocol": "HTTP/1.1",
        "method": "GET",
        "scheme": "http",
        "authority": "orders.shop",
        "path": "/details/1?full=yes",
        "status": 200,
        "flags": "-",
        "verdict": "FORWARDED",
        "headers": [pb.Header(name="x-canary", value="true")],
    }
    return pb.Record(**{**defaults, **fields})


DENIED: dict[str, Any] = {"verdict": "DROPPED", "status": 403, "denied_by": [named(DENY)], "ingress": False}


def observed(*records: pb.Record) -> Observer:
    observer = Observer("node-1", Cluster(), version="0.1.0", registry=CollectorRegistry())
    for each in records:
        observer.carried(each)
    return observer


def flows(*records: pb.Record) -> list[flow_pb2.Flow]:
    observer = observed(*records)
    return [observer.flows.of(observer.ring[n]) for n in range(observer.ring.next)]  # type: ignore[arg-type]


def found(observer: Observer, *flags: tuple[str, str]) -> list[flow_pb2.Flow]:
    """As `weft observe` asks."""
    filters = Filters()
    for name, value in flags:
        filters.set(name, value)
    asked = observer_pb2.GetFlowsRequest(whitelist=filters.allow.filters(), blacklist=filters.deny.filters())
    reader = Reader(observer.ring, observer.flows, "node-1", asked, observer.now)

    async def read() -> list[flow_pb2.Flow]:
        return [response.flow async for response in reader.responses()]

    return asyncio.run(read())


def printed(flow: flow_pb2.Flow, form: str = "compact") -> str:
    out = io.StringIO()
    printer = Printer(Options(form=form, time=lambda _: "T"), out=out)
    printer.write(observer_pb2.GetFlowsResponse(flow=flow, node_name="node-1", time=flow.time))
    printer.close()
    return out.getvalue()


# what a flow says


def test_a_request_and_its_response_for_each_side_the_proxy_stood_for() -> None:
    told = [(f.traffic_direction, f.l7.type, f.is_reply.value) for f in flows(request())]
    assert told == [
        (flow_pb2.EGRESS, flow_pb2.REQUEST, False),
        (flow_pb2.EGRESS, flow_pb2.RESPONSE, True),
        (flow_pb2.INGRESS, flow_pb2.REQUEST, False),
        (flow_pb2.INGRESS, flow_pb2.RESPONSE, True),
    ]
    assert len(flows(request(ingress=False))) == len(flows(request(egress=False))) == 2
    assert len({flow.uuid for flow in flows(request())}) == 4


def test_a_request_has_what_was_asked() -> None:
    one = flows(request(trace_id="4bf92f3577b34da6a3ce929d0e0e4736"))[0]
    assert (one.Type, one.event_type.type, one.verdict) == (flow_pb2.L7, 129, flow_pb2.FORWARDED)
    assert one.l7.http == flow_pb2.HTTP(
        method="GET",
        url="http://orders.shop/details/1?full=yes",
        protocol="HTTP/1.1",
        headers=[flow_pb2.HTTPHeader(key="x-canary", value="true")],
    )
    assert one.l7.latency_ns == 0 and one.time.ToNanoseconds() == AT
    assert (one.IP.source, one.l4.TCP.source_port) == ("10.244.1.5", 40000)
    assert (one.IP.destination, one.l4.TCP.destination_port) == ("10.244.2.7", 8080)
    assert (one.source.pod_name, one.source.identity) == (CLIENT.pod, 1001)
    assert (one.destination.pod_name, one.destination.labels) == (SERVER.pod, [*SERVER.labels])
    assert (one.destination_service.namespace, one.destination_service.name) == ("shop", "orders")
    assert one.trace_context.parent.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (one.node_name, one.emitter.name) == ("node-1", "Weft")


def test_a_response_has_what_was_answered_the_other_way_round() -> None:
    two = flows(request())[1]
    assert (two.l7.http.code, two.l7.http.method, two.l7.latency_ns) == (200, "GET", 1_900_000)
    assert two.time.ToNanoseconds() == AT + 1_900_000
    assert (two.source.pod_name, two.destination.pod_name) == (SERVER.pod, CLIENT.pod)
    assert (two.IP.source, two.l4.TCP.source_port) == ("10.244.2.7", 8080)
    assert two.source_service.name == "orders" and not two.destination_service.name


def test_a_denied_request_is_dropped_and_its_client_got_an_answer() -> None:
    asked, answered = flows(request(**DENIED))
    assert (asked.verdict, answered.verdict, answered.l7.http.code) == (flow_pb2.DROPPED, flow_pb2.FORWARDED, 403)
    assert [policy.name for policy in asked.egress_denied_by] == [DENY.name] and not asked.egress_allowed_by


def test_policies_are_named_on_the_side_where_they_have_a_say() -> None:
    egress, _, ingress, _ = flows(request(allowed_by=[named(ALLOW)]))
    assert not egress.egress_allowed_by and not egress.ingress_allowed_by
    assert [(p.name, p.kind, p.revision) for p in ingress.ingress_allowed_by] == [(ALLOW.name, ALLOW.kind, 7)]


def test_one_that_never_got_an_answer_has_no_response() -> None:
    (only,) = flows(request(status=0, flags="DC", ingress=False, verdict="ERROR"))
    assert only.verdict == flow_pb2.ERROR and only.Summary.endswith("; DC")


def test_one_that_got_no_upstream_goes_to_where_it_was_addressed() -> None:
    one = flows(request(upstream_ip="", upstream_port=0, status=503, flags="UH"))[0]
    assert (one.IP.destination, one.l4.TCP.destination_port) == ("10.96.0.20", 80)


@pytest.mark.parametrize(
    "fields",
    [{"protocol": "TCP"}, {"start": True}, {"source_ip": "nonsense"}, {"upstream_ip": "::bad::"}],
    ids=["a TCP connection", "a start", "no source address", "no upstream address"],
)
def test_what_is_no_whole_request_is_no_flow(fields: dict[str, Any]) -> None:
    assert observed(request(**fields)).seen == 0


def test_lost_records_are_told_as_a_loss() -> None:
    observer = observed(request())
    observer.lost_requests(5)
    assert observer.status()["lost"]["l7_proxy"] == 5 and observer.ring[4].count == 5  # type: ignore[union-attr]


# how it prints


@pytest.mark.parametrize(
    ("number", "fields", "line"),
    [
        (0, {}, "T: default/frontend-1:40000 (ID:1001) -> shop/orders-1:8080 (ID:1002) http-request FORWARDED "
                "(HTTP/1.1 GET http://orders.shop/details/1?full=yes)"),
        (1, {}, "T: default/frontend-1:40000 (ID:1001) <- shop/orders-1:8080 (ID:1002) http-response FORWARDED "
                "(HTTP/1.1 200 1ms (GET http://orders.shop/details/1?full=yes))"),
        (0, DENIED, "T: default/frontend-1:40000 (ID:1001) -> shop/orders-1:8080 (ID:1002) http-request DROPPED "
                    "(HTTP/1.1 GET http://orders.shop/details/1?full=yes)"),
        (1, {"protocol": "HTTP/2", "method": "POST", "path": "/a.B/C", "grpc_status": 14, "flags": "UH"},
         "T: default/frontend-1:40000 (ID:1001) <- shop/orders-1:8080 (ID:1002) http-response FORWARDED "
         "(HTTP/2 200 1ms (POST http://orders.shop/a.B/C); UH, grpc-status 14)"),
        (0, {"authority": "", "path": "/x", "protocol": "HTTP/1.0", "destination_port": 8000},
         "T: default/frontend-1:40000 (ID:1001) -> shop/orders-1:8080 (ID:1002) http-request FORWARDED "
         "(HTTP/1.0 GET http://10.96.0.20:8000/x)"),
    ],
    ids=["a request", "a response", "denied", "gRPC that failed", "without a host"],
)  # fmt: skip
def test_a_line(number: int, fields: dict[str, Any], line: str) -> None:
    assert printed(flows(request(**fields))[number]) == line + "\n"


@pytest.mark.parametrize("form", ["dict", "table", "json"])
def test_the_other_forms_have_it_too(form: str) -> None:
    text = printed(flows(request())[1], form)
    wanted = ('"code":200', '"url":"http://orders.shop/details/1?full=yes"') if form == "json" else (
        "http-response", "HTTP/1.1 200 1ms (GET http://orders.shop/details/1?full=yes)"
    )  # fmt: skip
    assert all(each in text for each in wanted)


def test_a_line_of_monitor() -> None:
    asked, answered = (
        monitor.line_of(observer_pb2.GetFlowsResponse(flow=flow))
        for flow in flows(request(**{**DENIED, "egress": False, "ingress": True}))
    )
    web, orders = f"11 ([{' '.join(CLIENT.labels)}])", f"12 ([{' '.join(SERVER.labels)}])"
    url = "GET http://orders.shop/details/1?full=yes"
    assert asked == f"<- Request http from {web} to {orders}, identity 1001->1002, verdict Denied {url} => 0"
    assert (
        answered == f"<- Response http from {orders} to {web}, identity 1002->1001, verdict Forwarded {url} => 403"
    )


# how it is found


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ([("type", "l7")], 6),
        ([("type", "trace")], 1),
        ([("protocol", "http")], 6),
        ([("http-status", "5+")], 2),
        ([("http-status", "200")], 1),
        ([("http-method", "post")], 4),
        ([("http-path", "^/det.*")], 2),
        ([("http-url", "http://orders[.]shop/buy")], 4),
        ([("http-header", "x-canary:true")], 3),
        ([("type", "l7"), ("verdict", "DROPPED")], 0),
        ([("type", "l7"), ("from-pod", "default/frontend")], 3),
        ([("type", "l7"), ("to-service", "shop/orders")], 3),
        ([("type", "l7"), ("traffic-direction", "ingress")], 2),
        ([("trace-id", "abc")], 4),
        ([("not", ""), ("type", "l7")], 1),
    ],
    ids=lambda value: (
        " ".join(f"--{name} {text}" for name, text in value) if isinstance(value, list) else str(value)
    ),
)
def test_the_filters_of_observe(flags: list[tuple[str, str]], count: int) -> None:
    observer = observed(
        request(ingress=False), request(method="POST", path="/buy", status=503, verdict="ERROR", trace_id="abc")
    )
    observer.feed(record(EventType.TRACE))
    assert len(found(observer, *flags)) == count


def test_since_goes_by_when_a_request_happened_though_it_is_told_later() -> None:
    observer = observed(request(ingress=False))
    for since, count in ((AT, 2), (AT + 1, 1), (AT + 10**9, 0)):
        asked = observer_pb2.GetFlowsRequest()
        asked.since.FromNanoseconds(since)
        asked.number = 10

        async def read(asked: observer_pb2.GetFlowsRequest = asked) -> int:
            reader = Reader(observer.ring, observer.flows, "node-1", asked, observer.now)
            return len([response async for response in reader.responses()])

        assert asyncio.run(read()) == count


# how it is counted


def samples(observer: Observer, name: str) -> dict[tuple[str, ...], float]:
    return {
        (each.name.removeprefix(f"hubble_{name}"), *(each.labels[key] for key in sorted(each.labels))): each.value
        for family in observer.metrics.collect()
        if family.name == f"hubble_{name}"
        for each in family.samples
    }


def test_requests_are_counted_by_method_protocol_status_and_reporter() -> None:
    observer = observed(request(), request(ingress=False), request(status=0, ingress=False))
    assert samples(observer, "http_requests") == {
        ("_total", "GET", "HTTP/1.1", "client", "200"): 2,
        ("_total", "GET", "HTTP/1.1", "server", "200"): 1,
    }
    durations = samples(observer, "http_request_duration_seconds")
    assert durations["_count", "GET", "client"] == 2
    assert durations["_bucket", "0.005", "GET", "client"] == 2
    assert durations["_sum", "GET", "server"] == pytest.approx(0.0019)


def test_a_denied_request_counts_as_a_drop_and_methods_are_bounded() -> None:
    observer = observed(request(**DENIED), *(request(method=f"M{n}", ingress=False) for n in range(50)))
    assert samples(observer, "drop") == {("_total", "HTTP", "DROP_REASON_UNKNOWN"): 1}
    assert samples(observer, "http_requests")["_total", "other", "HTTP/1.1", "client", "200"] == 50
    assert samples(observer, "flows_processed")["_total", "HTTP", "HTTP", "L7", "DROPPED"] == 1
