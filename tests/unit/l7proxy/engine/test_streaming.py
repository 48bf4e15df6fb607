"""Bodies in pieces, both ways, with somebody slow, early, or gone; tunnels; what may be sent again."""

from __future__ import annotations

import gc

import pytest

from engine_lab import HOST, Asking, Client, Lab, rule
from weft.l7proxy.core.exchange import Exchange
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Failure, Request, Reset, Response
from weft.policies.mesh.model import Retries

AGAIN = Retries(attempts=2, on=("5xx", "connect-failure"))
SMALL = Limits(retry_buffer=10, window=20)


def posting(lab: Lab, **more: object) -> Asking:
    return lab.client(method=b"POST", end=False, length=-1, **more)


def test_pieces_go_on_as_they_come_in_both_directions() -> None:
    lab = Lab(rule(HOST))
    asking = posting(lab)
    server = lab.tries[0]
    asking.body(b"ab")
    assert server.content == b"ab" and not server.ended
    asking.body(b"c").end([(b"sum", b"1")])
    assert (server.content, server.ended, server.trailers) == (b"abc", True, [(b"sum", b"1")])
    server.respond(200, body=None)
    server.send_down(b"xy")
    assert asking.content == b"xy" and not asking.ended
    server.send_down(b"z")
    server.end_down([(b"t", b"2")])
    assert (asking.content, asking.trailers) == (b"xyz", [(b"t", b"2")])
    assert (lab.entry.request_bytes, lab.entry.response_bytes) == (3, 3)
    lab.check_quiet()


def test_what_came_before_the_connection_goes_with_it_and_only_a_window_of_it() -> None:
    lab = Lab(rule(HOST), limits=SMALL)
    lab.cluster().connects = "later"
    asking = posting(lab).body(b"a" * 15)
    assert not asking.paused
    asking.body(b"b" * 15)
    assert asking.paused
    server = lab.tries[0].open()
    assert server.content == b"a" * 15 + b"b" * 15 and not asking.paused
    asking.body(b"c").end()
    assert server.content.endswith(b"c") and server.ended


@pytest.mark.parametrize(
    ("connects", "body", "held"), [("now", b"", True), ("later", b"", False), ("later", b"x", True)]
)
def test_a_head_waits_only_for_a_piece_that_comes_at_once(connects: str, body: bytes, held: bool) -> None:
    """`Request.more`: a piece follows within the codec's call. Later that is true of kept pieces only."""
    lab = Lab(rule(HOST))
    lab.cluster().connects = connects
    client = Client()
    request = Request(b"POST", b"/", b"api", [], length=-1)
    request.more = True
    sink = lab.engine.handler(client.peer).request(request, client, False)
    if body:
        sink.body(body)
    if connects == "later":
        lab.tries[0].open()
    head = lab.tries[0].head
    assert head and head.more is held


def test_a_whole_request_that_waited_is_sent_with_its_end() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().connects = "later"
    posting(lab).body(b"abc").end([(b"t", b"1")])
    server = lab.tries[0].open()
    assert (server.content, server.ended, server.trailers) == (b"abc", True, [(b"t", b"1")])


def test_a_slow_server_holds_the_client_and_lets_it_go() -> None:
    lab = Lab(rule(HOST))
    asking = posting(lab)
    lab.tries[0].sink.pause_request()
    assert asking.paused
    lab.tries[0].sink.resume_request()
    assert not asking.paused


def test_a_slow_client_holds_the_server_and_lets_it_go() -> None:
    lab = Lab(rule(HOST))
    asking = lab.client()
    server = lab.tries[0]
    server.respond(200, body=None)
    asking.sink.pause_response()
    assert server.paused
    asking.sink.resume_response()
    assert not server.paused


def test_a_client_that_was_slow_before_the_connection_stood_holds_it_too() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().connects = "later"
    lab.client().sink.pause_response()
    assert lab.tries[0].open().paused


# --- sent again ----------------


def test_the_body_is_sent_again_whole() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    asking = posting(lab).body(b"ab").body(b"cd")
    lab.tries[0].fail(Failure.RESET)
    asking.body(b"ef")
    lab.advance(0.05)
    again = lab.tries[1]
    assert again.content == b"abcdef" and not again.ended
    asking.end()
    again.respond(200)
    assert asking.status == 200
    lab.check_quiet()


def test_beyond_the_buffer_nothing_is_sent_again() -> None:
    lab = Lab(rule(HOST, retries=AGAIN), limits=SMALL)
    asking = posting(lab).body(b"a" * 11)
    lab.tries[0].fail(Failure.RESET)
    assert asking.status == 503 and len(lab.tries) == 1
    assert lab.entry.flags == "UC"
    lab.check_quiet()


def test_a_body_beyond_the_buffer_that_never_left_may_still_go_elsewhere() -> None:
    lab = Lab(rule(HOST, retries=AGAIN), limits=SMALL)
    lab.cluster().connects = "later"
    asking = posting(lab).body(b"a" * 30)
    lab.tries[0].fail(Failure.CONNECT)
    lab.advance(0.05)
    again = lab.tries[1].open()
    assert again.content == b"a" * 30 and not asking.paused


def test_a_server_that_was_paused_when_it_failed_does_not_hold_the_client_for_ever() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    asking = posting(lab)
    lab.tries[0].sink.pause_request()
    lab.tries[0].fail(Failure.RESET)
    assert not asking.paused


def test_nothing_is_tried_again_once_the_answer_has_begun() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    asking = lab.client()
    lab.tries[0].respond(200, body=None)
    lab.tries[0].fail(Failure.RESET)
    assert asking.was_reset is Reset.INTERNAL_ERROR and len(lab.tries) == 1
    assert lab.entry.details == "upstream_reset_after_response_started{connection_termination}"
    assert (lab.entry.status, lab.entry.flags) == (200, "UC")
    lab.check_quiet()


def test_a_refused_response_that_was_not_over_is_given_up() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    lab.client()
    lab.tries[0].respond(503, body=None)
    assert lab.tries[0].was_reset is Reset.CANCEL and lab.tries[0].done == [(503, None)]
    lab.advance(0.05)
    assert len(lab.tries) == 2


def test_what_was_kept_is_let_go_when_the_answer_begins() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    asking = posting(lab).body(b"ab")
    assert asking.sink._pieces == [b"ab"]
    lab.tries[0].respond(200, body=None)
    asking.body(b"cd")
    assert asking.sink._pieces == [] and lab.tries[0].content == b"abcd"


# --- early, and gone ----------------


def test_an_early_answer_ends_the_request_for_the_server_too() -> None:
    lab = Lab(rule(HOST))
    asking = posting(lab).body(b"a")
    server = lab.tries[0]
    server.respond(413, body=None)
    server.send_down(b"no")
    server.dead = False
    server.sink.response_end(None)
    assert (asking.status, asking.content, asking.ended) == (413, b"no", True)
    assert server.was_reset is Reset.NO_ERROR
    asking.body(b"more").end()  # still on its way: for nobody
    lab.check_quiet()


def test_a_client_that_goes_takes_its_request_with_it() -> None:
    lab = Lab(rule(HOST))
    asking = lab.client()
    asking.sink.gone(Reset.CANCEL)
    assert lab.tries[0].was_reset is Reset.CANCEL and lab.tries[0].done == [(0, None)]
    assert (lab.entry.status, lab.entry.flags) == (0, "DC")
    assert lab.entry.details == "downstream_remote_disconnect"
    lab.check_quiet()


def test_a_client_that_goes_while_we_connect_takes_the_open_back() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().connects = "later"
    lab.client().sink.gone(Reset.CANCEL)
    assert lab.tries[0].cancelled
    lab.check_quiet()


def test_a_client_that_goes_during_a_back_off_stops_it() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    lab.server = lambda one: one.respond(503)
    lab.client().sink.gone(Reset.CANCEL)
    lab.advance(1)
    assert len(lab.tries) == 1
    lab.check_quiet()


def test_a_client_that_was_held_is_let_go_when_the_answer_comes_early() -> None:
    lab = Lab(rule(HOST))
    asking = posting(lab)
    lab.tries[0].sink.pause_request()
    lab.tries[0].respond(503)
    assert asking.ended and not asking.paused


# --- 100, 101, HEAD ----------------


def test_expect_is_the_servers_to_answer_and_once() -> None:
    lab = Lab(rule(HOST, retries=AGAIN))
    asking = posting(lab, expect=True)
    assert lab.tries[0].head and lab.tries[0].head.expect
    lab.tries[0].sink.informational(Response(100, []))
    lab.tries[0].fail(Failure.RESET)
    lab.advance(0.05)
    lab.tries[1].sink.informational(Response(103, []))
    lab.tries[1].sink.informational(Response(100, []))
    assert asking.hints == [100, 103]


def tunnel(lab: Lab) -> Asking:
    asking = lab.client(upgrade=b"websocket")
    lab.tries[0].respond(101, body=None)
    return asking


def test_a_tunnel_carries_both_ways_and_closes_one_way_after_the_other() -> None:
    lab = Lab(rule(HOST, timeout=1.0))
    asking = tunnel(lab)
    server = lab.tries[0]
    assert (
        asking.status == 101 and server.head and server.head.upgrade == b"websocket" and server.protocol == "http1"
    )
    asking.body(b"ping")
    server.send_down(b"pong")
    assert (server.content, asking.content) == (b"ping", b"pong")
    lab.advance(600)
    assert not asking.over
    asking.end()
    assert server.ended and not asking.over
    server.send_down(b"last")
    server.end_down()
    assert asking.content == b"ponglast" and asking.ended
    assert (lab.entry.status, lab.entry.request_bytes, lab.entry.response_bytes) == (101, 4, 8)
    lab.check_quiet()


def test_a_tunnel_that_the_server_closes_first() -> None:
    lab = Lab(rule(HOST))
    asking = tunnel(lab)
    lab.tries[0].end_down()
    assert asking.ended and lab.engine.active
    asking.body(b"x").end()
    assert lab.tries[0].content == b"x" and lab.tries[0].ended
    lab.check_quiet()


def test_a_silent_tunnel_ends_after_the_idle_timeout_and_a_busy_one_does_not() -> None:
    lab = Lab(rule(HOST))
    asking = tunnel(lab)
    lab.advance(3000)
    asking.body(b"x")
    lab.advance(3000)
    assert not asking.over
    lab.advance(700)
    assert asking.was_reset is not None and lab.tries[0].was_reset is not None
    lab.check_quiet()


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_broken_tunnel(who: str) -> None:
    lab = Lab(rule(HOST))
    asking = tunnel(lab)
    if who == "client":
        asking.sink.gone(Reset.CANCEL)
        assert lab.tries[0].was_reset is Reset.CANCEL
    else:
        lab.tries[0].fail(Failure.RESET)
        assert asking.was_reset is not None
    lab.check_quiet()


def test_a_local_answer_to_head_has_a_length_and_no_body() -> None:
    lab = Lab(rule(HOST))
    lab.cluster().endpoints = []
    client = lab.client(method=b"HEAD")
    assert client.ended and client.content == b"" and client.header(b"content-length") == b"19"


# --- memory ----------------


def exchanges() -> int:
    return sum(type(one) is Exchange for one in gc.get_objects())


@pytest.mark.parametrize("answer", ["served", "retried", "failed", "denied", "timed out", "gone"])
def test_an_exchange_that_is_over_is_freed_at_once_without_the_collector(answer: str) -> None:
    lab = Lab(rule(HOST, timeout=5.0, retries=AGAIN))
    gc.collect()
    gc.disable()
    try:
        before = exchanges()
        play(lab, answer)
        for one in lab.tries:
            one.sink = None  # a codec forgets it when its request is over
        assert exchanges() == before
    finally:
        gc.enable()


def play(lab: Lab, answer: str) -> None:
    if answer == "retried":
        lab.server = lambda one: one.respond(503) if len(lab.tries) == 1 else one.respond(200, body=b"x")
    elif answer == "served":
        lab.server = lambda one: one.respond(200, body=b"x")
    elif answer == "failed":
        lab.server = lambda one: one.fail(Failure.PROTOCOL)
    elif answer == "denied":
        lab.cluster().endpoints = []
    asking = lab.client()
    if answer == "gone":
        asking.sink.gone(Reset.CANCEL)
    lab.advance(6)
    assert asking.over or answer == "gone"
