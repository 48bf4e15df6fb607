"""The worker as it runs: a real process, fed by hand, with real connections on both sides."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_lab import ProxyLab, exchange, wait_for
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    How,
    Matcher,
    Named,
    Origin,
    RequestMatch,
    Route,
    Rule,
    Subset,
    TcpRule,
)
from weft.policies.model import (
    L7,
    Action,
    Direction,
    HttpRule,
    ObjectRef,
    PortSpec,
    Protocol,
)
from weft.policies.model import Origin as PolicyOrigin
from weft.policies.snapshot import PolicyItem, ResolvedPeers, ResolvedRule, ResolvedSpec
from weft.policies.wire.pb import proxy_pb2 as pb

ORIGIN = Origin("VirtualService", "default", "orders", "spec.http[0]")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def route(lab: ProxyLab, *rules: Rule, tcp: tuple[TcpRule, ...] = (), service: str = "orders") -> HostRouting:
    host = lab.host(service)
    ref = ObjectRef("VirtualService", "default", service)
    subsets = tuple(Subset(v, (("version", v),)) for v in ("v1", "v2"))
    policy = DestinationPolicy(ObjectRef("DestinationRule", "default", service), host, subsets=subsets)
    made = Route(ref, Dialect.ISTIO, (host,), http=rules, tcp=tcp)
    return HostRouting(host, f"default/{service}", (made,), (policy,))


def to(lab: ProxyLab, subset: str, *matches: RequestMatch) -> Rule:
    return Rule(ORIGIN, matches=matches, destinations=(Destination(lab.host("orders"), subset=subset),))


def header(name: str, matcher: Matcher) -> RequestMatch:
    return RequestMatch(headers=(Named(name, matcher),))


def allow(subject: int, *peers: int, port: int, http: tuple[HttpRule, ...] = ()) -> PolicyItem:
    """Ingress to `subject`: default deny, but for these."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", "orders")
    rule = ResolvedRule(
        PolicyOrigin(ref, "spec.ingress[0]"),
        Direction.INGRESS,
        Action.ALLOW,
        ResolvedPeers(identities=frozenset(peers)),
        (PortSpec(Protocol.TCP, port, port),),
        L7(http) if http else None,
    )
    return PolicyItem(ref, 1, (), (ResolvedSpec(frozenset({subject}), True, False, (rule,)),))


def is_reset(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) is None
    except ConnectionResetError:
        return True


# requests


def test_a_request_goes_to_the_service_in_the_clients_name(lab: ProxyLab) -> None:
    web, server = lab.pod("web", app="web"), lab.server("orders-1", app="orders")
    lab.service("orders", server)
    lab.start()
    reply = lab.get(web, "orders", "/x?y=1")
    assert (reply.status, reply.json["server"], reply.json["path"]) == (200, "orders-1", "/x?y=1")
    ip, port = reply.json["peer"]
    assert ip == web.ip, "the server sees the client's address"
    assert port >= 61000, "and a port of the proxy's"


def test_a_header_picks_the_subset_and_a_change_of_the_route_is_followed(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    versions = [lab.server(f"orders-{v}", app="orders", version=v) for v in ("v1", "v2")]
    lab.service("orders", *versions)
    canary = header("x-canary", Matcher(How.EXACT, "true"))
    lab.routing(route(lab, to(lab, "v2", canary), to(lab, "v1")))
    lab.start()
    with lab.connect(web, "orders") as sock:
        said = [exchange(sock, "/", {"host": "orders", **extra}) for extra in ({}, {"x-canary": "true"}) * 2]
        assert [reply.json["server"] for reply in said] == ["orders-v1", "orders-v2"] * 2
        lab.routing(route(lab, to(lab, "v2")))
        lab.change()
        assert exchange(sock, "/", {"host": "orders"}).json["server"] == "orders-v2", "on the same connection"


def test_a_route_that_re2_refuses_is_refused_alone_and_its_last_good_stays(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", *[lab.server(f"orders-{v}", app="orders", version=v) for v in ("v1", "v2")])
    lab.service("users", lab.server("users-1", app="users"))
    lab.routing(route(lab, to(lab, "v2")))
    lab.start()
    lab.routing(route(lab, to(lab, "v1", header("x", Matcher(How.REGEX, "(?=a)")))))
    lab.routing(route(lab, Rule(ORIGIN, destinations=(Destination(lab.host("users")),)), service="users"))
    lab.change()
    assert lab.get(web, "orders").json["server"] == "orders-v2"
    assert lab.get(web, "users").json["server"] == "users-1"
    ((resource, reason),) = lab.daemon.refusals.items()
    assert resource == "VirtualService default/orders"
    assert reason.startswith("spec.http[0]: ")
    lab.routing(route(lab, to(lab, "v1")))
    lab.change()
    assert not lab.daemon.refusals
    assert lab.get(web, "orders").json["server"] == "orders-v1"


def test_policy_judges_the_endpoint_and_the_request(lab: ProxyLab) -> None:
    web, other = lab.pod("web", app="web"), lab.pod("other", app="other")
    server = lab.server("orders-1", app="orders")
    lab.service("orders", server)
    lab.policy(allow(server.identity, web.identity, port=server.port, http=(HttpRule("/api/.*", "GET"),)))
    lab.start()
    assert lab.get(web, "orders", "/api/1").status == 200
    refused = lab.get(web, "orders", "/admin")
    assert (refused.status, refused.body) == (403, b"Access denied\r\n")
    assert lab.get(other, "orders", "/api/1").status == 403
    lab.policy(allow(server.identity, other.identity, port=server.port))
    lab.change()
    assert lab.get(other, "orders", "/admin").status == 200
    assert lab.get(web, "orders", "/api/1").status == 403


# what is no HTTP


def greet(sock: socket.socket) -> None:
    sock.sendall(b"220 hello\r\n")
    while data := sock.recv(65536):
        sock.sendall(data.upper())
    sock.sendall(b"bye")


@pytest.mark.parametrize("port_name", ["", "mysql", "tcp-x"])
def test_a_server_that_speaks_first_is_heard_and_half_closes_pass(lab: ProxyLab, port_name: str) -> None:
    web = lab.pod("web", app="web")
    lab.service("mail", lab.server("mail-1", serve=greet, app="mail"), port_name=port_name)
    lab.start()
    with lab.connect(web, "mail") as sock:
        assert sock.recv(100) == b"220 hello\r\n"
        sock.sendall(b"ehlo")
        assert sock.recv(100) == b"EHLO"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"bye"
        assert sock.recv(100) == b""
    wait_for(lambda: lab.daemon.count("istio_tcp_connections_closed_total", reporter="source") == 1, "not told")
    assert lab.daemon.count("istio_tcp_sent_bytes_total", reporter="source") == len(b"220 hello\r\nEHLObye")
    (record,) = [r for r in lab.daemon.records if not r.start]
    assert (record.protocol, record.request_bytes, record.service) == ("TCP", 4, "default/mail")


def test_http_on_an_undeclared_port_is_routed(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", *[lab.server(f"orders-{v}", app="orders", version=v) for v in ("v1", "v2")], port_name="")
    lab.routing(route(lab, to(lab, "v2")))
    lab.start()
    assert lab.get(web, "orders").json["server"] == "orders-v2"
    with lab.connect(web, "orders") as sock:
        time.sleep(0.1)  # long enough to have been taken for one that waits for the server
        assert exchange(sock, "/", {"host": "orders"}).json["server"] == "orders-v2"


def test_bytes_that_are_no_http_do_not_pass_where_requests_are_judged(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    server = lab.server("orders-1", serve=greet, app="orders")
    lab.service("orders", server, port_name="")
    lab.policy(allow(server.identity, web.identity, port=server.port, http=(HttpRule("/api/.*"),)))
    lab.start()
    with lab.connect(web, "orders") as sock:
        sock.sendall(b"\x00\x01 something else\r\n")
        assert is_reset(sock)


def test_a_connection_is_reset_where_nobody_may_be_reached_or_nobody_is(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    server = lab.server("mail-1", serve=greet, app="mail")
    lab.service("mail", server, port_name="tcp")
    lab.service("nobody", port_name="tcp")
    lab.policy(allow(server.identity, port=server.port))
    lab.start()
    for name in ("mail", "nobody"):
        with pytest.raises(ConnectionResetError), lab.connect(web, name) as sock:
            assert sock.recv(1) == name  # already while it connects, perhaps


def test_a_tcp_route_sends_each_connection_by_weight_and_goes_on_where_one_is_down(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    up = lab.server("mail-1", serve=greet, app="mail")
    down = lab.server("mail-2", serve=False, port=up.port, app="mail")
    lab.service("mail", up, down, port_name="tcp")
    lab.service("front", port_name="tcp")
    rule = TcpRule(ORIGIN, destinations=(Destination(lab.host("mail")),))
    lab.routing(route(lab, tcp=(rule,), service="front"))
    lab.start()
    for _ in range(6):
        with lab.connect(web, "front") as sock:
            assert sock.recv(100) == b"220 hello\r\n"


def test_a_reset_passes_through(lab: ProxyLab) -> None:
    def cut(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    web = lab.pod("web", app="web")
    lab.service("mail", lab.server("mail-1", serve=cut, app="mail"), port_name="tcp")
    lab.start()
    with lab.connect(web, "mail") as sock:
        sock.sendall(b"x")
        assert is_reset(sock)


def test_a_slow_reader_of_a_tunnel_stops_the_other_side(lab: ProxyLab) -> None:
    sent = []

    def flood(sock: socket.socket) -> None:
        sock.settimeout(1.0)
        while sum(sent) < 64 << 20:
            sent.append(sock.send(b"x" * 65536))

    web = lab.pod("web", app="web")
    lab.service("mail", lab.server("mail-1", serve=flood, app="mail"), port_name="tcp")
    lab.start()
    with lab.connect(web, "mail") as sock:
        assert sock.recv(10)
        wait_for(lambda: len(sent) > 1 and (len(sent), time.sleep(0.3))[0] == len(sent), "it never stops")
        assert sum(sent) < 32 << 20
        assert lab.ask("status")["memory"]["resident"] < 100 << 20


# the worker itself


def test_it_answers_questions_and_says_what_it_cannot(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.routing(route(lab, to(lab, "")))
    lab.start()
    with lab.connect(web, "orders") as sock:
        exchange(sock, "/", {"host": "orders"})
        (connection,) = lab.ask("connections")
        assert (connection["protocol"], connection["source"][0]) == ("http1", web.ip)
        status = lab.ask("status")
        assert (status["state"], status["connections"], status["revision"]) == ("serving", 1, 1)
    assert lab.ask("routes", lab.host("orders"))[0]["routes"][0]["ref"]["name"] == "orders"
    assert lab.ask("clusters")[0]["host"] == lab.host("orders")
    assert lab.ask("endpoints")[0]["workload"] == "default/orders-1"
    assert lab.ask("config")["setup"]["node"] == "node-1"
    for what, arg in (("nonsense", ""), ("routes", "nobody.example")):
        with pytest.raises(LookupError, match=r"no such question|nothing is declared"):
            lab.ask(what, arg)


def test_without_a_daemon_it_goes_on_and_comes_back(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    lab.get(web, "orders")
    lab.daemon.disconnect()
    assert lab.get(web, "orders").status == 200
    lab.daemon.restart()
    wait_for(lambda: len(lab.daemon.hellos) == 2, "it does not come back")
    wait_for(lambda: lab.daemon.count("istio_requests_total", reporter="source") == 2, "requests were forgotten")


def test_a_frame_of_nonsense_ends_the_connection_and_not_the_worker(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    bad = pb.ToProxy()
    bad.update.revision, bad.update.cluster = 2, b"\xff\xff\xff"
    lab.daemon.tell(bad)
    wait_for(lambda: len(lab.daemon.hellos) == 2, "it does not come back")
    assert lab.get(web, "orders").status == 200


def test_a_successor_takes_listeners_and_idle_connections_and_no_request_fails(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    server = lab.server("orders-1", app="orders")
    lab.service("orders", server)
    lab.start()
    old = lab.process
    assert old is not None
    with lab.connect(web, "orders") as idle, lab.connect(web, "orders") as busy:
        exchange(idle, "/", {"host": "orders"})
        busy.sendall(b"GET /slow/1.5 HTTP/1.1\r\nhost: orders\r\n\r\n")
        time.sleep(0.1)
        lab.start(takeover=True)
        assert exchange(idle, "/", {"host": "orders"}).status == 200, "the same connection"
        assert lab.ask("status")["counted"]["taken_over"] == 1
        assert lab.get(web, "orders").status == 200
        assert b"200 X" in busy.recv(65536), "what was under way ends where it began"
    assert old.wait(10) == 0
    assert lab.get(web, "orders").status == 200


def test_sigterm_lets_requests_end_and_sigint_does_not(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    assert lab.process is not None
    with lab.connect(web, "orders") as sock:
        sock.sendall(b"GET /slow/0.6 HTTP/1.1\r\nhost: orders\r\n\r\n")
        time.sleep(0.1)
        lab.process.send_signal(signal.SIGTERM)
        head = sock.recv(65536)
        assert b" 200 " in head
        assert b"connection: close" in head.lower()
    assert lab.process.wait(10) == 0
    lab.start()
    with lab.connect(web, "orders") as sock:
        assert lab.stop(signal.SIGINT) == 0
        assert is_reset(sock) or sock.recv(1) == b""


def test_after_a_kill_the_next_one_serves_at_once(lab: ProxyLab) -> None:
    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    lab.stop(signal.SIGKILL)
    lab.start(takeover=True)
    assert lab.get(web, "orders").status == 200


def test_it_starts_small_and_without_grpc(lab: ProxyLab) -> None:
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    assert lab.process is not None
    maps = Path(f"/proc/{lab.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in maps.splitlines() if line.startswith("VmRSS"))
    assert resident < 60 << 10, "kB"


def test_a_worker_that_nobody_will_come_back_for_ends(lab: ProxyLab) -> None:
    lab.service("orders", lab.server("orders-1", app="orders"))
    lab.start()
    assert lab.process is not None
    lab.daemon.disconnect()
    lab.directory.rename(lab.directory.with_name("gone"))
    assert lab.process.wait(20) == 0


def test_a_drain_in_the_middle_of_a_response_lets_the_client_be_told_with_the_next(lab: ProxyLab) -> None:
    def halves(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
            time.sleep(0.5 if b"/slowly" in data else 0)
            sock.sendall(b"later")

    web = lab.pod("web", app="web")
    lab.service("orders", lab.server("orders-1", serve=halves, app="orders"))
    lab.start()
    assert lab.process is not None
    with lab.connect(web, "orders") as sock:
        sock.sendall(b"GET /slowly HTTP/1.1\r\nhost: orders\r\n\r\n")
        assert b"connection: close" not in sock.recv(65536)
        lab.process.send_signal(signal.SIGTERM)
        assert sock.recv(65536) == b"later"
        reply = exchange(sock, "/", {"host": "orders"})
        assert (reply.status, reply.header("connection")) == (200, "close")
    assert lab.process.wait(5) == 0
