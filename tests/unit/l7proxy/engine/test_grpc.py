"""What is special about gRPC: statuses, deadlines, messages counted in bytes that are cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_lab import HOST, Lab, rule
from weft.l7proxy.core import grpc
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.model import How, Matcher, RequestMatch, Retries

HEADERS = [(b"content-type", b"application/grpc+proto"), (b"te", b"trailers")]


def message(size: int) -> bytes:
    return b"\0" + size.to_bytes(4, "big") + b"x" * size


def test_a_call_with_its_trailers_and_messages() -> None:
    lab = Lab(rule(HOST))
    asking = lab.client(b"/p.S/M", HEADERS, method=b"POST", version="2", end=False, length=-1)
    asking.body(message(3) + message(0)).body(message(5)[:4]).body(message(5)[4:]).end()
    server = lab.tries[0]
    assert server.protocol == "http2"
    server.respond(200, [(b"content-type", b"application/grpc")], body=None)
    server.send_down(message(9))
    server.end_down([(b"grpc-status", b"5")])
    assert asking.trailers == [(b"grpc-status", b"5")]
    entry = lab.entry
    assert entry.grpc and (entry.grpc_status, entry.status) == (5, 200)
    assert (entry.request_messages, entry.response_messages) == (3, 1)
    assert server.done == [(200, None)]


def test_a_status_without_a_body_counts_for_the_endpoint_as_http_would() -> None:
    lab = Lab(rule(HOST, retries=Retries(attempts=0)))
    lab.server = lambda one: one.respond(200, [(b"grpc-status", b"14")])
    client = lab.client(headers=HEADERS, method=b"POST", version="2")
    assert client.header(b"grpc-status") == b"14" and client.ended
    assert lab.entry.grpc_status == 14 and lab.tries[0].done == [(503, None)]


def test_only_a_status_in_the_head_is_retried() -> None:
    lab = Lab(rule(HOST))
    client = lab.client(headers=HEADERS, method=b"POST")
    lab.tries[0].respond(200, body=None)
    lab.tries[0].end_down([(b"grpc-status", b"14")])
    lab.advance(1)
    assert len(lab.tries) == 1 and client.trailers == [(b"grpc-status", b"14")]
    lab.server = lambda one: one.respond(200, [(b"grpc-status", b"14")])
    lab.client(headers=HEADERS, method=b"POST")
    lab.advance(1)
    assert len(lab.tries) == 1 + 3


@pytest.mark.parametrize(
    ("cause", "code", "text"),
    [
        ("nobody", b"14", b"no healthy upstream"),
        ("reset", b"14", None),
        ("timeout", b"14", b"upstream request timeout"),
    ],
)
def test_our_own_answers_in_grpcs_words(cause: str, code: bytes, text: bytes | None) -> None:
    lab = Lab(rule(HOST, timeout=1.0))
    if cause == "nobody":
        lab.cluster().endpoints = []
    elif cause == "reset":
        lab.server = lambda one: one.fail(Failure.RESET)
    client = lab.client(headers=HEADERS, method=b"POST", version="2")
    lab.advance(1.1)
    assert (client.status, client.header(b"grpc-status"), client.ended) == (200, code, True)
    assert client.header(b"content-type") == b"application/grpc"
    assert text is None or client.header(b"grpc-message") == text


@pytest.mark.parametrize(
    ("of_grpc", "headers", "status"), [(True, HEADERS, 200), (False, HEADERS, 200), (True, [], 404)]
)
def test_a_call_that_no_rule_takes_is_unimplemented(of_grpc: bool, headers: list, status: int) -> None:  # type: ignore[type-arg]
    lab = Lab()
    lab.route(rule(HOST, matches=(RequestMatch(path=Matcher(How.EXACT, "/other")),)), grpc=of_grpc)
    client = lab.client(headers=headers, method=b"POST", version="2")
    assert client.status == status
    assert client.header(b"grpc-status") == (b"12" if headers else None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"0m", 0.0)]
    + [(bad, None) for bad in (b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S")],
)
def test_deadlines(value: bytes, seconds: float | None) -> None:
    assert grpc.timeout(value) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+json", True),
        (b"application/grpc;x", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_what_is_grpc(content_type: bytes, expected: bool) -> None:
    assert grpc.is_grpc(content_type) is expected


@given(sizes=st.lists(st.integers(0, 300), max_size=8), cuts=st.lists(st.integers(0, 2500), max_size=10))
def test_messages_are_counted_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    stream = b"".join(message(size) for size in sizes)
    counter, before = grpc.MessageCounter(), 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        counter.feed(stream[before:cut])
        before = cut
    assert counter.count == len(sizes)


@given(st.binary(max_size=60))
def test_messages_for_people_are_percent_encoded(text: bytes) -> None:
    from urllib.parse import unquote_to_bytes

    encoded = grpc.message_of(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded) and unquote_to_bytes(encoded) == text
