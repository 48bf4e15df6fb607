"""Policy that is taken back: what is open through the proxy ends, whatever it carries, and nothing else does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary import declare, echo, is_cut, policy
from proxy_lab import Pod, ProxyLab, exchange, read_reply, wait_for
from weft.policies.model import Direction, HttpRule

HEAD = b"GET %s HTTP/1.1\r\nhost: api\r\n%s\r\n"


def upgrading(sock: socket.socket) -> None:
    """Answers 101 and echoes; `/stream`: a response that goes on; `/mute`: never."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(65536)
    if head.startswith(b"GET /ws"):
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        echo(sock)
    elif head.startswith(b"GET /stream"):
        sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    threading.Event().wait(20)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def lives(sock: socket.socket) -> bool:
    sock.sendall(b"ping")
    return sock.recv(100) == b"ping"


@pytest.mark.parametrize("direction", [Direction.EGRESS, Direction.INGRESS])
def test_a_tunnel_ends_with_its_permit_and_not_before(lab: ProxyLab, direction: Direction) -> None:
    server, web, other = lab.server("db-1", serve=echo, app="db"), lab.pod("web", app="web"), lab.pod("x", app="x")
    lab.service("db", server, port=5432, port_name="tcp")
    subject, peer = (web, server) if direction is Direction.EGRESS else (server, web)
    declare(lab, policy(direction, subject, peer))
    lab.start()
    with lab.connect(web, "db") as sock:
        assert lives(sock)
        declare(lab, policy(direction, subject, peer, other))
        lab.change()
        assert lives(sock), "it is still permitted"
        declare(lab, policy(direction, subject, other))
        lab.change()
        assert is_cut(sock)
    assert lab.ask("status")["counted"]["revoked"] == 1
    wait_for(lambda: any(r.verdict == "DROPPED" for r in lab.daemon.records), "nobody was told")


def test_a_tunnel_to_a_port_whose_requests_become_judged_ends(lab: ProxyLab) -> None:
    server, web = lab.server("db-1", serve=echo, app="db"), lab.pod("web", app="web")
    lab.service("db", server, port=5432, port_name="tcp")
    lab.start()
    with lab.connect(web, "db") as sock:
        assert lives(sock)
        declare(lab, policy(Direction.INGRESS, server, web, http=(HttpRule(path="/x"),)))
        lab.change()
        assert is_cut(sock)


@pytest.mark.parametrize("path", [b"/ws", b"/stream"])
def test_a_websocket_and_an_endless_response_end_with_their_permit(lab: ProxyLab, path: bytes) -> None:
    server, web = lab.server("a", serve=upgrading, app="api"), lab.pod("web", app="web")
    other = lab.pod("x", app="x")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web))
    lab.start()
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n" if path == b"/ws" else b""
    with lab.connect(web, "api") as sock:
        sock.sendall(HEAD % (path, upgrade))
        assert sock.recv(4096).startswith(b"HTTP/1.1 " + (b"101" if upgrade else b"200"))
        declare(lab, policy(Direction.INGRESS, server, web, other))
        lab.change()
        if upgrade:
            assert lives(sock)
        declare(lab, policy(Direction.INGRESS, server, other))
        lab.change()
        assert is_cut(sock)
    assert lab.ask("status")["requests_revoked"] == 1


def test_a_request_that_waits_for_its_answer_is_denied_when_rules_forbid_it(lab: ProxyLab) -> None:
    server, web = lab.server("a", serve=upgrading, app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web, http=(HttpRule(path="/mute"),)))
    lab.start()
    with lab.connect(web, "api") as sock:
        sock.sendall(HEAD % (b"/mute", b""))
        wait_for(lambda: lab.ask("status")["requests_active"] == 1, "it is not under way")
        declare(lab, policy(Direction.INGRESS, server, web, http=(HttpRule(path="/other"),)))
        lab.change()
        assert read_reply(sock).status == 403


def test_nothing_goes_on_for_an_address_that_was_given_to_another_workload(lab: ProxyLab) -> None:
    server, web = lab.server("db-1", serve=echo, app="db"), lab.pod("web", app="web")
    lab.service("db", server, port=5432, port_name="tcp")
    lab.start()
    with lab.connect(web, "db") as sock:
        assert lives(sock)
        del lab._declared.pods["web"]
        lab._declared.pods["new"] = Pod("new", web.ip, web.identity, web.labels)
        lab.change()
        assert is_cut(sock)


def test_a_workload_that_is_no_more_keeps_no_tunnel(lab: ProxyLab) -> None:
    server, web = lab.server("db-1", serve=echo, app="db"), lab.pod("web", app="web")
    lab.service("db", server, port=5432, port_name="tcp")
    lab.start()
    with lab.connect(web, "db") as sock:
        assert lives(sock)
        del lab._declared.pods["web"]
        lab.change()
        assert is_cut(sock)


def test_a_keep_alive_connection_is_judged_as_who_its_client_is_now(lab: ProxyLab) -> None:
    """New labels are a new identity: the next request on the same connection is another's."""
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    other = lab.pod("x", app="x")
    lab.service("api", server)
    declare(lab, policy(Direction.INGRESS, server, web))
    lab.start()
    with lab.connect(web, "api") as sock:
        assert exchange(sock, "/", {"host": "api"}).status == 200
        lab._declared.pods["web"] = Pod("web", web.ip, other.identity, other.labels)
        lab.change()
        assert exchange(sock, "/", {"host": "api"}).status == 403


def test_a_pooled_connection_is_not_the_next_workloads(lab: ProxyLab) -> None:
    """To the very address, too, where no service has a view of it."""
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.listen("direct", (server.ip, server.port))
    lab.start()
    with lab.connect(web, "direct") as sock:
        before = json.loads(exchange(sock, "/", {"host": "a"}).body)["peer"]
        assert json.loads(exchange(sock, "/", {"host": "a"}).body)["peer"] == before, "kept alive"
    del lab._declared.pods["web"]
    lab._declared.pods["new"] = Pod("new", web.ip, web.identity + 50, (("app", "new"),))
    lab.change()
    with lab.connect(web, "direct") as sock:
        assert json.loads(exchange(sock, "/", {"host": "a"}).body)["peer"] != before
