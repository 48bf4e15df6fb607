"""Time, on a clock that the test turns: request and per-try timeouts, retries inside them, deadlines of gRPC."""

from __future__ import annotations

import pytest

from engine_lab import HOST, Lab, rule
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import Fault, Retries

S2 = rule(
    HOST,
    timeout=10.0,
    retries=Retries(attempts=3, on=("gateway-error", "connect-failure", "retriable-4xx"), per_try_timeout=3.0),
)


def test_s2s_retry_example_ends_with_504_after_ten_seconds_when_every_try_hangs() -> None:
    lab = Lab(S2)
    client = lab.client()
    lab.advance(9.9)
    assert not client.over
    lab.advance(0.15)
    assert (client.status, client.content) == (504, b"upstream request timeout")
    assert lab.entry.ended - lab.entry.started == pytest.approx(10.0, abs=0.051)
    assert (lab.entry.flags, lab.entry.details, lab.entry.tries) == ("UT", "response_timeout", 4)
    starts = [one.at - lab.entry.started for one in lab.tries]
    assert all(3 * number <= at <= 3.35 * number + 0.01 for number, at in enumerate(starts))
    assert [one.done for one in lab.tries] == [[(504, None)]] * 4
    lab.check_quiet()


def test_tries_that_are_refused_come_with_their_back_off_and_end_with_503() -> None:
    lab = Lab(S2)
    lab.cluster().connects = Failure.CONNECT
    lab.draws = [0.999, 0.999, 0.999]
    client = lab.client()
    lab.advance(1)
    gaps = [b.at - a.at for a, b in zip(lab.tries, lab.tries[1:], strict=False)]
    assert gaps == pytest.approx([0.999 * 0.025, 0.999 * 0.05, 0.999 * 0.1])
    assert client.status == 503 and lab.entry.flags == "UF,URX"
    assert client.content.endswith(b"retried and the latest reset reason: remote connection failure")


def test_a_per_try_timeout_without_a_token_for_it_answers_504_at_once() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=2, on=("connect-failure",), per_try_timeout=1.0)))
    client = lab.client()
    lab.advance(1.05)
    assert client.status == 504 and len(lab.tries) == 1
    assert (lab.entry.flags, lab.entry.details) == ("UT", "upstream_per_try_timeout")


def test_a_per_try_timeout_that_is_spent_says_that_retries_were_spent() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=1, on=("gateway-error",), per_try_timeout=1.0)))
    client = lab.client()
    lab.advance(3)
    assert client.status == 504 and len(lab.tries) == 2 and lab.entry.flags == "UT,URX"


def test_a_try_is_not_cut_once_its_response_has_begun() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=1, on=("5xx",), per_try_timeout=1.0)))
    client = lab.client()
    lab.tries[0].respond(200, body=None)
    lab.advance(5)
    assert client.status == 200 and not client.over and len(lab.tries) == 1


def test_the_request_timeout_cuts_a_response_that_has_begun() -> None:
    lab = Lab(rule(HOST, timeout=2.0))
    client = lab.client()
    lab.tries[0].respond(200, body=None)
    lab.tries[0].send_down(b"half")
    lab.advance(2.05)
    assert client.was_reset is not None and lab.tries[0].was_reset is not None
    assert (lab.entry.status, lab.entry.flags, lab.tries[0].done) == (200, "UT", [(200, None)])
    lab.check_quiet()


def test_the_timeout_counts_from_the_end_of_the_request() -> None:
    lab = Lab(rule(HOST, timeout=1.0))
    asking = lab.client(method=b"POST", end=False, length=-1)
    lab.advance(5)
    assert not asking.over
    asking.end()
    lab.advance(0.9)
    assert not asking.over
    lab.advance(0.15)
    assert asking.status == 504


def test_without_a_timeout_nothing_ends_by_itself() -> None:
    lab = Lab(rule(HOST))
    client = lab.client()
    lab.advance(4000)
    assert not client.over and len(lab.engine.active) == 1


def test_a_timeout_while_the_connection_is_being_made_takes_the_open_back() -> None:
    lab = Lab(rule(HOST, timeout=1.0))
    lab.cluster().connects = "later"
    client = lab.client()
    lab.advance(1.05)
    assert client.status == 504 and lab.tries[0].cancelled
    lab.check_quiet()


def test_a_timeout_during_a_back_off_ends_the_request() -> None:
    lab = Lab(rule(HOST, timeout=0.5, retries=Retries(attempts=3, on=("5xx",), base=5.0, maximum=5.0)))
    lab.server = lambda one: one.respond(503)
    lab.draws = [0.9]
    client = lab.client()
    lab.advance(0.55)
    assert client.status == 504 and len(lab.tries) == 1
    lab.check_quiet()


@pytest.mark.parametrize(
    ("route", "asked", "ends_at"),
    [(0.0, b"700", 0.7), (5.0, b"700", 0.7), (0.3, b"700", 0.7), (0.3, b"soon", 0.3)],
    ids=["set", "shortened", "lengthened", "nonsense is ignored"],
)
def test_a_request_may_set_its_own_timeout(route: float, asked: bytes, ends_at: float) -> None:
    lab = Lab(rule(HOST, timeout=route))
    client = lab.client(headers=[(b"x-envoy-upstream-rq-timeout-ms", asked)])
    lab.advance(ends_at - 0.05)
    assert not client.over
    lab.advance(0.11)
    assert client.status == 504
    assert lab.tries[0].header(b"x-envoy-upstream-rq-timeout-ms") is None


GRPC = [(b"content-type", b"application/grpc")]


@pytest.mark.parametrize(
    ("route", "deadline", "ends_at", "code"),
    [(0.0, b"500m", 0.5, 4), (5.0, b"1S", 1.0, 4), (1.0, b"1H", 1.0, 14), (1.0, b"x", 1.0, 14)],
    ids=["the deadline", "the deadline is sooner", "the route is sooner", "malformed"],
)
def test_a_grpc_deadline_and_the_routes_timeout(route: float, deadline: bytes, ends_at: float, code: int) -> None:
    lab = Lab(rule(HOST, timeout=route))
    client = lab.client(method=b"POST", headers=[*GRPC, (b"grpc-timeout", deadline)], version="2")
    lab.advance(ends_at - 0.05)
    assert not client.over
    lab.advance(0.11)
    assert (client.status, client.header(b"grpc-status")) == (200, b"%d" % code)
    assert lab.tries[0].header(b"grpc-timeout") == deadline


def test_a_grpc_deadline_counts_from_the_start_also_of_a_call_that_goes_on() -> None:
    lab = Lab(rule(HOST))
    client = lab.client(method=b"POST", headers=[*GRPC, (b"grpc-timeout", b"2S")], end=False, length=-1)
    lab.advance(2.05)
    assert client.header(b"grpc-status") == b"4"
    lab.check_quiet()


def test_the_timeout_starts_after_an_injected_delay() -> None:
    lab = Lab(rule(HOST, timeout=1.0, fault=Fault(delay=3.0, delay_percent=100)))
    client = lab.client()
    lab.advance(3.9)
    assert len(lab.tries) == 1 and not client.over
    lab.advance(0.2)
    assert client.status == 504 and lab.entry.flags == "UT,DI"


def test_an_injected_delay_counts_for_no_timeout() -> None:
    lab = Lab(rule(HOST, timeout=1.0, fault=Fault(delay=3.0, delay_percent=100)))
    lab.server = lambda one: one.respond(200)
    client = lab.client(end=False, length=-1)
    client.end()
    lab.advance(3.1)
    assert client.status == 200 and lab.entry.flags == "DI"
