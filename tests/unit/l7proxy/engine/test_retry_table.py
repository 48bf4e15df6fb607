"""The retry table, whole: each token against each way a try can end; and what a request may ask of it."""

from __future__ import annotations

from typing import Any

import pytest

from engine_lab import HOST, Lab, rule
from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.retry import RetryPolicy, asked_for, parsed
from weft.l7proxy.core.stream import Failure, Headers
from weft.policies.mesh.model import How, Matcher, Named, Retries

#: What happens to the first try: a failure (before or after the request went), a timeout, or a response's head.
REFUSED: Any = ("connect", Failure.CONNECT)
TIMED_OUT: Any = ("connect", Failure.CONNECT_TIMEOUT)
BEFORE: Any = ("fail", Failure.RESET_BEFORE_REQUEST)
AFTER: Any = ("fail", Failure.RESET)
REFUSED_STREAM: Any = ("fail", Failure.REFUSED)
GARBAGE: Any = ("fail", Failure.PROTOCOL)
OVERFLOW: Any = ("connect", Failure.OVERFLOW)
HANGS: Any = ("hang", None)


def status(code: int, *headers: tuple[bytes, bytes]) -> Any:
    return ("respond", (code, list(headers)))


def grpc(code: int) -> Any:
    return ("grpc", code)


RATE_LIMITED = status(429, (b"x-envoy-ratelimited", b"true"))
OVERLOADED = status(503, (b"x-envoy-overloaded", b"true"))
MARKED = status(200, (b"x-again", b"please"))
EVERYTHING: dict[str, Any] = {
    "connection refused": REFUSED,
    "connect timed out": TIMED_OUT,
    "reset before the request": BEFORE,
    "reset after the request": AFTER,
    "stream refused": REFUSED_STREAM,
    "no HTTP at all": GARBAGE,
    "limit of ours": OVERFLOW,
    "per-try timeout": HANGS,
    "200": status(200),
    "400": status(400),
    "409": status(409),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "501": status(501),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "599": status(599),
    "rate limited": RATE_LIMITED,
    "overloaded": OVERLOADED,
    "marked header": MARKED,
    "grpc 0": grpc(0),
    "grpc 1": grpc(1),
    "grpc 2": grpc(2),
    "grpc 4": grpc(4),
    "grpc 8": grpc(8),
    "grpc 13": grpc(13),
    "grpc 14": grpc(14),
}
_NO_RESPONSE = {
    "connection refused",
    "connect timed out",
    "reset before the request",
    "reset after the request",
    "stream refused",
    "no HTTP at all",
    "per-try timeout",
}
_UNCONNECTED = {"connection refused", "connect timed out", "reset before the request"}
TABLE: dict[str, set[str]] = {
    "5xx": {"500", "501", "502", "503", "504", "599"} | _NO_RESPONSE,
    "gateway-error": {"502", "503", "504"} | _NO_RESPONSE,
    "reset": set(_NO_RESPONSE),
    "reset-before-request": set(_UNCONNECTED),
    "connect-failure": set(_UNCONNECTED),
    "refused-stream": {"stream refused"},
    "retriable-4xx": {"409"},
    "503,429": {"503", "429"},
    "retriable-status-codes": set(),  # of itself it names none
    "retriable-headers": {"marked header"},
    "envoy-ratelimited": {"rate limited"},
    "cancelled": {"grpc 1"},
    "deadline-exceeded": {"grpc 4"},
    "resource-exhausted": {"grpc 8"},
    "internal": {"grpc 13"},
    "unavailable": {"grpc 14"},
    "http3-post-connect-failure": set(),
    "nonsense": set(),
}


def tries_of(token: str, event: Any) -> int:
    """How many tries a request makes that meets `event` first and a 200 then."""
    marked = (Named("x-again", Matcher(How.PRESENT)),)
    policy = Retries(attempts=1, on=tuple(token.split(",")), response_headers=marked, per_try_timeout=1.0)
    lab = Lab(rule(HOST, retries=policy))
    kind, what = event
    cluster = lab.cluster()
    cluster.connects = lambda number: what if kind == "connect" and number == 1 else "now"

    def server(one: Any) -> None:
        if len(cluster.tries) > 1:
            one.respond(200)
        elif kind == "fail":
            one.fail(what)
        elif kind == "respond":
            one.respond(*what)
        elif kind == "grpc":
            one.respond(200, [(b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % what)])

    lab.server = server
    headers: Headers = [(b"content-type", b"application/grpc")] if kind == "grpc" else []
    client = lab.client(headers=headers)
    lab.advance(1.5)
    assert client.over
    lab.check_quiet()
    return len(lab.tries)


@pytest.mark.parametrize("event", EVERYTHING)
@pytest.mark.parametrize("token", TABLE)
def test_the_table(token: str, event: str) -> None:
    assert tries_of(token, EVERYTHING[event]) == (2 if event in TABLE[token] else 1)


def test_a_reset_counts_as_before_the_request_while_the_connection_is_not_there() -> None:
    policy = RetryPolicy(Retries(on=("reset-before-request",)))
    assert policy.on_failure(Failure.LOCAL_CLOSE, sent=False)
    assert not policy.on_failure(Failure.LOCAL_CLOSE, sent=True)


# --- Envoy's goldens for the back-off (retry_state_impl_test.cc): random numbers and milliseconds ----------------


@pytest.mark.parametrize(
    ("base", "maximum", "rows"),
    [
        (25, 250, [(190, 1, 15), (190, 2, 40), (190, 3, 90)]),
        (100, 1200, [(149, 1, 49), (350, 2, 150), (751, 3, 351), (2399, 4, 799), (2399, 5, 1199)]),
    ],
)
def test_the_back_off_as_envoy_computes_it(base: int, maximum: int, rows: list[tuple[int, int, int]]) -> None:
    policy = RetryPolicy(Retries(base=base / 1000, maximum=maximum / 1000))
    for random, number, milliseconds in rows:
        bound = min(base * 2 ** (number - 1), maximum)
        draw = (random % bound) / bound  # Envoy takes its integer modulo the bound, we a share of it
        assert policy.back_off(number, draw) * 1000 == pytest.approx(milliseconds)


def test_the_back_off_never_leaves_its_range() -> None:
    policy = RetryPolicy(Retries())
    assert [policy.back_off(number, 0.0) for number in (1, 5, 500)] == [0, 0, 0]
    tops = [policy.back_off(number, 1.0) * 1000 for number in (1, 2, 3, 4, 5, 500)]
    assert tops == pytest.approx([25, 50, 100, 200, 250, 250])


# --- reading tokens ----------------


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("xxx,gateway-error", "gateway-error"),
        (" 5xx , reset ", "reset,5xx"),
        (",,5xx,", "5xx"),
        ("5XX", ""),
        ("unavailable , cancelled", "cancelled,unavailable"),
        ("503, 429 ,70,99999,-1", "429,503"),
    ],
)
def test_tokens_are_read_leniently(text: str, same_as: str) -> None:
    assert parsed(text.split(",")) == parsed(same_as.split(","))


# --- what a request asks for ----------------

NONE = Retries(attempts=0)


def asking(route: Retries, *headers: tuple[bytes, bytes]) -> RetryPolicy:
    return asked_for(RetryPolicy(route), dict(headers))


@pytest.mark.parametrize(
    ("route", "headers", "attempts", "fires"),
    [
        (NONE, [(b"x-envoy-retry-on", b"5xx")], 1, True),
        (NONE, [(b"x-envoy-retry-on", b"5xx"), (b"x-envoy-max-retries", b"4")], 4, True),
        (NONE, [(b"x-envoy-max-retries", b"4")], 0, False),
        (Retries(attempts=2, on=("5xx",)), [(b"x-envoy-max-retries", b"7")], 7, True),
        (Retries(attempts=2, on=("5xx",)), [(b"x-envoy-max-retries", b"0")], 0, True),
        (Retries(attempts=2, on=("5xx",)), [(b"x-envoy-max-retries", b"many")], 2, True),
        (Retries(attempts=2, on=("reset",)), [(b"x-envoy-retry-on", b"retriable-4xx")], 2, False),
        (Retries(attempts=2, on=("reset",)), [(b"x-envoy-retry-on", b"gateway-error")], 2, True),
        (NONE, [(b"x-envoy-retriable-status-codes", b"503")], 0, False),
        (
            NONE,
            [(b"x-envoy-retry-on", b"retriable-status-codes"), (b"x-envoy-retriable-status-codes", b"503,x")],
            1,
            True,
        ),
    ],
)
def test_headers_of_the_request_change_the_policy(
    route: Retries, headers: Headers, attempts: int, fires: bool
) -> None:
    policy = asking(route, *headers)
    assert (policy.attempts, policy.on_response(503, {})) == (attempts, fires)


def test_a_request_may_name_grpc_statuses_headers_and_its_own_per_try_timeout() -> None:
    policy = asking(NONE, (b"x-envoy-retry-grpc-on", b"internal"))
    assert policy.on_response(200, {b"grpc-status": b"13"})
    policy = asking(
        NONE, (b"x-envoy-retry-on", b"retriable-headers"), (b"x-envoy-retriable-header-names", b" X-A , b")
    )
    assert policy.on_response(200, {b"x-a": b""})
    assert not policy.on_response(200, {b"c": b""})
    assert asking(NONE, (b"x-envoy-upstream-rq-per-try-timeout-ms", b"250")).per_try_timeout == 0.25


def test_only_workloads_may_ask_and_nobody_else_ever_sees_these_headers() -> None:
    asked: Headers = [(b"x-envoy-retry-on", b"5xx"), (b"x-envoy-max-retries", b"3"), (b"a", b"b")]
    for address, tries in (("10.0.0.1", 4), ("192.0.2.1", 1), ("10.0.0.7", 1)):
        lab = Lab(rule(HOST, retries=NONE))
        lab.world.workloads["10.0.0.7"] = Workload("10.0.0.7", 1, local=True)
        lab.server = lambda one: one.respond(503)
        lab.client(headers=asked, source=(address, 40000))
        lab.advance(2)
        assert len(lab.tries) == tries
        sent = {name for name, _ in lab.tries[0].headers}
        assert b"a" in sent and not any(name.startswith(b"x-envoy-retry") for name in sent)
        assert b"x-envoy-max-retries" not in sent
