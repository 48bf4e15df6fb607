"""A pod's HTTP server that does what a request tells it to: `mesh_server.py NAME PORT...`.

The query says how it answers: `status=503`, `delay=0.5` (seconds), `times=2` (only the first two requests with that
`key` are answered so, later ones with 200), `do=reset` (RST after the head was read), `do=close` (FIN), `do=hang`,
`header=name:value` (in the answer), `size=N` (bytes of the answer), `only=POD` (others answer 200). The answer is
JSON: who answered and what was asked. `GET /count?key=K` tells how many requests with that key came. Told to end
(SIGTERM) it goes on for half a second, as servers in a mesh do, for its clients learn of it later than it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
from collections import Counter
from urllib.parse import parse_qs, urlsplit

NAME = sys.argv[1]
SEEN: Counter[str] = Counter()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await one(reader, writer):
            pass
    writer.close()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """False: nothing follows on this connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await read_body(reader, headers)
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    key = query.get("key", "")
    if url.path == "/count":
        return await answer(writer, method, 200, {"count": SEEN[key]}, {})
    SEEN[key] += 1
    told = {
        "pod": NAME,
        "method": method,
        "path": target,
        "headers": headers,
        "body": len(body),
        "peer": writer.get_extra_info("peername")[:2],
    }
    mended = "times" in query and SEEN[key] > int(query["times"])
    if mended or query.get("only", NAME) != NAME:
        return await answer(writer, method, 200, told, {})
    return await misbehave(writer, method, query, told)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (await reader.readline()).strip():
            pass
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def misbehave(writer: asyncio.StreamWriter, method: str, query: dict[str, str], told: object) -> bool:
    await asyncio.sleep(float(query.get("delay", 0)))
    match query.get("do"):
        case "hang":
            await asyncio.sleep(3600)
        case "reset":
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        case "close":
            return False
    return await answer(writer, method, int(query.get("status", 200)), told, query)


async def answer(
    writer: asyncio.StreamWriter, method: str, status: int, told: object, query: dict[str, str]
) -> bool:
    body = b"x" * int(query["size"]) if "size" in query else json.dumps(told).encode()
    more = query.get("header", "").partition(":")
    extra = f"{more[0]}: {more[2]}\r\n" if more[0] else ""
    head = f"HTTP/1.1 {status} S\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    writer.write(head.encode() + (b"" if method == "HEAD" else body))
    await writer.drain()
    return True


async def main() -> None:
    for port in sys.argv[2:]:
        for host in ("0.0.0.0", "::"):
            await asyncio.start_server(serve, host, int(port), backlog=1024)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await asked.wait()
    await asyncio.sleep(0.5)


asyncio.run(main())
