"""What a port speaks, where its service, its policy and the client's bytes do not agree."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary import declare, echo, is_cut, policy
from proxy_lab import ProxyLab, exchange, read_reply
from weft.policies.model import Direction, HttpRule

RULE = (HttpRule(path="/x"),)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


@pytest.mark.parametrize("direction", [Direction.EGRESS, Direction.INGRESS])
def test_a_port_that_is_called_tcp_is_judged_where_policy_has_rules_for_its_requests(
    lab: ProxyLab, direction: Direction
) -> None:
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server, port_name="tcp-api")
    subject, peer = (web, server) if direction is Direction.EGRESS else (server, web)
    declare(lab, policy(direction, subject, peer, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        assert [exchange(sock, path, {"host": "api"}).status for path in ("/x", "/y", "/x")] == [200, 403, 200]
    with lab.connect(web, "api") as sock:
        sock.sendall(b"\x00\x01 no request\r\n\r\n")
        assert is_cut(sock)


NOT_HTTP = {
    "silence and then bytes": (b"", b"\x01binary"),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(520), b""),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x28", b""),
    "the preface of something else": (b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", b""),
    "a request line without its version": (b"GET /x\r\n\r\n", b""),
    "SSH": (b"SSH-2.0-x\r\n", b""),
    "a method that is none": (b"G\x00T /x HTTP/1.1\r\n\r\n", b""),
    "half a request line and the end": (b"GET /x HT", b""),
}


@pytest.mark.parametrize("name", ["http", "tcp", "", "https"])
@pytest.mark.parametrize("case", NOT_HTTP, ids=str)
def test_nothing_but_requests_passes_where_requests_are_judged(lab: ProxyLab, name: str, case: str) -> None:
    got: list[bytes] = []

    def listening(sock: socket.socket) -> None:
        got.append(sock.recv(100))

    server, web = lab.server("a", serve=listening, app="api"), lab.pod("web", app="web")
    lab.service("api", server, port_name=name)
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    first, second = NOT_HTTP[case]
    with lab.connect(web, "api") as sock:
        if not first:
            time.sleep(0.05)  # the grace is over: the server would have been asked to speak
        sock.sendall(first or second)
        sock.shutdown(socket.SHUT_WR)
        assert is_cut(sock)
    assert not any(got), "the server was sent what nobody judged"


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.006, 0.05])
def test_a_client_that_is_silent_first_is_judged_all_the_same(lab: ProxyLab, pause: float) -> None:
    """After the grace the server would be connected; policy keeps that from happening."""
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server, port_name="")
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        time.sleep(pause)
        for piece in (b"GE", b"T /y HTT", b"P/1.1\r\nhost: api\r\n", b"\r\n"):
            sock.sendall(piece)
            time.sleep(0.01)
        assert read_reply(sock).status == 403
        assert exchange(sock, "/x", {"host": "api"}).status == 200


def test_a_server_that_speaks_first_is_not_heard_where_requests_are_judged(lab: ProxyLab) -> None:
    def greeting(sock: socket.socket) -> None:
        sock.sendall(b"220 hello\r\n")
        echo(sock)

    server, web = lab.server("a", serve=greeting, app="api"), lab.pod("web", app="web")
    lab.service("api", server, port_name="")
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        assert exchange(sock, "/y", {"host": "api"}).status == 403


SMUGGLED = b"GET /y HTTP/1.1\r\nhost: api\r\n\r\n"


@pytest.mark.parametrize(
    "upgrade", [b"websocket", b"h2c", b"h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", b"TLS/1.0", b"x, websocket"]
)
def test_a_server_that_does_not_upgrade_gets_no_bytes_behind_the_request(lab: ProxyLab, upgrade: bytes) -> None:
    """A tunnel begins with the server's 101: what comes before is a request like any other, and judged."""
    seen: list[bytes] = []

    def stubborn(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            seen.append(data)
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    server, web = lab.server("a", serve=stubborn, app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        head = b"GET /x HTTP/1.1\r\nhost: api\r\nconnection: upgrade, http2-settings\r\nupgrade: " + upgrade
        sock.sendall(head + b"\r\n\r\n" + SMUGGLED)
        sock.settimeout(2)
        with pytest.raises((TimeoutError, ConnectionError)):
            while True:
                assert sock.recv(65536) or not (_ for _ in ()).throw(ConnectionError())
    assert not any(b"/y" in data for data in seen), seen


def test_surplus_bytes_of_a_server_answer_nobodys_request(lab: ProxyLab) -> None:
    """A response behind the response would be the next request's answer."""

    def generous(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            body = b"evil" if b"/x?first" in data else b"good"
            extra = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL" if body == b"evil" else b""
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + body + extra)

    server, web = lab.server("a", serve=generous, app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    lab.start()
    with lab.connect(web, "api") as sock:
        assert exchange(sock, "/x?first", {"host": "api"}).body == b"evil"
        for _ in range(3):
            assert exchange(sock, "/x", {"host": "api"}).body == b"good"


@pytest.mark.parametrize(
    "body",
    [
        b"GET /y HTTP/1.1\r\nhost: api\r\n\r\n",
        b"0\r\n\r\nGET /y HTTP/1.1\r\nhost: api\r\n\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/x", "/z"])
def test_a_body_that_looks_like_a_request_is_a_body_also_behind_a_denial(
    lab: ProxyLab, body: bytes, path: str
) -> None:
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web, http=RULE))
    lab.start()
    with lab.connect(web, "api") as sock:
        assert exchange(sock, path, {"host": "api"}, "POST", body).status == (200 if path == "/x" else 403)
        assert exchange(sock, "/x", {"host": "api"}).json["path"] == "/x"
    assert lab._servers[0].requests == (2 if path == "/x" else 1)
