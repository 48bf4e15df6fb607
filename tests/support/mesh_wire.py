"""A pod's servers for tests of protocols: `mesh_wire.py CERTIFICATE KEY`.

Port 8080 speaks HTTP/1.1 without a library, so that what it sends is what it says: the path tells how it answers
(see `ANSWERS`). 9000 speaks first (`220 ready`), then echoes. 9001 counts what it gets until the client's end, then
says how much it was. 8443 is TLS, and tells the server name that it was asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Request:
    def __init__(self, head: bytes, reader: Reader) -> None:
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, self.version = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        self.trailers: dict[str, str] = {}
        self.reader = reader

    async def body(self) -> AsyncIterator[bytes]:
        if self.headers.get("transfer-encoding") != "chunked":
            left = int(self.headers.get("content-length", 0))
            while left:
                data = await self.reader.read(min(left, 65536))
                if not data:
                    raise ConnectionError("cut short")
                left -= len(data)
                yield data
            return
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        while line := (await self.reader.readline()).strip().decode("latin-1"):
            name, _, value = line.partition(":")
            self.trailers[name.lower()] = value.strip()


def write(writer: Writer, status: str, body: bytes = b"", *fields: str) -> None:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


async def told(request: Request, writer: Writer) -> bool:
    """What was asked, as JSON. A HEAD gets the head that a GET would get."""
    size = sum([len(piece) async for piece in request.body()])
    seen = {"method": request.method, "target": request.target, "version": request.version, "body": size}
    body = json.dumps(seen | {"headers": request.headers, "trailers": request.trailers}).encode()
    if request.method == "HEAD":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-from: server\r\n\r\n" % len(body))
    else:
        write(writer, "200 OK", body, "x-from: server")
    return True


async def echo(request: Request, writer: Writer) -> bool:
    """Each piece goes back as it comes; the answer begins before the request has ended. Then trailers."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-count\r\n\r\n")
    count = 0
    async for piece in request.body():
        count += len(piece)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\nx-count: %d\r\nx-sum: %b\r\n\r\n" % (count, json.dumps(request.trailers).encode()))
    return True


async def expect(request: Request, writer: Writer) -> bool:
    """Asks for the body only after a while, so that who sends it unasked is seen."""
    waiting = request.headers.get("expect") == "100-continue"
    if waiting:
        await asyncio.sleep(0.2)
        early = len(request.reader._buffer)  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    size = sum([len(piece) async for piece in request.body()])
    write(
        writer, "200 OK", json.dumps({"body": size, "waited": waiting, "early": early if waiting else 0}).encode()
    )
    return True


async def refuse(request: Request, writer: Writer) -> bool:
    write(writer, "417 Expectation Failed", b"no", "connection: close")
    return False


async def hints(request: Request, writer: Writer) -> bool:
    writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.05)
    write(writer, "200 OK", b"hinted")
    return True


async def old(request: Request, writer: Writer) -> bool:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    return False


async def big(request: Request, writer: Writer) -> bool:
    size = int(request.target.rpartition("=")[2])
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    piece = b"w" * 65536
    for at in range(0, size, len(piece)):
        writer.write(piece[: size - at])
        await writer.drain()
    return True


async def slow(request: Request, writer: Writer) -> bool:
    """Reads the body only after a second."""
    await asyncio.sleep(1)
    return await told(request, writer)


async def websocket(request: Request, writer: Writer) -> bool:
    """Echoes frames, unmasked, until one says close."""
    key = base64.b64encode(hashlib.sha1(request.headers["sec-websocket-key"].encode() + GUID).digest()).decode()
    head = (
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-accept: {key}",
    )
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    while True:
        first, second = await request.reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(await request.reader.readexactly(2), "big")
        mask = await request.reader.readexactly(4)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await request.reader.readexactly(size)))
        lengths = bytes([size]) if size < 126 else bytes([126]) + size.to_bytes(2, "big")
        writer.write(bytes([first]) + lengths + data)
        if first & 15 == 8:
            await writer.drain()
            return False


ANSWERS: dict[str, Callable[[Request, Writer], Awaitable[bool]]] = {
    "/echo": echo,
    "/expect": expect,
    "/refuse": refuse,
    "/hints": hints,
    "/old": old,
    "/big": big,
    "/slow": slow,
    "/ws": websocket,
}


async def http(reader: Reader, writer: Writer) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        more = True
        while more:
            request = Request(await reader.readuntil(b"\r\n\r\n"), reader)
            more = await ANSWERS.get(request.target.partition("?")[0], told)(request, writer)
            await writer.drain()
    writer.close()


async def first(reader: Reader, writer: Writer) -> None:
    writer.write(b"220 ready\r\n")
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def count(reader: Reader, writer: Writer) -> None:
    size = 0
    while data := await reader.read(1 << 20):
        size += len(data)
    writer.write(b"%d bytes, and you said you are done" % size)
    writer.close()


async def secret(reader: Reader, writer: Writer) -> None:
    name = getattr(writer.get_extra_info("ssl_object"), "asked_for", "")
    writer.write(f"asked for {name}\n".encode())
    writer.close()


def certificate(path: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)

    def named(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        sock.asked_for = name  # type: ignore[attr-defined]

    context.sni_callback = named  # type: ignore[assignment]
    return context


async def main() -> None:
    for port, serve in ((8080, http), (9000, first), (9001, count)):
        await asyncio.start_server(serve, "::", port, limit=1 << 18)
        await asyncio.start_server(serve, "0.0.0.0", port, limit=1 << 18)
    await asyncio.start_server(secret, "0.0.0.0", 8443, ssl=certificate(*sys.argv[1:3]))
    await asyncio.Event().wait()


asyncio.run(main())
