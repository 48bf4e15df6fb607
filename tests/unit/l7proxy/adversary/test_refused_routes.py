"""A route that the proxy cannot take is not the same as none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_lab import ProxyLab
from weft.policies.mesh.choose import Asked, Chooser
from weft.policies.mesh.model import (
    Destination,
    Dialect,
    DirectResponse,
    HostRouting,
    How,
    Matcher,
    Origin,
    RequestMatch,
    Route,
    Rule,
)
from weft.policies.model import ObjectRef

BAD = RequestMatch(path=Matcher(How.REGEX, "/(unclosed"))
GOOD = RequestMatch(path=Matcher(How.PREFIX, "/open"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProxyLab]:
    with ProxyLab(tmp_path) as lab:
        yield lab


def closed(host: str, *matches: RequestMatch) -> HostRouting:
    """Everything is kept from the service but what matches."""
    origin = Origin("VirtualService", "default", "closed")
    rules = (
        Rule(origin, matches=matches, destinations=(Destination(host),)),
        Rule(origin, direct=DirectResponse(403)),
    )
    ref = ObjectRef("VirtualService", "default", "closed")
    return HostRouting(host, "default/api", (Route(ref, Dialect.ISTIO, (host,), http=rules),))


def test_a_route_refused_at_first_sight_answers_500_and_lets_nothing_through(lab: ProxyLab) -> None:
    server, web = lab.server("a", app="api"), lab.pod("web", app="web")
    lab.service("api", server)
    lab.routing(closed(lab.host("api"), BAD))
    lab.start()
    assert lab.get(web, "api", "/secret").status == 500
    assert any("closed" in name for name in lab.daemon.refusals)
    lab.routing(closed(lab.host("api"), GOOD))
    lab.change()
    assert [lab.get(web, "api", path).status for path in ("/secret", "/open")] == [403, 200]
    lab.routing(closed(lab.host("api"), BAD))
    lab.change()
    assert [lab.get(web, "api", path).status for path in ("/secret", "/open")] == [403, 200], "the last good one"


def test_whoever_asks_offline_is_told_the_same() -> None:
    class Client:
        namespace, labels = "default", {}

    chooser = Chooser(closed("api", BAD))
    chosen = chooser.rule(Asked(path=b"/secret"), Client(), b"api", 80)
    assert chosen is not None and chosen.rule is not None
    assert [one.missing for one in chosen.rule.destinations] == [500] and chooser.refused
