"""Limits of tunnels, and where tunnels lead: rules of routes by server name, labels, subnets and weight."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from proxy_lab import ProxyLab
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.listener import Listener, listening
from weft.l7proxy.shell import Shell
from weft.l7proxy.tcproutes import choose, draw
from weft.policies.mesh.model import (
    ConnectionPool,
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    LeveledPolicy,
    Origin,
    Route,
    TcpMatch,
    TcpRule,
    TrafficPolicy,
)
from weft.policies.model import ObjectRef

WEB = Workload("10.0.0.1", 300, "default", "web-1", {"app": "web", "tier": "a"}, name="web", local=True)


def rule(name: str, **match: Any) -> TcpRule:
    matches = (TcpMatch(**match),) if match else ()
    return TcpRule(Origin("VirtualService", "default", name), matches, (Destination(name),))


def routing(*routes: Route) -> HostRouting:
    return HostRouting("db", "default/db", routes)


def route(*, tls: tuple[TcpRule, ...] = (), tcp: tuple[TcpRule, ...] = (), **more: Any) -> Route:
    return Route(ObjectRef("VirtualService", "default", "x"), Dialect.ISTIO, ("db",), tls=tls, tcp=tcp, **more)


SNI = (rule("exact", sni=("a.example",)), rule("wild", sni=("*.example",)))


@pytest.mark.parametrize(
    ("declared", "server_name", "wanted"),
    [
        (route(tls=SNI), "a.example", "exact"),
        (route(tls=SNI), "b.example", "wild"),
        (route(tls=SNI), "example", None),
        (route(tls=SNI), "", None),
        (route(tls=SNI, tcp=(rule("tcp"),)), "other", "tcp"),
        (route(tls=SNI, tcp=(rule("tcp"),)), None, "tcp"),
        (route(tls=SNI), None, None),
        (route(tcp=(rule("a", port=1), rule("b", port=5432))), None, "b"),
        (route(tcp=(rule("a", subnets=("10.97.0.0/16",)), rule("b", subnets=("10.96.0.0/16",)))), None, "b"),
        (
            route(tcp=(rule("a", source_labels=(("tier", "b"),)), rule("b", source_labels=(("app", "web"),)))),
            None,
            "b",
        ),
        (route(tcp=(rule("a", source_namespace="other"), rule("b"))), None, "b"),
        (route(tcp=(rule("a"),), clients=("other",)), None, None),
        (route(tcp=(rule("a"),), ports=(80,)), None, None),
        (route(tcp=(rule("a"),), ports=(5432,), clients=("default",)), None, "a"),
    ],
)
def test_the_first_rule_that_matches_decides(declared: Route, server_name: str | None, wanted: str | None) -> None:
    found = choose(routing(declared), WEB, 5432, "10.96.0.7", server_name)
    assert (found.origin.name if found else None) == wanted


def test_weights_are_shares_and_a_single_destination_needs_none() -> None:
    random = Random(1)
    split = (Destination("a", weight=9), Destination("b", weight=1), Destination("c", weight=0))
    drawn = Counter(found.host for _ in range(2000) if (found := draw(split, random)) is not None)
    assert drawn["c"] == 0
    assert 140 < drawn["b"] < 260
    assert draw((Destination("a", weight=0),), random) is not None
    assert draw((Destination("a", weight=0), Destination("b", weight=0)), random) is None


def test_a_connection_to_the_listener_itself_is_reset_and_counted() -> None:
    async def main() -> None:
        shell = SimpleNamespace(loop=asyncio.get_running_loop(), accepted=0, counted=Counter[str]())
        listener = Listener(cast(Shell, shell), listening(socket.AF_INET, "127.0.0.1", 0))
        await listener.start()
        reader, writer = await asyncio.open_connection(*listener.address)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        assert shell.counted["refused_loop"] == 1
        listener.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def limited(lab: ProxyLab, pool: ConnectionPool) -> None:
    host = lab.host("db")
    leveled = LeveledPolicy(TrafficPolicy(connection_pool=pool))
    policy = DestinationPolicy(ObjectRef("DestinationRule", "default", "db"), host, leveled)
    lab.pod("web", app="web")
    lab.service("db", lab.server("db-1", serve=echo, app="db"), port_name="tcp")
    lab.routing(HostRouting(host, "default/db", (), (policy,)))
    lab.start()


@pytest.mark.parametrize(
    ("pool", "why"),
    [(ConnectionPool(tcp_idle_timeout=0.5), "idle"), (ConnectionPool(max_connection_duration=0.5), "duration")],
)
def test_a_tunnel_ends_with_its_time(lab: ProxyLab, pool: ConnectionPool, why: str) -> None:
    limited(lab, pool)
    with lab.connect(lab.pods["web"], "db") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert sock.recv(1) == b""
    lab.daemon.counts()
    assert why in lab.daemon.records[-1].details


def test_no_more_connections_than_the_destination_may_have(lab: ProxyLab) -> None:
    limited(lab, ConnectionPool(max_connections=1))
    with lab.connect(lab.pods["web"], "db") as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with pytest.raises(ConnectionResetError), lab.connect(lab.pods["web"], "db") as second:
            second.recv(1)
    lab.daemon.counts()
    assert "UO" in [record.flags for record in lab.daemon.records]


def test_a_port_that_is_taken_is_told_and_ends_the_worker(lab: ProxyLab) -> None:
    lab.pod("web", app="web")
    lab.service("db", lab.server("db-1", serve=echo, app="db"))
    with socket.create_server(lab.listeners["db"]), pytest.raises(AssertionError, match="ended with 1"):
        lab.start()
