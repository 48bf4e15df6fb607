"""A record in, a flow out: each event type as Hubble would say it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from flow_records import CLIENT, SERVER, Cluster, record
from weft.bpf import layout
from weft.bpf.layout import CtState, EventFlag, EventType, SockEvent
from weft.daemon.observer import events
from weft.daemon.observer.events import decode
from weft.daemon.observer.flows import Flows, Node
from weft.daemon.observer.service import Observer
from weft.policies.wire.pb import flow_pb2 as pb

REPLY: dict[str, Any] = {
    "source": "10.244.2.7",
    "destination": "10.244.1.5",
    "ports": (8080, 40000),
    "src_identity": 1002,
    "dst_identity": 1001,
    "flags": 0x12,
}


def flow(kind: EventType, **fields: Any) -> pb.Flow:
    observer = Observer("node-1", Cluster(), version="0.1.0", workload_of={99: CLIENT}.get)
    observer.feed(record(kind, **fields))
    return observer.flows.of(observer.ring[0])  # type: ignore[arg-type]


def test_the_format_is_the_struct() -> None:
    """Every field by itself, through the C layout's mirror and back."""
    assert ctypes.sizeof(layout.Event) == events.SIZE
    for name, kind in layout.Event._fields_:
        event = layout.Event()
        if issubclass(kind, ctypes.Array):
            getattr(event, name)[:] = [*range(1, kind._length_ + 1)]
            expected: Any = bytes(range(1, kind._length_ + 1))
        else:
            expected = 0x5A
            setattr(event, name, 0x5A00 if name.endswith("_port") else 0x5A)
        decoded = decode(bytes(event))
        assert getattr(decoded, name) == expected, name
        others = {field: getattr(decoded, field) for field in decoded._fields if field not in (name, "ports")}
        assert not any(value if isinstance(value, int) else any(value) for value in others.values()), name


def test_a_traced_packet() -> None:
    found = flow(EventType.TRACE, ifindex=7, src_mac=b"\x02\0\0\0\0\x01", dst_mac=b"\x02\0\0\0\0\x02", sub_type=0)
    assert found.verdict == pb.FORWARDED and found.Type == pb.L3_L4
    assert (found.event_type.type, found.event_type.sub_type) == (4, 0)
    assert found.trace_observation_point == pb.TO_ENDPOINT and found.trace_reason == pb.NEW
    assert (found.IP.source, found.IP.destination, found.IP.ipVersion) == ("10.244.1.5", "10.244.2.7", pb.IPv4)
    assert (found.l4.TCP.source_port, found.l4.TCP.destination_port) == (40000, 8080)
    assert found.l4.TCP.flags == pb.TCPFlags(SYN=True)
    assert found.ethernet == pb.Ethernet(source="02:00:00:00:00:01", destination="02:00:00:00:00:02")
    assert found.interface == pb.NetworkInterface(index=7, name="lxc7")
    assert found.HasField("is_reply") and not found.is_reply.value
    assert found.traffic_direction == pb.INGRESS
    assert found.Summary == "TCP Flags: SYN"
    assert (found.node_name, found.emitter.name, found.emitter.version) == ("node-1", "Weft", "0.1.0")


def test_both_ends_are_named() -> None:
    found = flow(EventType.TRACE)
    assert found.source == pb.Endpoint(
        ID=11,
        identity=1001,
        cluster_name="default",
        namespace="default",
        labels=CLIENT.labels,
        pod_name="frontend-1",
        workloads=[pb.Workload(name="frontend", kind="Deployment")],
    )
    assert (found.destination.pod_name, found.destination.ID) == (SERVER.pod, 12)


def test_an_outsider_has_the_labels_of_its_identity_and_the_names_that_dns_gave_it() -> None:
    found = flow(EventType.TRACE, source="203.0.113.10", src_identity=9)
    assert found.source == pb.Endpoint(identity=9, labels=["reserved:world-ipv4"])
    assert list(found.source_names) == ["api.example.com"]


def test_the_identity_is_the_one_the_program_judged_by() -> None:
    assert flow(EventType.TRACE, src_identity=777).source.identity == 777
    assert flow(EventType.TRACE, src_identity=777).source.labels == []
    assert flow(EventType.TRACE, src_identity=0).source.identity == 1001


def test_an_icmp_error_is_of_whoever_sent_it_not_of_the_connections_other_end() -> None:
    error = flow(
        EventType.TRACE, source="172.30.0.1", protocol="icmp", flags=3, src_identity=9, ct_state=CtState.RELATED
    )
    assert error.source == pb.Endpoint(identity=1, labels=["reserved:host"])
    assert error.trace_reason == pb.RELATED


def test_a_service_address_names_its_service() -> None:
    found = flow(EventType.DROP, destination="10.96.0.20", ports=(40000, 80), reason=158)
    assert found.destination_service == pb.Service(name="orders", namespace="shop")
    assert not found.HasField("source_service")


def test_a_reply_belongs_to_the_connection_it_answers() -> None:
    found = flow(EventType.TRACE, **REPLY, direction=1, sub_type=3, ct_state=CtState.REPLY)
    assert found.is_reply.value and found.reply
    assert found.traffic_direction == pb.INGRESS  # it leaves the server, of a connection that came in
    assert found.trace_observation_point == pb.TO_STACK and found.trace_reason == pb.REPLY
    assert found.Summary == "TCP Flags: SYN, ACK"


def test_a_drop() -> None:
    found = flow(EventType.DROP, reason=133, cookie=6, direction=0, verdict=0)
    assert found.verdict == pb.DROPPED
    assert (found.event_type.type, found.event_type.sub_type) == (1, 133)
    assert (found.drop_reason, found.drop_reason_desc) == (133, pb.POLICY_DENIED)
    assert not found.HasField("is_reply")
    assert [policy.name for policy in found.ingress_denied_by] == ["deny-rest"]


VERDICTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "allowed": ({"verdict": 1, "cookie": 5}, pb.FORWARDED, "ingress_allowed_by"),
    "allowed on the way out": ({"verdict": 1, "cookie": 5, "direction": 1}, pb.FORWARDED, "egress_allowed_by"),
    "to the proxy": ({"verdict": 2, "cookie": 5}, pb.REDIRECTED, "ingress_allowed_by"),
    "to a proxy that is not there": ({"verdict": 2, "cookie": 5, "reason": 178}, pb.DROPPED, "ingress_denied_by"),
    "denied": ({"verdict": 0, "cookie": 5, "reason": 181}, pb.DROPPED, "ingress_denied_by"),
    "denied in audit mode": (
        {"verdict": 0, "cookie": 5, "reason": 133, "flags_": EventFlag.AUDIT},
        pb.AUDIT,
        "ingress_denied_by",
    ),
}


@pytest.mark.parametrize(("fields", "verdict", "named"), VERDICTS.values(), ids=VERDICTS.keys())
def test_a_policy_verdict(fields: dict[str, Any], verdict: int, named: str) -> None:
    observer = Observer("node-1", Cluster())
    plain = {name: value for name, value in fields.items() if name != "flags_"}
    raw = layout.Event.from_buffer_copy(record(EventType.VERDICT, match=2, **plain))
    raw.flags = fields.get("flags_", 0)
    observer.feed(bytes(raw))
    found = observer.flows.of(observer.ring[0])  # type: ignore[arg-type]
    assert found.verdict == verdict
    assert (found.event_type.type, found.event_type.sub_type, found.policy_match_type) == (5, 0, 2)
    assert found.drop_reason_desc == (fields.get("reason", 0) if verdict == pb.DROPPED else 0)
    assert found.HasField("is_reply") == (verdict != pb.DROPPED)
    lists = ("ingress_allowed_by", "egress_allowed_by", "ingress_denied_by", "egress_denied_by")
    assert [name for name in lists if getattr(found, name)] == [named]
    [policy] = getattr(found, named)
    assert policy == pb.Policy(
        name="allow-frontend", namespace="shop", labels=["k8s:team=a"], revision=7, kind="CiliumNetworkPolicy"
    )


def test_a_missing_proxy_is_said_in_words() -> None:
    assert flow(EventType.DROP, reason=178, verdict=2).Summary == "TCP Flags: SYN; no proxy for this port"


def test_a_socket_that_opens_and_one_that_closes() -> None:
    opened = flow(EventType.SOCK, sub_type=SockEvent.OPEN, socket_cookie=5, cgroup_id=9)
    assert opened.Type == pb.SOCK and opened.verdict == pb.TRACED
    assert (opened.event_type.type, opened.event_type.sub_type) == (7, 101)
    assert opened.sock_xlate_point == pb.SOCK_XLATE_POINT_UNKNOWN
    assert (opened.socket_cookie, opened.cgroup_id, opened.Summary) == (5, 9, "TCP accepted")
    assert flow(EventType.SOCK, sub_type=SockEvent.OPEN, direction=1).Summary == "TCP connected"
    closed = flow(
        EventType.SOCK, sub_type=SockEvent.CLOSE, bytes_sent=10, bytes_received=2000, srtt_us=153, retransmits=1
    )
    assert closed.event_type.sub_type == 102
    assert closed.Summary == "TCP closed: 10 bytes sent, 2000 received, RTT 0.153 ms, 1 retransmits"


def test_who_connected_is_the_source_of_a_socket_whichever_end_tells_of_it() -> None:
    """Both records: frontend-1 port 40000 to orders-1 port 8080; the second is told by the socket that accepted."""
    ends = {"source": "10.244.1.5", "destination": "10.244.2.7", "src_identity": 0, "dst_identity": 0}
    turned = {"source": "10.244.2.7", "destination": "10.244.1.5", "src_identity": 0, "dst_identity": 0}
    for sub_type in (SockEvent.OPEN, SockEvent.CLOSE):
        connected = flow(EventType.SOCK, sub_type=sub_type, direction=1, ports=(40000, 8080), **ends)
        accepted = flow(EventType.SOCK, sub_type=sub_type, direction=0, ports=(8080, 40000), **turned)
        for one in (connected, accepted):
            assert (one.IP.source, one.IP.destination) == ("10.244.1.5", "10.244.2.7")
            assert (one.source.pod_name, one.destination.pod_name) == ("frontend-1", "orders-1")
            assert (one.l4.TCP.source_port, one.l4.TCP.destination_port) == (40000, 8080)
            assert one.HasField("is_reply") and not one.is_reply.value
        assert (connected.traffic_direction, accepted.traffic_direction) == (pb.EGRESS, pb.INGRESS)


def test_a_drop_before_there_is_a_packet_has_no_flags() -> None:
    assert flow(EventType.DROP, reason=158, tcp_flags=0).Summary == "TCP"


def test_the_choice_of_a_backend_names_the_service_and_who_asked() -> None:
    """The record has the service where others have the source; its cookie is the service's number, no policy's."""
    chosen = flow(
        EventType.SOCK,
        sub_type=SockEvent.XLATE_FWD,
        source="10.96.0.20",
        ports=(80, 8080),
        cgroup_id=99,
        cookie=5,
        src_identity=0,
        dst_identity=0,
    )
    assert chosen.verdict == pb.TRANSLATED
    assert chosen.sock_xlate_point == pb.SOCK_XLATE_POINT_POST_DIRECTION_FWD
    assert chosen.source.pod_name == "frontend-1" and chosen.destination.pod_name == "orders-1"
    assert chosen.destination_service.name == "orders" and not chosen.HasField("source_service")
    assert (chosen.IP.source, chosen.IP.destination) == ("", "10.244.2.7")
    assert (chosen.l4.TCP.source_port, chosen.l4.TCP.destination_port) == (0, 8080)
    assert not chosen.ingress_allowed_by and not chosen.egress_allowed_by


PACKETS: dict[str, tuple[dict[str, Any], str, str]] = {
    "UDP": ({"protocol": "udp"}, "UDP", "UDP"),
    "SCTP": ({"protocol": "sctp"}, "SCTP", "SCTP"),
    "ping": ({"protocol": "icmp", "flags": 8}, "ICMPv4", "ICMPv4 EchoRequest"),
    "port unreachable": (
        {"protocol": "icmp", "flags": 3, "icmp_code": 3},
        "ICMPv4",
        "ICMPv4 DestinationUnreachable(Port)",
    ),
    "ping of IPv6": (
        {"protocol": "icmp6", "flags": 128, "source": "fd00:10:244:1::5", "destination": "fd00:10:244:2::7"},
        "ICMPv6",
        "ICMPv6 EchoRequest",
    ),
    "an ICMP type that nobody knows": ({"protocol": "icmp", "flags": 42}, "ICMPv4", "ICMPv4 42(0)"),
    "another protocol": ({"protocol": "gre"}, "", "IPv4"),
}


@pytest.mark.parametrize(("fields", "layer", "summary"), PACKETS.values(), ids=PACKETS.keys())
def test_packets_that_are_not_tcp(fields: dict[str, Any], layer: str, summary: str) -> None:
    found = flow(EventType.TRACE, **fields)
    assert (found.l4.WhichOneof("protocol") or "") == layer
    assert found.Summary == summary
    assert found.IP.ipVersion == (pb.IPv6 if layer == "ICMPv6" else pb.IPv4)


def test_a_uuid_stays_with_its_flow_and_is_nobody_elses() -> None:
    observer = Observer("node-1", Cluster())
    for _ in range(3):
        observer.feed(record())
    uuids = [observer.flows.of(observer.ring[number]).uuid for number in (0, 1, 2, 0)]  # type: ignore[arg-type]
    assert uuids[0] == uuids[3] and len(set(uuids)) == 3
    assert Flows(Node("node-1"), Cluster())._uuid != observer.flows._uuid


def test_a_cluster_with_a_name_shows_in_the_node_name() -> None:
    assert Node("node-1", "default").full_name == "node-1"
    assert Node("node-1", "east").full_name == "east/node-1"


def test_time_is_the_wall_clocks_also_after_it_was_set() -> None:
    clock = {"wall": 1_000_000_000_000, "monotonic": 0}
    observer = Observer("n", Cluster(), clocks=lambda: (clock["wall"], clock["monotonic"]))
    observer.feed(record(time_ns=500))
    clock.update(wall=9_000_000_000_000, monotonic=2_000_000_000)
    observer.feed(record(time_ns=2_000_000_001))
    assert [observer.ring[n].time_ns for n in (0, 1)] == [1_000_000_000_500, 9_000_000_000_001]


UNDECODABLE = {
    "empty": b"",
    "cut short": record()[:-1],
    "of a type that does not exist": record()[:8] + b"\xff" + record()[9:],
    "all ones": b"\xff" * 136,
}


@pytest.mark.parametrize("raw", UNDECODABLE.values(), ids=UNDECODABLE.keys())
def test_a_record_that_cannot_be_decoded_is_counted(raw: bytes) -> None:
    observer = Observer("n", Cluster())
    observer.feed(raw)
    assert observer.seen == 0 and observer.status()["lost"]["undecodable"] == 1


def test_any_bytes_of_a_known_type_become_some_flow() -> None:
    """Fuzz: whatever a program writes into a record of a known type, reading it does not fail."""
    import random

    rng = random.Random(7)
    observer = Observer("n", Cluster())
    for number in range(2000):
        raw = bytearray(rng.randbytes(events.SIZE))
        raw[0:8] = (1).to_bytes(8, "little")
        raw[events.TYPE] = rng.choice([1, 4, 5, 7])
        observer.feed(bytes(raw))
        observer.flows.of(observer.ring[number]).SerializeToString()  # type: ignore[arg-type]
    assert list(observer.metrics.collect())
