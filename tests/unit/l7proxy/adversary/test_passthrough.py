"""An address that nobody routes is reached as policy says, and not because nobody routes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary import declare, echo, is_cut, policy
from proxy_lab import ProxyLab
from weft.policies.model import Direction, HttpRule


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


@pytest.mark.parametrize("direction", [Direction.EGRESS, Direction.INGRESS])
@pytest.mark.parametrize("host", ["a", "api", "api.default.svc.cluster.local", "elsewhere.example"])
def test_a_pods_own_address_is_judged_whatever_the_client_calls_it(
    lab: ProxyLab, direction: Direction, host: str
) -> None:
    server, web, other = lab.server("a", app="api"), lab.pod("web", app="web"), lab.server("b", app="b")
    lab.service("api", server)
    lab.listen("direct", (server.ip, server.port))
    subject = web if direction is Direction.EGRESS else server
    declare(lab, policy(direction, subject, other))
    lab.start()
    assert lab.get(web, "direct", "/", {"host": host}).status == 403
    assert lab._servers[0].requests == 0


def test_an_address_outside_is_no_way_around_egress_policy(lab: ProxyLab) -> None:
    web, other = lab.pod("web", app="web"), lab.server("b", app="b")
    lab.listen("outside", ("198.51.100.7", 80))
    declare(lab, policy(Direction.EGRESS, web, other))
    lab.start()
    assert lab.get(web, "outside", "/", {"host": "b"}).status == 403
    with lab.connect(web, "outside") as sock:
        sock.sendall(b"\x00no request")
        assert is_cut(sock)


def test_a_tunnel_to_a_pods_own_address_is_judged(lab: ProxyLab) -> None:
    server, web, other = lab.server("a", serve=echo, app="api"), lab.pod("web", app="web"), lab.pod("x", app="x")
    lab.listen("direct", (server.ip, server.port))
    declare(lab, policy(Direction.INGRESS, server, other))
    lab.start()
    with lab.connect(web, "direct") as sock:
        sock.sendall(b"\x00no request")
        assert is_cut(sock)


def test_a_client_of_another_node_is_judged_here_by_rules_of_the_server(lab: ProxyLab) -> None:
    """Its own node's proxy may be anybody's: what comes is judged as if nobody had."""
    server, far = lab.server("a", app="api"), lab.pod("far", node="node-2", app="far")
    lab.listen("direct", (server.ip, server.port))
    declare(lab, policy(Direction.INGRESS, server, far, http=(HttpRule(path="/x"),)))
    lab.start()
    assert [lab.get(far, "direct", path).status for path in ("/x", "/y")] == [200, 403]
