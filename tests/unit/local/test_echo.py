"""Weft's echo server, whole, byte by byte and with a tail."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.daemon.local import echo

BASE = random.randrange(20000, 29000)
HTTP, TCP, UDP = BASE, BASE + 1, BASE + 2


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    words = [f"{HTTP}/http", f"{TCP}/tcp", f"{UDP}/udp"]
    environment = {"WEFT_POD": "p", "WEFT_NODE": "n", "WEFT_NAMESPACE": "ns", "WEFT_SERVICE_ACCOUNT": "sa"}
    process = subprocess.Popen([sys.executable, "-I", "-S", str(Path(echo.__file__)), *words], env=environment)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", HTTP), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield
    process.kill()
    process.wait()


def talk(*parts: bytes, address: str = "127.0.0.1") -> bytes:
    with socket.create_connection((address, HTTP), 5) as sock:
        for part in parts:
            sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def bodies(answer: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in answer.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_says_who_answers_and_what_came(address: str) -> None:
    (told,) = bodies(talk(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y: 1\r\nx-y: 2\r\n\r\n", address=address))
    assert (told["pod"], told["node"], told["namespace"], told["service_account"]) == ("p", "n", "ns", "sa")
    assert (told["method"], told["path"], told["client"]) == ("GET", "/a?b=c", address)
    assert told["headers"] == {"host": "x", "x-y": "1, 2"}


def test_one_connection_carries_several_requests_even_byte_by_byte() -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    assert [each["body_bytes"] for each in bodies(talk(one * 3))] == [3, 3, 3]
    assert len(bodies(talk(*(bytes([byte]) for byte in one * 2)))) == 2


@pytest.mark.parametrize(
    "request_, status",
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="no request line"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 400, id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, id="a header without a colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x", 400, id="cut off"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="a length below nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413, id="a length without end"),
        pytest.param(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, id="chunks"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431, id="a head without end"),
    ],
)
def test_what_it_does_not_take_it_refuses_and_closes(request_: bytes, status: int) -> None:
    answer = talk(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) and not bodies(answer)


def test_a_closing_client_is_closed() -> None:
    for close in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", HTTP), 5) as sock:
            sock.sendall(close)
            assert b"connection: close" in b"".join(iter(lambda: sock.recv(65536), b""))


def test_head_has_no_body() -> None:
    answer = talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n")


def test_streams_and_datagrams_come_back() -> None:
    with socket.create_connection(("::1", TCP), 5) as sock:
        sock.sendall(b"to")
        assert sock.recv(9) == b"to"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b"fro", ("127.0.0.1", UDP))
        assert sock.recv(9) == b"fro"
