"""Mirrors: the whole request goes, nothing of theirs comes back, and whatever befalls them nobody notices."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine_lab import HOST, Lab, destination, rule
from weft.l7proxy.core.mirror import BOUND, unsampled
from weft.l7proxy.core.stream import Failure, Reset, Response
from weft.policies.mesh.model import Fault, HeaderChanges, Mirror, Retries, Rewrite

SHADOW = "shadow.shop.svc.cluster.local"


def mirrored(percent: float = 100.0, **fields: Any) -> Lab:
    lab = Lab(rule(HOST, mirrors=(Mirror(destination(SHADOW), percent),), **fields))
    lab.server = lambda one: one.respond(200, body=b"real" if one.cluster.host == HOST else b"shadow")
    return lab


def test_a_mirror_gets_what_the_server_gets_and_its_answer_is_dropped() -> None:
    lab = mirrored(rewrite=Rewrite(path="/new"), request_headers=HeaderChanges(set=(("a", "b"),)))
    asking = lab.client(b"/old", method=b"POST", end=False, length=-1)
    asking.body(b"one").body(b"two").end([(b"t", b"1")])
    real, shadow = lab.cluster().tries[0], lab.cluster(SHADOW).tries[0]
    assert shadow.head and real.head and (shadow.head.path, shadow.head.authority) == (b"/new", b"api")
    assert (shadow.content, shadow.trailers) == (real.content, real.trailers) == (b"onetwo", [(b"t", b"1")])
    assert shadow.header(b"a") == b"b"
    assert asking.content == b"real"
    lab.check_quiet()


def test_mirrors_at_their_percentage() -> None:
    lab = mirrored(25.0)
    for _ in range(4000):
        lab.client()
    count = len(lab.cluster(SHADOW).tries)
    assert abs(count - 1000) <= 3 * math.sqrt(4000 * 0.25 * 0.75)
    assert len(lab.cluster().tries) == 4000
    lab.check_quiet()


@pytest.mark.parametrize("fate", ["refused", "reset", "hangs", "slow", "no such host", "nobody", "503"])
def test_whatever_befalls_the_mirror_the_request_does_not_notice(fate: str) -> None:
    lab = mirrored()
    shadow = lab.cluster(SHADOW)
    shadow.connects = Failure.CONNECT if fate == "refused" else "now"
    if fate == "reset":
        shadow.server = lambda one: one.fail(Failure.RESET)
    elif fate in ("hangs", "slow"):
        shadow.server = None
    elif fate == "no such host":
        lab.missing = {(SHADOW, 80, "")}
    elif fate == "nobody":
        shadow.endpoints = []
    elif fate == "503":
        shadow.server = lambda one: one.respond(503)
    asking = lab.client(method=b"POST", end=False, length=-1)
    if fate == "slow":
        shadow.tries[0].sink.pause_request()
    asking.body(b"x" * 1000)
    assert not asking.paused
    asking.end()
    assert (asking.status, asking.content) == (200, b"real") and lab.observer.entries[-1].flags == ""
    lab.advance(16)
    lab.check_quiet()


def test_a_mirror_that_takes_nothing_is_given_up_when_more_waits_than_its_bound() -> None:
    lab = mirrored()
    shadow = lab.cluster(SHADOW)
    asking = lab.client(method=b"POST", end=False, length=-1)
    shadow.tries[0].sink.pause_request()
    for _ in range(BOUND // 1000 + 1):
        asking.body(b"x" * 1000)
    assert shadow.tries[0].was_reset is Reset.CANCEL
    asking.end()
    assert asking.status == 200
    lab.check_quiet()


def test_a_mirror_that_was_slow_for_a_while_gets_everything() -> None:
    lab = mirrored()
    shadow = lab.cluster(SHADOW)
    asking = lab.client(method=b"POST", end=False, length=-1)
    shadow.tries[0].sink.pause_request()
    asking.body(b"ab").body(b"cd").end()
    assert shadow.tries[0].content == b""
    shadow.tries[0].sink.resume_request()
    assert shadow.tries[0].content == b"abcd" and shadow.tries[0].ended


def test_a_mirror_that_stops_again_between_two_pieces_goes_on_where_it_stopped() -> None:
    lab = mirrored()
    asking = lab.client(method=b"POST", end=False, length=-1)
    shadow = lab.cluster(SHADOW).tries[0]
    shadow.sink.pause_request()
    asking.body(b"ab").body(b"cd").body(b"ef")
    send = shadow.send
    shadow.send = lambda data: (send(data), shadow.sink.pause_request())  # type: ignore[method-assign]
    shadow.sink.resume_request()
    assert shadow.content == b"ab"
    asking.body(b"gh").end([(b"t", b"1")])
    for _ in range(4):
        shadow.sink.resume_request()
    assert (shadow.content, shadow.trailers) == (b"abcdefgh", [(b"t", b"1")])


def test_a_mirror_that_is_answered_early_ends_early() -> None:
    lab = mirrored()
    asking = lab.client(method=b"POST", end=False, length=-1)
    shadow = lab.cluster(SHADOW).tries[0]
    shadow.sink.response(Response(413, [], length=0), True)
    assert shadow.was_reset is Reset.NO_ERROR
    asking.body(b"x").end()
    assert asking.status == 200 and shadow.content == b""
    lab.check_quiet()


def test_a_mirror_that_stops_and_goes_on_ends_once() -> None:
    lab = mirrored()
    shadow = lab.cluster(SHADOW)
    shadow.server = None
    lab.client()
    for call in (shadow.tries[0].sink.pause_request, shadow.tries[0].sink.resume_request) * 2:
        call()
    shadow.tries[0].respond(200)
    lab.check_quiet()


@pytest.mark.parametrize("trailers", [None, [(b"t", b"1")]])
@pytest.mark.parametrize("pieces", [[], [b"ab", b"cd"]])
def test_a_request_that_a_fault_held_back_is_mirrored_whole(pieces: list[bytes], trailers: Any) -> None:
    lab = mirrored(fault=Fault(delay=1.0, delay_percent=100))
    asking = lab.client(method=b"POST", end=False, length=-1)
    for piece in pieces:
        asking.body(piece)
    asking.end(trailers)
    lab.advance(1.05)
    real, shadow = lab.cluster().tries[0], lab.cluster(SHADOW).tries[0]
    assert shadow.content == real.content == b"".join(pieces) and shadow.ended and real.ended
    assert shadow.trailers == real.trailers == trailers


def test_a_mirror_that_hangs_has_the_rules_timeout() -> None:
    lab = mirrored(timeout=2.0)
    lab.cluster(SHADOW).server = None
    lab.client()
    lab.advance(1.9)
    assert lab.engine.mirrors
    lab.advance(0.2)
    lab.check_quiet()


def test_half_a_request_is_not_mirrored_to_an_end() -> None:
    lab = mirrored()
    asking = lab.client(method=b"POST", end=False, length=-1).body(b"half")
    asking.sink.gone(Reset.CANCEL)
    assert lab.cluster(SHADOW).tries[0].was_reset is Reset.CANCEL
    lab.check_quiet()


def test_a_retry_is_not_mirrored_again() -> None:
    lab = mirrored(retries=Retries(attempts=2, on=("5xx",)))
    lab.cluster().server = lambda one: one.respond(503)
    lab.client()
    lab.advance(1)
    assert len(lab.cluster().tries) == 3 and len(lab.cluster(SHADOW).tries) == 1


def test_the_destination_reports_a_mirror_and_the_source_does_not() -> None:
    lab = mirrored()
    lab.client()
    by_mirror = {entry.mirrored: entry for entry in lab.observer.entries}
    assert by_mirror[True].cluster == f"outbound|80||{SHADOW}" and not by_mirror[True].reports_source
    assert by_mirror[False].reports_source and lab.observer.begun == 1


def test_its_spans_are_not_sampled() -> None:
    trace, span = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
    headers = [
        (b"traceparent", b"00-" + trace + b"-" + span + b"-01"),
        (b"b3", trace + b"-" + span + b"-1"),
        (b"x-b3-sampled", b"1"),
        (b"x-request-id", b"abc"),
    ]
    assert unsampled(headers) == [
        (b"traceparent", b"00-" + trace + b"-" + span + b"-00"),
        (b"b3", trace + b"-" + span + b"-0"),
        (b"x-b3-sampled", b"0"),
        (b"x-request-id", b"abc"),
    ]
    assert unsampled([(b"b3", b"1")]) == [(b"b3", b"0")]
