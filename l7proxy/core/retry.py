"""When a try is made again: the whole retry table, pure. In: a policy, the headers of the request, what happened.
Out: yes or no, and how long to wait.

Parsing is lenient as Envoy's is: tokens are trimmed, unknown ones skipped. What may never be tried again is asked
first (a limit of ours, an overloaded or rate-limited server), then the tokens in the table's order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from weft.l7proxy.core.grpc import status_of
from weft.l7proxy.core.stream import Failure
from weft.policies.mesh.matching import optional_test
from weft.policies.mesh.model import Retries

Head = dict[bytes, bytes]


class On(enum.IntFlag):
    """What a policy retries. The names of the table, in its order."""

    NEVER = 0
    FIVE_XX = enum.auto()
    GATEWAY_ERROR = enum.auto()
    RESET = enum.auto()
    RESET_BEFORE_REQUEST = enum.auto()
    CONNECT_FAILURE = enum.auto()
    REFUSED_STREAM = enum.auto()
    RETRIABLE_4XX = enum.auto()
    STATUS_CODES = enum.auto()
    HEADERS = enum.auto()
    RATE_LIMITED = enum.auto()


#: `http3-post-connect-failure` is known and never happens: nothing here speaks QUIC.
TOKENS: dict[str, On] = {
    "5xx": On.FIVE_XX,
    "gateway-error": On.GATEWAY_ERROR,
    "reset": On.RESET,
    "reset-before-request": On.RESET_BEFORE_REQUEST,
    "connect-failure": On.CONNECT_FAILURE,
    "refused-stream": On.REFUSED_STREAM,
    "retriable-4xx": On.RETRIABLE_4XX,
    "retriable-status-codes": On.STATUS_CODES,
    "retriable-headers": On.HEADERS,
    "envoy-ratelimited": On.RATE_LIMITED,
    "http3-post-connect-failure": On.NEVER,
}
GRPC_TOKENS = {"cancelled": 1, "deadline-exceeded": 4, "resource-exhausted": 8, "internal": 13, "unavailable": 14}

# Plain ints where requests pass: an IntFlag's operators cost ten times more.
_5XX, _GATEWAY, _4XX = int(On.FIVE_XX), int(On.GATEWAY_ERROR), int(On.RETRIABLE_4XX)
_CODES, _HEADERS, _RATE_LIMITED = int(On.STATUS_CODES), int(On.HEADERS), int(On.RATE_LIMITED)
_ANY_RESET = int(On.FIVE_XX | On.GATEWAY_ERROR | On.RESET)
_UNSENT = int(On.RESET_BEFORE_REQUEST)
#: What each failure fires besides `_ANY_RESET`. A connection that ended before the head was written counts as one
#: that could not be made, as it does in Envoy, whose pool finds out before it hands the connection out.
_FIRES: dict[Failure, int] = {
    Failure.CONNECT: int(On.CONNECT_FAILURE) | _UNSENT,
    Failure.CONNECT_TIMEOUT: int(On.CONNECT_FAILURE) | _UNSENT,
    Failure.RESET_BEFORE_REQUEST: int(On.CONNECT_FAILURE) | _UNSENT,
    Failure.REFUSED: int(On.REFUSED_STREAM),
    Failure.RESET: 0,
    Failure.PROTOCOL: 0,
    Failure.LOCAL_CLOSE: 0,
}


class RetryPolicy:
    """One rule's retries, compiled. `on`: bits of `On`. `picky`: may fire on a response below 400."""

    __slots__ = (
        "attempts",
        "avoid_previous",
        "base",
        "codes",
        "grpc",
        "maximum",
        "names",
        "on",
        "per_try_timeout",
        "statuses",
    )

    def __init__(self, retries: Retries) -> None:
        on, self.grpc, self.statuses = parsed(retries.on)
        self.on = int(on)
        self.statuses |= frozenset(retries.statuses)
        self.codes: frozenset[int] = frozenset()  # of the request's own; only with STATUS_CODES
        self.attempts = max(retries.attempts, 0)
        self.per_try_timeout = retries.per_try_timeout
        self.base, self.maximum = retries.base, retries.maximum
        self.avoid_previous = retries.avoid_previous
        self.names: list[tuple[bytes, Callable[[bytes | None], bool]]] = [
            (named.name.lower().encode(), optional_test(named.matcher)) for named in retries.response_headers
        ]

    @property
    def picky(self) -> bool:
        return bool(self.names) or any(status < 400 for status in self.statuses | self.codes)

    def copy(self) -> RetryPolicy:
        twin = object.__new__(RetryPolicy)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def on_response(self, status: int, head: Head) -> bool:
        """`head`: the response's headers."""
        if b"x-envoy-overloaded" in head:
            return False
        on = self.on
        if b"x-envoy-ratelimited" in head:
            return bool(on & _RATE_LIMITED)
        if status in self.statuses or (on & _CODES and status in self.codes):
            return True
        if status >= 400 and self._by_class(status):
            return True
        if on & _HEADERS and any(test(head.get(name)) for name, test in self.names):
            return True
        return bool(self.grpc) and b"grpc-status" in head and status_of(head[b"grpc-status"]) in self.grpc

    def _by_class(self, status: int) -> bool:
        on = self.on
        if on & _5XX and 500 <= status <= 599:
            return True
        if on & _GATEWAY and 502 <= status <= 504:
            return True
        return bool(on & _4XX) and status == 409

    def on_failure(self, failure: Failure, sent: bool) -> bool:
        """`sent`: the head of the request went upstream."""
        if failure is Failure.OVERFLOW:
            return False
        fires = _ANY_RESET | _FIRES[failure]
        return bool(self.on & (fires if sent else fires | _UNSENT))

    def on_try_timeout(self) -> bool:
        """A per-try timeout resets the try: a gateway error, never a failure to connect."""
        return bool(self.on & _ANY_RESET)

    def back_off(self, number: int, draw: float) -> float:
        """Seconds before retry `number` (from 1): uniform in [0, min(base * 2^(number - 1), maximum))."""
        return draw * min(self.base * (1 << min(number - 1, 62)), self.maximum)


def parsed(tokens: Iterable[str]) -> tuple[On, frozenset[int], frozenset[int]]:
    """Bits, gRPC statuses, HTTP statuses (bare integers) of a list of tokens."""
    on, grpc, statuses = On.NEVER, set(), set()
    for token in (token.strip() for token in tokens):
        if token in TOKENS:
            on |= TOKENS[token]
        elif token in GRPC_TOKENS:
            grpc.add(GRPC_TOKENS[token])
        elif token.isascii() and token.isdigit() and len(token) == 3:
            statuses.add(int(token))
    return on, frozenset(grpc), frozenset(statuses)


#: Of these headers each may change the policy of one request; without one of the first two there is none to change
#: where the rule has none.
RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES = b"x-envoy-retry-on", b"x-envoy-retry-grpc-on", b"x-envoy-max-retries"
STATUS_CODES, HEADER_NAMES = b"x-envoy-retriable-status-codes", b"x-envoy-retriable-header-names"
TRY_TIMEOUT, TIMEOUT = b"x-envoy-upstream-rq-per-try-timeout-ms", b"x-envoy-upstream-rq-timeout-ms"


def asked_for(policy: RetryPolicy, head: Head) -> RetryPolicy:
    """The policy for a request of the mesh that says how it wants to be retried."""
    mine = policy.copy()
    if policy.attempts == 0:
        mine.on, mine.grpc, mine.statuses, mine.attempts = 0, frozenset(), frozenset(), 1  # Envoy's num_retries
    on, _, _ = parsed(_tokens(head.get(RETRY_ON, b"")))
    _, grpc, _ = parsed(_tokens(head.get(RETRY_GRPC_ON, b"")))
    mine.on, mine.grpc = mine.on | int(on), mine.grpc | grpc
    _, _, codes = parsed(_tokens(head.get(STATUS_CODES, b"")))
    mine.codes = codes
    present = [name.encode() for name in _tokens(head.get(HEADER_NAMES, b"").lower()) if name]
    mine.names = mine.names + [(name, _is_there) for name in present]
    number = milliseconds(head.get(MAX_RETRIES))
    if not (mine.on or mine.grpc or mine.statuses):
        mine.attempts = 0
    elif number is not None:
        mine.attempts = number
    timeout = milliseconds(head.get(TRY_TIMEOUT))
    if timeout is not None:
        mine.per_try_timeout = timeout / 1000
    return mine


def _tokens(value: bytes) -> list[str]:
    return [token.strip() for token in value.decode("latin-1").split(",")]


def _is_there(value: bytes | None) -> bool:
    return value is not None


def milliseconds(value: bytes | None) -> int | None:
    """A plain number of a header; None: absent, or no number (which is as if it were absent)."""
    if value is None or not value.isdigit() or len(value) > 10:
        return None
    return int(value)
