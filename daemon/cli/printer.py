"""Flows as lines, to the letter as Hubble prints them: compact, dict, table, jsonpb.

A reply is printed with its sides swapped and the arrow turned, so that who opened the connection stays left. What
came over the wire may hold anything: escape sequences for the terminal are made harmless.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from weft.daemon.cli import table, times
from weft.daemon.observer import names
from weft.daemon.observer.names import MessageType
from weft.policies.identity import RESERVED
from weft.policies.wire.pb import flow_pb2, observer_pb2, relay_pb2

FORMS: Final = ("compact", "dict", "jsonpb", "json", "table")
_SEPARATOR: Final = "------------"
_COLORS: Final = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}
_VERDICT_COLORS: Final = {
    flow_pb2.FORWARDED: "green",
    flow_pb2.REDIRECTED: "green",
    flow_pb2.DROPPED: "red",
    flow_pb2.ERROR: "red",
    flow_pb2.AUDIT: "yellow",
    flow_pb2.TRACED: "yellow",
    flow_pb2.TRANSLATED: "yellow",
}
#: verdict of a policy-verdict event: word, which of the two lists of policies goes with it
_DECISIONS: Final = {
    flow_pb2.FORWARDED: ("ALLOWED", "allowed"),
    flow_pb2.REDIRECTED: ("ALLOWED", "allowed"),
    flow_pb2.DROPPED: ("DENIED", "denied"),
    flow_pb2.ERROR: ("DENIED", "denied"),
    flow_pb2.AUDIT: ("AUDITED", "denied"),
}
_NODE_STATES: Final = {
    relay_pb2.NODE_CONNECTED: "Receiving flows from {count} nodes: {names}",
    relay_pb2.NODE_UNAVAILABLE: "{count} nodes are unavailable: {names}",
    relay_pb2.NODE_GONE: "{count} nodes removed from cluster: {names}",
    relay_pb2.NODE_ERROR: "Error {message} on {count} nodes: {names}",
}


@dataclass(frozen=True, slots=True)
class Options:
    form: str = "compact"
    time: Callable[[int], str] = times.FORMATS["StampMilli"]
    node_name: bool = False
    policy_names: bool = False
    ip_translation: bool = True
    color: bool = False
    debug: bool = False
    silent: bool = False


def colored(when: str, out: TextIO) -> bool:
    if when == "auto":
        return out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return when == "always"


@dataclass(slots=True)
class Printer:
    options: Options = field(default_factory=Options)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    _lines: int = 0
    _rows: list[list[str]] = field(default_factory=list)

    def write(self, response: observer_pb2.GetFlowsResponse) -> None:
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            self._write_flow(response)
        elif kind == "lost_events":
            self._write_lost(response)
        elif kind == "node_status":
            self._write_node_status(response)

    def close(self) -> None:
        """Prints the table, whose columns are known only now."""
        if self.options.form == "table" and self._rows:
            header = ["TIMESTAMP", *self._node("NODE"), "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"]
            print(table.columns(header, self._rows), file=self.out)
            self._rows.clear()
        self.out.flush()

    def _write_flow(self, response: observer_pb2.GetFlowsResponse) -> None:
        flow, form = response.flow, self.options.form
        if form in ("json", "jsonpb"):
            print(to_json(response), file=self.out)
            return
        time = self._time(flow.time) if flow.HasField("time") else "N/A"
        source, destination = self.hosts(flow)
        kind, verdict, summary = harmless(flow_type(flow)), self.verdict(flow), harmless(summary_of(flow))
        if form == "compact":
            node = f" [{harmless(flow.node_name)}]" if self.options.node_name else ""
            print(
                f"{time}{node}: {self._sides(flow, source, destination)} {kind} {verdict} ({summary})",
                file=self.out,
            )
        else:
            cells = [source, destination, kind, verdict, summary]
            self._record(time, flow.node_name, ("SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"), cells)

    def _sides(self, flow: flow_pb2.Flow, source: str, destination: str) -> str:
        left = f"{source} {self._identity(flow.source.identity)}"
        right = f"{destination} {self._identity(flow.destination.identity)}"
        if not flow.HasField("is_reply"):
            return f"{left} <> {right}"
        return f"{right} <- {left}" if flow.is_reply.value else f"{left} -> {right}"

    def _record(self, time: str, node: str, keys: tuple[str, ...], cells: list[str]) -> None:
        """A row of the table, or a block of dict. Keys are right-aligned; a table has a cell for each of five."""
        if self.options.form == "table":
            if len(cells) == 4:
                cells.insert(1, "-")  # a loss has no destination
            self._rows.append([time, *self._node(harmless(node)), *cells])
            return
        if self._lines:
            print(_SEPARATOR, file=self.out)
        self._lines += 1
        pairs = [
            ("TIMESTAMP", time),
            *(("NODE", name) for name in self._node(harmless(node))),
            *zip(keys, cells, strict=True),
        ]
        for key, value in pairs:
            print(f"{key:>11}: {value}", file=self.out)

    def _write_lost(self, response: observer_pb2.GetFlowsResponse) -> None:
        if self.options.form in ("json", "jsonpb"):
            print(to_json(response), file=self.out)
            return
        lost = response.lost_events
        source = flow_pb2.LostEventSource.Name(lost.source)
        span = ""
        if lost.HasField("first") and lost.HasField("last"):
            span = f" (first: {self._time(lost.first)}, last: {self._time(lost.last)})"
        time = self._time(response.time)
        if self.options.form == "compact":
            print(f"{time} EVENTS LOST: {source} CPU({lost.cpu.value}) {lost.num_events_lost}{span}", file=self.out)
            return
        cells = [source, "EVENTS LOST", "-", f"CPU({lost.cpu.value}) - {lost.num_events_lost}{span}"]
        self._record(time, response.node_name or "-", ("SOURCE", "TYPE", "VERDICT", "SUMMARY"), cells)

    def _write_node_status(self, response: observer_pb2.GetFlowsResponse) -> None:
        """To stderr; what is no trouble shows with --debug only."""
        status = response.node_status
        trouble = status.state_change in (relay_pb2.NODE_UNAVAILABLE, relay_pb2.NODE_ERROR)
        if self.options.silent or not (trouble or self.options.debug):
            return
        if self.options.form in ("json", "jsonpb"):
            print(to_json(response), file=self.err)
            return
        text = _NODE_STATES.get(status.state_change, "unknown node status event: {message}").format(
            count=len(status.node_names),
            names=harmless(shortened(status.node_names)),
            message=json.dumps(harmless(status.message)),
        )
        print(f"{self._time(response.time)} [{harmless(response.node_name)}]: {text}", file=self.err)

    # --- the parts of a line ---

    def _time(self, time: Timestamp) -> str:
        return self.options.time(time.seconds * 1_000_000_000 + time.nanos)

    def _node(self, name: str) -> tuple[str, ...]:
        return (name,) if self.options.node_name else ()

    def _paint(self, color: str, text: str) -> str:
        # A table is measured in characters: no colours there.
        if not self.options.color or self.options.form not in ("compact", "dict"):
            return text
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m"

    def _identity(self, number: int) -> str:
        return self._paint("magenta", f"({RESERVED[number]})" if number in RESERVED else f"(ID:{number})")

    def hosts(self, flow: flow_pb2.Flow) -> tuple[str, str]:
        """Source and destination: pod, service, DNS names or address, and port."""
        if not flow.HasField("IP"):
            ends = (flow.ethernet.source, flow.ethernet.destination)
            return self._paint("cyan", harmless(ends[0])), self._paint("cyan", harmless(ends[1]))
        source_port, destination_port = ports(flow)
        return (
            self._host(flow.IP.source, source_port, flow.source, flow.source_service, flow.source_names),
            self._host(
                flow.IP.destination,
                destination_port,
                flow.destination,
                flow.destination_service,
                flow.destination_names,
            ),
        )

    def _host(
        self, address: str, port: int, endpoint: flow_pb2.Endpoint, service: flow_pb2.Service, dns: Any
    ) -> str:
        host = address
        if self.options.ip_translation:
            if endpoint.pod_name:
                host = "/".join(part for part in (endpoint.namespace, endpoint.pod_name) if part)
            elif service.name:
                host = "/".join(part for part in (service.namespace, service.name) if part)
            elif dns:
                host = ",".join(dns)
        host = harmless(host)
        if not port:
            return self._paint("cyan", host)
        shown = self._paint("yellow", str(port))
        return self._paint("cyan", f"[{host}]:{shown}" if ":" in host else f"{host}:{shown}")

    def verdict(self, flow: flow_pb2.Flow) -> str:
        word = flow_pb2.Verdict.Name(flow.verdict)
        if flow.event_type.type == MessageType.POLICY_VERDICT and flow.verdict in _DECISIONS:
            word, which = _DECISIONS[flow.verdict]
            if self.options.policy_names:
                word += deciders(flow, which)
        color = _VERDICT_COLORS.get(flow.verdict)
        return self._paint(color, word) if color else word


def deciders(flow: flow_pb2.Flow, which: str) -> str:
    """` BY name (Kind), name (Kind)`, or nothing where no policy is named."""
    if flow.traffic_direction not in (flow_pb2.INGRESS, flow_pb2.EGRESS):
        return ""
    side = "egress" if flow.traffic_direction == flow_pb2.EGRESS else "ingress"
    policies = [p for p in getattr(flow, f"{side}_{which}_by") if p.kind and p.name]
    return " BY " + ", ".join(harmless(f"{p.name} ({p.kind})") for p in policies) if policies else ""


def ports(flow: flow_pb2.Flow) -> tuple[int, int]:
    protocol = flow.l4.WhichOneof("protocol")
    if protocol not in ("TCP", "UDP", "SCTP"):
        return 0, 0
    l4 = getattr(flow.l4, protocol)
    return l4.source_port, l4.destination_port


def flow_type(flow: flow_pb2.Flow) -> str:
    if flow.HasField("l7"):
        return l7_type(flow.l7)
    kind, sub_type = flow.event_type.type, flow.event_type.sub_type
    if kind == MessageType.TRACE:
        return names.trace_point(sub_type)
    if kind == MessageType.DROP:
        return names.drop_reason(sub_type)
    if kind == MessageType.POLICY_VERDICT:
        direction = flow_pb2.TrafficDirection.Name(flow.traffic_direction)
        return f"policy-verdict:{names.match(flow.policy_match_type)} {direction}"
    if kind == MessageType.CAPTURE:
        return flow_pb2.DebugCapturePoint.Name(flow.debug_capture_point)
    if kind == MessageType.TRACE_SOCK:
        return names.SOCK_POINTS.get(sub_type, "SOCK_XLATE_POINT_UNKNOWN")
    return "UNKNOWN"


def l7_type(l7: flow_pb2.Layer7) -> str:
    what = flow_pb2.L7FlowType.Name(l7.type).lower()
    record = l7.WhichOneof("record")
    if record == "dns":
        return f"dns-{what} {l7.dns.observation_source}"
    return f"{'http' if record == 'http' else 'l7'}-{what}"


def summary_of(flow: flow_pb2.Flow) -> str:
    trace = f"IP Trace ID: {flow.ip_trace_id.trace_id}; " if flow.ip_trace_id.trace_id else ""
    auth = f"; Auth: {flow_pb2.AuthType.Name(flow.auth_type)}" if flow.auth_type else ""
    return f"{trace}{flow.Summary}{auth}"


def shortened(words: Any, limit: int = 50) -> str:
    """As many as fit in `limit` characters, at least one, and how many more there are."""
    length, kept = 0, 0
    for kept, word in enumerate(words):
        length += len(word) + 2
        if length > limit and kept:
            return f"{', '.join(words[:kept])} (and {len(words) - kept} more)"
    return ", ".join(words)


def harmless(text: str) -> str:
    """What a terminal would obey, made visible. One flow stays one line."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else "^[" if c == "\x1b" else c.encode("unicode_escape").decode() for c in text
    )


def to_json(message: Message) -> str:
    """protojson on one line, with the names of the .proto files."""
    return json.dumps(
        MessageToDict(message, preserving_proto_field_name=True), separators=(",", ":"), ensure_ascii=False
    )


def status_lines(status: observer_pb2.ServerStatusResponse) -> list[str]:
    """As `hubble status`: "Current/Max Flows: 4,095/4,095 (100.00%)", "Flows/s: 46.19", and a relay's nodes."""
    share = f" ({status.num_flows / status.max_flows:.2%})" if status.max_flows else ""
    rate = status.flows_rate or (status.seen_flows * 1e9 / status.uptime_ns if status.uptime_ns else 0)
    lines = [
        f"Current/Max Flows: {status.num_flows:,}/{status.max_flows:,}{share}",
        f"Flows/s: {rate:.2f}" if status.uptime_ns or rate else "Flows/s: N/A",
    ]
    if status.HasField("num_connected_nodes"):
        connected, unavailable = status.num_connected_nodes.value, status.num_unavailable_nodes.value
        total = f"/{connected + unavailable}" if status.HasField("num_unavailable_nodes") else ""
        lines.append(f"Connected Nodes: {connected}{total}")
    if status.num_unavailable_nodes.value:
        lines.append(f"Unavailable Nodes: {status.num_unavailable_nodes.value}")
        lines += [f"  - {harmless(name)}" for name in sorted(status.unavailable_nodes)]
    return lines
