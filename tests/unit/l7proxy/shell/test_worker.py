"""The worker as it runs: a real process, fed by hand, with real connections on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_lab import ProxyLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def test_a_request_goes_to_the_service_in_the_clients_name(lab: ProxyLab) -> None:
    web, server = lab.pod("web", app="web"), lab.server("orders-1", app="orders")
    lab.service("orders", server)
    lab.start()
    reply = lab.get(web, "orders", "/x?y=1")
    assert (reply.status, reply.json["server"], reply.json["path"]) == (200, "orders-1", "/x?y=1")
    ip, port = reply.json["peer"]
    assert ip == web.ip, "the server sees the client's address"
    assert port >= 61000, "and a port of the proxy's"
