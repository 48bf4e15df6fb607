"""Limits and counters: retries and budgets, and that every count ends at zero, whatever happens in between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cluster_lab import HOST, Lab, Sink, anybody, pod
from weft.bpf.shared import ACTIVE, CONNECTIONS, COUNTERS, PENDING, RETRIES, Private, Row
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import ConnectionPool, Outlier


class Rows(Private):
    """Remembers all rows; `others` is what other workers have, in each."""

    def __init__(self, others: list[int] | None = None) -> None:
        super().__init__()
        self.made: dict[tuple[str, str, str], Row] = {}
        self.alone = others is None
        self._others = others or []

    def row(self, client: str, destination: str, endpoint: str) -> Row:
        if self.alone:
            row = super().row(client, destination, endpoint)
        else:
            cells = [value for counter in self._others for value in (0, counter)]
            row = Row(cells, 2, 0)
            row.mine = _Column(cells)
        self.made[client, destination, endpoint] = row
        return row

    def release(self, row: Row) -> None:
        for counter in range(COUNTERS):
            row.mine[counter] = 0


class _Column:
    def __init__(self, cells: list[int]) -> None:
        self._cells = cells

    def __setitem__(self, counter: int, value: int) -> None:
        self._cells[counter * 2] = value

    def __getitem__(self, counter: int) -> int:
        return self._cells[counter * 2]


def limited(lab: Lab, **limits: object) -> Any:
    lab.policy(pool=ConnectionPool(**limits))  # type: ignore[arg-type]
    lab.serve("10.0.1.1")
    return lab.cluster()


def test_so_many_retries_at_once() -> None:
    cluster = limited(Lab(), max_retries=2)
    assert [cluster.begin_retry() for _ in range(3)] == [True, True, False]
    cluster.end_retry()
    assert cluster.begin_retry()


def test_a_budget_is_a_part_of_what_is_under_way_and_three_at_least() -> None:
    lab = Lab()
    cluster = limited(lab, max_retries=1, retry_budget=(20.0, 3))
    assert [cluster.begin_retry() for _ in range(4)] == [True, True, True, False], "whatever max_retries says"
    for _ in range(20):
        lab.open(cluster)
    lab.connector.open_all()
    assert [cluster.begin_retry() for _ in range(2)] == [True, False], "20 % of 20 are 4"


def test_what_other_workers_have_under_way_counts() -> None:
    others = [0] * COUNTERS
    others[ACTIVE], others[RETRIES] = 4, 1
    lab = Lab(rows=Rows(others))
    cluster = limited(lab, http2_max_requests=5, max_retries=2)
    sinks = [lab.open(cluster)[0] for _ in range(2)]
    lab.connector.open_all()
    assert [sink.failure for sink in sinks] == [None, Failure.OVERFLOW]
    assert [cluster.begin_retry() for _ in range(2)] == [True, False]


def test_what_others_have_open_and_waiting_counts() -> None:
    others = [0] * COUNTERS
    others[CONNECTIONS], others[PENDING] = 2, 1
    lab = Lab(rows=Rows(others))
    cluster = limited(lab, max_connections=3, http1_max_pending=2)
    sinks = [lab.open(cluster)[0] for _ in range(3)]
    assert len(lab.connector.dials) == 1
    assert [sink.failure for sink in sinks] == [None, Failure.OVERFLOW, Failure.OVERFLOW]


def test_a_tunnel_counts_as_a_connection() -> None:
    lab = Lab()
    cluster = limited(lab, max_connections=1)
    endpoint = cluster.pick(None, (), anybody)
    assert cluster.connect(endpoint) and not cluster.connect(endpoint)
    cluster.connected(endpoint, None)
    cluster.disconnected(endpoint)
    assert cluster.connect(endpoint)


def test_counts_are_written_where_others_read_them() -> None:
    rows = Rows()
    lab = Lab(rows=rows)
    cluster = limited(lab)
    lab.open(cluster)
    mine = rows.made["shop/web", f"outbound|80||{HOST}", ""].mine
    theirs = rows.made["", f"{HOST}:80", "10.0.1.1:8080"].mine
    assert (mine[ACTIVE], mine[PENDING], mine[CONNECTIONS]) == (0, 1, 1)
    lab.connector.open_all()
    assert (mine[ACTIVE], mine[PENDING], mine[CONNECTIONS], theirs[ACTIVE]) == (1, 0, 1, 1)


class Chaos:
    """Whatever can happen to tries and connections, in any order. Its invariant: no counter is ever negative, and
    when all is over each is zero."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows = Rows()
        self.lab = Lab(seed, rows=self.rows)
        self.limits = ConnectionPool(
            max_connections=self.random.choice((1, 3, 2**32 - 1)),
            http1_max_pending=self.random.choice((0, 2, 2**32 - 1)),
            http2_max_requests=self.random.choice((2, 5, 2**32 - 1)),
            max_requests_per_connection=self.random.choice((0, 1, 3)),
            idle_timeout=5.0,
        )
        self.lab.policy(pool=self.limits, outlier=Outlier(consecutive_5xx=2, max_ejection_percent=50))
        self.clients = [self.lab.client, self.lab.add(pod("10.0.0.2", "web")), self.lab.add(pod("10.0.0.3", "x"))]
        self.ips = ["10.0.1.1", "10.0.1.2", "10.0.1.3"]
        self.lab.serve(*self.ips)
        self.tries: list[tuple[Any, Any, Sink]] = []
        self.circuits: set[Any] = set()
        self.endpoints: set[Any] = set()

    def step(self) -> None:
        self.random.choice(
            (self.start, self.start, self.start, self.end, self.end, self.connect, self.lose, self.move, self.rest)
        )()
        for circuit in self.circuits:
            counts = (circuit.requests, circuit.pending, circuit.connections, circuit.retries)
            assert min(counts) >= 0, counts
        for endpoint in self.endpoints:
            assert endpoint.active >= 0 and endpoint.connections >= 0
        self.finish_failed()

    def start(self) -> None:
        client = self.random.choice(self.clients)
        cluster = self.lab.cluster(client=client)
        endpoint = cluster.pick(None, (), anybody) if cluster else None
        if endpoint is not None:
            sink = Sink()
            self.circuits.add(cluster.circuit)
            self.endpoints.add(endpoint)
            self.tries.append((cluster, endpoint, sink))
            cluster.open(endpoint, client, self.random.choice(("http1", "http2")), sink)

    def finish_failed(self) -> None:
        for one in [one for one in self.tries if one[2].failures]:
            self.tries.remove(one)
            one[0].done(one[1], 0, one[2].failure, 0.1)

    def end(self) -> None:
        if not self.tries:
            return
        cluster, endpoint, sink = self.tries.pop(self.random.randrange(len(self.tries)))
        if sink.upstream is None:
            cluster.cancel(sink)
        elif sink.upstream in sink.upstream.codec.streams:
            sink.upstream.end()
        cluster.done(endpoint, self.random.choice((200, 200, 503)), None, 0.1)

    def connect(self) -> None:
        waiting = self.lab.connector.waiting
        if waiting:
            dial = waiting.pop(self.random.randrange(len(waiting)))
            if not dial.cancelled:
                self.random.choice((dial.open, dial.open, dial.fail))()

    def transports(self) -> list[Any]:
        return [dial.transport for dial in self.lab.connector.dials if dial.transport and dial.transport.protocol]

    def lose(self) -> None:
        open_ones = self.transports()
        if open_ones:
            self.gone(self.random.choice(open_ones))

    def gone(self, transport: Any) -> None:
        protocol, transport.protocol = transport.protocol, None
        protocol.connection_lost(None)

    def move(self) -> None:
        self.lab.serve(
            *self.random.sample(self.ips, self.random.randrange(4)), port=self.random.choice((80, 80, 81))
        )

    def rest(self) -> None:
        self.lab.after(self.random.choice((0.1, 1.0, 7.0)), step=0.5)
        for transport in self.transports():
            if transport.closed or transport.aborted:
                self.gone(transport)

    def settle(self) -> None:
        self.lab.serve(*self.ips)
        while self.lab.connector.waiting:
            self.connect()
            self.finish_failed()
        while self.tries:
            self.end()
            self.finish_failed()
        while self.lab.connector.waiting:
            self.connect()
        for transport in self.transports():
            self.gone(transport)
        self.lab.after(70, step=5)


@pytest.mark.parametrize("seed", range(60))
def test_no_count_is_negative_and_all_end_at_zero(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(300):
        chaos.step()
    chaos.settle()
    for circuit in chaos.circuits:
        assert circuit.quiet, (circuit.requests, circuit.pending, circuit.connections, circuit.retries)
    assert {(one.active, one.connections) for one in chaos.endpoints} == {(0, 0)}
    held = [row for row in chaos.rows.made.values() if any(row.mine[:4])]
    assert not held
    chaos.lab.after(200, step=20)
    assert not chaos.lab.map.views and not chaos.lab.map.catalog.destinations


def test_done_before_cancel_comes_out_even() -> None:
    lab = Lab()
    cluster = limited(lab)
    sink, endpoint = lab.open(cluster)
    cluster.done(endpoint, 0, None, 0.0)
    cluster.cancel(sink)
    lab.connector.open_all()
    assert cluster.circuit.requests == cluster.circuit.pending == 0 and sink.upstream is None
