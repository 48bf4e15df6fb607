"""The map: what a change of the snapshot touches, what is let go, and what is shown of it all."""

from __future__ import annotations

import msgspec
import pytest

from cluster_lab import HOST, Lab, Sink, anybody, peer, pod, request
from weft.l7proxy.core import describe
from weft.l7proxy.core.cluster import address_key, key_address
from weft.l7proxy.core.endpoints import protocol
from weft.policies.mesh.model import (
    Balance,
    EntryEndpoint,
    EntryPort,
    HostRouting,
    LoadBalancer,
    Outlier,
    Resolution,
    ServiceEntry,
)
from weft.policies.model import ObjectRef, Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem


@pytest.mark.parametrize(
    ("name", "app_protocol", "port", "expected"),
    [
        ("http", "", 80, "http1"),
        ("http-api", "", 80, "http1"),
        ("http2-api", "", 80, "http2"),
        ("grpc", "", 80, "http2"),
        ("grpc-web", "", 80, "http1"),
        ("grpc-web-x", "", 80, "http1"),
        ("grpc-api", "", 80, "http2"),
        ("h2c", "", 80, "http2"),
        ("tcp-x", "", 80, "tcp"),
        ("https", "", 443, "tcp"),
        ("tls-x", "", 443, "tcp"),
        ("mongo", "", 1, "tcp"),
        ("mysql", "", 1, "tcp"),
        ("redis", "", 1, "tcp"),
        ("HTTP", "", 80, "http1"),
        ("httpx", "", 80, ""),
        ("web", "", 80, ""),
        ("", "", 80, ""),
        ("web", "", 3306, "tcp"),
        ("web", "", 27017, "tcp"),
        ("http", "", 3306, "http1"),
        ("http", "tcp", 80, "tcp"),
        ("tcp", "http", 80, "http1"),
        ("x", "kubernetes.io/h2c", 80, "http2"),
        ("x", "kubernetes.io/ws", 80, "http1"),
        ("x", "kubernetes.io/wss", 80, "tcp"),
        ("http", "acme.com/own", 80, ""),
        ("x", "GRPC", 80, "http2"),
    ],
)
def test_a_port_says_what_it_speaks(name: str, app_protocol: str, port: int, expected: str) -> None:
    assert protocol(ServicePortItem(name, Protocol.TCP, port, 0, app_protocol, ())) == expected


def test_the_same_client_gets_the_same_view() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    assert lab.cluster() is lab.cluster()
    lab.serve("10.0.1.2")
    assert lab.pick().ip == "10.0.1.2"


def test_an_endpoint_that_stays_keeps_its_counters() -> None:
    lab = Lab()
    lab.serve("10.0.1.1", "10.0.1.2")
    kept = lab.call(endpoint=lab.cluster().group.members[0])
    lab.serve("10.0.1.1", "10.0.1.3")
    assert lab.cluster().group.members[0] is kept and kept.total == 1


def test_udp_ports_are_no_destinations() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    item = lab.world.services[HOST].ports[0]
    udp = ServicePortItem(item.name, Protocol.UDP, 53, 0, "", item.backends)
    lab.world.services[HOST] = ServiceItem("shop", "orders", "ClusterIP", (), (udp,))
    assert lab.cluster(port=53) is None


def crowd(services: int) -> Lab:
    lab = Lab()
    for number in range(services):
        host = f"s{number}.shop.svc.cluster.local"
        lab.serve(f"10.1.{number >> 8}.{number & 255}", host=host)
        lab.open(lab.cluster(host=host))
    lab.connector.open_all()
    return lab


def test_one_change_costs_the_same_among_5000_services_as_among_50() -> None:
    """Counted in questions to the world, each of which is a look-up; time would tell of the machine."""
    costs = []
    for services in (50, 5_000):
        lab = crowd(services)
        untouched = {key: view.group for key, view in lab.map.views.items()}
        lab.world.lookups = 0
        lab.serve("10.9.9.9", host="s7.shop.svc.cluster.local")
        costs.append(lab.world.lookups)
        moved = [key for key, view in lab.map.views.items() if view.group is not untouched[key]]
        assert not moved and lab.pick(host="s7.shop.svc.cluster.local").ip == "10.9.9.9"
    assert costs[0] == costs[1] <= 10


def test_what_nobody_asks_for_is_forgotten() -> None:
    lab = crowd(20)
    cluster = lab.cluster(host="s3.shop.svc.cluster.local")
    before = len(lab.map.views)
    for dial in lab.connector.dials:
        codec = dial.transport.protocol.codec
        if codec.streams and dial.address[0] != "10.1.0.3":
            codec.streams[0].end()
            dial.transport.end()
    lab.after(200, step=10)
    assert list(lab.map.views.values()) == [cluster], f"of {before}: a request is under way there"
    assert list(lab.map.catalog.destinations) == [("s3.shop.svc.cluster.local", 80)]


def test_what_is_asked_for_stays() -> None:
    lab = Lab()
    lab.serve("10.0.1.1")
    cluster = lab.cluster()
    for _ in range(10):
        lab.after(50, step=10)
        lab.pick()
    assert lab.cluster() is cluster


# the address that was asked for


def test_an_address_nobody_declared_is_its_own_cluster() -> None:
    lab = Lab()
    cluster = lab.map.original(("93.184.216.34", 443), lab.client)
    assert (cluster.name, cluster.protocol) == ("PassthroughCluster", "")
    chosen = cluster.pick(cluster.hash_key(request(), peer())[0], (), anybody)
    assert (chosen.ip, chosen.port) == ("93.184.216.34", 443)
    assert cluster.pick(None, (), lambda one: False) is None and cluster.denied
    assert lab.map.original(("93.184.216.34", 443), lab.client) is cluster
    assert lab.map.original(("93.184.216.34", 80), lab.client) is not cluster


def test_strangers_addresses_are_forgotten() -> None:
    lab = Lab()
    for number in range(300):
        lab.map.original((f"203.0.113.{number & 255}", 1000 + number), lab.client).pick(None, (), anybody)
    lab.after(150, step=10)
    assert not lab.map.views and not lab.map.catalog.destinations


def test_passthrough_means_the_pod_that_was_asked_for() -> None:
    lab = Lab()
    lab.serve("10.0.1.1", "10.0.1.2")
    lab.policy(LoadBalancer(Balance.PASSTHROUGH))
    cluster = lab.cluster()
    key, _ = cluster.hash_key(request(), peer(destination=("10.0.1.2", 8080)))
    assert {cluster.pick(key, (), anybody).ip for _ in range(20)} == {"10.0.1.2"}
    assert cluster.pick(key, (), lambda one: False) is None and cluster.denied


def test_passthrough_to_a_services_address_means_one_of_its_endpoints() -> None:
    """Or policy would be judged on an address behind which somebody else chooses."""
    lab = Lab()
    lab.serve("10.0.1.1", "10.0.1.2")
    lab.policy(LoadBalancer(Balance.PASSTHROUGH))
    cluster = lab.cluster()
    key, _ = cluster.hash_key(request(), peer(destination=("10.96.0.1", 80)))
    assert {cluster.pick(key, (), anybody).ip for _ in range(50)} == {"10.0.1.1", "10.0.1.2"}


@pytest.mark.parametrize("address", [("10.0.0.1", 80), ("fd00::1", 65535), ("0.0.0.1", 1)])
def test_an_address_is_a_key_and_back(address: tuple[str, int]) -> None:
    assert key_address(address_key(address)) == address


# ServiceEntries


WEB = "web.example.com"


def entry(
    lab: Lab, resolution: Resolution, *endpoints: EntryEndpoint, backends: tuple[BackendItem, ...] = ()
) -> None:
    ref = ObjectRef("ServiceEntry", "shop", "web")
    ports = (EntryPort(80, "http", "HTTP", 8080),)
    declared = ServiceEntry(ref, (WEB,), ("240.240.0.1",), ports, resolution, endpoints=endpoints)
    items = (ServicePortItem("http", Protocol.TCP, 80, 0, "http", backends),)
    lab.world.services[WEB] = ServiceItem("shop", WEB, "ServiceEntry", ("240.240.0.1",), items)
    lab.world.routings[WEB] = HostRouting(WEB, f"shop/{WEB}", entry=declared)
    lab.map.changed([WEB])


def addresses(lab: Lab) -> list[tuple[str, int]]:
    return sorted({(one.ip, one.port) for one in (lab.pick(host=WEB) for _ in range(60)) if one is not None})


async def settled(lab: Lab) -> None:
    import asyncio

    for _ in range(5):
        await asyncio.sleep(0)


def in_a_loop(test: object) -> object:
    import asyncio
    import functools

    @functools.wraps(test)  # type: ignore[arg-type]
    def run() -> None:
        asyncio.run(test())  # type: ignore[operator]

    return run


def test_static_endpoints_are_backends_with_their_weights() -> None:
    lab = Lab()
    entry(lab, Resolution.STATIC, backends=(BackendItem("1.1.1.1", 8080), BackendItem("2.2.2.2", 8081, weight=3)))
    assert addresses(lab) == [("1.1.1.1", 8080), ("2.2.2.2", 8081)]


def test_resolution_none_is_the_address_that_was_asked_for() -> None:
    lab = Lab()
    entry(lab, Resolution.NONE)
    cluster = lab.cluster(host=WEB)
    key, _ = cluster.hash_key(request(), peer(destination=("240.240.0.1", 80)))
    chosen = cluster.pick(key, (), anybody)
    assert (chosen.ip, chosen.port) == ("240.240.0.1", 80)
    sink = Sink()
    cluster.open(chosen, lab.client, "http1", sink)
    lab.connector.open_all()
    assert sink.upstream is not None
    assert cluster.pick(None, (), anybody) is None and not cluster.denied


@in_a_loop
async def test_dns_is_all_addresses_of_a_name() -> None:
    lab = Lab()
    lab.answers[WEB] = ["3.3.3.3", "4.4.4.4"]
    entry(lab, Resolution.DNS)
    assert lab.pick(host=WEB) is None, "not known yet"
    await settled(lab)
    assert addresses(lab) == [("3.3.3.3", 8080), ("4.4.4.4", 8080)]


@in_a_loop
async def test_dns_round_robin_is_the_first_address_of_each_look_up() -> None:
    lab = Lab()
    lab.answers[WEB] = ["3.3.3.3", "4.4.4.4"]
    entry(lab, Resolution.DNS_ROUND_ROBIN)
    await settled(lab)
    assert addresses(lab) == [("3.3.3.3", 8080)]
    lab.answers[WEB] = ["4.4.4.4", "3.3.3.3"]
    lab.after(6)
    await settled(lab)
    assert addresses(lab) == [("4.4.4.4", 8080)]


@in_a_loop
async def test_a_name_is_looked_up_again_and_a_failure_keeps_the_last_answer() -> None:
    lab = Lab()
    lab.answers[WEB] = ["3.3.3.3"]
    entry(lab, Resolution.DNS)
    await settled(lab)
    kept = lab.pick(host=WEB)
    del lab.answers[WEB]
    lab.after(6)
    await settled(lab)
    assert lab.pick(host=WEB) is kept
    assert describe.names(lab.map) == [
        {"name": WEB, "addresses": ["3.3.3.3"], "failures": 1, "error": f"{WEB}: no such name"}
    ]
    lab.answers[WEB] = ["5.5.5.5", "3.3.3.3"]
    lab.after(12)
    await settled(lab)
    assert addresses(lab) == [("3.3.3.3", 8080), ("5.5.5.5", 8080)] and not kept.gone


@in_a_loop
async def test_failures_are_asked_again_less_and_less_often() -> None:
    lab = Lab()
    entry(lab, Resolution.DNS)
    for _ in range(600):
        lab.after(1, step=1)
        await settled(lab)
    assert 10 <= len(lab.asked) <= 16, "5, 10, 20, 40 and then every 60 seconds"


@in_a_loop
async def test_named_endpoints_have_ports_and_labels_of_their_own() -> None:
    lab = Lab()
    lab.answers["a.example.com"] = ["3.3.3.3"]
    endpoint = EntryEndpoint("a.example.com", (("http", 9090),), (("version", "v1"),), 5, "eu/a")
    entry(lab, Resolution.DNS, endpoint, EntryEndpoint("1.1.1.1"), backends=(BackendItem("1.1.1.1", 8080),))
    await settled(lab)
    assert addresses(lab) == [("1.1.1.1", 8080), ("3.3.3.3", 9090)]
    resolved = next(one for one in lab.cluster(host=WEB).group.members if one.ip == "3.3.3.3")
    assert (resolved.labels, resolved.weight, resolved.locality) == ({"version": "v1"}, 5, "eu/a")


@in_a_loop
async def test_a_name_that_nobody_declares_any_more_is_not_asked_for() -> None:
    lab = Lab()
    lab.answers[WEB] = ["3.3.3.3"]
    entry(lab, Resolution.DNS)
    await settled(lab)
    del lab.world.services[WEB], lab.world.routings[WEB]
    lab.map.changed([WEB])
    asked = len(lab.asked)
    lab.after(30, step=1)
    await settled(lab)
    assert len(lab.asked) == asked and not lab.map.names.known() and lab.cluster(host=WEB) is None


# what is shown


def test_what_is_shown_of_a_destination_and_its_endpoints() -> None:
    lab = Lab()
    lab.policy(outlier=Outlier(consecutive_5xx=1, max_ejection_percent=100))
    lab.add(pod("10.0.1.1", "orders-1", locality="eu/a"))
    lab.serve("10.0.1.1", "10.0.1.2")
    first, second = lab.cluster().group.members
    lab.call(200, first)
    lab.call(503, second)
    lab.open(endpoint=first)
    [cluster] = describe.clusters(lab.map)
    shown = ("name", "client", "endpoints", "available", "requests", "connections", "idle_connections", "protocol")
    assert [cluster[key] for key in shown] == [f"outbound|80||{HOST}", "shop/web", 2, 1, 1, 2, 1, "http1"]
    rows = describe.endpoints(lab.map, "10.0.1")
    shown = ("address", "workload", "health", "active", "rq_total", "rq_success", "rq_error", "ejections")
    assert [[row[key] for key in shown] for row in rows] == [
        ["10.0.1.1:8080", "shop/orders-1", "healthy", 1, 2, 1, 0, 0],
        ["10.0.1.2:8080", "", "ejected", 0, 1, 0, 1, 1],
    ]
    assert rows[1]["ejected_until"] == pytest.approx(lab.now.time + 30)
    assert describe.clusters(lab.map, "nobody") == []
    msgspec.json.encode([describe.clusters(lab.map), rows])
