"""gRPC in pods, by grpcio, with bytes for messages: `mesh_grpc.py serve PORT NAME`, `mesh_grpc.py call HOST:PORT`.

The caller makes calls of all four kinds, with everything around them, and prints a JSON object: what each came to.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SIZE = 5 << 20
OPTIONS = [("grpc.max_receive_message_length", 2 * SIZE), ("grpc.max_send_message_length", 2 * SIZE)]


class Service(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self.name = name
        self.cancelled = threading.Event()

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Who": grpc.unary_unary_rpc_method_handler(lambda request, context: self.name.encode()),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Hang": grpc.unary_stream_rpc_method_handler(self.hang),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.was_cancelled),
        }
        return kinds.get(method)

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        given = {key: value for key, value in context.invocation_metadata() if key.startswith("x-")}
        context.send_initial_metadata((("x-initial", "one"),))
        context.set_trailing_metadata(
            (("x-trailing", given.get("x-sent", "")), ("x-raw-bin", given.get("x-raw-bin", b"")))
        )
        return request

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-why", "asked"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not “now”: 100 %")

    def down(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def up(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"%d" % sum(map(len, requests))

    def both(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def hang(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        over = threading.Event()
        context.add_callback(over.set)
        yield b"first"
        over.wait(20)
        self.cancelled.set()

    def was_cancelled(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        return b"yes" if self.cancelled.wait(3) else b"no"


def serve(port: str, name: str) -> None:
    server = grpc.server(ThreadPoolExecutor(16), [Service(name)], options=OPTIONS)
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


class Calls:
    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def unary(self) -> Any:
        call = self.channel.unary_unary("/pkg.Svc/Unary")
        raw = bytes(range(256))
        reply, told = call.with_call(b"hello", metadata=(("x-sent", "value"), ("x-raw-bin", raw)), timeout=5)
        trailing = dict(told.trailing_metadata())
        initial = dict(told.initial_metadata())
        return [reply.decode(), initial.get("x-initial"), trailing["x-trailing"], trailing["x-raw-bin"] == raw]

    def large(self) -> Any:
        message = bytes(range(256)) * (SIZE // 256)
        return self.channel.unary_unary("/pkg.Svc/Unary")(message, timeout=15) == message

    def fail(self) -> Any:
        try:
            self.channel.unary_unary("/pkg.Svc/Fail")(b"", timeout=5)
        except grpc.RpcError as error:
            return [error.code().name, error.details(), dict(error.trailing_metadata()).get("x-why")]
        return "no error"

    def down(self) -> Any:
        replies = self.channel.unary_stream("/pkg.Svc/Down")(b"500", timeout=10)
        return [int(each) for each in replies] == list(range(500))

    def up(self) -> Any:
        return int(self.channel.stream_unary("/pkg.Svc/Up")(iter([b"x" * 1000] * 300), timeout=10))

    def both(self) -> Any:
        """One at a time: each answer is there before the next message goes."""
        turn: list[bytes] = []
        ready = threading.Semaphore(1)

        def messages() -> Iterator[bytes]:
            for number in range(50):
                ready.acquire()
                yield b"m%d" % number

        for reply in self.channel.stream_stream("/pkg.Svc/Both")(messages(), timeout=10):
            turn.append(reply)
            ready.release()
        return turn == [b"M%d" % number for number in range(50)]

    def deadline(self) -> Any:
        started = time.monotonic()
        try:
            list(self.channel.unary_stream("/pkg.Svc/Hang")(b"", timeout=0.5))
        except grpc.RpcError as error:
            return [error.code().name, time.monotonic() - started < 2]
        return "no error"

    def cancel(self) -> Any:
        call = self.channel.unary_stream("/pkg.Svc/Hang")(b"", timeout=15)
        first = next(call)
        call.cancel()
        server_knows = self.channel.unary_unary("/pkg.Svc/Cancelled")(b"", timeout=5)
        return [first.decode(), call.code().name, server_knows.decode()]

    def missing(self) -> Any:
        try:
            self.channel.unary_unary("/pkg.Svc/Nothing")(b"", timeout=5)
        except grpc.RpcError as error:
            return error.code().name
        return "no error"

    def who(self) -> Any:
        who = self.channel.unary_unary("/pkg.Svc/Who")
        return sorted({who(b"", timeout=5).decode() for _ in range(40)})

    def at_once(self) -> Any:
        call = self.channel.unary_unary("/pkg.Svc/Unary")
        return sum(each.result() == b"x" for each in [call.future(b"x", timeout=10) for _ in range(200)])


NAMES = ("unary", "large", "fail", "down", "up", "both", "deadline", "cancel", "missing", "who", "at_once")


def call(target: str, *names: str) -> None:
    told = {}
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        for name in names or NAMES:
            try:
                told[name] = getattr(Calls(channel), name)()
            except Exception as error:
                told[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(told))


{"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
