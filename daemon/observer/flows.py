"""One record of a program, with the names of its moment, becomes a Flow as Hubble would say it.

What Hubble does not know and Weft does goes where it disturbs nobody: the decisive policies also on drops, a few
words in the summary, opens and closes of sockets as socket events with sub types of their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from weft.bpf.layout import CtState, EventFlag, EventType, Reason, SockEvent
from weft.daemon.observer import l7, names
from weft.daemon.observer.directory import Directory, Owner, PolicyName
from weft.daemon.observer.events import Event, addresses, decode
from weft.daemon.observer.l7 import L7Entry
from weft.daemon.observer.store import Entry
from weft.policies.model import Direction, Protocol
from weft.policies.table import Verdict
from weft.policies.wire.pb import flow_pb2 as pb

_NO = BoolValue(value=False)
_YES = BoolValue(value=True)
_NO_MAC: Final = bytes(6)
_ENDPOINTS_KEPT: Final = 1024  # as messages; making one costs as much as the rest of a flow
_SOCK_POINTS: Final[dict[int, int]] = {
    SockEvent.OPEN: names.SOCK_OPEN,
    SockEvent.CLOSE: names.SOCK_CLOSE,
    SockEvent.XLATE_FWD: pb.SOCK_XLATE_POINT_POST_DIRECTION_FWD,
    SockEvent.XLATE_REV: pb.SOCK_XLATE_POINT_POST_DIRECTION_REV,
}
_L4: Final[dict[int, str]] = {Protocol.TCP: "TCP", Protocol.UDP: "UDP", Protocol.SCTP: "SCTP"}


@dataclass(frozen=True, slots=True)
class Node:
    """Whose flows these are. `cluster` "default" does not show in the node's name, as in Hubble."""

    name: str
    cluster: str = "default"
    labels: tuple[str, ...] = ()
    version: str = ""

    @property
    def full_name(self) -> str:
        return self.name if self.cluster in ("", "default") else f"{self.cluster}/{self.name}"


class Flows:
    """Turns entries into flows. A flow's uuid is this start's and the entry's number, so that it is the same
    whenever the flow is read, and another one after a restart."""

    def __init__(self, node: Node, directory: Directory) -> None:
        self._node = node
        self._directory = directory
        self._emitter = pb.Emitter(name="Weft", version=node.version)
        self._endpoints: dict[tuple[int, int], tuple[Owner, pb.Endpoint]] = {}
        start = secrets.token_hex(9)
        self._uuid = f"{start[:8]}-{start[8:12]}-4{start[12:15]}-a{start[15:18]}-"

    def of(self, entry: Entry | L7Entry) -> pb.Flow:
        if isinstance(entry, L7Entry):
            return self._request(entry)
        event = decode(entry.record)
        source, destination = addresses(entry.record)
        ends = entry.source, entry.destination
        if is_accepted(event):
            event, source, destination, ends = turned(event), destination, source, (ends[1], ends[0])
        from_port = 0 if is_choice(event) else event.src_port
        flow = pb.Flow(
            time=Timestamp(seconds=entry.time_ns // 1_000_000_000, nanos=entry.time_ns % 1_000_000_000),
            uuid=f"{self._uuid}{entry.number:012x}",
            emitter=self._emitter,
            verdict=verdict(event),
            IP=pb.IP(
                source="" if is_choice(event) or not any(source) else text(source),
                destination=text(destination),
                ipVersion=pb.IPv6 if event.family == 6 else pb.IPv4,
            ),
            l4=layer4(event, from_port),
            source=self._endpoint(ends[0], judged(event, event.src_identity)),
            destination=self._endpoint(ends[1], judged(event, event.dst_identity)),
            Type=pb.SOCK if event.type == EventType.SOCK else pb.L3_L4,
            node_name=self._node.full_name,
            node_labels=self._node.labels,
            source_names=() if is_choice(event) else self._directory.names(source),
            destination_names=self._directory.names(destination),
            Summary=summary(event),
        )
        if event.src_mac != _NO_MAC or event.dst_mac != _NO_MAC:
            flow.ethernet.source = event.src_mac.hex(":")
            flow.ethernet.destination = event.dst_mac.hex(":")
        if event.ifindex:
            flow.interface.index = event.ifindex
            flow.interface.name = self._directory.interface(event.ifindex)
        self._put_services(flow, event, source, destination)
        put_kind(flow, event)
        if entry.policies:
            put_policies(flow, event, entry.policies)
        return flow

    def _request(self, entry: L7Entry) -> pb.Flow:
        record = entry.record
        client = self._endpoint(entry.source, record.source_identity)
        server = self._endpoint(entry.destination, record.destination_identity)
        source, destination = (server, client) if entry.response else (client, server)
        flow = pb.Flow(
            uuid=f"{self._uuid}{entry.number:012x}",
            emitter=self._emitter,
            source=source,
            destination=destination,
            node_name=self._node.full_name,
            node_labels=self._node.labels,
        )
        l7.fill(flow, entry)
        flow.source_names.extend(self._directory.names(l7.packed(flow.IP.source)))
        flow.destination_names.extend(self._directory.names(l7.packed(flow.IP.destination)))
        return flow

    def _endpoint(self, owner: Owner | None, identity: int) -> pb.Endpoint:
        """The identity is the one the program judged by; 0, it did not look: then what the directory knows."""
        if owner is None:
            return pb.Endpoint(identity=identity, labels=self._directory.identity_labels(identity))
        kept = self._endpoints.get((id(owner), identity))
        if kept is not None and kept[0] is owner:
            return kept[1]
        if len(self._endpoints) >= _ENDPOINTS_KEPT:
            self._endpoints.clear()
        endpoint = self._new_endpoint(owner, identity)
        self._endpoints[id(owner), identity] = (owner, endpoint)
        return endpoint

    def _new_endpoint(self, owner: Owner, identity: int) -> pb.Endpoint:
        same = identity in (0, owner.identity)
        endpoint = pb.Endpoint(
            ID=owner.endpoint_id,
            identity=identity or owner.identity,
            namespace=owner.namespace,
            labels=owner.labels if same else self._directory.identity_labels(identity),
            pod_name=owner.pod,
            cluster_name=self._node.cluster if owner.pod else "",
        )
        if owner.workload_name:
            endpoint.workloads.add(name=owner.workload_name, kind=owner.workload_kind)
        return endpoint

    def _put_services(self, flow: pb.Flow, event: Event, source: bytes, destination: bytes) -> None:
        service = self._directory.service(destination, event.dst_port)
        if service is not None:
            flow.destination_service.CopyFrom(pb.Service(name=service.name, namespace=service.namespace))
        service = self._directory.service(source, event.src_port)
        if service is None:
            return
        # The choice of a backend has the service where others have the source, which is not known by address yet.
        field = flow.destination_service if is_choice(event) else flow.source_service
        field.CopyFrom(pb.Service(name=service.name, namespace=service.namespace))


def judged(event: Event, identity: int) -> int:
    """An ICMP error was judged as part of its connection, but who sent it is somebody on the way: 0, ask."""
    return 0 if event.ct_state == CtState.RELATED else identity


def is_choice(event: Event) -> bool:
    return event.type == EventType.SOCK and event.sub_type == SockEvent.XLATE_FWD


def is_accepted(event: Event) -> bool:
    """A socket that accepted its connection: what a program says of it is seen from there."""
    socket = event.type == EventType.SOCK and event.sub_type in (SockEvent.OPEN, SockEvent.CLOSE)
    return socket and event.direction == Direction.INGRESS


def turned(event: Event) -> Event:
    """With the ends exchanged: who connected is the source of a flow, whichever end tells of it."""
    return event._replace(
        ports=event.ports[2:] + event.ports[:2],
        src_identity=event.dst_identity,
        dst_identity=event.src_identity,
    )


@lru_cache(1024)
def text(address: bytes) -> str:
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))


def verdict(event: Event) -> pb.Verdict:
    return verdict_of(event.type, event.sub_type, event.verdict, event.reason, event.flags)


def verdict_of(kind: int, sub_type: int, decided: int, reason: int, flags: int) -> pb.Verdict:
    """From the parts of an event, for those who count without decoding."""
    if kind == EventType.TRACE:
        return pb.FORWARDED
    if kind == EventType.SOCK:
        return pb.TRANSLATED if sub_type in (SockEvent.XLATE_FWD, SockEvent.XLATE_REV) else pb.TRACED
    if flags & EventFlag.AUDIT:
        return pb.AUDIT
    # A redirect that came to nothing, for want of a proxy, carries a reason too.
    if kind == EventType.DROP or decided == Verdict.DENY or reason != Reason.OK:
        return pb.DROPPED
    return pb.REDIRECTED if decided == Verdict.REDIRECT else pb.FORWARDED


def is_reply(event: Event) -> BoolValue | None:
    """None where a program does not say: on drops and denials, as Hubble."""
    if event.type == EventType.SOCK and event.sub_type in (SockEvent.OPEN, SockEvent.CLOSE):
        return _NO
    if event.type == EventType.TRACE:
        return _YES if event.ct_state == CtState.REPLY else _NO
    if event.type == EventType.VERDICT and verdict(event) != pb.DROPPED:
        return _NO
    return None


def traffic_direction(event: Event) -> pb.TrafficDirection:
    """Of the connection, seen from the endpoint: a reply that leaves belongs to an ingress connection."""
    egress = event.direction == Direction.EGRESS
    if event.type == EventType.TRACE and event.ct_state == CtState.REPLY:
        egress = not egress
    return pb.EGRESS if egress else pb.INGRESS


@lru_cache(256)
def tcp_flags(flags: int) -> pb.TCPFlags:
    return pb.TCPFlags(**{name: True for bit, name in names.TCP_FLAGS if flags & bit})


def layer4(event: Event, from_port: int) -> pb.Layer4 | None:
    """None: of a protocol that flows have no words for."""
    if event.protocol == Protocol.TCP:
        flags = None if event.type == EventType.SOCK else tcp_flags(event.tcp_flags)
        return pb.Layer4(TCP=pb.TCP(source_port=from_port, destination_port=event.dst_port, flags=flags))
    if event.protocol == Protocol.UDP:
        return pb.Layer4(UDP=pb.UDP(source_port=from_port, destination_port=event.dst_port))
    if event.protocol == Protocol.SCTP:
        return pb.Layer4(SCTP=pb.SCTP(source_port=from_port, destination_port=event.dst_port))
    if event.protocol == Protocol.ICMP:
        return pb.Layer4(ICMPv4=pb.ICMPv4(type=event.tcp_flags, code=event.icmp_code))
    if event.protocol == Protocol.ICMPV6:
        return pb.Layer4(ICMPv6=pb.ICMPv6(type=event.tcp_flags, code=event.icmp_code))
    return None


def put_kind(flow: pb.Flow, event: Event) -> None:
    """What depends on the kind of event."""
    flow.event_type.type = event.type
    if event.type == EventType.SOCK:
        point = _SOCK_POINTS.get(event.sub_type, 0)
        flow.event_type.sub_type = point
        if point <= pb.SOCK_XLATE_POINT_POST_DIRECTION_REV:
            flow.sock_xlate_point = point  # type: ignore[assignment]
        flow.socket_cookie, flow.cgroup_id = event.socket_cookie, event.cgroup_id
    if event.type != EventType.SOCK or event.sub_type in (SockEvent.OPEN, SockEvent.CLOSE):
        flow.traffic_direction = traffic_direction(event)
    reply = is_reply(event)
    if reply is not None:
        flow.is_reply.CopyFrom(reply)
        flow.reply = reply.value
    if event.type == EventType.SOCK:
        return
    if event.type == EventType.TRACE:
        flow.event_type.sub_type = event.sub_type
        flow.trace_observation_point = event.sub_type or pb.TO_ENDPOINT  # type: ignore[assignment]
        flow.trace_reason = event.ct_state + 1  # type: ignore[assignment]
        return
    if flow.verdict == pb.DROPPED:
        flow.drop_reason = event.reason
        flow.drop_reason_desc = event.reason  # type: ignore[assignment]
    if event.type == EventType.DROP:
        flow.event_type.sub_type = event.reason
    else:
        flow.policy_match_type = event.match


def put_policies(flow: pb.Flow, event: Event, policies: tuple[PolicyName, ...]) -> None:
    """An audited flow names those that would have denied it, as Hubble."""
    if event.type not in (EventType.VERDICT, EventType.DROP):
        return
    denied = flow.verdict in (pb.DROPPED, pb.AUDIT)
    l7.name_policies(flow, event.direction == Direction.EGRESS, denied, policies)


def summary(event: Event) -> str:
    """Hubble's one line, and what Weft has to add. A drop before there is a packet (no backend) has no flags."""
    if event.type == EventType.SOCK:
        return sock_summary(event)
    if event.protocol == Protocol.TCP and event.tcp_flags:
        line = f"TCP Flags: {names.tcp_flags(event.tcp_flags)}"
    elif event.protocol == Protocol.ICMP:
        line = f"ICMPv4 {names.icmp(4, event.tcp_flags, event.icmp_code)}"
    elif event.protocol == Protocol.ICMPV6:
        line = f"ICMPv6 {names.icmp(6, event.tcp_flags, event.icmp_code)}"
    else:
        line = _L4.get(event.protocol) or ("IPv6" if event.family == 6 else "IPv4")
    return f"{line}; no proxy for this port" if event.reason == Reason.NO_PROXY else line


def sock_summary(event: Event) -> str:
    """Sent and received are the socket's own, who accepted or connected."""
    line = _L4.get(event.protocol, "Unknown")
    if event.sub_type == SockEvent.OPEN:
        return f"{line} {'accepted' if event.direction == Direction.INGRESS else 'connected'}"
    if event.sub_type == SockEvent.CLOSE:
        return (
            f"{line} closed: {event.bytes_sent} bytes sent, {event.bytes_received} received, "
            f"RTT {event.srtt_us / 1000:.3g} ms, {event.retransmits} retransmits"
        )
    return line
