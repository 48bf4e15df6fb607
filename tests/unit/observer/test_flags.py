"""Flags of `weft observe` become the request that Hubble's command line would send for them."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from weft.daemon.cli import flow_filters, observe, times
from weft.daemon.cli.failure import Failure
from weft.policies.wire.pb import flow_pb2 as pb
from weft.policies.wire.pb import observer_pb2

NOW = 1_561_989_600_000_000_000  # 2019-07-01T14:00:00Z
SECOND = 1_000_000_000


def parsed(text: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    observe.register(parser.add_subparsers())
    return parser.parse_args(["observe", *text.split()])


def request(text: str) -> observer_pb2.GetFlowsRequest:
    return observe.flows_request(parsed(text), NOW)


def both(side: str, *values: Any, **more: Any) -> list[dict[str, Any]]:
    return [{f"source_{side}": list(values), **more}, {f"destination_{side}": list(values), **more}]


ALLOWED: dict[str, list[dict[str, Any]]] = {
    "": [],
    "--pod web": both("pod", "web"),
    "--pod a --pod b": both("pod", "a", "b"),
    "--from-pod web": [{"source_pod": ["web"]}],
    "--to-pod shop/web": [{"destination_pod": ["shop/web"]}],
    "--from-pod a --to-pod b": [{"source_pod": ["a"], "destination_pod": ["b"]}],
    "--ip 10.0.0.1": both("ip", "10.0.0.1"),
    "--from-ip 10.0.0.0/8": [{"source_ip": ["10.0.0.0/8"]}],
    "--to-ip ::1": [{"destination_ip": ["::1"]}],
    "--snat-ip 1.1.1.1": [{"source_ip_xlated": ["1.1.1.1"]}],
    "--fqdn *.io": both("fqdn", "*.io"),
    "--to-fqdn a.io": [{"destination_fqdn": ["a.io"]}],
    "-l app=web": both("label", "app=web"),
    "--label app=web": both("label", "app=web"),
    "--from-label reserved:world": [{"source_label": ["reserved:world"]}],
    "--service orders": both("service", "orders"),
    "--to-service shop/orders": [{"destination_service": ["shop/orders"]}],
    "--port 80": both("port", "80"),
    "--from-port 80 --to-port 90": [{"source_port": ["80"], "destination_port": ["90"]}],
    "--workload Deployment/web": both("workload", {"kind": "Deployment", "name": "web"}),
    "--to-workload web": [{"destination_workload": [{"name": "web"}]}],
    "--identity 300": both("identity", 300),
    "--from-identity world": [{"source_identity": [2]}],
    "--to-identity kube-apiserver": [{"destination_identity": [7]}],
    "--cluster east": both("cluster_name", "east"),
    "--from-cluster east": [{"source_cluster_name": ["east"]}],
    "-n shop": [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}],
    "-n shop -n bar": [{"source_pod": ["shop/", "bar/"]}, {"destination_pod": ["shop/", "bar/"]}],
    "--from-namespace shop": [{"source_pod": ["shop/"]}],
    "--to-namespace shop": [{"destination_pod": ["shop/"]}],
    "--from-namespace a --to-namespace b": [{"source_pod": ["a/"], "destination_pod": ["b/"]}],
    "-n shop --pod web": [{"source_pod": ["shop/web"]}, {"destination_pod": ["shop/web"]}],
    "--to-namespace shop --to-pod web": [{"destination_pod": ["shop/web"]}],
    "-n shop --service web": [{"source_service": ["shop/web"]}, {"destination_service": ["shop/web"]}],
    "-A": [{"source_pod": ["/"]}, {"destination_pod": ["/"]}],
    "--all-namespaces": [{"source_pod": ["/"]}, {"destination_pod": ["/"]}],
    "--from-all-namespaces": [{"source_pod": ["/"]}],
    "-A --pod web": [{"source_pod": ["/web"]}, {"destination_pod": ["/web"]}],
    "-t drop": [{"event_type": [{"type": 1}]}],
    "-t trace:to-endpoint": [{"event_type": [{"type": 4, "match_sub_type": True, "sub_type": 0}]}],
    "--type drop --type trace:3": [
        {"event_type": [{"type": 1}, {"type": 4, "match_sub_type": True, "sub_type": 3}]}
    ],
    "-t 129": [{"event_type": [{"type": 129}]}],
    "-t agent:policy-updated": [{"event_type": [{"type": 130, "match_sub_type": True, "sub_type": 5}]}],
    "-t trace-sock:sock-open": [{"event_type": [{"type": 7, "match_sub_type": True, "sub_type": 101}]}],
    "--verdict DROPPED --verdict AUDIT": [{"verdict": [pb.DROPPED, pb.AUDIT]}],
    "--drop-reason-desc POLICY_DENIED": [{"drop_reason_desc": [133]}],
    "--protocol tcp": [{"protocol": ["tcp"]}],
    "--tcp-flags syn,ack --tcp-flags rst": [{"tcp_flags": [{"SYN": True, "ACK": True}, {"RST": True}]}],
    "-4": [{"ip_version": [pb.IPv4]}],
    "--ipv6": [{"ip_version": [pb.IPv6]}],
    "--ip-version v6 --ip-version none": [{"ip_version": [pb.IPv6, pb.IP_NOT_USED]}],
    "--traffic-direction Ingress": [{"traffic_direction": [pb.INGRESS]}],
    "--reply": [{"reply": [True]}],
    "--not-reply": [{"reply": [False]}],
    "--encrypted": [{"encrypted": [True]}],
    "--unencrypted": [{"encrypted": [False]}],
    "--uuid x": [{"uuid": ["x"]}],
    "--trace-id x": [{"trace_id": ["x"]}],
    "--ip-trace-id 5": [{"ip_trace_id": [5]}],
    "--node-name node-*": [{"node_name": ["node-*"]}],
    "--node-label zone=a": [{"node_labels": ["zone=a"]}],
    "--interface eth0": [{"interface": [{"name": "eth0"}]}],
    "--http-status 4+": [{"http_status_code": ["4+"]}],
    "--http-method get": [{"http_method": ["get"]}],
    "--http-path /x": [{"http_path": ["/x"]}],
    "--http-url x": [{"http_url": ["x"]}],
    "--http-header a:b:c": [{"http_header": [{"key": "a", "value": "b:c"}]}],
    "--cel-expression true": [{"experimental": {"cel_expression": ["true"]}}],
    '--allowlist {"uuid":["x"]}{"reply":[true]} --pod web': [
        *both("pod", "web"), {"uuid": ["x"]}, {"reply": [True]},
    ],
    '--allowlist {"source_pod":["default/x"]}': [{"source_pod": ["default/x"]}],
}  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED)
def test_flags_make_these_filters(text: str) -> None:
    assert list(request(text).whitelist) == [pb.FlowFilter(**fields) for fields in ALLOWED[text]]
    assert not request(text).blacklist


def test_not_is_about_the_next_flag_only() -> None:
    found = request("--not --pod a --from-ip 1.1.1.1 --not --verdict DROPPED")
    assert list(found.whitelist) == [pb.FlowFilter(source_ip=["1.1.1.1"])]
    assert list(found.blacklist) == [
        pb.FlowFilter(source_pod=["a"], verdict=[pb.DROPPED]),
        pb.FlowFilter(destination_pod=["a"], verdict=[pb.DROPPED]),
    ]


@pytest.mark.parametrize("flag", sorted({*flow_filters.PLAIN, *flow_filters.SIDED, *flow_filters.SWITCHES}))
def test_every_filter_can_be_negated(flag: str) -> None:
    value = {
        "verdict": "DROPPED", "drop-reason-desc": "POLICY_DENIED", "type": "drop", "http-header": "a:b",
        "ip-trace-id": "1", "tcp-flags": "syn", "traffic-direction": "egress", "identity": "world",
    }.get(flag, "x")  # fmt: skip
    text = f"--{flag}" if flag in flow_filters.SWITCHES else f"--{flag} {value}"
    assert list(request(f"--not {text}").blacklist) == list(request(text).whitelist)
    assert not request(f"--not {text}").whitelist


SELECTED: dict[str, tuple[int, bool, bool]] = {
    "": (20, False, False),
    "--last 5": (5, False, False),
    "--first 5": (5, True, False),
    "--all": ((1 << 64) - 1, False, False),
    "-f": (0, False, True),
    "-f --last 3": (3, False, True),
    "--since 1m": (0, False, False),
    "--input-file x": (0, False, False),
}


@pytest.mark.parametrize("text", SELECTED)
def test_how_many(text: str) -> None:
    found = request(text)
    assert (found.number, found.first, found.follow) == SELECTED[text]


TIMES: dict[str, int] = {
    "10s": NOW - 10 * SECOND,
    "1h30m": NOW - 5400 * SECOND,
    "1.5s": NOW - 1_500_000_000,
    "500ms": NOW - 500_000_000,
    "2019-06-30": NOW - 38 * 3600 * SECOND,
    "2019-06-30T18Z": NOW - 20 * 3600 * SECOND,
    "2019-06-30T18:45Z": NOW - (20 * 3600 - 2700) * SECOND,
    "2019-06-30T18+02:00": NOW - 22 * 3600 * SECOND,
    "2019-06-30T18:00:00Z": NOW - 20 * 3600 * SECOND,
    "2019-07-01T14:00:00.123456789Z": NOW + 123456789,
    "2019-07-01T14:00:00.5+00:00": NOW + 500_000_000,
}


@pytest.mark.parametrize("text", TIMES)
def test_since_and_until_are_durations_or_dates(text: str) -> None:
    assert request(f"--since {text}").since.ToNanoseconds() == TIMES[text]
    assert request(f"--until {text}").until.ToNanoseconds() == TIMES[text]


def test_dates_of_mails_are_taken_and_until_is_moot_when_following() -> None:
    assert times.moment("Mon, 01 Jul 2019 16:00:00 +0200", NOW) == NOW
    assert not request("--until 1m -f").HasField("until")


def test_what_formats_print_can_be_read_again() -> None:
    for name, show in times.FORMATS.items():
        if name != "StampMilli":  # has no year
            assert show(times.moment(show(NOW), 0)) == show(NOW), name


def test_formats() -> None:
    nanos = 1_234_567_800_000
    assert {name: show(nanos) for name, show in times.FORMATS.items()} == {
        "YearMonthDay": "1970-01-01",
        "YearMonthDayHour": "1970-01-01T00Z",
        "YearMonthDayHourMinute": "1970-01-01T00:20Z",
        "StampMilli": "Jan  1 00:20:34.567",
        "RFC3339": "1970-01-01T00:20:34Z",
        "RFC3339Milli": "1970-01-01T00:20:34.567Z",
        "RFC3339Micro": "1970-01-01T00:20:34.5678Z",
        "RFC3339Nano": "1970-01-01T00:20:34.5678Z",
        "RFC1123Z": "Thu, 01 Jan 1970 00:20:34 +0000",
    }
    assert times.formatter("rfc3339")(nanos) == "1970-01-01T00:20:34Z"
    assert times.elapsed(3_723 * SECOND) == "1h2m3s" and times.elapsed(59 * SECOND) == "59s"


REFUSED = {
    "--first 1 --last 1": "cannot set both --first and --last",
    "--first 1 --all": "cannot set both --first and --all",
    "--first 1 -f": "cannot set both --first and --follow",
    "--last 1 --all": "cannot set both --last and --all",
    "--not": "trailing --not",
    "--since yesterday": "failed to parse the since time",
    "--until 1x": "failed to parse the until time",
    "--since 2019-13-01": "failed to parse the since time",
    "--allowlist {": "invalid --allowlist flag",
    '--denylist {"no_such":1}': "invalid --denylist flag",
    "--field-mask time": "not compatible with custom field mask",
}


@pytest.mark.parametrize("text", REFUSED)
def test_flags_that_do_not_go_together(text: str) -> None:
    with pytest.raises(Failure, match=REFUSED[text].replace("(", r"\(")) as refused:
        request(text)
    assert refused.value.code == 2


WRONG = {
    "--not --not --pod x": "consecutive --not statements",
    "--pod a --from-pod b": "--pod and --from-pod cannot be combined",
    "--ip 1.1.1.1 --pod b": "--ip and --pod cannot be combined",
    "-n a --to-pod b": "--namespace and --to-pod cannot be combined",
    "--reply --not-reply": "--reply and --not-reply cannot be combined",
    "--from-namespace a --from-pod b/c": "namespace conflict",
    "--to-pod a/b --to-service c/d": "conflict with pod",
    "--verdict NO": "invalid --verdict value",
    "--drop-reason-desc NO": "invalid --drop-reason-desc value",
    "--type what": "not a known type name",
    "--type trace:what": "not a known sub-type name",
    "--tcp-flags syn,x": "unknown tcp flag",
    "--identity none": "invalid security identity",
    "--traffic-direction up": "invalid traffic direction",
    "--ip-trace-id 0": "must be greater than 0",
    "--http-header x": "expected name:value",
    "--last -1": "",
    "--output xml": "invalid choice",
    "--po=web": "unrecognized arguments",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_flag_is_said_at_once(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed(text)
    assert stopped.value.code == 2
    assert WRONG[text] in capsys.readouterr().err


def test_raw_filters_are_printed_as_hubbles_configuration_has_them() -> None:
    assert observe.raw_filters(request("--pod web --not --verdict DROPPED")) == (
        "allowlist:\n"
        """    - '{"source_pod":["web"]}'\n"""
        """    - '{"destination_pod":["web"]}'\n"""
        "denylist:\n"
        """    - '{"verdict":["DROPPED"]}'\n"""
    )
    assert observe.raw_filters(request("")) == "{}\n"


def test_lines_ask_for_what_they_show_and_json_for_all_or_what_was_named() -> None:
    assert "source.pod_name" in request("").field_mask.paths
    assert not request("-o json").field_mask.paths
    assert list(request("-o json --field-mask time,source.pod_name").field_mask.paths) == [
        "time",
        "source.pod_name",
    ]
    assert not request("--no-use-default-field-masks").field_mask.paths
