"""What one client can make the proxy hold: bounded, whatever it sends and however often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from proxy_lab import ProxyLab
from weft.bpf.shared import Private
from weft.l7proxy.core.endpoints import MOST_OPEN, Destination
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Peer
from weft.l7proxy.observe.metrics import MAX_NAMED, UNKNOWN, Mesh, Metrics
from weft.l7proxy.observe.observer import told
from weft.l7proxy.observe.telemetry import MetricPlan
from weft.l7proxy.overload import MOST_MEMORY, ORDINARY, Overload, resident
from weft.l7proxy.reports import BATCH, RING, WHOLE, Ring
from weft.l7proxy.shell import Shell
from weft.policies.mesh.model import MeshSettings, Provider
from weft.policies.wire.pb import proxy_pb2 as pb


@dataclass(eq=False)
class Outside:
    ip: str
    port: int
    workload: Workload


@dataclass(eq=False)
class Connected:
    peer: Peer


CLIENT = Workload("10.0.0.1", 300, "shop", "client-1", {"app": "client"}, "Deployment", "client", local=True)


def entry(number: int = 0, **fields: Any) -> Entry:
    made = Entry(float(number), 0.0)
    made.client, made.status, made.id = CLIENT, 200, number
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_records_that_wait_hold_no_whole_heads() -> None:
    """While no daemon takes them, a thousand heads of 60 KiB would wait."""
    ring = Ring(told)
    for number in range(2 * RING):
        head = [(b"x-bomb", b"x" * 60_000), (b"user-agent", b"u" * 60_000)]
        ring.add((entry(number, headers=head, path=b"/" + b"p" * 16_000), False))
    waiting = list(ring._items)
    assert len(waiting) == RING and ring.lost_ever == RING
    made = [item for item in waiting if isinstance(item, pb.Record)]
    assert len(made) == RING - WHOLE
    assert sum(item.ByteSize() for item in made) < 8 << 20
    seen = []
    while (records := ring.take()) is not None:
        assert len(records.records) <= BATCH
        seen += [record.id for record in records.records]
    assert seen == list(range(RING)), "each once, in their order"


def test_names_that_a_client_invents_do_not_use_up_the_metrics() -> None:
    metrics = Metrics(Mesh(lambda workload, side: MetricPlan()))
    for number in range(3 * MAX_NAMED):
        server = Workload(f"198.51.{number >> 8}.{number & 255}", 9)
        endpoint = Outside(server.ip, 80, server)
        authority = b"invented-%d.example" % number
        metrics.request(entry(endpoint=endpoint, cluster="PassthroughCluster", authority=authority))
    named = {cell.labels[""]["destination_service"] for cell in metrics._cells.values()}
    assert len(named) == MAX_NAMED + 1 and UNKNOWN in named
    assert len(metrics._cells) <= MAX_NAMED + 1 and not metrics.forgotten
    metrics.request(entry(host="api.shop.svc.cluster.local", service="shop/api"))
    served = {cell.labels[""]["destination_service_name"] for cell in metrics._cells.values()}
    assert "api" in served, "services are told of as before"


def test_one_client_has_no_more_connections_than_one_may_and_others_have_theirs() -> None:
    shell = Shell(*[None] * 11)  # type: ignore[list-item]
    shell.most_of_one = 10

    def arrives(ip: str) -> bool:
        if shell.crowded(ip):
            return False
        shell.open.add(Connected(Peer((ip, 1), ("10.9.0.1", 80))))  # type: ignore[arg-type]
        return True

    assert [arrives("10.0.0.1") for _ in range(25)].count(True) == 10
    assert [arrives("10.0.0.2") for _ in range(25)].count(True) == 10
    shell.count_clients()
    assert not arrives("10.0.0.1")
    for one in [one for one in shell.open if one.peer.source[0] == "10.0.0.1"][:3]:
        shell.open.discard(one)
    shell.count_clients()
    assert [arrives("10.0.0.1") for _ in range(5)].count(True) == 3, "those that ended make room"
    shell.open.clear()
    shell.count_clients()
    assert arrives("10.0.0.1")


def test_before_memory_is_at_its_end_the_heaviest_client_is_cut_and_nobody_else() -> None:
    cut: list[str] = []

    class Open(Connected):
        def reset(self) -> None:
            cut.append(self.peer.source[0])

    shell = Shell(*[None] * 11)  # type: ignore[list-item]
    shell.loop = SimpleNamespace(call_later=lambda seconds, action: action())  # type: ignore[assignment]
    for ip, count in (("10.0.0.1", ORDINARY + 50), ("10.0.0.2", 20)):
        shell.open.update(Open(Peer((ip, 1), ("10.9.0.1", 80))) for _ in range(count))  # type: ignore[misc]
    memory = [MOST_MEMORY - 1]
    overload = Overload(shell, lambda: ["10.0.0.2"] * 100, lambda: memory[0])
    overload.tick()
    assert not cut
    memory[0] = MOST_MEMORY
    overload.tick()
    assert set(cut) == {"10.0.0.1"} and shell.counted["overload_cut"] == ORDINARY + 50
    shell.open = {one for one in shell.open if one.peer.source[0] != "10.0.0.1"}
    overload.tick()
    assert set(cut) == {"10.0.0.1"}, "an ordinary share is nobody's fault"


def test_the_process_knows_what_it_holds() -> None:
    assert 5 << 20 < resident() < 4 << 30


def test_endpoints_that_are_made_as_they_are_asked_for_are_forgotten_when_there_are_many() -> None:
    """A ServiceEntry without resolution takes a client to whatever address it asks for."""
    rows = Private()
    destination = Destination(("any.example", 80), lambda ip: Workload(ip, 9), rows)
    destination.open = True
    busy = destination.at("198.51.100.1", 80)
    busy.begin()
    for number in range(3 * MOST_OPEN):
        destination.at(f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}", 80)
        assert len(destination.endpoints) <= MOST_OPEN
    assert destination.at("198.51.100.1", 80) is busy, "what is under way stays"


def test_what_lets_us_into_a_collector_is_shown_to_nobody(tmp_path: Path) -> None:
    with ProxyLab(tmp_path) as lab:
        provider = Provider(
            "otel", "opentelemetry", "otel.example", 4317, headers=(("authorization", "Bearer s3cr3t"),)
        )
        lab._declared.settings["mesh"] = MeshSettings(providers=(provider,))
        lab.start()
        for question in ("config", "status", "routes", "clusters", "connections"):
            assert "s3cr3t" not in str(lab.ask(question))
        assert "authorization" in str(lab.ask("config"))
