"""Every field of FlowFilter: a value that matches the flow below, and one that does not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from weft.daemon.observer import filters, patterns, selectors
from weft.policies.wire.pb import flow_pb2 as pb


def a_flow() -> pb.Flow:
    flow = pb.Flow(
        uuid="u-1",
        verdict=pb.DROPPED,
        drop_reason_desc=pb.POLICY_DENIED,
        node_name="node-1",
        node_labels=["zone=a"],
        source_names=["api.example.com"],
        destination_names=["db.example.com"],
        traffic_direction=pb.INGRESS,
        event_type={"type": 1, "sub_type": 133},
        interface={"index": 7, "name": "lxc7"},
        IP={"source": "10.0.1.5", "source_xlated": "172.30.0.1", "destination": "fd00::7", "ipVersion": pb.IPv4},
        l4={"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"SYN": True, "ACK": True}}},
        source={
            "identity": 1001,
            "namespace": "default",
            "pod_name": "frontend-1",
            "cluster_name": "east",
            "labels": ["k8s:app=web", "k8s:tier=front"],
            "workloads": [{"kind": "Deployment", "name": "frontend"}],
        },
        destination={
            "identity": 1002,
            "namespace": "shop",
            "pod_name": "orders-0",
            "cluster_name": "west",
            "labels": ["k8s:app=orders", "reserved:health"],
            "workloads": [{"kind": "StatefulSet", "name": "orders"}],
        },
        source_service={"namespace": "default", "name": "front"},
        destination_service={"namespace": "shop", "name": "orders"},
        trace_context={"parent": {"trace_id": "abc"}},
        ip_trace_id={"trace_id": 9},
    )
    flow.is_reply.value = True
    return flow


def an_http_flow() -> pb.Flow:
    http = {
        "code": 404,
        "method": "GET",
        "url": "http://orders/items/12?x=1",
        "headers": [{"key": "a", "value": "b"}],
    }
    return pb.Flow(l7={"type": pb.RESPONSE, "http": http}, event_type={"type": 129})


def a_dns_flow() -> pb.Flow:
    return pb.Flow(l7={"dns": {"query": "api.example.com."}})


#: field: (what matches, what does not). Several values of a field are alternatives.
FIELDS: dict[str, tuple[list[Any], list[Any]]] = {
    "uuid": ([["u-1"], ["x", "u-1"]], [["u-2"]]),
    "source_ip": (
        [["10.0.1.5"], ["10.0.0.0/16"], ["1.1.1.1", "10.0.1.5"]],
        [["10.0.1.6"], ["10.1.0.0/16"], ["::/0"]],
    ),
    "source_ip_xlated": ([["172.30.0.0/24"]], [["10.0.1.5"]]),
    "destination_ip": ([["fd00::7"], ["fd00:0:0::7"], ["fd00::/64"]], [["fd00::8"], ["0.0.0.0/0"]]),
    "source_pod": (
        [["frontend-1"], ["front"], ["default/front"], ["default/"], ["/"], ["/front"]],
        [["shop/front"], ["shop/"], ["ontend"], ["orders"]],
    ),
    "destination_pod": ([["shop/orders"], ["shop/"]], [["orders"], ["default/orders"]]),
    "source_fqdn": (
        [["api.example.com"], ["*.example.com"], ["*"], ["API.example.com."]],
        [["example.com"], ["a.*"]],
    ),
    "destination_fqdn": ([["db.*"]], [["api.*"]]),
    "source_label": (
        [
            ["app=web"], ["k8s:app=web"], ["any:app"], ["app==web,tier in (front, back)"], ["!gone"], ["app!=x"],
            ["app notin (x)"], ["nothing=x", "app=web"],
        ],
        [["app=x"], ["reserved:app=web"], ["app=web,tier=back"], ["gone"], ["!app"], ["app!=web"],
         ["tier in (back)"]],
    ),
    "destination_label": ([["reserved:health"]], [["k8s:health"]]),
    "source_service": ([["default/fr"], ["front"]], [["shop/front"]]),
    "destination_service": ([["shop/orders"]], [["orders"]]),
    "source_workload": (
        [[{"name": "frontend"}], [{"kind": "Deployment"}], [{"kind": "Deployment", "name": "frontend"}]],
        [[{"name": "front"}], [{"kind": "StatefulSet", "name": "frontend"}]],
    ),
    "destination_workload": ([[{"kind": "StatefulSet"}]], [[{"kind": "Deployment"}]]),
    "source_cluster_name": ([["east"]], [["west"]]),
    "destination_cluster_name": ([["west"]], [["east"]]),
    "source_port": ([["40000"], ["1", "40000"]], [["80"]]),
    "destination_port": ([["80"]], [["40000"]]),
    "source_identity": ([[1001]], [[1002]]),
    "destination_identity": ([[1002]], [[1001]]),
    "traffic_direction": ([[pb.INGRESS]], [[pb.EGRESS]]),
    "verdict": ([[pb.DROPPED], [pb.FORWARDED, pb.DROPPED]], [[pb.FORWARDED]]),
    "drop_reason_desc": ([[pb.POLICY_DENIED]], [[pb.POLICY_DENY]]),
    "interface": ([[{"name": "lxc7"}], [{"index": 7}]], [[{"name": "eth0"}], [{"index": 7, "name": "eth0"}]]),
    "event_type": (
        [[{"type": 1}], [{"type": 1, "match_sub_type": True, "sub_type": 133}], [{"type": 4}, {"type": 1}],
         [{"type": 0}]],
        [[{"type": 4}], [{"type": 1, "match_sub_type": True, "sub_type": 132}]],
    ),
    "protocol": ([["tcp"], ["TCP"], ["udp", "tcp"]], [["udp"], ["icmp"], ["http"]]),
    "reply": ([[True]], [[False]]),
    "encrypted": ([[False]], [[True]]),
    "ip_version": ([[pb.IPv4]], [[pb.IPv6], [pb.IP_NOT_USED]]),
    "tcp_flags": (
        [[{"SYN": True}], [{"SYN": True, "ACK": True}], [{"RST": True}, {"ACK": True}]],
        [[{"FIN": True}], [{"SYN": True, "FIN": True}]],
    ),
    "node_name": (
        [["node-1"], ["node-*"], ["default/node-1"], ["default/"], ["*/node-1"]],
        [["node"], ["east/node-1"], ["east/"]],
    ),
    "node_labels": ([["zone=a"], ["zone"]], [["zone=b"]]),
    "trace_id": ([["abc"]], [["abd"]]),
    "ip_trace_id": ([[9]], [[8]]),
    "http_status_code": ([["404"], ["4+"], ["40+"], ["5+", "4+"]], [["405"], ["5+"]]),
    "http_method": ([["GET"], ["get"]], [["POST"]]),
    "http_path": ([["/items/[0-9]+"], ["^/items"]], [["^items"], ["x=1"]]),
    "http_url": ([["x=1$"]], [["^orders"]]),
    "http_header": ([[{"key": "a", "value": "b"}]], [[{"key": "a", "value": "c"}]]),
    "dns_query": ([["example"]], [["^example"]]),
}  # fmt: skip


def subject(field: str) -> pb.Flow:
    return an_http_flow() if field.startswith("http_") else a_dns_flow() if field == "dns_query" else a_flow()


def test_every_field_of_the_filter_is_here_and_compiled() -> None:
    fields = {field.name for field in pb.FlowFilter.DESCRIPTOR.fields}
    assert set(filters.FIELDS) == fields
    assert set(FIELDS) == fields - {"experimental"}


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_lets_the_flow_through(field: str) -> None:
    for values in FIELDS[field][0]:
        assert filters.one(pb.FlowFilter(**{field: values}))(subject(field)), values


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_keeps_the_flow_out(field: str) -> None:
    for values in FIELDS[field][1]:
        assert not filters.one(pb.FlowFilter(**{field: values}))(subject(field)), values


@pytest.mark.parametrize("field", FIELDS)
def test_an_empty_flow_is_matched_by_no_value_that_needs_something(field: str) -> None:
    """Filters read fields that may be absent; nothing fails, and only absence itself matches."""
    absent = {"encrypted": [False], "source_label": [["!gone"], ["app!=x"], ["app notin (x)"]]}
    for values in FIELDS[field][0]:
        if values not in absent.get(field, []) and values != absent.get(field):
            assert not filters.one(pb.FlowFilter(**{field: values}))(pb.Flow()), values


def test_fields_and_values_or_filters_or_and_the_blacklist_last() -> None:
    web, drop, other = (
        pb.FlowFilter(source_pod=["front"]),
        pb.FlowFilter(verdict=[pb.DROPPED]),
        pb.FlowFilter(source_pod=["x"]),
    )
    both = pb.FlowFilter(source_pod=["front"], verdict=[pb.FORWARDED])
    flow = a_flow()
    assert filters.compiled([], [])(flow)
    assert filters.compiled([web], [])(flow)
    assert not filters.compiled([both], [])(flow)
    assert filters.compiled([other, drop], [])(flow)
    assert not filters.compiled([other], [])(flow)
    assert not filters.compiled([web], [drop])(flow)
    assert not filters.compiled([], [drop])(flow)
    assert filters.compiled([], [other])(flow)
    assert filters.compiled([pb.FlowFilter()], [])(flow)


def test_a_drop_that_does_not_say_counts_as_no_reply() -> None:
    flow = pb.Flow(verdict=pb.DROPPED)
    assert filters.one(pb.FlowFilter(reply=[False]))(flow)
    assert not filters.one(pb.FlowFilter(reply=[True]))(flow)
    assert not filters.one(pb.FlowFilter(reply=[False]))(pb.Flow(verdict=pb.TRACED))


REFUSED = {
    "an address": {"source_ip": ["10.0.0.300"]},
    "a prefix": {"destination_ip": ["10.0.0.0/33"]},
    "an empty pod": {"source_pod": [""]},
    "an empty cluster": {"source_cluster_name": [""]},
    "a port": {"source_port": ["http"]},
    "a port that is too large": {"source_port": ["65536"]},
    "a protocol": {"protocol": ["quic"]},
    "a label selector": {"source_label": ["a=b=c"]},
    "half a label selector": {"source_label": ["a in (b"]},
    "a name pattern": {"source_fqdn": ["exa mple"]},
    "an empty name pattern": {"source_fqdn": [""]},
    "a node pattern with two slashes": {"node_name": ["a/b/c"]},
    "a status": {"http_status_code": ["9+"]},
    "HTTP of drops": {"http_method": ["GET"], "event_type": [{"type": 1}]},
    "a regular expression": {"http_url": ["["]},
    "CEL": {"experimental": {"cel_expression": ["true"]}},
    "too many values": {"source_pod": ["x"] * 1025},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
def test_what_makes_no_sense_is_refused_with_the_field_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).split(".")[0]):
        filters.one(pb.FlowFilter(**fields))


@pytest.mark.parametrize(
    ("whitelist", "types"),
    [
        ([], None),
        ([{"event_type": [{"type": 1}]}], {1}),
        ([{"event_type": [{"type": 1}, {"type": 4}]}, {"event_type": [{"type": 7}]}], {1, 4, 7}),
        ([{"event_type": [{"type": 1}]}, {"source_pod": ["x"]}], None),
        ([{"event_type": [{"type": 0}]}], None),
    ],
)
def test_what_need_not_be_decoded_is_known_by_its_type(whitelist: list[Any], types: set[int] | None) -> None:
    assert filters.event_types([pb.FlowFilter(**fields) for fields in whitelist]) == types


def test_http_of_l7_events_is_fine() -> None:
    assert filters.one(pb.FlowFilter(http_method=["GET"], event_type=[{"type": 129}]))(an_http_flow())


SLOW = ["(a+)+$", "(a*)*b", "(a|aa)+$", "(?=a)", r"(a)\1", "(x+x+)+y", "a" * 1001, "(?>a+)", "((a{1,9}){2,9})*"]


@pytest.mark.parametrize("pattern", SLOW)
def test_regular_expressions_that_could_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        patterns.regex(pattern)


@pytest.mark.parametrize(
    "pattern", ["^/items/[0-9]+$", "a.*b", "(GET|POST) /", r"\d{1,3}(\.\d{1,3}){3}", "(?i)x", "(ab)+"]
)
def test_regular_expressions_that_people_write_are_taken_and_quick(pattern: str) -> None:
    started = time.monotonic()
    patterns.regex(pattern).search("a" * 5000)
    assert time.monotonic() - started < 1


def test_an_empty_selector_selects_everything() -> None:
    assert selectors.parse("").matches(selectors.labels(()))
