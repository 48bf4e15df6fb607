"""HTTP/2 through the worker: by prior knowledge and by upgrade; and what listeners refuse."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from proxy_lab import ProxyLab, exchange


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        lab.pod("web", app="web")
        lab.service("orders", lab.server("orders-1", app="orders"))
        lab.start()
        yield lab


def until_ended(sock: socket.socket, conn: h2.connection.H2Connection, stream: int) -> tuple[str, bytes]:
    """The status and the body."""
    status, body = "", b""
    while True:
        for event in conn.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                status = dict(event.headers)[b":status"].decode()
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                return status, body
        sock.sendall(conn.data_to_send())


def web(lab: ProxyLab) -> socket.socket:
    return lab.connect(lab.pods["web"], "orders")


def test_http2_by_prior_knowledge_comes_byte_by_byte(lab: ProxyLab) -> None:
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    conn.initiate_connection()
    head = [(":method", "GET"), (":path", "/two"), (":scheme", "http"), (":authority", "orders")]
    conn.send_headers(1, head, end_stream=True)
    with web(lab) as sock:
        for byte in conn.data_to_send():
            sock.sendall(bytes([byte]))
        status, body = until_ended(sock, conn, 1)
        assert status == "200"
        assert b'"path": "/two"' in body
        assert lab.ask("connections")[0]["protocol"] == "http2"


def test_http1_is_upgraded_to_http2_where_the_client_asks(lab: ProxyLab) -> None:
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    settings = conn.initiate_upgrade_connection()
    head = (
        "GET /up HTTP/1.1\r\nhost: orders\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        f"http2-settings: {settings.decode()}\r\n\r\n"
    )
    with web(lab) as sock:
        sock.sendall(head.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        first, _, rest = data.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 101 ")
        sock.sendall(conn.data_to_send())
        for event in conn.receive_data(rest):
            assert not isinstance(event, h2.events.ConnectionTerminated)
        status, body = until_ended(sock, conn, 1)
        assert (status, b'"path": "/up"' in body) == ("200", True)


def test_an_idle_http1_connection_serves_many_requests(lab: ProxyLab) -> None:
    with web(lab) as sock:
        assert {exchange(sock, f"/{n}", {"host": "orders"}).status for n in range(50)} == {200}
    assert lab.ask("status")["accepted"] == 1
