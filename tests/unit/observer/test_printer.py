"""Golden lines: what Hubble's command line prints for these flows, letter by letter."""

from __future__ import annotations

import io
from typing import Any

import pytest

from weft.daemon.cli import flow_status, printer, times
from weft.daemon.cli.printer import Options, Printer
from weft.policies.wire.pb import flow_pb2 as pb
from weft.policies.wire.pb import observer_pb2, relay_pb2

BASE: dict[str, Any] = {
    "time": {"seconds": 1234, "nanos": 567800000},
    "Type": pb.L3_L4,
    "node_name": "k8s1",
    "verdict": pb.DROPPED,
    "IP": {"source": "1.1.1.1", "destination": "2.2.2.2"},
    "source": {"identity": 4},
    "destination": {"identity": 12345},
    "event_type": {"type": 1, "sub_type": 133},
    "l4": {"TCP": {"source_port": 31793, "destination_port": 8080}},
    "is_reply": {"value": False},
    "Summary": "TCP Flags: SYN",
}
POD, OTHER_POD = (
    {"namespace": "default", "pod_name": "tiefighter"},
    {"namespace": "default", "pod_name": "deathstar-1"},
)
CNP = {"name": "my-policy", "namespace": "ns", "kind": "CiliumNetworkPolicy"}
CCNP = {"name": "my-policy-2", "kind": "CiliumClusterwideNetworkPolicy"}


def flow(**changed: Any) -> pb.Flow:
    fields = {name: value for name, value in {**BASE, **changed}.items() if value is not None}
    return pb.Flow(**fields)


def printed(*flows: pb.Flow, **options: Any) -> str:
    out = io.StringIO()
    to = Printer(Options(**options), out, io.StringIO())
    for one in flows:
        to.write(observer_pb2.GetFlowsResponse(flow=one, node_name=one.node_name, time=one.time))
    to.close()
    return out.getvalue()


HEAD = "Jan  1 00:20:34.567: "
ENDS = "1.1.1.1:31793 (health) -> 2.2.2.2:8080 (ID:12345) "
UNKNOWN = "1.1.1.1:31793 (health) <> 2.2.2.2:8080 (ID:12345) "
TAIL = " (TCP Flags: SYN)\n"


def verdict(**fields: Any) -> pb.Flow:
    return flow(**{"event_type": {"type": 5}, "is_reply": None, **fields})


COMPACT: dict[str, tuple[pb.Flow, dict[str, Any], str]] = {
    "a drop": (flow(), {}, f"{HEAD}{ENDS}Policy denied DROPPED{TAIL}"),
    "with the node": (
        flow(), {"node_name": True}, f"Jan  1 00:20:34.567 [k8s1]: {ENDS}Policy denied DROPPED{TAIL}",
    ),
    "a reply is turned round": (
        flow(is_reply={"value": True}),
        {},
        f"{HEAD}2.2.2.2:8080 (ID:12345) <- 1.1.1.1:31793 (health) Policy denied DROPPED{TAIL}",
    ),
    "of unknown direction": (flow(is_reply=None), {}, f"{HEAD}{UNKNOWN}Policy denied DROPPED{TAIL}"),
    "a reply between pods": (
        flow(
            source=OTHER_POD | {"identity": 3},
            destination=POD | {"identity": 300},
            IP={"source": "10.0.0.1", "destination": "10.0.0.2"},
            l4={"TCP": {"source_port": 80, "destination_port": 50214}},
            is_reply={"value": True},
            verdict=pb.FORWARDED,
            event_type={"type": 4, "sub_type": 0},
            Summary="TCP Flags: SYN, ACK",
        ),
        {},
        f"{HEAD}default/tiefighter:50214 (ID:300) <- default/deathstar-1:80 (unmanaged) "
        "to-endpoint FORWARDED (TCP Flags: SYN, ACK)\n",
    ),
    "denied": (
        verdict(traffic_direction=pb.EGRESS, egress_denied_by=[CNP]),
        {},
        f"{HEAD}{UNKNOWN}policy-verdict:none EGRESS DENIED{TAIL}",
    ),
    "denied, by whom": (
        verdict(traffic_direction=pb.EGRESS, egress_denied_by=[CNP]),
        {"policy_names": True},
        f"{HEAD}{UNKNOWN}policy-verdict:none EGRESS DENIED BY my-policy (CiliumNetworkPolicy){TAIL}",
    ),
    "allowed, by whom": (
        verdict(
            verdict=pb.FORWARDED, traffic_direction=pb.INGRESS, ingress_allowed_by=[CNP, CCNP], policy_match_type=1
        ),
        {"policy_names": True},
        f"{HEAD}{UNKNOWN}policy-verdict:L3-Only INGRESS ALLOWED BY my-policy (CiliumNetworkPolicy), "
        f"my-policy-2 (CiliumClusterwideNetworkPolicy){TAIL}",
    ),
    "allowed, by nobody that is named": (
        verdict(verdict=pb.REDIRECTED, traffic_direction=pb.INGRESS, policy_match_type=4),
        {"policy_names": True},
        f"{HEAD}{UNKNOWN}policy-verdict:all INGRESS ALLOWED{TAIL}",
    ),
    "audited": (
        verdict(verdict=pb.AUDIT, traffic_direction=pb.EGRESS, egress_denied_by=[CNP]),
        {"policy_names": True},
        f"{HEAD}{UNKNOWN}policy-verdict:none EGRESS AUDITED BY my-policy (CiliumNetworkPolicy){TAIL}",
    ),
    "with a trace id": (
        flow(ip_trace_id={"trace_id": 1234}),
        {},
        f"{HEAD}{ENDS}Policy denied DROPPED (IP Trace ID: 1234; TCP Flags: SYN)\n",
    ),
    "with authentication": (
        flow(auth_type=pb.SPIRE),
        {},
        f"{HEAD}{ENDS}Policy denied DROPPED (TCP Flags: SYN; Auth: SPIRE)\n",
    ),
    "of IPv6": (
        flow(IP={"source": "1111::1", "destination": "2222::2", "ipVersion": pb.IPv6}),
        {},
        f"{HEAD}[1111::1]:31793 (health) -> [2222::2]:8080 (ID:12345) Policy denied DROPPED{TAIL}",
    ),
    "without ports": (
        flow(l4={"ICMPv4": {"type": 8}}, Summary="ICMPv4 EchoRequest", event_type={"type": 4, "sub_type": 3}),
        {},
        f"{HEAD}1.1.1.1 (health) -> 2.2.2.2 (ID:12345) to-stack DROPPED (ICMPv4 EchoRequest)\n",
    ),
    "of a frame": (
        flow(IP=None, l4=None, ethernet={"source": "00:01", "destination": "00:02"}, Summary="ARP"),
        {},
        f"{HEAD}00:01 (health) -> 00:02 (ID:12345) Policy denied DROPPED (ARP)\n",
    ),
    "to a service": (
        flow(destination_service={"namespace": "shop", "name": "orders"}, destination_names=["a.b"]),
        {},
        f"{HEAD}1.1.1.1:31793 (health) -> shop/orders:8080 (ID:12345) Policy denied DROPPED{TAIL}",
    ),
    "to a name": (
        flow(destination_names=["a.b", "c.d"]),
        {},
        f"{HEAD}1.1.1.1:31793 (health) -> a.b,c.d:8080 (ID:12345) Policy denied DROPPED{TAIL}",
    ),
    "in numbers": (
        flow(source=POD | {"identity": 4}, destination_names=["a.b"]),
        {"ip_translation": False},
        f"{HEAD}{ENDS}Policy denied DROPPED{TAIL}",
    ),
    "an HTTP request": (
        flow(
            Type=pb.L7, l7={"type": pb.REQUEST, "http": {"method": "GET"}}, verdict=pb.FORWARDED,
            Summary="HTTP/1.1 GET http://10.97.60.117/details/1",
        ),
        {},
        f"{HEAD}{ENDS}http-request FORWARDED (HTTP/1.1 GET http://10.97.60.117/details/1)\n",
    ),
    "a DNS answer": (
        flow(
            Type=pb.L7, l7={"type": pb.RESPONSE, "dns": {"observation_source": "proxy"}}, verdict=pb.FORWARDED,
            Summary='DNS Answer "104.198.14.52" TTL: 30 (Proxy cilium.io. A)',
        ),
        {},
        f'{HEAD}{ENDS}dns-response proxy FORWARDED (DNS Answer "104.198.14.52" TTL: 30 (Proxy cilium.io. A))\n',
    ),
    "a socket that is translated": (
        verdict(event_type={"type": 7, "sub_type": 2}, verdict=pb.TRANSLATED, Summary="TCP"),
        {},
        f"{HEAD}{UNKNOWN}post-xlate-fwd TRANSLATED (TCP)\n",
    ),
    "a socket that opens": (
        verdict(event_type={"type": 7, "sub_type": 101}, verdict=pb.TRACED, Summary="TCP connected"),
        {},
        f"{HEAD}{UNKNOWN}sock-open TRACED (TCP connected)\n",
    ),
    "of a type that nobody knows": (
        flow(event_type={"type": 42}), {}, f"{HEAD}{ENDS}UNKNOWN DROPPED{TAIL}",
    ),
    "a reason that nobody knows": (
        flow(event_type={"type": 1, "sub_type": 249}), {}, f"{HEAD}{ENDS}249, 0 DROPPED{TAIL}",
    ),
    "in another time format": (
        flow(),
        {"time": times.FORMATS["RFC3339Nano"]},
        f"1970-01-01T00:20:34.5678Z: {ENDS}Policy denied DROPPED{TAIL}",
    ),
    "what a terminal would obey": (
        flow(Summary="\x1b[2Jgone\nJan  1 forged"),
        {},
        f"{HEAD}{ENDS}Policy denied DROPPED (^[[2Jgone\\nJan  1 forged)\n",
    ),
    "in colours": (
        flow(),
        {"color": True},
        f"{HEAD}\x1b[36m1.1.1.1:\x1b[33m31793\x1b[0m\x1b[0m \x1b[35m(health)\x1b[0m -> "
        "\x1b[36m2.2.2.2:\x1b[33m8080\x1b[0m\x1b[0m \x1b[35m(ID:12345)\x1b[0m Policy denied "
        f"\x1b[31mDROPPED\x1b[0m{TAIL}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "options", "line"), COMPACT.values(), ids=COMPACT.keys())
def test_compact(one: pb.Flow, options: dict[str, Any], line: str) -> None:
    assert printed(one, **options) == line


def test_table() -> None:
    assert printed(flow(), flow(verdict=pb.FORWARDED), form="table") == (
        "TIMESTAMP             SOURCE          DESTINATION    TYPE            VERDICT     SUMMARY\n"
        "Jan  1 00:20:34.567   1.1.1.1:31793   2.2.2.2:8080   Policy denied   DROPPED     TCP Flags: SYN\n"
        "Jan  1 00:20:34.567   1.1.1.1:31793   2.2.2.2:8080   Policy denied   FORWARDED   TCP Flags: SYN\n"
    )
    assert printed(flow(), form="table", node_name=True, color=True).splitlines() == [
        "TIMESTAMP             NODE   SOURCE          DESTINATION    TYPE            VERDICT   SUMMARY",
        "Jan  1 00:20:34.567   k8s1   1.1.1.1:31793   2.2.2.2:8080   Policy denied   DROPPED   TCP Flags: SYN",
    ]
    assert printed(form="table") == ""


def test_dict() -> None:
    block = (
        "  TIMESTAMP: Jan  1 00:20:34.567\n"
        "     SOURCE: 1.1.1.1:31793\n"
        "DESTINATION: 2.2.2.2:8080\n"
        "       TYPE: Policy denied\n"
        "    VERDICT: DROPPED\n"
        "    SUMMARY: TCP Flags: SYN\n"
    )
    assert printed(flow(), flow(), form="dict") == f"{block}------------\n{block}"
    assert printed(flow(), form="dict", node_name=True).splitlines()[1] == "       NODE: k8s1"


@pytest.mark.parametrize("form", ["json", "jsonpb"])
def test_json_is_one_response_on_a_line(form: str) -> None:
    assert printed(flow(), form=form) == (
        '{"flow":{"time":"1970-01-01T00:20:34.567800Z","verdict":"DROPPED",'
        '"IP":{"source":"1.1.1.1","destination":"2.2.2.2"},'
        '"l4":{"TCP":{"source_port":31793,"destination_port":8080}},'
        '"source":{"identity":4},"destination":{"identity":12345},'
        '"Type":"L3_L4","node_name":"k8s1","event_type":{"type":1,"sub_type":133},'
        '"is_reply":false,"Summary":"TCP Flags: SYN"},'
        '"node_name":"k8s1","time":"1970-01-01T00:20:34.567800Z"}\n'
    )


def lost() -> observer_pb2.GetFlowsResponse:
    return observer_pb2.GetFlowsResponse(
        lost_events={
            "source": pb.HUBBLE_RING_BUFFER,
            "num_events_lost": 5,
            "cpu": {"value": 3},
            "first": {"seconds": 1},
            "last": {"seconds": 2},
        },
        time={"seconds": 1234},
    )


LOST = {
    "compact": "Jan  1 00:20:34.000 EVENTS LOST: HUBBLE_RING_BUFFER CPU(3) 5 "
    "(first: Jan  1 00:00:01.000, last: Jan  1 00:00:02.000)\n",
    "dict": "  TIMESTAMP: Jan  1 00:20:34.000\n     SOURCE: HUBBLE_RING_BUFFER\n       TYPE: EVENTS LOST\n"
    "    VERDICT: -\n    SUMMARY: CPU(3) - 5 (first: Jan  1 00:00:01.000, last: Jan  1 00:00:02.000)\n",
    "table": "TIMESTAMP             SOURCE               DESTINATION   TYPE          VERDICT   SUMMARY\n"
    "Jan  1 00:20:34.000   HUBBLE_RING_BUFFER   -             EVENTS LOST   -         "
    "CPU(3) - 5 (first: Jan  1 00:00:01.000, last: Jan  1 00:00:02.000)\n",
}


@pytest.mark.parametrize("form", LOST)
def test_a_loss(form: str) -> None:
    out = io.StringIO()
    to = Printer(Options(form=form), out)
    to.write(lost())
    to.close()
    assert out.getvalue() == LOST[form]


@pytest.mark.parametrize(
    ("state", "debug", "text"),
    [
        (relay_pb2.NODE_UNAVAILABLE, False, "2 nodes are unavailable: a, b"),
        (relay_pb2.NODE_ERROR, False, 'Error "no" on 2 nodes: a, b'),
        (relay_pb2.NODE_CONNECTED, True, "Receiving flows from 2 nodes: a, b"),
        (relay_pb2.NODE_GONE, True, "2 nodes removed from cluster: a, b"),
        (relay_pb2.NODE_CONNECTED, False, ""),
    ],
)
def test_a_node_in_trouble_is_told_on_stderr(state: Any, debug: bool, text: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    status = relay_pb2.NodeStatusEvent(state_change=state, node_names=["a", "b"], message="no")
    response = observer_pb2.GetFlowsResponse(node_status=status, node_name="relay", time={"seconds": 1234})
    Printer(Options(debug=debug), out, err).write(response)
    assert out.getvalue() == ""
    assert err.getvalue() == (f"Jan  1 00:20:34.000 [relay]: {text}\n" if text else "")


def test_many_node_names_are_shortened() -> None:
    names = [f"node-number-{n}" for n in range(10)]
    assert printer.shortened(names) == "node-number-0, node-number-1, node-number-2 (and 7 more)"
    assert printer.shortened(["x" * 99, "y"]) == f"{'x' * 99} (and 1 more)"


def test_status_lines() -> None:
    one = observer_pb2.ServerStatusResponse(
        num_flows=4095, max_flows=4095, seen_flows=9, flows_rate=46.19, uptime_ns=1
    )
    assert printer.status_lines(one) == ["Current/Max Flows: 4,095/4,095 (100.00%)", "Flows/s: 46.19"]
    one.num_connected_nodes.value, one.num_unavailable_nodes.value = 3, 1
    one.unavailable_nodes.append("node-4")
    assert printer.status_lines(one)[2:] == ["Connected Nodes: 3/4", "Unavailable Nodes: 1", "  - node-4"]


def test_the_line_of_weft_status() -> None:
    status = {"current_flows": 46, "max_flows": 4095, "flows_per_second": 0.5, "lost": {"kernel_ring": 0}}
    assert flow_status.line(status) == "Current/Max Flows: 46/4095 (1.12%), Flows/s: 0.50"
    assert flow_status.line(status | {"lost": {"kernel_ring": 3}}).endswith(", Lost: 3 (kernel ring)")


@pytest.mark.parametrize(
    ("when", "environment", "tty", "expected"),
    [
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {}, True, False),
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
    ],
)
def test_colours(
    when: str, environment: dict[str, str], tty: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: tty)
    assert printer.colored(when, out) is expected
