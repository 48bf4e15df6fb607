"""The server behind both proxies: answers as the path says, and tells in the answer's body what reached it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any


class Server:
    """Answers as the path says, and tells in a header or the body what it saw. `/SCENE/...`: everything before the
    last segment is the routes' matter."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}

    def serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        reader = sock.makefile("rb")
        with contextlib.suppress(OSError, ValueError, IndexError):
            while self.one(reader, sock):
                pass

    def one(self, reader: Any, sock: socket.socket) -> bool:
        first = reader.readline().decode("latin-1").rstrip("\r\n")
        if not first:
            return False
        method, target, _ = first.split(" ")
        fields = list(iter(lambda: reader.readline().decode("latin-1").rstrip("\r\n"), ""))
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in fields)]
        known = dict(headers)
        if "100-continue" in known.get("expect", ""):
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, trailers = self.body(reader, known)
        told = {"method": method, "target": target, "headers": headers, "body": body, "trailers": trailers}
        return self.answer(sock, method, target.partition("?")[0].rpartition("/")[2], told, known)

    @staticmethod
    def body(reader: Any, known: dict[str, str]) -> tuple[str, list[str]]:
        if known.get("transfer-encoding") != "chunked":
            return reader.read(int(known.get("content-length", 0))).decode("latin-1"), []
        found = b""
        while size := int(reader.readline().split(b";")[0], 16):
            found += reader.read(size)
            reader.readline()
        return found.decode("latin-1"), [line.decode().strip() for line in iter(reader.readline, b"\r\n") if line]

    def answer(
        self, sock: socket.socket, method: str, does: str, told: dict[str, Any], known: dict[str, str]
    ) -> bool:
        key = known.get("x-key", "")
        self.tries[key] = self.tries.get(key, 0) + 1
        told["try"] = self.tries[key] if key else 0
        text = json.dumps(told).encode()
        length = b"content-length: %d\r\n" % len(text)
        bodyless = method == "HEAD"

        def say(head: bytes, content: bytes = b"") -> None:
            sock.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n" + content)

        if does.startswith("status-"):
            status = int(does[7:])
            if status in (204, 304):
                say(b"%d Fine\r\nx-saw: " % status + text)
            else:
                say(b"%d Some Reason\r\n" % status + length.rstrip(), b"" if bodyless else text)
        elif does == "chunked":
            say(
                b"200 OK\r\ntransfer-encoding: chunked",
                b"" if bodyless else b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text),
            )
        elif does == "trailers":
            say(b"200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum", b"3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")
        elif does == "until-close":
            say(b"200 OK", text)
            return False
        elif does == "closing":
            say(b"200 OK\r\nconnection: close\r\n" + length.rstrip(), text)
            return False
        elif does == "old":
            sock.sendall(b"HTTP/1.0 200 OK\r\n" + length + b"\r\n" + text)
            return False
        elif does == "hints":
            say(b"103 Early Hints\r\nlink: </a.css>")
            say(b"200 OK\r\n" + length.rstrip(), text)
        elif does == "fields":
            say(
                b"200 Very Good\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nX-Mixed-Case: Yes\r\n"
                b"keep-alive: timeout=5\r\n"
                b"proxy-connection: x\r\nserver: apache\r\nvia: 1.1 own\r\nx-empty:\r\nx-envoy-thing: 1\r\n"
                + length.rstrip(),
                text,
            )
        elif does == "reset" or (does == "reset-once" and told["try"] == 1):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        elif does == "close":
            return False
        elif does == "cut":
            say(b"200 OK\r\ncontent-length: 100", b"short")
            return False
        elif does == "garbage":
            sock.sendall(b"what is this\r\n\r\n")
            return False
        elif does == "smuggled":
            say(b"200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked", b"0\r\n\r\n")
        elif does == "big-head":
            say(b"200 OK\r\nx-big: " + b"x" * 70000 + b"\r\n" + length.rstrip(), text)
        elif does.startswith("fails-") and told["try"] <= int(does[6:]):
            say(b"503 Unavailable\r\n" + length.rstrip(), text)
        elif does == "slow":
            time.sleep(0.7)
            say(b"200 OK\r\n" + length.rstrip(), text)
        elif does == "grpc-14":
            say(b"200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0")
        else:
            say(b"200 OK\r\n" + length.rstrip(), b"" if bodyless else text)
        return True
