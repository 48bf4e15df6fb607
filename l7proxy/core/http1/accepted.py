"""How an accepted connection waits and ends; server.py has how it reads.

States: HEAD (between requests, or within a head) -> BODY -> WAIT (request read, answer owed) -> HEAD; DRAIN
(answered, the rest of the body is read and dropped); TUNNEL (after 101); LINGER (all was said, the client's
bytes are dropped until it closes, so that no RST overtakes the answer); CLOSED. Rules: 1. state is set before
each call out, for callbacks may come back into any method; 2. whoever is still owed an end gets it once:
`release` and `gone`; 3. no clock is asked on the way of an ordinary request: `tick` sees by `_progress` whether
something moved.
"""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.http1 import writer
from weft.l7proxy.core.http1.answer import Answer
from weft.l7proxy.core.http1.body import Body, Fixed
from weft.l7proxy.core.http1.fields import Malformed
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import RequestSink, Reset, Transport

HEAD, BODY, WAIT, DRAIN, TUNNEL, LINGER, CLOSED = range(7)
DROPPED_MOST = 256 << 10  # bytes of a body that nobody wants any more, as Go: beyond, a new connection is cheaper
_LINGER = 2.0  # seconds


class Accepted:
    """`on_refused(status, detail)`: a request that no handler saw, or saw to its end."""

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        self.transport, self.keep = transport, True
        self.on_refused: Callable[[int, str], None] | None = None
        self._limits, self._now = limits, now
        self._state, self._buffer = HEAD, b""
        self._answer: Answer | None = None
        self._sink: RequestSink | None = None
        self._body: Body | None = None
        self._running = self._eof = self._draining = False
        self._finished = self._ended = False  # of a tunnel: the way to the client, the way from it
        self._held = self._body_paused = self._write_paused = False  # _held: reading is paused
        self._progress = self._dropped = 0
        self._seen, self._since = 0, now()  # the progress that tick saw last, and since when it stands
        self._begun = False  # a head has begun, `_since` is its first byte's time

    def _run(self) -> None:
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        return self._state == HEAD and not self._buffer

    def drain(self) -> None:
        """A head that has gone out promised that the connection stays: the next one says that it ends. Asked again
        when that comes too late, it ends an idle connection."""
        self._draining = True
        if self.idle:
            self._close()
        elif self._answer is None or not self._answer.responded:
            self.keep = False

    def lost(self) -> None:
        self._leave(CLOSED, Reset.CANCEL)

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._sink is not None:
            self._sink.pause_response()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._sink is not None:
            self._sink.resume_response()
        self._go_on()

    def _go_on(self) -> None:
        if not self._running:
            self._run()

    def _flow(self) -> None:
        """Reading is paused while the exchange wants it, and while something waits in the buffer."""
        state = self._state
        if state in (BODY, TUNNEL):
            hold = self._body_paused
        else:
            hold = self._buffer != b"" and (state == WAIT or (state == HEAD and self._write_paused))
        if hold != self._held and state != CLOSED:
            self._held = hold
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # What an Answer calls.

    def unread(self, unsure: bool) -> None:
        """The answer begins. `unsure`: whether the rest of the body will come is the client's choice."""
        if self._state == BODY and (unsure or (isinstance(self._body, Fixed) and self._body.left > DROPPED_MOST)):
            self.keep = False

    def answered(self) -> None:
        self._answer = self._sink = None
        self._body_paused = False
        if self._state == WAIT:
            if self.keep:  # as `_turn`
                self._progress += 1
                self._begun, self._state = False, HEAD
            else:
                self._turn()
            if self._running or not (self._buffer or self._held or self._eof):
                return
        elif self._state == BODY and self.keep:
            self._state, self._dropped = DRAIN, 0
        else:
            self._linger()
        self._go_on()

    def tunnel(self) -> None:
        self._state = TUNNEL
        self._go_on()

    def half_close(self) -> None:
        if not self._finished:
            self._finished = True
            self.transport.write_eof()
            if self._ended:
                self._close()

    def pause_body(self) -> None:
        self._body_paused = True
        self._flow()

    def resume_body(self) -> None:
        self._body_paused = False
        self._progress += 1
        self._go_on()

    def cut(self, hard: bool) -> None:
        """The exchange gives the answer up."""
        self._sink = None
        if hard:
            self._leave(CLOSED, Reset.CANCEL)
            self.transport.abort()
        else:
            self._close()

    def break_off(self, status: int) -> None:
        """What the exchange answers cannot be written."""
        self.transport.write(writer.refusal(status))
        self._leave(WAIT, Reset.INTERNAL_ERROR)
        self._linger()

    # Ends.

    def _turn(self) -> None:
        """Request and answer are both over."""
        self._progress += 1
        self._begun = False
        if self.keep:
            self._state = HEAD
        elif self._buffer or self._held:
            self._linger()
        else:
            self._close()

    def _refuse(self, wrong: Malformed) -> bool:
        """Answers what could not be read, if no answer has begun, and closes. False: no more is to be read."""
        if self.on_refused is not None:
            self.on_refused(wrong.status, wrong.detail)
        answer = self._answer
        if answer is not None and answer.responded:
            hard = answer.endless
            self._leave(CLOSED, Reset.PROTOCOL_ERROR)
            if hard:
                self.transport.abort()
            else:
                self.transport.close()
        else:
            self.transport.write(writer.refusal(wrong.status))
            self._leave(WAIT, Reset.PROTOCOL_ERROR)
            self._linger()
        return False

    def _leave(self, state: int, reason: Reset) -> None:
        answer, sink = self._answer, self._sink
        self._answer = self._sink = self._body = None
        self._state, self._buffer, self.keep = state, b"", False
        if answer is not None:
            answer.release(reason)
        if sink is not None:
            sink.gone(reason)

    def _linger(self) -> None:
        if self._state == CLOSED:
            return
        if self._eof:
            self._close()
            return
        self._state, self._dropped, self._buffer = LINGER, 0, b""
        self._seen, self._since = self._progress, self._now()
        self.transport.write_eof()
        self._flow()

    def _close(self) -> None:
        if self._state != CLOSED:
            self._sink = None
            self._leave(CLOSED, Reset.NO_ERROR)
            self.transport.close()

    def tick(self, now: float) -> None:
        state, limits = self._state, self._limits
        if self._answer is not None:
            self._answer.flush()
        if self._progress != self._seen:
            self._seen, self._since = self._progress, now
            return
        waited = now - self._since
        if state == HEAD and self._begun and not self._write_paused:
            if waited >= limits.head_timeout:
                self._refuse(Malformed(408, "a head that does not end"))
        elif state == HEAD:
            if waited >= limits.idle_timeout and not self._buffer:
                self._close()
        elif state == BODY:
            if waited >= limits.body_timeout and not self._body_paused:
                self._refuse(Malformed(408, "a body that does not go on"))
        elif (state == LINGER and waited >= _LINGER) or (state == DRAIN and waited >= limits.body_timeout):
            self._close()
