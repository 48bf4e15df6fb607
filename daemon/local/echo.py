"""Weft's echo server: what a container runs that names an image, and no command for it.

    python -I -S echo.py PORT[/tcp|/udp|/http] ...

http: every request is answered with JSON that says who answers and what came; tcp and udp: what comes goes back.
IPv4 and IPv6 on each port. Standard library only, and little of it: it starts in some 20 ms. One thread for each
connection, CLIENTS at most; one that is silent for IDLE seconds is closed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

CLIENTS, IDLE = 512, 120.0
HEAD_MAX, BODY_MAX = 64 << 10, 16 << 20
_slots = threading.BoundedSemaphore(CLIENTS)
IDENTITY = {
    key: os.environ.get(f"WEFT_{key.upper()}", "") for key in ("pod", "node", "namespace", "service_account")
}


class Refused(Exception):
    """A request that is answered with this status, after which the connection is closed."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def listen(port: int, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock


def serve_stream(sock: socket.socket, talk: object) -> None:
    sock.listen(256)
    while True:
        client, peer = sock.accept()
        _slots.acquire()
        threading.Thread(target=_converse, args=(client, peer, talk), daemon=True).start()


def _converse(client: socket.socket, peer: tuple[str, int], talk) -> None:  # type: ignore[no-untyped-def]
    try:
        with client:
            client.settimeout(IDLE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk(client, peer)
    except OSError:
        pass  # the other end is gone, or silent
    finally:
        _slots.release()


def serve_datagrams(sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(65535)
        try:
            sock.sendto(data, peer)
        except OSError:
            continue  # unreachable by now: the next may not be


def echo(client: socket.socket, _peer: object) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def http(client: socket.socket, peer: tuple[str, int]) -> None:
    """HTTP/1.1 with keep-alive, one request after the other."""
    reader = client.makefile("rb", buffering=HEAD_MAX)
    while True:
        try:
            request = read_request(reader)
        except Refused as refused:
            client.sendall(f"HTTP/1.1 {refused.status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            return
        if request is None:
            return
        client.sendall(answer(request, peer))
        if request["close"]:
            return


def read_request(reader) -> dict[str, object] | None:  # type: ignore[no-untyped-def]
    """One request, its body read and counted; None at the end of the stream. Raises Refused."""
    line = reader.readline(HEAD_MAX)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refused("400 Bad Request")
    headers = read_headers(reader, HEAD_MAX - len(line))
    if "transfer-encoding" in headers:
        raise Refused("411 Length Required")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refused("400 Bad Request")
    if int(length) > BODY_MAX:
        raise Refused("413 Content Too Large")
    body = reader.read(int(length))
    wish = headers.get("connection", "").lower()
    close = "close" in wish or (words[2] == "HTTP/1.0" and "keep-alive" not in wish)
    return {"method": words[0], "path": words[1], "headers": headers, "body_bytes": len(body), "close": close}


def read_headers(reader, room: int) -> dict[str, str]:  # type: ignore[no-untyped-def]
    headers: dict[str, str] = {}
    while True:
        line = reader.readline(room + 1)
        room -= len(line)
        if room < 0:
            raise Refused("431 Request Header Fields Too Large")
        if not line.endswith(b"\n"):
            raise Refused("400 Bad Request")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            return headers
        name, colon, value = text.partition(":")
        if not colon:
            raise Refused("400 Bad Request")
        name = name.strip().lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()


def answer(request: dict[str, object], peer: tuple[str, int]) -> bytes:
    shown = {key: value for key, value in request.items() if key != "close"}
    client = peer[0].removeprefix("::ffff:")
    body = json.dumps({**IDENTITY, **shown, "client": client, "client_port": peer[1]}).encode() + b"\n"
    ending = "close" if request["close"] else "keep-alive"
    lines = ("content-type: application/json", f"content-length: {len(body)}", f"connection: {ending}", "", "")
    return "\r\n".join(("HTTP/1.1 200 OK", *lines)).encode() + (b"" if request["method"] == "HEAD" else body)


def start(word: str) -> threading.Thread:
    number, _, kind = word.partition("/")
    sock = listen(int(number), socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if kind == "udp":
        return threading.Thread(target=serve_datagrams, args=(sock,))
    return threading.Thread(target=serve_stream, args=(sock, echo if kind == "tcp" else http))


def main() -> None:
    threads = [start(word) for word in sys.argv[1:]]
    for thread in threads:
        thread.start()
    if not threads:
        threading.Event().wait()  # no port: a pod that only lives


if __name__ == "__main__":
    main()
