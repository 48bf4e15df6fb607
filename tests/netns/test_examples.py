"""The routing files that people copy from articles, as printed, on two live nodes: who answers, counted.

Each runs from a client on the servers' node and from one on the other. What a split leaves to chance is held to
three sigma.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_lab import Mesh, running, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

CLIENTS = ("client", "client-far")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    pods = [
        Mesh.pod("api-v1", 1, app="api", version="v1"),
        Mesh.pod("api-v2", 2, app="api", version="v2"),
        Mesh.pod("payments-v1", 1, app="payments", version="v1"),
        Mesh.pod("payments-v2", 2, app="payments", version="v2"),
        Mesh.pod("pay", 2, app="payment-service"),
        Mesh.pod("backend", 2, app="backend"),
    ]
    services = [
        Mesh.service("api"),
        Mesh.service("orders", app="payments", version="v2"),
        Mesh.service("payments"),
        Mesh.service("payment-service"),
        Mesh.service("backend"),
        Mesh.service("api-service", app="api"),
        Mesh.service("api-service-v1", app="api", version="v1"),
        Mesh.service("api-service-v2", app="api", version="v2"),
    ]
    with running("wt-examples", *pods, *services) as mesh:
        yield mesh


def subsets(host: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec:
  host: {host}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
"""


def within_three_sigma(count: int, share: float, of: int) -> bool:
    return abs(count - share * of) <= 3 * math.sqrt(of * share * (1 - share))


@pytest.mark.parametrize("client", CLIENTS)
def test_s0_orders_go_to_payments_v1(mesh: Mesh, client: str) -> None:
    texts = (mesh.example("s0-orders-route.yaml"), subsets("payments"))
    mesh.apply(*texts)
    try:
        replies = mesh.get(client, "http://orders/", count=60)
        assert Counter((reply.status, reply.pod) for reply in replies) == {(200, "payments-v1"): 60}
        assert replies[0].seen["host"] == "orders"
    finally:
        mesh.delete(*texts)
    assert mesh.one(client, "http://orders/").pod == "payments-v2", "without the route, the Service's own pods"


def test_s0_without_a_destination_rule_is_503_and_the_status_says_why(mesh: Mesh) -> None:
    text = mesh.example("s0-orders-route.yaml")
    mesh.apply(text)
    try:
        assert {reply.status for reply in mesh.get("client", "http://orders/", count=5)} == {503}
        flags = mesh.total("istio_requests_total", reporter="source", response_flags="NC")
        assert flags >= 5
        assert "subset v1: requests get 503" in mesh.status()
    finally:
        mesh.delete(text)


@pytest.mark.parametrize("client", CLIENTS)
def test_s2_canary_by_header_and_by_weight(mesh: Mesh, client: str) -> None:
    texts = (mesh.example("s2-canary.yaml"), subsets("api"))
    mesh.apply(*texts)
    try:
        marked = mesh.get(client, "http://api/", {"x-canary": "true"}, count=50)
        assert Counter(reply.pod for reply in marked) == {"api-v2": 50}
        replies = Counter(reply.pod for reply in mesh.get(client, "http://api/", count=2000, concurrency=4))
        assert sum(replies.values()) == 2000
        assert within_three_sigma(replies["api-v2"], 0.1, 2000), replies
    finally:
        mesh.delete(*texts)


def test_a_split_holds_over_ten_thousand_requests(mesh: Mesh) -> None:
    texts = (mesh.example("s2-canary.yaml"), subsets("api"))
    mesh.apply(*texts)
    try:
        replies = Counter(reply.pod for reply in mesh.get("client", "http://api/", count=10_000, concurrency=4))
        assert set(replies) == {"api-v1", "api-v2"}
        assert sum(replies.values()) == 10_000
        assert within_three_sigma(replies["api-v2"], 0.1, 10_000), replies
    finally:
        mesh.delete(*texts)


def test_s2_retries_end_with_504_after_ten_seconds_when_each_try_hangs(mesh: Mesh) -> None:
    text = mesh.example("s2-retries.yaml")
    mesh.apply(text)
    try:
        reply = mesh.one("client", "http://payment-service/?do=hang&key=hang", timeout=15)
        assert reply.status == 504
        assert reply.seconds == pytest.approx(10.0, abs=0.5)
        assert mesh.count("client", "payment-service", "hang", 80) == 4, "three seconds each, the fourth cut short"
        assert mesh.total("istio_requests_total", reporter="source", response_flags="UT") == 1
    finally:
        mesh.delete(text)


@pytest.mark.parametrize(
    ("status", "tries"), [(502, 4), (503, 4), (504, 4), (409, 4), (500, 1), (400, 1), (404, 1), (429, 1)]
)
def test_s2_retries_what_its_tokens_name(mesh: Mesh, status: int, tries: int) -> None:
    text = mesh.example("s2-retries.yaml")
    mesh.apply(text)
    try:
        reply = mesh.one("client", f"http://payment-service/?status={status}&key=s{status}")
        assert reply.status == status
        assert mesh.count("client", "payment-service", f"s{status}", 80) == tries
        once = mesh.one("client-far", f"http://payment-service/?status={status}&times=1&key=t{status}")
        assert once.status == (200 if tries > 1 else status), "a server that mends itself"
    finally:
        mesh.delete(text)


@pytest.mark.parametrize("client", CLIENTS)
def test_s3_destination_rule_and_virtual_service(mesh: Mesh, client: str) -> None:
    texts = (mesh.example("s3-destination-rule.yaml"), mesh.example("s3-virtual-service.yaml"))
    mesh.apply(*texts)
    try:
        replies = Counter(reply.pod for reply in mesh.get(client, "http://api-service/", count=1000, concurrency=2))
        assert sum(replies.values()) == 1000
        assert within_three_sigma(replies["api-v2"], 0.1, 1000), replies
    finally:
        mesh.delete(*texts)


@pytest.mark.parametrize("client", CLIENTS)
def test_s3_traffic_split_with_its_service_members(mesh: Mesh, client: str) -> None:
    text = mesh.example("s3-traffic-split.yaml")
    mesh.apply(text)
    try:
        replies = Counter(reply.pod for reply in mesh.get(client, "http://api-service/", count=1000, concurrency=2))
        assert sum(replies.values()) == 1000
        assert within_three_sigma(replies["api-v2"], 0.1, 1000), replies
    finally:
        mesh.delete(text)


def test_where_two_dialects_speak_for_a_service_the_split_is_conflicted(mesh: Mesh) -> None:
    texts = (
        mesh.example("s3-traffic-split.yaml"),
        mesh.example("s3-destination-rule.yaml"),
        mesh.example("s3-virtual-service.yaml")
        .replace("weight: 90", "weight: 0")
        .replace("weight: 10", "weight: 1"),
    )
    mesh.apply(*texts)
    try:
        assert {reply.pod for reply in mesh.get("client", "http://api-service/", count=20)} == {"api-v2"}
        status = mesh.status()
        assert "TrafficSplit default/api-traffic-split" in status and "Conflicted" in status
    finally:
        mesh.delete(*texts)


@pytest.mark.parametrize("client", CLIENTS)
def test_s4_backend_with_its_misplaced_weight(mesh: Mesh, client: str) -> None:
    text = mesh.example("s4-backend.yaml")
    mesh.apply(text)
    try:
        replies = mesh.get(client, "http://backend.default.svc.cluster.local/", count=20)
        assert Counter((reply.status, reply.pod) for reply in replies) == {(200, "backend"): 20}
    finally:
        mesh.delete(text)


def test_s2_pod_annotation_adds_nothing_to_the_pod(mesh: Mesh) -> None:
    text = mesh.example("s2-pod-annotation.yaml")
    mesh.apply(text)
    try:
        assert "default/api " in mesh.weft("local", "status") or "default/api" in mesh.weft("endpoint", "list")
    finally:
        mesh.delete(text)


def test_the_client_and_the_server_see_true_addresses(mesh: Mesh) -> None:
    text = mesh.example("s4-backend.yaml")
    mesh.apply(text)
    try:
        for client in CLIENTS:
            reply = mesh.one(client, "http://backend/")
            own = mesh.weft("local", "exec", client, "--", "hostname", "-I").split()
            assert reply.json["peer"][0].removeprefix("::ffff:") in own
    finally:
        mesh.delete(text)


def test_routes_come_and_go_under_load_and_no_request_fails(mesh: Mesh) -> None:
    import threading

    replies: list[int] = []

    def load() -> None:
        replies.extend(r.status for r in mesh.get("client", "http://api/", count=3000, concurrency=2))

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(3):
        mesh.apply(mesh.example("s2-canary.yaml"), subsets("api"))
        mesh.delete(mesh.example("s2-canary.yaml"))
    thread.join()
    assert Counter(replies) == {200: 3000}


def test_the_proxies_may_do_nothing_but_speak_for_others(mesh: Mesh) -> None:
    found = {*re.findall(r'"pid": (\d+)', mesh.weft("proxy", "status", "-o", "json"))}
    assert len(found) == 2, "one on each node"
    for pid in found:
        told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        net_admin_and_raw = (1 << 12) | (1 << 13)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(told[name], 16) & ~net_admin_and_raw == 0, name
        assert told["NoNewPrivs"].strip() == "1"


def test_flows_metrics_and_the_status_tell_of_it(mesh: Mesh) -> None:
    texts = (mesh.example("s2-canary.yaml"), subsets("api"))
    mesh.apply(*texts)
    try:
        before = mesh.total("istio_requests_total", reporter="source", destination_service_name="api")
        mesh.get("client-far", "http://api/told", count=10)
        after = mesh.total("istio_requests_total", reporter="source", destination_service_name="api")
        assert after - before == 10
        flows = until(lambda: mesh.flows("--type", "l7", "--http-path", "/told"), "the requests' flows")
        codes = {flow["l7"]["http"].get("code", 0) for flow in flows}
        assert codes == {0, 200}
        assert {flow["source"]["pod_name"] for flow in flows if not flow.get("is_reply")} == {"client-far"}
    finally:
        mesh.delete(*texts)
