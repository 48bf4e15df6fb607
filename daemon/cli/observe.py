"""`weft observe`: flows of this machine's nodes, with Hubble's flags and lines. `weft list` is registered here too,
for it asks the same servers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from weft.daemon.cli import flow_filters, listing, observers, times
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.flow_filters import Filters
from weft.daemon.cli.printer import FORMS, Options, Printer, colored, harmless, to_json
from weft.policies.wire.pb import flow_pb2, observer_pb2

DEFAULT_LAST: Final = 20
ALL: Final = (1 << 64) - 1
KINDS: Final = ("flows", "agent-events", "debug-events")
#: What the line formats show; the rest need not travel.
LINE_FIELDS: Final = (
    "time", "verdict", "ethernet", "IP", "l4", "source.identity", "source.namespace", "source.pod_name",
    "destination.identity", "destination.namespace", "destination.pod_name", "Type", "node_name", "l7",
    "event_type", "source_service", "destination_service", "source_names", "destination_names", "is_reply",
    "Summary", "ip_trace_id", "traffic_direction", "policy_match_type", "auth_type", "ingress_allowed_by",
    "ingress_denied_by", "egress_allowed_by", "egress_denied_by",
)  # fmt: skip


class FilterFlag(argparse.Action):
    """Each use goes to the Filters of the command line at once: --not is about the flag that follows."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, flag: str, **kwargs: Any) -> None:
        super().__init__(option_strings, "filters", default=None, **kwargs)
        self.flag = flag

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if namespace.filters is None:
            namespace.filters = Filters()
        try:
            namespace.filters.set(self.flag, values if isinstance(values, str) else "")
        except ValueError as error:
            raise argparse.ArgumentError(None, str(error)) from None


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "observe",
        help="flows, with Hubble's filters and formats",
        description="Shows flows. Values of one flag are alternatives, different flags all hold; --not before a "
        "flag leaves out what the flag matches.",
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="?", choices=KINDS, default="flows", help="(default: flows)")
    add_selectors(parser)
    add_filters(parser)
    add_formats(parser)
    observers.add_options(parser)
    parser.set_defaults(run=run, filters=None)
    listing.register(commands)


def add_selectors(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selectors")
    group.add_argument("--all", action="store_true", help="all flows that the servers hold")
    group.add_argument(
        "--last",
        type=_count,
        default=0,
        metavar="N",
        help=f"the last N of all nodes together, by time; with -f, of each node (default: {DEFAULT_LAST})",
    )
    group.add_argument(
        "--first", type=_count, default=0, metavar="N", help="the first N of those that are held, likewise"
    )
    group.add_argument("-f", "--follow", action="store_true", help="and those to come")
    dates = "3m, 1h30m ago, 2026-01-31, 2026-01-31T15:04:05Z, ..."
    group.add_argument("--since", default="", metavar="TIME", help=dates)
    group.add_argument("--until", default="", metavar="TIME", help=dates)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= ALL):
        raise argparse.ArgumentTypeError(f"invalid number {text!r}")
    return int(text)


def add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters")
    shorts = {"type": "-t", "namespace": "-n", "label": "-l", "all-namespaces": "-A", "ipv4": "-4", "ipv6": "-6"}

    def flag(name: str, **kwargs: Any) -> None:
        spelled = [shorts[name]] if name in shorts else []
        group.add_argument(*spelled, f"--{name}", action=FilterFlag, flag=name, **kwargs)

    flag("not", nargs=0, help="the next filter leaves out")
    for name in flow_filters.SIDED:
        for way, what in (("", "either side"), ("from-", "the source"), ("to-", "the destination")):
            flag(f"{way}{name}", metavar=name.upper(), help=f"by {name} of {what}")
    for name in flow_filters.NAMESPACES:
        flag(name, metavar="NAMESPACE", help="of pods and services")
    for name in flow_filters.ALL_NAMESPACES:
        flag(name, nargs=0, help="any namespace")
    for name in flow_filters.PLAIN:
        flag(name, metavar="TYPE[:SUBTYPE]" if name == "type" else name.upper(), help=f"by {name}")
    for name in flow_filters.SWITCHES:
        flag(name, nargs=0, help=f"only {name}")
    group.add_argument("--allowlist", action="append", default=[], metavar="JSON", help="FlowFilters as JSON")
    group.add_argument("--denylist", action="append", default=[], metavar="JSON", help="FlowFilters as JSON")


def add_formats(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("format")
    group.add_argument(
        "-o", "--output", type=str.lower, choices=(*FORMS, "tab"), default="compact", help="(%(default)s)"
    )
    group.add_argument("--print-node-name", action="store_true", help="which node saw it, in [ ]")
    group.add_argument("--print-policy-names", action="store_true", help="which policies allowed or denied")
    group.add_argument("--time-format", default="StampMilli", metavar="NAME", help=", ".join(times.FORMATS))
    group.add_argument(
        "--ip-translation", action=argparse.BooleanOptionalAction, default=True, help="names for addresses"
    )
    group.add_argument("--numeric", action="store_true", help="addresses only")
    group.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="(%(default)s: on a terminal)"
    )
    group.add_argument(
        "--field-mask", action="append", default=[], metavar="FIELD,...", help="json: only these fields"
    )
    group.add_argument(
        "--use-default-field-masks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="lines: ask the servers only for what they show",
    )
    group.add_argument(
        "--input-file", default="", metavar="FILE", help="flows of a file (-: stdin), as -o json wrote them"
    )
    group.add_argument(
        "--print-raw-filters", action="store_true", help="the filters as JSON in YAML, and nothing else"
    )
    group.add_argument("-s", "--silent-errors", action="store_true", help="no words about nodes in trouble")
    group.add_argument("-D", "--debug", action="store_true", help="also tell of nodes that come and go")


def run(options: argparse.Namespace) -> int:
    if options.what != "flows":
        return _until_interrupted(options, agent_events(options))
    options.output = "table" if options.output == "tab" else options.output
    request = flows_request(options, time.time_ns())
    if options.print_raw_filters:
        sys.stdout.write(raw_filters(request))
        return 0
    printer = Printer(printer_options(options))
    if options.input_file:
        from weft.daemon.cli import replay

        replay.run(options.input_file, request, printer)
        return 0
    return _until_interrupted(options, observe(options, request, printer))


def _until_interrupted(options: argparse.Namespace, work: Any) -> int:
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        if not options.follow:
            raise
        sys.stdout.flush()  # ctrl-C is how one ends a follower: no error
    return 0


async def observe(options: argparse.Namespace, request: observer_pb2.GetFlowsRequest, printer: Printer) -> None:
    async with observers.Observers(options) as servers:
        for name, why in servers.missing.items():
            printer.write(observers.unavailable(name, why, time.time_ns()))
        try:
            responses = observers.merged(servers.streams("GetFlows", request), follow=options.follow)
            number = 0 if options.follow else request.number
            async for response in observers.limited(responses, number, first=request.first):
                printer.write(response)
                if options.follow:
                    printer.out.flush()
        finally:
            printer.close()
    if options.follow:
        raise Failure("the observers ended their streams")


def printer_options(options: argparse.Namespace) -> Options:
    if options.output == "table" and options.follow:
        raise Failure("table output format is not compatible with follow mode", 2)
    return Options(
        form=options.output,
        time=times.formatter(options.time_format),
        node_name=options.print_node_name,
        policy_names=options.print_policy_names,
        ip_translation=options.ip_translation and not options.numeric,
        color=colored(options.color, sys.stdout),
        debug=options.debug,
        silent=options.silent_errors,
    )


def flows_request(options: argparse.Namespace, now_ns: int) -> observer_pb2.GetFlowsRequest:
    """Failure (2) for flags that do not go together."""
    _check_selectors(options)
    filters: Filters = options.filters or Filters()
    if filters.negate:
        raise Failure("trailing --not found in the arguments", 2)
    request = observer_pb2.GetFlowsRequest(
        number=options.first or options.last,
        first=bool(options.first),
        follow=options.follow,
        whitelist=[*filters.allow.filters(), *_json_filters("--allowlist", options.allowlist)],
        blacklist=[*filters.deny.filters(), *_json_filters("--denylist", options.denylist)],
    )
    if options.since:
        request.since.FromNanoseconds(_moment("since", options.since, now_ns))
    if options.until and not options.follow:
        request.until.FromNanoseconds(_moment("until", options.until, now_ns))
    if not (options.since or request.HasField("until") or options.first):
        if options.all:
            request.number = ALL
        elif not options.last and not options.follow and not options.input_file:
            request.number = DEFAULT_LAST
    request.field_mask.paths.extend(_mask(options))
    return request


def _check_selectors(options: argparse.Namespace) -> None:
    given = {name for name in ("first", "last", "all", "follow") if getattr(options, name)}
    for one, other in (("first", "last"), ("first", "all"), ("first", "follow"), ("last", "all")):
        if {one, other} <= given:
            raise Failure(f"cannot set both --{one} and --{other}", 2)


def _moment(flag: str, text: str, now_ns: int) -> int:
    try:
        return times.moment(text, now_ns)
    except ValueError as error:
        raise Failure(f"failed to parse the {flag} time: {error}", 2) from None


def _mask(options: argparse.Namespace) -> list[str]:
    asked = [path for paths in options.field_mask for path in paths.split(",") if path]
    if options.output in ("json", "jsonpb"):
        return asked
    if asked:
        raise Failure(f"{options.output} output format is not compatible with custom field mask", 2)
    return list(LINE_FIELDS) if options.use_default_field_masks else []


def _json_filters(flag: str, texts: Sequence[str]) -> list[flow_pb2.FlowFilter]:
    """One text may hold several, one after the other."""
    from google.protobuf.json_format import ParseDict, ParseError

    found: list[flow_pb2.FlowFilter] = []
    for text in texts:
        rest = text.strip()
        try:
            while rest:
                value, end = json.JSONDecoder().raw_decode(rest)
                found.append(ParseDict(value, flow_pb2.FlowFilter()))
                rest = rest[end:].lstrip()
        except (json.JSONDecodeError, ParseError) as error:
            raise Failure(f"invalid {flag} flag: failed to decode '{text}': {error}", 2) from None
    return found


def raw_filters(request: observer_pb2.GetFlowsRequest) -> str:
    """As Hubble's configuration file takes them."""
    out = ""
    for name, filters in (("allowlist", request.whitelist), ("denylist", request.blacklist)):
        if filters:
            out += f"{name}:\n"
            out += "".join("    - '" + to_json(one).replace("'", "''") + "'\n" for one in filters)
    return out or "{}\n"


async def agent_events(options: argparse.Namespace) -> None:
    """`agent-events` and `debug-events`, as JSON or a line each (a Cilium agent has some, Weft's have none)."""
    method, make = {
        "agent-events": ("GetAgentEvents", observer_pb2.GetAgentEventsRequest),
        "debug-events": ("GetDebugEvents", observer_pb2.GetDebugEventsRequest),
    }[options.what]
    request: Any = make(
        number=options.first or options.last or DEFAULT_LAST, first=bool(options.first), follow=options.follow
    )
    show = times.formatter(options.time_format)
    async with observers.Observers(options) as servers:
        streams: list[tuple[str, AsyncIterator[Any]]] = servers.streams(method, request)
        async for response in observers.merged(streams, follow=options.follow):
            if options.output in ("json", "jsonpb"):
                print(to_json(response), flush=options.follow)
            else:
                event: Any = response.agent_event if options.what == "agent-events" else response.debug_event  # type: ignore[attr-defined]
                node = f" [{harmless(response.node_name)}]" if options.print_node_name else ""
                print(f"{show(response.time.ToNanoseconds())}{node}: {to_json(event)}", flush=options.follow)
