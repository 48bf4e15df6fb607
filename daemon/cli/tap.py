"""`weft tap`: requests as the proxies carry them, in Linkerd's lines: the request, the response's head, its end.

A line is as the proxy saw it: proxy=out on the client's node, proxy=in where only the server's node carried it or
carried it again. What was not told for there was too much of it is counted on standard error. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from weft.daemon.cli import taps
from weft.daemon.cli.taps import Record
from weft.daemon.cli.units import count

_NS: Final = 1000
#: Ids are 64 bits; below this they number the requests of one worker.
BASE: Final = 1 << 32
_GRPC: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "tap",
        help="requests as they happen, one by one",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    taps.add_options(parser)
    parser.add_argument("-o", "--output", choices=("text", "wide", "json"), default="text", help="(%(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    teller = Teller(wide=options.output == "wide")
    tell = teller.objects if options.output == "json" else teller.lines
    stream = taps.Stream(options)
    try:
        with stream:
            _print(stream, tell)
    except KeyboardInterrupt:
        pass
    if stream.lost:
        print(f"weft tap: {count(stream.lost, 'request')} not told, more than --max-rps", file=sys.stderr)
    return 0


def _print(stream: taps.Stream, tell: Callable[[Record], Iterator[str]]) -> None:
    for record in stream.records():
        for line in tell(record) if record is not None else ():
            print(line, flush=True)


class Teller:
    """Remembers which requests were shown, so that an end that comes alone brings its beginning."""

    def __init__(self, wide: bool = False) -> None:
        self._wide = wide
        self._bases: dict[int, int] = {}
        self._shown: dict[int, None] = {}

    def lines(self, record: Record) -> Iterator[str]:
        if record.get("protocol") == "TCP":
            return
        number, flow, more = self._number(record), self._flow(record), self._more(record)
        if self._begins(record):
            method, authority, path = (record.get(name, "") for name in ("method", "authority", "path"))
            yield f"req id={number} {flow} :method={method} :authority={authority} :path={path}{more}"
        if record.get("start"):
            return
        head, rest = _times(record)
        size = record.get("response_bytes", 0)
        if not record.get("status"):
            reason = f"reset-error={record.get('flags', '-')}"
            yield f"end id={number} {flow} {reason} duration={head + rest}µs response-length={size}B{more}"
            return
        yield f"rsp id={number} {flow} :status={record['status']} latency={head}µs{more}"
        status = f"grpc-status={_grpc(record['grpc_status'])} " if "grpc_status" in record else ""
        yield f"end id={number} {flow} {status}duration={rest}µs response-length={size}B{more}"

    def objects(self, record: Record) -> Iterator[str]:
        """Linkerd's JSON, one event a line."""
        if record.get("protocol") == "TCP":
            return
        base, stream = self._id(record)
        common = {
            "source": _party(record, "source"),
            "destination": _party(record, "destination"),
            "routeMeta": {"route": record["route"]} if record.get("route") else None,
            "proxyDirection": "OUTBOUND" if record.get("egress") else "INBOUND",
        }
        identity = {"base": base, "stream": stream}
        if self._begins(record):
            fields = ("method", "scheme", "authority", "path")
            event = {"id": identity, **{name: record.get(name, "") for name in fields}}
            yield _json(common | {"requestInitEvent": event | {"headers": record.get("headers", [])}})
        if record.get("start"):
            return
        head, rest = _times(record)
        if record.get("status"):
            event = {"id": identity, "sinceRequestInit": _span(head), "httpStatus": record["status"]}
            yield _json(common | {"responseInitEvent": event})
        ended: dict[str, Any] = {
            "id": identity,
            "sinceRequestInit": _span(head + rest),
            "sinceResponseInit": _span(rest),
            "responseBytes": record.get("response_bytes", 0),
            "grpcStatusCode": record.get("grpc_status", 0),
        }
        if not record.get("status"):
            ended["resetErrorCode"] = record.get("flags", "-")
        yield _json(common | {"responseEndEvent": ended})

    def _begins(self, record: Record) -> bool:
        number = record.get("id", 0)
        if record.get("start"):
            self._shown[number] = None
            if len(self._shown) > 10_000:
                del self._shown[next(iter(self._shown))]
            return True
        if number in self._shown:
            del self._shown[number]
            return False
        return True

    def _id(self, record: Record) -> tuple[int, int]:
        worker, number = divmod(record.get("id", 0), BASE)
        return self._bases.setdefault(worker, len(self._bases)), number

    def _number(self, record: Record) -> str:
        base, number = self._id(record)
        return f"{base}:{number}"

    def _flow(self, record: Record) -> str:
        proxy = "out" if record.get("egress") else "in "
        upstream = _address(record.get("upstream_ip"), record.get("upstream_port"))
        target = upstream or _address(record.get("destination_ip"), record.get("destination_port"))
        source = _address(record.get("source_ip"), record.get("source_port"))
        return f"proxy={proxy} src={source} dst={target} tls=no_identity"

    def _more(self, record: Record) -> str:
        """Of -o wide: whose addresses these are, and the route."""
        if not self._wide:
            return ""
        found = []
        for side, short in (("source", "src"), ("destination", "dst")):
            who = record.get(side) or {}
            if who:
                found += [f"{short}_res={who['kind'].lower()}/{who['workload']}", f"{short}_pod={who['pod']}"]
                found.append(f"{short}_ns={who['namespace']}")
        if record.get("route"):
            found.append(f"rt_route={record['route']!r}")
        return "".join(f" {each}" for each in found)


def _address(ip: str | None, port: int | None) -> str:
    if not ip:
        return ""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _times(record: Record) -> tuple[int, int]:
    """Microseconds to the response's head, and from there to its end."""
    whole = record.get("duration_ns", 0)
    head = min(whole, record.get("latency_ns", whole))
    return head // _NS, (whole - head) // _NS


def _grpc(status: int) -> str:
    return _GRPC[status] if status < len(_GRPC) else str(status)


def _span(microseconds: int) -> dict[str, int]:
    return {"seconds": microseconds // 1_000_000, "nanos": microseconds % 1_000_000 * 1000}


def _party(record: Record, side: str) -> dict[str, Any]:
    way = "source" if side == "source" else "upstream" if record.get("upstream_ip") else "destination"
    return {
        "ip": record.get(f"{way}_ip", ""),
        "port": record.get(f"{way}_port", 0),
        "metadata": dict(record.get(side) or {}),
    }


def _json(event: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in event.items() if value is not None})
