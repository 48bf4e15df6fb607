"""`weft monitor`: events as they happen, drops unless told otherwise, in the lines of Cilium's monitor.

The lines are made of the observers' flows. What Cilium prints and Weft has not (the program's source line) is left
out; the flow's number is made of its addresses and ports, so that both directions of one flow share it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

from weft.daemon.cli import observers, times
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.printer import harmless, ports, to_json
from weft.daemon.observer import names
from weft.daemon.observer.names import MessageType
from weft.policies.wire.pb import flow_pb2, observer_pb2

TYPES: Final = ("drop", "trace", "policy-verdict", "trace-sock", "capture", "debug", "l7", "agent", "all")
_ACTIONS: Final = {
    flow_pb2.FORWARDED: "allow",
    flow_pb2.REDIRECTED: "redirect",
    flow_pb2.DROPPED: "deny",
    flow_pb2.AUDIT: "audit",
}
_L7_VERDICTS: Final = {flow_pb2.FORWARDED: "Forwarded", flow_pb2.DROPPED: "Denied"}
_PROTOCOLS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMPv4": 1, "ICMPv6": 58, "VRRP": 112, "IGMP": 2}


def register(commands: Any) -> None:
    parser = commands.add_parser("monitor", help="drops and events as they happen", description=__doc__)
    parser.add_argument(
        "-t", "--type", action="append", choices=TYPES, metavar="TYPE", help=f"{', '.join(TYPES)} (default: drop)"
    )
    for flag, what in (("from", "from"), ("to", "to"), ("related-to", "from or to")):
        parser.add_argument(
            f"--{flag}", action="append", type=int, default=[], metavar="ID", dest=f"{flag.replace('-', '_')}_ids",
            help=f"only {what} this endpoint",
        )  # fmt: skip
    parser.add_argument("-n", "--numeric", action="store_true", help="identities as numbers")
    parser.add_argument("-j", "--json", action="store_true", help="each event as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="time and node before each line")
    observers.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        asyncio.run(monitor(options))
    except KeyboardInterrupt:
        sys.stdout.flush()
    return 0


def request_of(types: list[str] | None) -> observer_pb2.GetFlowsRequest:
    wanted = types or ["drop"]
    request = observer_pb2.GetFlowsRequest(follow=True)
    if "all" not in wanted:
        kinds = [flow_pb2.EventTypeFilter(type=names.MESSAGE_TYPES[name]) for name in wanted]
        request.whitelist.append(flow_pb2.FlowFilter(event_type=kinds))
    return request


async def monitor(options: argparse.Namespace) -> None:
    request = request_of(options.type)
    related = endpoints_filter(options)
    async with observers.Observers(options) as servers:
        for name, why in servers.missing.items():
            print(f"weft: {name}: {why}", file=sys.stderr)
        nodes = [target.name for target, _ in servers.connected]
        print(f"Listening for events of {', '.join(nodes)}. Press Ctrl-C to quit", file=sys.stderr)
        prefixed = options.verbose or len(nodes) > 1
        async for response in observers.merged(servers.streams("GetFlows", request), follow=True):
            if not response.HasField("flow") or related(response.flow):
                line = to_json(response) if options.json else line_of(response, options.numeric)
                print(
                    prefix(response, options.verbose) + line if prefixed and not options.json else line, flush=True
                )
    raise Failure("the observers ended the stream: is weft being stopped?")


def endpoints_filter(options: argparse.Namespace) -> Callable[[flow_pb2.Flow], bool]:
    source, destination, either = map(frozenset, (options.from_ids, options.to_ids, options.related_to_ids))

    def match(flow: flow_pb2.Flow) -> bool:
        ends = (flow.source.ID, flow.destination.ID)
        return (
            (not source or ends[0] in source)
            and (not destination or ends[1] in destination)
            and (not either or bool(either.intersection(ends)))
        )

    return match


def prefix(response: observer_pb2.GetFlowsResponse, with_time: bool) -> str:
    time = times.FORMATS["StampMilli"](response.time.ToNanoseconds()) + " " if with_time else ""
    return f"{time}[{harmless(response.node_name)}] "


def line_of(response: observer_pb2.GetFlowsResponse, numeric: bool = False) -> str:
    kind = response.WhichOneof("response_types")
    if kind == "lost_events":
        lost = response.lost_events
        return f"CPU {lost.cpu.value:02}: Lost {lost.num_events_lost} events"
    if kind == "node_status":
        return f"{harmless(', '.join(response.node_status.node_names))}: {harmless(response.node_status.message)}"
    flow = response.flow
    make = {
        MessageType.DROP: drop_line,
        MessageType.TRACE: trace_line,
        MessageType.POLICY_VERDICT: verdict_line,
        MessageType.TRACE_SOCK: sock_line,
        MessageType.L7: l7_line,
    }.get(flow.event_type.type, other_line)  # type: ignore[call-overload]
    return str(make(flow, numeric))


def drop_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    ends = identities(flow, numeric)
    file = f", file {harmless(flow.file.name)}:{flow.file.line}" if flow.HasField("file") else ""
    return (
        f"xx drop ({names.drop_reason(flow.event_type.sub_type)}) flow {flow_number(flow)} to endpoint "
        f"{flow.destination.ID}, ifindex {flow.interface.index}{file}, {ends}: {connection(flow)}"
    )


def trace_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    point = names.trace_point(flow.event_type.sub_type)
    way, _, where = point.partition("-")
    arrow = "<-" if way == "from" else "->"
    endpoint = flow.source.ID if way == "from" else flow.destination.ID
    end = f"endpoint {endpoint}" if where == "endpoint" else where or point
    state = names.TRACE_REASONS.get(flow.trace_reason, str(flow.trace_reason))
    interface = harmless(flow.interface.name) or str(flow.interface.index)
    origin = (
        flow.IP.source if flow.IP.source_xlated else ("::" if flow.IP.ipVersion == flow_pb2.IPv6 else "0.0.0.0")
    )
    return (
        f"{arrow} {end} flow {flow_number(flow)} , {identities(flow, numeric)} state {state} "
        f"ifindex {interface} orig-ip {origin}: {connection(flow)}"
    )


def verdict_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    ingress = flow.traffic_direction == flow_pb2.INGRESS
    local, remote = (flow.destination, flow.source) if ingress else (flow.source, flow.destination)
    protocol = _PROTOCOLS.get(flow.l4.WhichOneof("protocol") or "", 0)
    auth = flow_pb2.AuthType.Name(flow.auth_type).lower()
    return (
        f"Policy verdict log: flow {flow_number(flow)} local EP ID {local.ID}, "
        f"remote ID {identity(remote.identity, numeric)}, proto {protocol}, {'ingress' if ingress else 'egress'}, "
        f"action {_ACTIONS.get(flow.verdict, 'unknown')}, auth: {auth}, "
        f"match {names.match(flow.policy_match_type)}, {connection(flow)}"
    )


def sock_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    point = names.SOCK_POINTS.get(flow.event_type.sub_type, "unknown")
    return (
        f"[{point}] cgroup_id: {flow.cgroup_id} sock_cookie: {flow.socket_cookie}, {connection(flow)}"
        f"{', ' + harmless(flow.Summary) if flow.Summary else ''}"
    )


def l7_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    """`<- Request http from 12 ([k8s:app=web]) to 0 ([...]), identity 7->8, verdict Denied GET http://x/ => 0`."""
    arrow = "<-" if flow.traffic_direction == flow_pb2.INGRESS else "->"
    kind, record = flow_pb2.L7FlowType.Name(flow.l7.type).capitalize(), flow.l7.WhichOneof("record") or "l7"
    http = flow.l7.http
    said = f"{http.method} {http.url} => {http.code}" if record == "http" else flow.Summary
    return harmless(
        f"{arrow} {kind} {record} from {end(flow.source)} to {end(flow.destination)}, {identities(flow, numeric)}, "
        f"verdict {_L7_VERDICTS.get(flow.verdict, 'Error')} {said}"
    )


def end(endpoint: flow_pb2.Endpoint) -> str:
    return f"{endpoint.ID} ([{' '.join(endpoint.labels)}])"


def other_line(flow: flow_pb2.Flow, numeric: bool) -> str:
    return f"event {flow.event_type.type}: {connection(flow)} {harmless(flow.Summary)}"


def identity(number: int, numeric: bool) -> str:
    return str(number) if numeric else names.identity(number)


def identities(flow: flow_pb2.Flow, numeric: bool) -> str:
    return f"identity {identity(flow.source.identity, numeric)}->{identity(flow.destination.identity, numeric)}"


def connection(flow: flow_pb2.Flow) -> str:
    """`10.0.0.1:4000 -> 10.0.0.2:80 tcp SYN`, `10.0.0.1 -> 10.0.0.2 icmp EchoRequest`."""
    protocol = flow.l4.WhichOneof("protocol")
    ends = (flow.IP.source, flow.IP.destination)
    if protocol in ("ICMPv4", "ICMPv6"):
        icmp = getattr(flow.l4, protocol)
        return f"{ends[0]} -> {ends[1]} icmp {names.icmp(4 if protocol == 'ICMPv4' else 6, icmp.type, icmp.code)}"
    if protocol not in ("TCP", "UDP", "SCTP"):
        return f"{ends[0]} -> {ends[1]}"
    (source, destination), (source_port, destination_port) = map(bracketed, ends), ports(flow)
    line = f"{source}:{source_port} -> {destination}:{destination_port} {protocol.lower()}"
    flags = flow.l4.TCP.flags
    words = [word for word in ("SYN", "ACK", "RST", "FIN") if protocol == "TCP" and getattr(flags, word)]
    return f"{line} {', '.join(words)}" if words else line


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def flow_number(flow: flow_pb2.Flow) -> str:
    source, destination = zip((flow.IP.source, flow.IP.destination), ports(flow), strict=True)
    ends = sorted((source, destination))
    return hex(zlib.crc32(repr((flow.l4.WhichOneof("protocol"), ends)).encode()))
