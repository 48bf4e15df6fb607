"""A client and a server of gRPC (grpcio, nobody's fakes) with our two codecs between them, on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from h2_relay import Splice
from weft.l7proxy.core.http2 import Client, Server
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Downstream, Failure, Peer, Request


class Upstreams(asyncio.Protocol):
    """The connection to the server."""

    codec: Client

    def connection_made(self, transport: Any) -> None:
        self.codec = Client(transport, DEFAULTS, time.monotonic)

    def data_received(self, data: bytes) -> None:
        self.codec.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.codec.lost(Failure.RESET)

    def pause_writing(self) -> None:
        self.codec.pause_writing()

    def resume_writing(self) -> None:
        self.codec.resume_writing()


class Accepted(asyncio.Protocol):
    """A connection of the client, with every request spliced to the one connection behind."""

    def __init__(self, behind: Upstreams) -> None:
        self.behind = behind

    def connection_made(self, transport: Any) -> None:
        self.codec = Server(transport, self, Peer(("127.0.0.1", 1), ("127.0.0.1", 2)), DEFAULTS, time.monotonic)

    def request(self, request: Request, downstream: Downstream, end: bool) -> Splice:
        return Splice(downstream, self.behind.codec, request, end)

    def data_received(self, data: bytes) -> None:
        self.codec.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.codec.lost()

    def pause_writing(self) -> None:
        self.codec.pause_writing()

    def resume_writing(self) -> None:
        self.codec.resume_writing()


class Calls(grpc.GenericRpcHandler):
    """Bytes in, bytes out."""

    def service(self, details: Any) -> Any:
        return {
            "/t/Unary": grpc.unary_unary_rpc_method_handler(lambda sent, context: sent[::-1]),
            "/t/Upload": grpc.stream_unary_rpc_method_handler(lambda sent, context: b"%d" % sum(map(len, sent))),
            "/t/Download": grpc.unary_stream_rpc_method_handler(
                lambda sent, context: (b"d" * 100_000 for _ in range(int(sent)))
            ),
            "/t/Talk": grpc.stream_stream_rpc_method_handler(lambda sent, context: (one.upper() for one in sent)),
            "/t/Fail": grpc.unary_unary_rpc_method_handler(
                lambda sent, context: context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100%")
            ),
            "/t/Hang": grpc.unary_unary_rpc_method_handler(lambda sent, context: time.sleep(0.5) or b""),
        }.get(details.method)


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", 1 << 25), ("grpc.max_send_message_length", 1 << 25)]
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Calls()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    loop = asyncio.new_event_loop()

    async def relay() -> int:
        _, behind = await loop.create_connection(Upstreams, "127.0.0.1", port)
        listening = await loop.create_server(lambda: Accepted(behind), "127.0.0.1", 0)
        return int(listening.sockets[0].getsockname()[1])

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    front = asyncio.run_coroutine_threadsafe(relay(), loop).result(10)
    with grpc.insecure_channel(f"127.0.0.1:{front}", options=options) as channel:
        yield channel
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    server.stop(None)


def test_unary(channel: grpc.Channel) -> None:
    for size in (0, 1, 100, 16384, 100_000):
        sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert channel.unary_unary("/t/Unary")(sent, timeout=20) == sent[::-1]


def test_a_message_of_5_mib_there_and_back(channel: grpc.Channel) -> None:
    sent = b"m" * (5 << 20)
    assert channel.unary_unary("/t/Unary")(sent, timeout=20) == sent


def test_client_streaming(channel: grpc.Channel) -> None:
    assert channel.stream_unary("/t/Upload")((b"u" * 50_000 for _ in range(40)), timeout=20) == b"2000000"


def test_server_streaming(channel: grpc.Channel) -> None:
    assert sum(map(len, channel.unary_stream("/t/Download")(b"40", timeout=20))) == 4_000_000


def test_bidirectional_streaming(channel: grpc.Channel) -> None:
    assert list(channel.stream_stream("/t/Talk")((b"a%d" % i for i in range(50)), timeout=20)) == [
        b"A%d" % i for i in range(50)
    ]


def test_a_status_with_its_message(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Fail")(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details() == "not now: 100%"


def test_an_unknown_method(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/None")(b"", timeout=20)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_of_the_clients_passes_and_the_connection_serves_on(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/t/Hang")(b"", timeout=0.1)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert channel.unary_unary("/t/Unary")(b"ab", timeout=20) == b"ba"


def test_a_slow_reader_beside_others(channel: grpc.Channel) -> None:
    slow = channel.unary_stream("/t/Download")(b"60", timeout=20)
    next(slow)
    for _ in range(20):
        assert channel.unary_unary("/t/Unary")(b"ab", timeout=20) == b"ba"
    assert sum(map(len, slow)) == 59 * 100_000


def test_many_at_once(channel: grpc.Channel) -> None:
    calls = [channel.unary_unary("/t/Unary").future(b"%04d" % i, timeout=20) for i in range(300)]
    assert [call.result() for call in calls] == [(b"%04d" % i)[::-1] for i in range(300)]
