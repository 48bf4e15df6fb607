"""Connections: who gets one, who waits, what is used again and what never. What overflows and what waits was
tried on Envoy 1.40 with the same limits: one connection and one place to wait let two of four pass, two requests
likewise."""

from __future__ import annotations

import pytest

from cluster_lab import HOST, Lab, Sink, anybody, pod
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import ConnectionPool


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.serve("10.0.1.1")
    return lab


def limited(lab: Lab, **limits: object) -> None:
    lab.policy(pool=ConnectionPool(**limits))  # type: ignore[arg-type]


def test_a_connection_is_made_in_the_clients_name_to_the_endpoint(lab: Lab) -> None:
    limited(lab, connect_timeout=3.0)
    sink, _ = lab.open()
    dial = lab.connector.next()
    assert (dial.source, dial.address, dial.timeout) == ("10.0.0.1", ("10.0.1.1", 8080), 3.0)
    assert sink.upstream is None
    dial.open()
    assert sink.upstream is not None and sink.upstream.fresh


def test_an_idle_connection_opens_before_open_returns(lab: Lab) -> None:
    lab.call()
    sink, _ = lab.open()
    assert sink.upstream is not None and not sink.upstream.fresh
    assert len(lab.connector.dials) == 1


def test_the_connection_that_was_used_last_is_used_first(lab: Lab) -> None:
    first, _ = lab.open()
    second, _ = lab.open()
    lab.connector.open_all()
    first.upstream.end()
    second.upstream.end()
    third, _ = lab.open()
    assert third.upstream.codec is second.upstream.codec


def test_http1_has_one_request_on_a_connection_and_http2_many(lab: Lab) -> None:
    for _ in range(3):
        lab.open()
    assert len(lab.connector.dials) == 3
    for _ in range(3):
        lab.open(protocol="http2")
    assert len(lab.connector.dials) == 4, "three streams wait for one connection"


def test_another_client_address_has_connections_of_its_own(lab: Lab) -> None:
    lab.call()
    other = lab.add(pod("10.0.0.2", "web"))
    lab.open(lab.cluster(client=other))
    assert [dial.source for dial in lab.connector.dials] == ["10.0.0.1", "10.0.0.2"]


def test_a_failed_connect_fails_all_that_wait(lab: Lab) -> None:
    sinks = [lab.open()[0] for _ in range(3)]
    lab.connector.next().fail(Failure.CONNECT_TIMEOUT)
    assert [sink.failure for sink in sinks] == [Failure.CONNECT_TIMEOUT] * 3
    lab.connector.open_all()
    assert lab.call().active == 3, "those three are not done yet; the new one is"


def test_what_came_while_it_was_idle_spoils_a_connection(lab: Lab) -> None:
    lab.call()
    transport = lab.connector.dials[0].transport
    transport.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert transport.closed
    assert lab.open()[0].upstream is None, "a new connection is made"


def test_an_end_while_it_was_idle_closes_a_connection(lab: Lab) -> None:
    lab.call()
    transport = lab.connector.dials[0].transport
    assert transport.protocol.eof_received()
    assert transport.closed
    assert lab.open()[0].upstream is None


def test_a_connection_lost_under_way_fails_its_request_and_counts_out(lab: Lab) -> None:
    sink, endpoint = lab.open()
    lab.connector.next().open().end()
    assert sink.failure is Failure.RESET
    assert (endpoint.connections, lab.cluster().circuit.connections) == (0, 0)


def test_a_request_that_failed_may_open_another_from_within(lab: Lab) -> None:
    """As a retry does: the lost connection must not be offered to it."""
    cluster, retried = lab.cluster(), Sink()
    sink, endpoint = lab.open(cluster)

    class Retrying(Sink):
        def failed(self, failure: Failure, detail: str) -> None:
            super().failed(failure, detail)
            cluster.open(endpoint, lab.client, "http1", retried)

    transport = lab.connector.next().open()
    sink.upstream.sink = Retrying()
    transport.end()
    assert retried.upstream is None and len(lab.connector.waiting) == 1


def test_go_away_ends_streams_that_are_open_and_takes_no_new_ones(lab: Lab) -> None:
    sink, _ = lab.open(protocol="http2")
    transport = lab.connector.next().open()
    sink.upstream.codec.go_away()
    assert not transport.closed
    assert lab.open(protocol="http2")[0].upstream is None
    assert len(lab.connector.waiting) == 1
    sink.upstream.end()
    assert transport.closed


def test_an_http2_server_that_allows_no_more_streams_gets_a_second_connection(lab: Lab) -> None:
    first, _ = lab.open(protocol="http2")
    lab.connector.open_all()
    first.upstream.codec.room = 1
    second, _ = lab.open(protocol="http2")
    assert second.upstream is None
    lab.connector.open_all()
    assert second.upstream.codec is not first.upstream.codec


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_connection_carries_as_many_requests_as_it_may(lab: Lab, protocol: str) -> None:
    limited(lab, max_requests_per_connection=2)
    used = []
    for _ in range(4):
        sink, _ = lab.open(protocol=protocol)
        lab.connector.open_all()
        used.append(sink.upstream.codec)
        sink.upstream.end()
    assert used[0] is used[1] and used[2] is used[3] and used[1] is not used[2]
    assert used[0].transport.closed


def test_one_request_per_connection_is_no_keep_alive(lab: Lab) -> None:
    limited(lab, max_requests_per_connection=1)
    lab.call()
    assert lab.connector.dials[0].transport.closed
    lab.call()
    assert len(lab.connector.dials) == 2


def test_streams_of_one_connection_are_as_many_as_declared(lab: Lab) -> None:
    limited(lab, max_concurrent_streams=2)
    sinks = [lab.open(protocol="http2")[0] for _ in range(4)]
    lab.connector.open_all()
    codecs = [sink.upstream.codec for sink in sinks]
    assert [codecs.count(codec) for codec in dict.fromkeys(codecs)] == [2, 2]


def test_idle_connections_close_after_their_time_and_busy_ones_do_not(lab: Lab) -> None:
    limited(lab, idle_timeout=30.0)
    busy, _ = lab.open()
    lab.connector.open_all()
    lab.call()
    idle, used = lab.connector.dials[1].transport, lab.connector.dials[0].transport
    lab.after(29, step=1)
    assert not idle.closed
    lab.after(2, step=1)
    assert idle.closed and not used.closed
    busy.upstream.end()
    lab.after(29, step=1)
    assert not used.closed, "its time begins when it becomes idle"


def test_a_connection_lasts_as_long_as_it_may_and_ends_what_it_has(lab: Lab) -> None:
    limited(lab, max_connection_duration=60.0)
    sink, _ = lab.open()
    lab.connector.open_all()
    lab.after(61, step=1)
    assert not sink.upstream.codec.transport.closed
    sink.upstream.end()
    assert sink.upstream.codec.transport.closed


def test_a_request_waits_for_a_connection_where_there_may_be_no_more(lab: Lab) -> None:
    limited(lab, max_connections=1)
    first, _ = lab.open()
    second, _ = lab.open()
    third, _ = lab.open()
    lab.connector.open_all()
    assert len(lab.connector.dials) == 1
    assert (second.upstream, third.upstream) == (None, None)
    first.upstream.end()
    assert second.upstream is not None and third.upstream is None, "first come, first served"
    second.upstream.end()
    assert third.upstream is not None


def test_beyond_the_pending_limit_is_overflow(lab: Lab) -> None:
    limited(lab, max_connections=1, http1_max_pending=1)
    lab.open()
    lab.connector.open_all()
    waits, _ = lab.open()
    refused, _ = lab.open()
    assert waits.failure is None
    assert refused.failure is Failure.OVERFLOW


def test_beyond_the_request_limit_is_overflow_in_http1_too(lab: Lab) -> None:
    limited(lab, http2_max_requests=2)
    sinks = [lab.open()[0] for _ in range(3)]
    lab.connector.open_all()
    assert [sink.failure for sink in sinks] == [None, None, Failure.OVERFLOW]


def test_limits_count_for_all_pods_of_a_client_workload_and_no_other(lab: Lab) -> None:
    limited(lab, http2_max_requests=1)
    lab.open()
    lab.connector.open_all()
    twin = lab.add(pod("10.0.0.2", "web"))
    stranger = lab.add(pod("10.0.0.3", "cart"))
    refused, _ = lab.open(lab.cluster(client=twin))
    passed, _ = lab.open(lab.cluster(client=stranger))
    lab.connector.open_all()
    assert refused.failure is Failure.OVERFLOW
    assert passed.failure is None and passed.upstream is not None


def test_each_endpoint_gets_a_connection_beyond_the_limit_rather_than_none(lab: Lab) -> None:
    """Envoy's rule: what waits for an endpoint without any connection would wait for ever."""
    lab.serve("10.0.1.1", "10.0.1.2")
    limited(lab, max_connections=1)
    cluster = lab.cluster()
    for endpoint in lab.cluster().group.members:
        lab.open(cluster, endpoint)
    assert len(lab.connector.dials) == 2


def test_a_cancelled_wait_is_never_opened(lab: Lab) -> None:
    cluster = lab.cluster()
    sink, endpoint = lab.open(cluster)
    cluster.cancel(sink)
    cluster.done(endpoint, 0, None, 0.0)
    lab.connector.open_all()
    assert sink.upstream is None and not sink.failures
    assert cluster.circuit.pending == cluster.circuit.requests == endpoint.active == 0
    assert lab.open(cluster)[0].upstream is not None, "its connection serves the next"


def test_a_removed_endpoint_ends_what_it_has_and_closes_what_is_idle(lab: Lab) -> None:
    lab.serve("10.0.1.1", "10.0.1.2")
    cluster = lab.cluster()
    going, staying = cluster.group.members
    busy, _ = lab.open(cluster, going)
    idle, _ = lab.open(cluster, going)
    kept, _ = lab.open(cluster, staying)
    lab.connector.open_all()
    idle.upstream.end()
    kept.upstream.end()
    lab.serve("10.0.1.2")
    assert idle.upstream.codec.transport.closed
    assert not busy.upstream.codec.transport.closed and not kept.upstream.codec.transport.closed
    assert {cluster.pick(None, (), anybody) for _ in range(20)} == {staying}
    busy.upstream.end()
    assert busy.upstream.codec.transport.closed


def test_a_request_on_its_way_to_a_removed_endpoint_still_arrives(lab: Lab) -> None:
    sink, _ = lab.open()
    lab.serve("10.0.1.2")
    lab.connector.open_all()
    assert sink.upstream is not None
    sink.upstream.end()
    assert sink.upstream.codec.transport.closed


def test_a_connection_that_nobody_waits_for_is_not_kept_to_a_removed_endpoint(lab: Lab) -> None:
    cluster = lab.cluster()
    sink, endpoint = lab.open(cluster)
    cluster.cancel(sink)
    cluster.done(endpoint, 0, None, 0.0)
    lab.serve("10.0.1.2")
    assert lab.connector.next().open().closed


def test_who_waits_gets_a_new_connection_when_the_only_one_is_lost(lab: Lab) -> None:
    limited(lab, max_connections=1)
    lab.open()
    transport = lab.connector.next().open()
    waits, _ = lab.open()
    assert not lab.connector.waiting
    transport.end()
    lab.connector.next().open()
    assert waits.upstream is not None


def test_connections_of_an_address_close_when_it_passes_to_another_workload(lab: Lab) -> None:
    lab.call()
    lab.client = lab.add(pod("10.0.0.1", "cart"))
    sink, _ = lab.open()
    assert lab.connector.dials[0].transport.closed and sink.upstream is None


def test_a_change_of_policy_drops_no_connection(lab: Lab) -> None:
    lab.call()
    limited(lab, max_connections=7)
    sink, _ = lab.open()
    assert sink.upstream is not None and len(lab.connector.dials) == 1


def test_a_port_that_is_no_more_drains(lab: Lab) -> None:
    cluster = lab.cluster()
    busy, endpoint = lab.open(cluster)
    lab.connector.open_all()
    lab.serve("10.0.1.1", port=81)
    assert lab.cluster() is None
    assert not busy.upstream.codec.transport.closed
    busy.upstream.end()
    cluster.done(endpoint, 200, None, 0.1)
    assert busy.upstream.codec.transport.closed
    assert HOST in lab.world.services
