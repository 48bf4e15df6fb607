"""The daemons' streams of requests, of all nodes as one: what `weft tap` and `weft top` look at.

In: options, the resource that was named. Out: records as dicts (node.proto's TapReply), as they come. A request
that two proxies carry, one on each node, is told by both.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from weft.daemon.cli import client
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.resources import resource

#: Proxies' own source ports: a connection from one of these has been through the proxy of the client's node.
PROXY_PORTS: Final = 61000
#: Records that wait for the terminal; beyond them the daemons' queues fill, and they count what is lost.
WAITING: Final = 1000

Record = Mapping[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("resource", nargs="*", metavar="KIND [NAME]", help="requests from it or to it (all)")
    parser.add_argument("-n", "--namespace", default="default", help="(%(default)s)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    for word in ("from", "to"):
        parser.add_argument(f"--{word}", default="", metavar="KIND[/NAME]", help=f"only requests {word} there")
        parser.add_argument(f"--{word}-namespace", default="", metavar="NS", help=f"of --{word} (that of -n)")
    parser.add_argument("--method", default="", help="only this")
    parser.add_argument("--authority", default="", help="only this")
    parser.add_argument("--path", default="", metavar="PREFIX", help="only paths that begin so")
    parser.add_argument("--max-rps", type=int, default=100, metavar="N", help="of each node (%(default)s)")
    client.add_options(parser, output=False)


@dataclass(slots=True)
class Wanted:
    """`either`: requests from it or to it count, as in `tap deploy/web`."""

    source: str = ""
    destination: str = ""
    either: str = ""

    @classmethod
    def read(cls, options: argparse.Namespace) -> Wanted:
        source = _place(options.__dict__["from"], options.from_namespace or options.namespace)
        destination = _place(options.to, options.to_namespace or options.namespace)
        if options.resource:
            either = _place("/".join(resource(options.resource)).rstrip("/"), options.namespace)
        else:
            either = "" if options.all_namespaces or source or destination else f"{options.namespace}/"
        return cls(source, destination, either)

    def calls(self) -> list[tuple[str, str]]:
        """(source, destination) of the calls that together see it all; "" is anybody."""
        if not self.either:
            return [(self.source, self.destination)]
        calls = [] if self.source else [(self.either, self.destination)]
        return calls + ([] if self.destination else [(self.source, self.either)])


def _place(text: str, namespace: str) -> str:
    """As TapRequest names them."""
    if not text:
        return ""
    kind, name = resource([text])
    return f"{name or namespace}/" if kind == "ns" else f"{namespace}/{name}"


@dataclass(slots=True)
class Stream:
    """All calls to all nodes. `lost`: requests that were more than --max-rps, or found the queue full."""

    options: argparse.Namespace
    _lost: dict[Path, dict[int, int]] = field(default_factory=dict)
    _waiting: queue.Queue[Any] = field(default_factory=lambda: queue.Queue(WAITING))
    _calls: list[Any] = field(default_factory=list)
    _channels: list[Any] = field(default_factory=list)
    _told: dict[tuple[int, bool], None] = field(default_factory=dict)

    def __enter__(self) -> Stream:
        wanted = Wanted.read(self.options)
        if wanted.either and wanted.source and wanted.destination:
            raise Failure("a resource with --from or --to, not both", 2)
        for socket in client.daemons(self.options.run_dir, self.options.node).values():
            for source, destination in wanted.calls():
                self._open(socket, source, destination)
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()
        for channel in self._channels:
            channel.close()

    @property
    def lost(self) -> int:
        """What two calls to one node lost is as good as the same."""
        return sum(max(by_call.values()) for by_call in self._lost.values())

    def records(self, until: float | None = None) -> Iterator[Record | None]:
        """`until`: of the monotonic clock. None: a second passed without any."""
        running = len(self._calls)
        while running:
            left = 1.0 if until is None else until - time.monotonic()
            if left <= 0:
                return
            try:
                item = self._waiting.get(timeout=min(left, 1.0))
            except queue.Empty:
                yield None
                continue
            if item is None:
                running -= 1
            elif isinstance(item, Failure):
                raise item
            else:
                socket, call, reply = item
                if reply.lost:
                    lost = self._lost.setdefault(socket, {})
                    lost[call] = lost.get(call, 0) + int(reply.lost)
                record = json.loads(reply.json or b"{}")
                if record and self._fresh(record):
                    yield record

    def _open(self, socket: Path, source: str, destination: str) -> None:
        import grpc

        from weft.policies.wire.pb import node_pb2, node_pb2_grpc

        if not client.may_use(socket):
            raise Failure(f"{socket} is not yours to use: run it as root")
        channel = grpc.insecure_channel(f"unix:{socket}", options=client.OPTIONS)
        self._channels.append(channel)
        request = node_pb2.TapRequest(
            source=source,
            destination=destination,
            method=self.options.method.upper(),
            authority=self.options.authority,
            path=self.options.path,
            max_rate=max(1, self.options.max_rps),
        )
        call = node_pb2_grpc.NodeStub(channel).Tap(request)  # type: ignore[no-untyped-call]
        self._calls.append(call)
        threading.Thread(target=self._pump, args=(socket, call), daemon=True).start()

    def _pump(self, socket: Path, call: Any) -> None:
        import grpc

        try:
            for reply in call:
                self._waiting.put((socket, id(call), reply))
            self._waiting.put(None)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                self._waiting.put(Failure(f"{socket}: {error.details() or error.code().name}"))

    def _fresh(self, record: Record) -> bool:
        """A request from and to what was named comes by two calls."""
        if len(self._calls) < 2:
            return True
        key = record.get("id", 0), record.get("start", False)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > 4 * WAITING:
            del self._told[next(iter(self._told))]
        return True


def again(record: Record) -> bool:
    """The proxy of the client's node told of it already."""
    known = bool(record.get("source"))
    return known and not record.get("egress") and record.get("source_port", 0) >= PROXY_PORTS


def end(record: Record, side: str) -> str:
    """The pod, or the address."""
    who = record.get(side) or {}
    address = (
        record.get("source_ip") if side == "source" else record.get("upstream_ip") or record.get("destination_ip")
    )
    return str(who.get("pod") or address or "-")
