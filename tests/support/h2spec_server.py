"""A small server on the codec, for h2spec (`h2spec -p PORT`): answers each request with its length of body.

Not part of any ring: h2spec is a Go program that has to be built. `python tests/support/h2spec_server.py PORT`
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import uvloop

from weft.l7proxy.core.http2 import Server
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Downstream, Headers, Peer, Request, RequestSink, Reset, Response


class Echo:
    """Answers when the request is whole."""

    def __init__(self, downstream: Downstream, request: Request) -> None:
        self.downstream, self.request = downstream, request
        self.size = 0

    def body(self, data: bytes) -> None:
        self.size += len(data)

    def end(self, trailers: Headers | None) -> None:
        said = b"%s: %d bytes\n" % (self.request.path, self.size)
        head = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(said))]
        self.downstream.respond(Response(200, head, length=len(said)), False)
        self.downstream.send(said)
        self.downstream.finish()

    def gone(self, reason: Reset) -> None: ...
    def pause_response(self) -> None: ...
    def resume_response(self) -> None: ...


class Echoes:
    def request(self, request: Request, downstream: Downstream, end: bool) -> RequestSink:
        echo = Echo(downstream, request)
        if end:
            echo.end(None)
        return echo


class Accepted(asyncio.Protocol):
    codec: Server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        source, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        wire: Any = transport
        self.codec = Server(wire, Echoes(), Peer(source[:2], here[:2]), DEFAULTS, time.monotonic)

    def data_received(self, data: bytes) -> None:
        self.codec.receive(data)

    def eof_received(self) -> bool:
        self.codec.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.codec.lost()

    def pause_writing(self) -> None:
        self.codec.pause_writing()

    def resume_writing(self) -> None:
        self.codec.resume_writing()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
