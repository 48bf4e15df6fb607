"""Whatever clients, servers and time do in whatever order: exactly one answer goes downstream, or none to a client
that is gone; each open is done once; nothing is left behind.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_lab import HOST, Asking, Lab, Try, destination, rule
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.parties import Permit
from weft.l7proxy.core.stream import Failure, Reset, Response
from weft.policies.mesh.model import Cors, Fault, How, Matcher, Mirror, Retries

SHADOW = "shadow.shop.svc.cluster.local"
FAILURES = st.sampled_from(sorted(Failure, key=str))
STATUSES = st.sampled_from([200, 204, 404, 409, 429, 500, 502, 503, 504])

RULES = st.builds(
    lambda timeout, retries, fault, mirror, cors: rule(
        HOST,
        timeout=timeout,
        retries=retries,
        fault=fault,
        mirrors=(Mirror(destination(SHADOW)),) if mirror else (),
        cors=Cors((Matcher(How.PRESENT),)) if cors else None,
    ),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.builds(
        lambda attempts, on, per_try: Retries(attempts=attempts, on=tuple(on), per_try_timeout=per_try),
        st.integers(0, 3),
        st.lists(st.sampled_from(["5xx", "reset", "connect-failure", "gateway-error", "unavailable"]), max_size=3),
        st.sampled_from([0.0, 0.2]),
    ),
    st.sampled_from(
        [
            None,
            Fault(delay=0.4, delay_percent=50),
            Fault(abort_status=500, abort_percent=50),
            Fault(abort_h2=2, abort_percent=50),
        ]
    ),
    st.booleans(),
    st.booleans(),
)

EVENTS = st.one_of(
    st.tuples(st.just("body"), st.integers(0, 40)),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("gone"), st.just(0)),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("open"), st.integers(0, 3)),
    st.tuples(st.just("fail"), st.tuples(st.integers(0, 3), FAILURES)),
    st.tuples(st.just("respond"), st.tuples(st.integers(0, 3), STATUSES, st.booleans())),
    st.tuples(st.just("hint"), st.integers(0, 3)),
    st.tuples(st.just("down"), st.integers(0, 3)),
    st.tuples(st.just("over"), st.integers(0, 3)),
    st.tuples(st.just("held"), st.tuples(st.integers(0, 3), st.booleans())),
    st.tuples(st.just("time"), st.sampled_from([0.01, 0.06, 0.3, 1.1])),
)


class Play:
    """Applies events as far as the protocol allows them at this moment, as a codec would."""

    def __init__(self, lab: Lab, asking: Asking, ended: bool) -> None:
        self.lab, self.asking = lab, asking
        self.request_over, self.gone = ended, False

    def do(self, name: str, what: Any) -> None:
        getattr(self, name)(what)

    def _asks(self) -> bool:
        return not self.gone and not self.request_over

    def body(self, size: int) -> None:
        if self._asks():
            self.asking.body(b"x" * size)

    def end(self, trailers: bool) -> None:
        if self._asks():
            self.request_over = True
            self.asking.end([(b"t", b"1")] if trailers else None)

    def gone_(self) -> None:
        if not self.gone and not self.asking.over:
            self.gone = True
            self.asking.sink.gone(Reset.CANCEL)

    def slow(self, yes: bool) -> None:
        if not self.gone:
            (self.asking.sink.pause_response if yes else self.asking.sink.resume_response)()

    def _try(self, index: int) -> Try | None:
        tries = [one for one in self.lab.tries if not one.dead]
        return tries[index % len(tries)] if tries else None

    def open(self, index: int) -> None:
        one = self._try(index)
        if one and one.head is None:
            one.open()

    def fail(self, what: tuple[int, Failure]) -> None:
        one = self._try(what[0])
        if one:
            one.fail(what[1])

    def respond(self, what: tuple[int, int, bool]) -> None:
        one = self._try(what[0])
        if one and one.head is not None and not getattr(one, "answered", False):
            one.answered = True  # type: ignore[attr-defined]
            one.respond(what[1], body=None if what[2] else b"")

    def hint(self, index: int) -> None:
        one = self._try(index)
        if one and one.head is not None and not getattr(one, "answered", False):
            one.sink.informational(Response(103, []))

    def down(self, index: int) -> None:
        one = self._try(index)
        if one and getattr(one, "answered", False):
            one.send_down(b"y")

    def over(self, index: int) -> None:
        one = self._try(index)
        if one and getattr(one, "answered", False):
            one.end_down()

    def held(self, what: tuple[int, bool]) -> None:
        one = self._try(what[0])
        if one and one.head is not None:
            (one.sink.pause_request if what[1] else one.sink.resume_request)()

    def time(self, seconds: float) -> None:
        self.lab.advance(seconds)


@settings(max_examples=400, deadline=None)
@given(
    policy=RULES,
    connects=st.lists(st.one_of(st.sampled_from(["now", "later"]), FAILURES), min_size=1, max_size=5),
    events=st.lists(EVENTS, max_size=25),
    ended=st.booleans(),
    denied=st.booleans(),
    seed=st.integers(0, 9),
)
def test_one_answer_and_nothing_left(
    policy: Any, connects: list[Any], events: list[tuple[str, Any]], ended: bool, denied: bool, seed: int
) -> None:
    lab = Lab(policy, limits=Limits(retry_buffer=50, window=60), seed=seed)
    for cluster in (lab.cluster(), lab.cluster(SHADOW)):
        cluster.connects = lambda number: connects[number % len(connects)]
    if denied:
        lab.world.permits[lab.cluster().endpoints[0].ip] = Permit(False)
    asking = lab.client(method=b"POST", end=ended, length=-1, headers=[(b"origin", b"http://a")])
    play = Play(lab, asking, ended)
    for name, what in events:
        play.gone_() if name == "gone" else play.do(name, what)
    finish(lab, play)
    assert asking.answers <= 1
    assert play.gone or asking.over
    assert len([entry for entry in lab.observer.entries if not entry.mirrored]) == 1
    lab.check_quiet()


def finish(lab: Lab, play: Play) -> None:
    """The client ends its request, servers end what they began, and refuse the rest; then nothing may be left."""
    play.end(False)
    for _ in range(12):
        for one in [one for one in lab.tries if not one.dead]:
            if getattr(one, "answered", False):
                one.end_down()
            else:
                one.fail(Failure.RESET)
        lab.advance(1.0)
    lab.advance(16)


@pytest.mark.parametrize("cancelled", ["fail", "answer"])
def test_calls_from_within_calls(cancelled: str) -> None:
    """A codec may fail, or answer, from within the very write of the head."""
    lab = Lab(rule(HOST, retries=Retries(attempts=1, on=("reset",))))

    def request(self: Try, head: Any, end: bool) -> None:
        self.head, self.headers, self.ended = head, list(head.headers), end
        if cancelled == "fail":
            self.fail(Failure.RESET)
        else:
            self.respond(200)

    original, Try.request = Try.request, request  # type: ignore[method-assign]
    try:
        asking = lab.client(method=b"POST", end=False, length=-1).body(b"x").end()
        lab.advance(1)
        assert asking.status == (503 if cancelled == "fail" else 200)
        lab.check_quiet()
    finally:
        Try.request = original  # type: ignore[method-assign]
