"""The upstream side of a request: tries, one after the other, until one brings a response or none is left.

In: what the pool and the codec tell (`ResponseSink`). Out: bytes to one endpoint at a time, and one decision when a
try ends: again, or over. Its rule: `_open` is true exactly while a try is counted by its cluster, and whoever turns
it off tells the cluster, so every `open` is `done` once, whatever calls come from within calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.l7proxy.core import admission, grpc
from weft.l7proxy.core.headers import ATTEMPT_COUNT, replaced
from weft.l7proxy.core.plan import INBOUND
from weft.l7proxy.core.replies import broken, broken_body, broken_details
from weft.l7proxy.core.retry import RetryPolicy
from weft.l7proxy.core.sight import Sight
from weft.l7proxy.core.stream import Downstream, Failure, Headers, Request, Reset, Response, Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weft.l7proxy.core.exchange import Engine, Timer
    from weft.l7proxy.core.parties import Cluster, Endpoint, Permit, Workload
    from weft.l7proxy.core.plan import Plan
    from weft.l7proxy.core.record import Entry

NEVER = float("inf")
#: Why the client is held back: nobody takes its body yet; the upstream takes no more for now.
UNSENT, UPSTREAM = 1, 2
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
#: Of one request, to connections found closed: a pool full of them is emptied long before.
MOST_RENEWALS = 3


class Attempts:
    """`request`: as the client sent it; `sent`: as servers see it. `_pieces`: of the body, not yet sent, or kept to
    be sent again; `_kept`: they are all that ever came, so another try is possible."""

    __slots__ = (
        "_finished",
        "_flags",
        "_head_sent",
        "_holds",
        "_kept",
        "_key",
        "_open",
        "_opened_at",
        "_pieces",
        "_protocol",
        "_renewed",
        "_request_over",
        "_responding",
        "_retries",
        "_retrying",
        "_size",
        "_slow",
        "_starting",
        "_timeout_at",
        "_timer",
        "_trailers",
        "_tried",
        "_try_at",
        "_wire",
        "client",
        "cluster",
        "deadline",
        "downstream",
        "endpoint",
        "engine",
        "entry",
        "permit",
        "plan",
        "request",
        "retry",
        "sent",
        "sight",
        "upstream",
    )

    engine: Engine
    entry: Entry
    sight: Sight
    client: Workload
    plan: Plan
    cluster: Cluster
    permit: Permit
    retry: RetryPolicy
    sent: Request
    _wire: Request
    _protocol: str

    def __init__(self, engine: Engine, request: Request, downstream: Downstream) -> None:
        self.engine, self.request, self.downstream = engine, request, downstream
        self.upstream: Upstream | None = None
        self.endpoint: Endpoint | None = None
        self._pieces: list[bytes] = []
        self._trailers: Headers | None = None
        self._flags: set[str] | None = None
        self._tried: list[Endpoint] | None = None
        self._timer: Timer | None = None
        self._key: int | None = None
        self._size = self._holds = self._retries = self._renewed = 0
        self.deadline = self._timeout_at = self._try_at = NEVER
        self._opened_at = 0.0
        self._open = self._head_sent = self._responding = self._finished = False
        self._request_over = self._retrying = self._slow = False
        self._kept = self._starting = True

    # what the downstream side does with what happens (`Streaming`)

    def answer(self, status: int, body: bytes, details: str, extra: Headers | None = None) -> None:
        raise NotImplementedError

    def cut(self, details: str) -> None:
        """The response has begun and cannot go on."""
        raise NotImplementedError

    def crash(self) -> None:
        """Something of ours is broken."""
        raise NotImplementedError

    def informational(self, response: Response) -> None:
        raise NotImplementedError

    def response(self, response: Response, end: bool) -> None:
        raise NotImplementedError

    def response_body(self, data: bytes) -> None:
        raise NotImplementedError

    def response_end(self, trailers: Headers | None) -> None:
        raise NotImplementedError

    # one try

    def attempt(self) -> None:
        """Picks an endpoint, asks policy, opens."""
        cluster, engine, entry, sight = self.cluster, self.engine, self.entry, self.sight
        if sight.generation is not engine.world.generation:  # since the request began
            sight = self.sight = Sight(engine, self.client, sight.destination)
        endpoint = cluster.pick(self._key, self._avoided() if self._tried else (), self._may_reach)
        if endpoint is None:
            self._nobody()
            return
        self.permit = permit = sight.permits.get(endpoint) or sight.permit(endpoint)
        self.endpoint = entry.endpoint = endpoint
        entry.reports_destination = permit.reports_destination
        self._wire = self.sent
        if permit.egress is None and permit.ingress is None:
            entry.allowed_by = permit.allowed_by
        elif not self._admitted(permit):
            return
        entry.tries += 1
        if entry.trace is not None:
            engine.observer.attempt(self._wire, entry)
        self._open, self._head_sent = True, False
        self._opened_at = engine.now()
        cluster.open(endpoint, self.client, self._protocol, self)

    def _avoided(self) -> Sequence[Endpoint]:
        """Hosts tried before; where the hash decides, it decides again."""
        if self._tried is None or self._key is not None or not self.retry.avoid_previous:
            return ()
        return self._tried

    def _may_reach(self, endpoint: Endpoint) -> bool:
        permit = self.sight.permits.get(endpoint) or self.sight.permit(endpoint)
        if permit.allowed:
            return True
        self.entry.denied_by = permit.denied_by
        return False

    def _admitted(self, permit: Permit) -> bool:
        """Judges the request itself. What policy changes of its headers holds for this try alone."""
        wire = copy_of(self.sent)
        self.entry.egress, self.entry.ingress = permit.egress is not None, permit.ingress is not None
        if admission.admit(self.engine.world, permit, self.request, wire, self.entry):
            self._wire = wire
            return True
        self.denied()
        return False

    def _nobody(self) -> None:
        if self.cluster.denied:
            self.denied()
        else:
            self.entry.denied_by = ()
            self.flag("UH")
            self.answer(503, b"no healthy upstream", "no_healthy_upstream")

    def denied(self) -> None:
        self.entry.verdict = "DROPPED"
        self.answer(403, b"Access denied\r\n", "policy_denied")

    @property
    def trying(self) -> bool:
        """A try is under way, or its response is."""
        return self._open

    # ResponseSink: the way to the endpoint

    def opened(self, upstream: Upstream) -> None:
        if not self._open or self._finished:
            upstream.reset(Reset.CANCEL)
            return
        self.upstream, wire, pieces = upstream, self._wire, self._pieces
        self.entry.upstream_local = upstream.local
        whole = self._request_over and not pieces and self._trailers is None
        if not whole:
            wire.more = bool(pieces) or (self._starting and self.request.more)
        self._head_sent = True
        upstream.request(wire, whole)
        if self._slow and self.upstream is upstream:
            upstream.pause()
        if not whole:
            self._send_kept(upstream, whole)
        if self.retry.per_try_timeout and self._request_over and self.upstream is upstream and not self._responding:
            self.arm_try()

    def _send_kept(self, upstream: Upstream, whole: bool) -> None:
        for piece in tuple(self._pieces):
            if self.upstream is not upstream:
                return  # it failed, or answered, while we were sending
            upstream.send(piece)
        if self.upstream is not upstream:
            return
        if self._size > self.engine.limits.retry_buffer:
            self._pieces.clear()
            self._kept = False
        self.release(UNSENT)
        if self._request_over and not whole:
            upstream.finish(self._trailers)

    def pause_request(self) -> None:
        self.hold(UPSTREAM)

    def resume_request(self) -> None:
        self.release(UPSTREAM)

    def hold(self, why: int) -> None:
        if not self._holds and not self._finished:
            self._holds = why
            self.downstream.pause()
        else:
            self._holds |= why

    def release(self, why: int) -> None:
        if self._holds & why:
            self._holds &= ~why
            if not self._holds:
                self.downstream.resume()

    # how a try ends

    def failed(self, failure: Failure, detail: str) -> None:
        if not self._open:
            return
        upstream, self.upstream = self.upstream, None
        self.entry.failure = detail
        self._done(0, failure)
        what = broken(failure, detail)
        if self._responding:
            self.flag(what.flag)
            self.cut(broken_details(what, True))
            return
        if self._renew(upstream, failure, detail):
            return
        if self.retry.on_failure(failure, self._head_sent) and self._again():
            return
        self.flag(what.flag)
        self.entry.verdict = "ERROR"
        extra = [(b"x-envoy-overloaded", b"true")] if failure is Failure.OVERFLOW else None
        self.answer(what.status, broken_body(what, self._retries > 0), broken_details(what, False), extra)

    def _renew(self, upstream: Upstream | None, failure: Failure, detail: str) -> bool:
        """A connection that was kept alive and found closed is no failed try: a request that it cannot have served
        goes out again at once and costs no retry; so does one, once, that may be served twice (RFC 9110, 9.2.2)."""
        if not self._kept or self._renewed >= MOST_RENEWALS:
            return False
        if failure is Failure.LOCAL_CLOSE:
            if self._head_sent:
                return False
        elif upstream is None or upstream.fresh:
            return False
        elif failure is Failure.RESET:
            safe = self._protocol == "http1" and self.request.method in SAFE
            if self._renewed or not safe:
                return False
        elif failure is not Failure.RESET_BEFORE_REQUEST and "GOAWAY" not in detail and "goes away" not in detail:
            return False
        self._renewed += 1
        self._between()
        self.attempt()
        return True

    def overdue(self) -> None:
        """The try's own timeout: the server counts as having answered 504."""
        self._let_go(504)
        if self.retry.on_try_timeout() and self._again():
            return
        self.flag("UT")
        self.entry.verdict = "ERROR"
        self.answer(504, b"upstream request timeout", "upstream_per_try_timeout")

    def refuse(self, response: Response, end: bool, head: dict[bytes, bytes]) -> bool:
        """Whether this response is not taken, and another try follows."""
        if not self.retry.on_response(response.status, head) or not self._again():
            return False
        self._let_go(outlier_status(response.status, head), quietly=end)
        return True

    def _again(self) -> bool:
        """Begins another try, after its back-off; False: there is none, and the flags say why."""
        self._end_retry()
        if not self._kept or not self.retry.attempts:
            return False
        if self._retries >= self.retry.attempts:
            self.flag("URX")
            return False
        if not self.cluster.begin_retry():
            self.flag("UO")
            return False
        self._retries += 1
        self._retrying = True
        if self._tried is None:
            self._tried = []
        if self.endpoint is not None and self.endpoint not in self._tried:
            self._tried.append(self.endpoint)
        self._between()
        engine = self.engine
        self._timer = engine.schedule(self.retry.back_off(self._retries, engine.draw()), self._wake)
        return True

    def _between(self) -> None:
        """No try is on its way: the client's body is kept, up to a bound."""
        self._try_at = NEVER
        self.deadline = self._timeout_at
        self.release(UPSTREAM)
        if self.plan is not INBOUND:
            replaced(self.sent.headers, ATTEMPT_COUNT, b"%d" % (self.entry.tries + 1))

    def _wake(self) -> None:
        self._timer = None
        if not self._finished:
            self.engine.guard(self, self.attempt)

    def _let_go(self, status: int = 0, *, quietly: bool = False) -> None:
        """Nobody waits for the try any more. `quietly`: its response has ended by itself."""
        if not self._open:
            return
        self._open = False
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            self.cluster.cancel(self)
        elif not quietly:
            upstream.reset(Reset.CANCEL)
        self._tell(status, None)

    def _done(self, status: int, failure: Failure | None) -> None:
        if self._open:
            self._open = False
            self._tell(status, failure)

    def _tell(self, status: int, failure: Failure | None) -> None:
        assert self.endpoint is not None
        self.cluster.done(self.endpoint, status, failure, self.engine.now() - self._opened_at)

    def _end_retry(self) -> None:
        if self._retrying:
            self._retrying = False
            self.cluster.end_retry()

    def arm_try(self) -> None:
        """The try's clock starts when the request is complete and a connection carries it, as in Envoy."""
        limit = self.retry.per_try_timeout
        if limit:
            self._try_at = self.engine.now() + limit
            self.deadline = min(self._timeout_at, self._try_at)

    def flag(self, flag: str) -> None:
        if self._flags is None:
            self._flags = set()
        self._flags.add(flag)


def copy_of(request: Request) -> Request:
    """With a header list of its own."""
    return Request(
        request.method,
        request.path,
        request.authority,
        list(request.headers),
        scheme=request.scheme,
        version=request.version,
        length=request.length,
        upgrade=request.upgrade,
        expect=request.expect,
    )


def outlier_status(status: int, head: dict[bytes, bytes]) -> int:
    """What a response counts as for outlier detection: a gRPC status in its headers as HTTP's."""
    code = grpc.status_of(head.get(b"grpc-status"))
    return status if code is None else grpc.to_http(code)
