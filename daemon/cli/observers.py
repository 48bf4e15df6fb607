"""Where the observers are, and how to talk to several of them as if they were one.

A server named by --server (or WEFT_SERVER, HUBBLE_SERVER) is the only one; else every observer.sock of the
cluster's run directory; else localhost:4245, where Hubble's relay would be.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from weft.daemon.cli import times
from weft.daemon.cli.client import DEFAULT_RUN_DIR, may_use
from weft.daemon.cli.failure import Failure
from weft.policies.wire.pb import observer_pb2, observer_pb2_grpc, relay_pb2

DEFAULT_SERVER: Final = "localhost:4245"
Response = observer_pb2.GetFlowsResponse


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    env = os.environ
    group.add_argument(
        "--server",
        default=env.get("WEFT_SERVER") or env.get("HUBBLE_SERVER", ""),
        help="unix:///path, host:port or tls://host:port (default: $WEFT_SERVER, $HUBBLE_SERVER, the sockets in "
        f"the run directory, {DEFAULT_SERVER})",
    )
    run_dir = env.get("WEFT_RUN_DIR", DEFAULT_RUN_DIR)
    group.add_argument(
        "--run-dir", default=run_dir, help="where the sockets are (default: $WEFT_RUN_DIR or %(default)s)"
    )
    group.add_argument("--timeout", default="5s", metavar="DURATION", help="to connect (default: %(default)s)")
    group.add_argument(
        "--request-timeout", default="12s", metavar="DURATION", help="of lists (default: %(default)s)"
    )
    group.add_argument("--tls", action="store_true", help="use TLS")
    group.add_argument(
        "--tls-allow-insecure", action="store_true", help="refused: a server is verified or not used"
    )
    group.add_argument("--tls-ca-cert-files", action="append", default=[], metavar="FILE,...", help="PEM")
    group.add_argument("--tls-client-cert-file", default="", metavar="FILE", help="PEM; implies --tls")
    group.add_argument("--tls-client-key-file", default="", metavar="FILE", help="PEM; implies --tls")
    group.add_argument("--tls-server-name", default="", metavar="NAME", help="the name its certificate must have")
    group.add_argument("--basic-auth-username", default="", metavar="NAME", help="for a server that asks")
    group.add_argument("--basic-auth-password", default="", metavar="PASSWORD", help="likewise")
    for flags in (("-P", "--port-forward"), ("--port-forward-port",), ("--kube-context",), ("--kube-namespace",)):
        value: dict[str, Any] = {"action": "store_true"} if len(flags) == 2 else {"default": ""}
        group.add_argument(*flags, **value, dest="kubernetes", help=argparse.SUPPRESS)


@dataclass(frozen=True, slots=True)
class Target:
    """`name` is the node's, as far as the socket's folder tells; else the address."""

    name: str
    address: str  # as grpc wants it
    tls: bool = False


def targets(options: argparse.Namespace) -> list[Target]:
    if options.kubernetes:
        raise Failure("forwarding from a Kubernetes cluster is not supported: give the address by --server", 2)
    if options.server:
        return [_target(options)]
    base = Path(options.run_dir)
    found = [Target(path.parent.name, f"unix:{path}") for path in sorted(base.glob("*/observer.sock"))]
    if (base / "observer.sock").exists():
        found.append(Target(str(base / "observer.sock"), f"unix:{base / 'observer.sock'}"))
    return found or [Target(DEFAULT_SERVER, DEFAULT_SERVER, options.tls)]


def _target(options: argparse.Namespace) -> Target:
    server = options.server
    tls = options.tls or bool(options.tls_client_cert_file)
    if server.startswith("unix:"):
        return Target(server, "unix:" + "/" + server.removeprefix("unix:").lstrip("/"))
    scheme, separator, rest = server.rpartition("://")
    if separator and scheme not in ("tcp", "tls", "http", "https"):
        raise Failure(f"--server {server}: unix://, tls:// or host:port", 2)
    return Target(server, rest, tls or scheme in ("tls", "https"))


def _channel(target: Target, options: argparse.Namespace) -> grpc.aio.Channel:
    settings: list[tuple[str, Any]] = [("grpc.max_receive_message_length", 16 << 20)]
    if target.address.startswith("unix:"):
        # The default authority of a unix channel is the socket's path, which HTTP/2 servers may refuse.
        settings.append(("grpc.default_authority", "localhost"))
    if not target.tls:
        return grpc.aio.insecure_channel(target.address, options=settings)
    if options.tls_allow_insecure:
        raise Failure("--tls-allow-insecure is not supported: give the CA by --tls-ca-cert-files", 2)
    if options.tls_server_name:
        settings.append(("grpc.ssl_target_name_override", options.tls_server_name))
    names = [name for names in options.tls_ca_cert_files for name in names.split(",") if name]
    roots = b"\n".join(_pem(name) for name in names)
    key = _pem(options.tls_client_key_file) if options.tls_client_key_file else None
    chain = _pem(options.tls_client_cert_file) if options.tls_client_cert_file else None
    credentials = grpc.ssl_channel_credentials(roots or None, key, chain)
    return grpc.aio.secure_channel(target.address, credentials, options=settings)


def _pem(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}") from None


def _metadata(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    if not options.basic_auth_username:
        return ()
    pair = f"{options.basic_auth_username}:{options.basic_auth_password}".encode()
    return (("authorization", "Basic " + base64.b64encode(pair).decode()),)


@dataclass(slots=True)
class Observers:
    """Connected servers, at least one. `missing`: what did not answer, and why."""

    options: argparse.Namespace
    connected: list[tuple[Target, Any]] = field(default_factory=list)  # with a stub
    missing: dict[str, str] = field(default_factory=dict)
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def __aenter__(self) -> Observers:
        found = targets(self.options)
        await asyncio.gather(*(self._connect(target) for target in found))
        self.connected.sort(key=lambda pair: pair[0].name)
        if self.connected:
            return self
        await self.__aexit__()
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.missing.items()))
        hint = "" if self.options.server else f" (no observer.sock that answers under {self.options.run_dir})"
        raise Failure(f"failed to connect to {why}{hint}")

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close(None)

    async def _connect(self, target: Target) -> None:
        path = target.address.removeprefix("unix:")
        if path.startswith("/") and not may_use(Path(path)):
            self.missing[target.name] = f"{path} is not yours to use: run it as root"
            return
        channel = _channel(target, self.options)
        self._channels.append(channel)
        try:
            async with asyncio.timeout(seconds(self.options.timeout)):
                state = channel.get_state(try_to_connect=True)
                while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            self.missing[target.name] = f"no answer within {self.options.timeout}"
            return
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self.missing[target.name] = "connection refused"
            return
        stub = observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call]
        self.connected.append((target, stub))

    async def ask(self, method: str, request: Any) -> dict[str, Any]:
        """The answer of each server, by the target's name. A server that fails is added to `missing`."""
        limit = seconds(self.options.request_timeout)
        answers: dict[str, Any] = {}
        for target, stub in self.connected:
            try:
                call = getattr(stub, method)
                answers[target.name] = await call(request, timeout=limit, metadata=_metadata(self.options))
            except grpc.RpcError as error:
                self.missing[target.name] = explained(error)
        if not answers:
            raise Failure("; ".join(f"{name}: {why}" for name, why in self.missing.items()))
        return answers

    def streams(self, method: str, request: Any) -> list[tuple[str, AsyncIterator[Any]]]:
        metadata = _metadata(self.options)
        return [(target.name, getattr(stub, method)(request, metadata=metadata)) for target, stub in self.connected]


def seconds(text: str) -> float:
    try:
        return times.duration(text) / 1e9
    except ValueError as error:
        raise Failure(str(error), 2) from None


def explained(error: grpc.RpcError) -> str:
    text = str(error.details() or error.code().name.lower().replace("_", " "))
    return f"the server is gone: {text}" if error.code() is grpc.StatusCode.UNAVAILABLE else text


# --- several streams as one ---

#: How long flows of one node may be behind those of another, and still be printed in order of time.
REORDER: Final = 0.2


async def merged(
    streams: list[tuple[str, AsyncIterator[Response]]], *, follow: bool, now: Callable[[], int] = time.time_ns
) -> AsyncIterator[Response]:
    """By time. A stream that breaks while others go on becomes a node status; the last one's error is a Failure."""
    alive = [guarded(name, stream, alone=len(streams) == 1, now=now) for name, stream in streams]
    if len(alive) == 1:
        async for response in alive[0]:
            yield response
    elif follow:
        async for response in _as_they_come(alive):
            yield response
    else:
        async for response in _in_order(alive):
            yield response


async def limited(responses: AsyncIterator[Response], number: int, *, first: bool) -> AsyncIterator[Response]:
    """The first or the last `number` flows of all nodes together, each of which sent so many; 0: all. What is no
    flow (a node in trouble, a loss) is not counted and passes."""
    if not number:
        async for response in responses:
            yield response
        return
    kept: deque[Response] = deque(maxlen=None if first else min(number, sys.maxsize))
    async for response in responses:
        if not response.HasField("flow"):
            yield response
        elif not first or len(kept) < number:
            kept.append(response)
    for response in kept:
        yield response


async def guarded(
    name: str, stream: AsyncIterator[Response], *, alone: bool, now: Callable[[], int]
) -> AsyncIterator[Response]:
    try:
        async for response in stream:
            yield response
    except grpc.RpcError as error:
        if alone or error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
            raise Failure(explained(error)) from None
        yield unavailable(name, explained(error), now())


def unavailable(name: str, why: str, now_ns: int) -> Response:
    status = relay_pb2.NodeStatusEvent(state_change=relay_pb2.NODE_ERROR, node_names=[name], message=why)
    response = Response(node_status=status, node_name=name)
    response.time.FromNanoseconds(now_ns)
    return response


async def _in_order(streams: list[AsyncIterator[Response]]) -> AsyncIterator[Response]:
    """Each is in order of time, so the oldest of their heads is next."""
    heads: list[tuple[int, int, Response]] = []
    for at, stream in enumerate(streams):
        await _pull(heads, at, stream)
    while heads:
        heads.sort(key=lambda head: head[:2])
        _, at, response = heads.pop(0)
        yield response
        await _pull(heads, at, streams[at])


async def _pull(heads: list[tuple[int, int, Response]], at: int, stream: AsyncIterator[Response]) -> None:
    response = await anext(stream, None)
    if response is not None:
        heads.append((response.time.ToNanoseconds(), at, response))


async def _as_they_come(streams: list[AsyncIterator[Response]]) -> AsyncIterator[Response]:
    """Held back for REORDER, then in order. The queue is bounded: a slow terminal slows the servers' streams."""
    queue: asyncio.Queue[Response | Failure | None] = asyncio.Queue(1000)

    async def drain(stream: AsyncIterator[Response]) -> None:
        try:
            async for response in stream:
                await queue.put(response)
        except Failure as failure:
            await queue.put(failure)
        await queue.put(None)

    tasks = [asyncio.create_task(drain(stream)) for stream in streams]
    try:
        running = len(tasks)
        while running:
            batch: list[Response] = []
            item = await queue.get()
            await asyncio.sleep(REORDER)
            while True:
                if item is None:
                    running -= 1
                elif isinstance(item, Failure):
                    raise item
                else:
                    batch.append(item)
                if queue.empty():
                    break
                item = queue.get_nowait()
            for response in sorted(batch, key=lambda response: response.time.ToNanoseconds()):
                yield response
    finally:
        for task in tasks:
            task.cancel()
