"""`hubble_*` metrics of L3, L4 and L7 flows, counted from raw records.

A record costs one dictionary increment: its type, verdict, protocol, flags and port are the key. Keys become
labels when somebody scrapes, or when there are too many of them. Labels are bounded: ports beyond the first
`MAX_PORTS` that were seen count as "other".
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from weft.bpf.layout import CtState, EventType, Reason
from weft.daemon.observer import l7, names
from weft.daemon.observer.flows import verdict_of
from weft.policies import identity
from weft.policies.model import Direction, Protocol
from weft.policies.wire.pb import flow_pb2

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from weft.policies.wire.pb import proxy_pb2

MAX_KEYS: Final = 4096
MAX_PORTS: Final = 512
_WORLD: Final = frozenset((identity.WORLD, identity.WORLD_IPV4, identity.WORLD_IPV6))

#: metric -> (help, labels), in Hubble's words
METRICS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "drop": ("Number of drops", ("reason", "protocol")),
    "flows_processed": ("Total number of flows processed", ("protocol", "type", "subtype", "verdict")),
    "flows_to_world": ("Total number of flows to reserved:world", ("protocol", "verdict")),
    "tcp_flags": ("TCP flag occurrences", ("flag", "family")),
    "port_distribution": ("Numbers of packets distributed by destination port", ("protocol", "port")),
    "icmp": ("Number of ICMP messages", ("family", "type")),
    "policy_verdicts": ("Total number of network policy verdicts", ("direction", "match", "action")),
    "lost_events": ("Number of lost events", ("source",)),
    "http_requests": ("Count of HTTP requests by method", ("method", "protocol", "status", "reporter")),
}
#: Seconds: Prometheus' default buckets, as Hubble has them.
DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TYPES: Final[dict[int, str]] = {
    EventType.DROP: "Drop",
    EventType.TRACE: "Trace",
    EventType.VERDICT: "PolicyVerdict",
}
_PROTOCOLS: Final[dict[int, str]] = {
    Protocol.TCP: "TCP",
    Protocol.UDP: "UDP",
    Protocol.ICMP: "ICMPv4",
    Protocol.ICMPV6: "ICMPv6",
    Protocol.SCTP: "SCTP",
}


class Key(NamedTuple):
    """What of a record the metrics depend on."""

    head: bytes  # type, sub_type, reason, direction, family, protocol, tcp_flags, icmp_code
    tail: bytes  # dst_port, match, verdict, ct_state, flags
    to_world: bool
    from_host: bool


class Carried(NamedTuple):
    """What of a request the metrics depend on. `sides`: whether egress, of each that was stood for."""

    method: str
    protocol: str
    status: int
    verdict: str
    sides: tuple[bool, ...]


class Durations:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATIONS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(DURATIONS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, int]]:
        names_of = [*map(str, DURATIONS), "+Inf"]
        return list(zip(names_of, accumulate(self.counts), strict=True))


class FlowMetrics:
    """A collector for a Prometheus registry; may be scraped from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: Counter[Key] = Counter()
        self._totals: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in METRICS}
        self._ports: set[int] = set()
        self._carried: Counter[Carried] = Counter()  # bounded by what its fields may be
        self._durations: defaultdict[tuple[str, bool], Durations] = defaultdict(Durations)  # by method, egress

    def request(self, record: proxy_pb2.Record) -> None:
        """A whole request of the proxy. Its durations are counted at once, the rest when somebody scrapes."""
        status, method = record.status, l7.method_label(record.method)
        sides = l7.sides(record)
        key = Carried(method, record.protocol, status, record.verdict, sides)
        with self._lock:
            self._carried[key] += 1
            if status:
                seconds = record.duration_ns / 1e9
                for egress in sides:
                    self._durations[method, egress].add(seconds)

    def count(self, record: bytes, src_identity: int, dst_identity: int) -> None:
        # The destination port of a reply is the client's: it counts nowhere and would make a key of its own.
        tail = record[18:24] if record[22] != CtState.REPLY else b"\0\0" + record[20:24]
        to_world = dst_identity in _WORLD or dst_identity >= identity.LOCAL_MIN
        key = Key(record[8:16], tail, to_world, src_identity == identity.HOST)
        with self._lock:
            self._pending[key] += 1
            if len(self._pending) > MAX_KEYS:
                self._fold()

    def lost(self, source: int, count: int) -> None:
        with self._lock:
            self._totals["lost_events"][(flow_pb2.LostEventSource.Name(source).lower(),)] += count

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        with self._lock:
            self._fold()
            totals = {name: list(counter.items()) for name, counter in self._totals.items()}
            durations = [(key, found.cumulative(), found.sum) for key, found in self._durations.items()]
        for name, (help_text, labels) in METRICS.items():
            family = CounterMetricFamily(f"hubble_{name}", help_text, labels=labels)
            for values, total in totals[name]:
                family.add_metric(values, total)
            yield family
        histogram = HistogramMetricFamily(
            "hubble_http_request_duration_seconds",
            "Quantiles of HTTP request duration in seconds",
            labels=("method", "reporter"),
        )
        for (method, egress), buckets, total_seconds in durations:
            histogram.add_metric((method, _reporter(egress)), buckets, total_seconds)
        yield histogram

    def _fold(self) -> None:
        carried, self._carried = self._carried, Counter()
        for request, count in carried.items():
            for name, values in _request_labels(request):
                self._totals[name][values] += count
        pending, self._pending = self._pending, Counter()
        for key, count in pending.items():
            for name, values in self._labels(key):
                self._totals[name][values] += count

    def _labels(self, key: Key) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Which counters a record counts in. The conditions are those of Hubble's handlers."""
        kind, sub_type, reason, direction, family, protocol, flags, code = key.head
        match, decided, ct_state, event_flags = key.tail[2:]
        verdict = flow_pb2.Verdict.Name(verdict_of(kind, sub_type, decided, reason, event_flags))
        reply = kind == EventType.TRACE and ct_state == CtState.REPLY
        passed = verdict in ("FORWARDED", "REDIRECTED")
        name = _PROTOCOLS.get(protocol, "Unknown L4") if kind != EventType.SOCK else "Unknown flow"
        ip = "IPv6" if family == 6 else "IPv4"
        if kind == EventType.SOCK:
            yield "flows_processed", (name, "Unknown", str(kind), verdict)
            return
        sub = names.trace_point(sub_type) if kind == EventType.TRACE else ""
        yield "flows_processed", (name, _TYPES[kind], sub, verdict)
        if verdict == "DROPPED":
            yield "drop", (reason_name(reason), name)
        if key.to_world and (reason == Reason.POLICY if verdict == "DROPPED" else not reply):
            yield "flows_to_world", (name, verdict)
        if passed and protocol == Protocol.TCP:
            for flag in flag_labels(flags):
                yield "tcp_flags", (flag, ip)
        if passed and not reply:
            yield "port_distribution", (name, self._port(protocol, int.from_bytes(key.tail[:2], "big")))
        if protocol in (Protocol.ICMP, Protocol.ICMPV6):
            yield "icmp", (ip, names.icmp(family, flags, code))
        if kind == EventType.VERDICT and not key.from_host:
            side = "egress" if direction == Direction.EGRESS else "ingress"
            yield "policy_verdicts", (side, names.match(match).lower(), verdict.lower())

    def _port(self, protocol: int, port: int) -> str:
        if protocol not in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
            return "0"
        if port not in self._ports:
            if len(self._ports) >= MAX_PORTS:
                return "other"
            self._ports.add(port)
        return str(port)


def _request_labels(request: Carried) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A request and its response are a flow each; a request is counted by what was answered, as Hubble does."""
    status = str(request.status) if 100 <= request.status <= 599 else "other"
    for egress in request.sides:
        yield "flows_processed", ("HTTP", "L7", "HTTP", request.verdict)
        if request.verdict == "DROPPED":
            yield "drop", (reason_name(0), "HTTP")
        if request.status:
            answered = "FORWARDED" if request.verdict == "DROPPED" else request.verdict
            yield "flows_processed", ("HTTP", "L7", "HTTP", answered)
            yield "http_requests", (request.method, request.protocol, status, _reporter(egress))


def _reporter(egress: bool) -> str:
    return "client" if egress else "server"


def reason_name(reason: int) -> str:
    known = flow_pb2.DropReason.DESCRIPTOR.values_by_number.get(reason)
    return str(known.name) if known is not None else str(reason)


def flag_labels(flags: int) -> Iterator[str]:
    if flags & 0x01:
        yield "FIN"
    if flags & 0x02:
        yield "SYN-ACK" if flags & 0x10 else "SYN"
    if flags & 0x04:
        yield "RST"
