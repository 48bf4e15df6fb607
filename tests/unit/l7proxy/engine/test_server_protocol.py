"""Which protocol the server is spoken to in: as its port declares, else as the client does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from weft.l7proxy.core.outgoing import protocol_of
from weft.l7proxy.core.parties import Cluster
from weft.l7proxy.core.stream import Peer, Request
from weft.policies.mesh.model import ConnectionPool


@pytest.mark.parametrize(
    ("declared", "version", "upgraded", "pool", "wanted"),
    [
        ("http1", "1.1", False, None, "http1"),
        ("http1", "2", False, None, "http1"),
        ("http2", "1.1", False, None, "http2"),
        ("", "1.1", False, None, "http1"),
        ("", "2", False, None, "http2"),
        ("", "2", True, None, "http1"),
        ("http1", "2", False, ConnectionPool(use_client_protocol=True), "http2"),
        ("http2", "2", True, ConnectionPool(use_client_protocol=True), "http1"),
        ("http1", "1.1", False, ConnectionPool(upgrade_h2=True), "http2"),
    ],
)
def test_the_servers_protocol(declared: str, version: str, upgraded: bool, pool: Any, wanted: str) -> None:
    """A client that came by h2c's upgrade knew no more of the server than one that speaks HTTP/1.1."""
    peer, request = Peer(("10.0.0.1", 1), ("10.0.0.2", 80)), Request(b"GET", b"/", b"a", [])
    peer.upgraded, request.version = upgraded, version
    cluster = SimpleNamespace(protocol=declared, policy=SimpleNamespace(connection_pool=pool))
    assert protocol_of(cast(Cluster, cluster), request, peer) == wanted
