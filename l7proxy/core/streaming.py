"""The downstream side of a request: its body on the way up, the response on the way down, and the end of both.

Nobody buffers: pieces go on as they come, and whoever cannot take more holds the other side. The exception is the
request's body while no upstream takes it, or while it may be sent again, up to `limits.retry_buffer`.
Its rule: after `_finish` the exchange refers to nobody and every call to it does nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from weft.l7proxy.core import grpc, replies
from weft.l7proxy.core.attempt import NEVER, UNSENT, Attempts, outlier_status
from weft.l7proxy.core.headers import DATE, SERVICE_TIME, service_time
from weft.l7proxy.core.plan import INBOUND, Target
from weft.l7proxy.core.stream import Downstream, Headers, Peer, Request, Reset, Response

if TYPE_CHECKING:
    from weft.l7proxy.core.exchange import Engine
    from weft.l7proxy.core.mirror import Mirror

log = logging.getLogger(__name__)

Head = dict[bytes, bytes]


class Streaming(Attempts):
    """`_client_deadline`: by grpc-timeout, it counts from the request's start; the route's timeout counts from
    its end. `_tunnel`: after a 101; `_closed`: one direction of it has ended."""

    __slots__ = (
        "_client_deadline",
        "_closed",
        "_continued",
        "_cookie",
        "_counter",
        "_ended",
        "_mirrors",
        "_origin",
        "_received",
        "_status",
        "_target",
        "_timeout",
        "_touched",
        "_tunnel",
    )

    _target: Target

    def __init__(self, engine: Engine, request: Request, downstream: Downstream) -> None:
        Attempts.__init__(self, engine, request, downstream)
        self._counter: grpc.MessageCounter | None = None
        self._received: grpc.MessageCounter | None = None
        self._mirrors: list[Mirror] | None = None
        self._client_deadline = NEVER
        self._timeout = self._ended = self._touched = 0.0
        self._origin = self._cookie = b""
        self._status = 0
        self._tunnel = self._closed = self._continued = False

    # RequestSink

    def body(self, data: bytes) -> None:
        if self._finished:
            return
        self.entry.request_bytes += len(data)
        if self._counter is not None:
            self._counter.feed(data)
        upstream = self.upstream
        if self._tunnel:
            self._touched = self.engine.now()
        elif self._kept or upstream is None:
            self._keep(data, sending=upstream is not None)
        if self._mirrors is not None:
            for mirror in self._mirrors:
                mirror.send(data)
        if upstream is not None:
            upstream.send(data)

    def _keep(self, data: bytes, *, sending: bool) -> None:
        """For another try, or until the first is on its way; beyond the bound the client is held back."""
        self._pieces.append(data)
        self._size += len(data)
        if sending:
            if self._size > self.engine.limits.retry_buffer:
                self._pieces.clear()
                self._kept = False
        elif self._size > self.engine.limits.window:
            self.hold(UNSENT)

    def end(self, trailers: Headers | None) -> None:
        if self._finished or self._request_over:
            return
        self._request_over, self._trailers = True, trailers
        if self.entry.cluster:  # a fault's delay counts for no timeout
            self.request_complete(self.engine.now())
        if self._mirrors is not None:
            for mirror in self._mirrors:
                mirror.finish(trailers)
        upstream = self.upstream
        if upstream is not None:
            upstream.finish(trailers)
        if self._tunnel:
            self._half_closed()
        elif self.upstream is not None and not self._responding:
            self.arm_try()

    def request_complete(self, now: float) -> None:
        """The route's timeout starts, and includes all tries."""
        self._ended = now
        if not self._tunnel:
            self._timeout_at = self._client_deadline
            if self._timeout:
                self._timeout_at = min(now + self._timeout, self._timeout_at)
            self.deadline = self._timeout_at

    def gone(self, reason: Reset) -> None:
        if self._finished:
            return
        self.flag("DC")
        self.entry.details = "downstream_remote_disconnect"
        self._let_go(self._status)
        self._finish()

    def pause_response(self) -> None:
        self._slow = True
        if self.upstream is not None:
            self.upstream.pause()

    def resume_response(self) -> None:
        self._slow = False
        if self.upstream is not None:
            self.upstream.resume()

    # ResponseSink: what the endpoint answers

    def informational(self, response: Response) -> None:
        if not self._open or self._responding or (response.status == 100 and self._continued):
            return  # of a second try the client does not want a second 100
        self._continued = self._continued or response.status == 100
        self.downstream.informational(response)

    def response(self, response: Response, end: bool) -> None:
        if not self._open or self._responding:
            return
        status, entry = response.status, self.entry
        head = response.named
        if head is None:
            head = dict(response.headers)
        self._status = outlier_status(status, head) if entry.grpc and b"grpc-status" in head else status
        if (status >= 400 or self.plan.picky or (entry.grpc and self._telling(head))) and self.refuse(
            response, end, head
        ):
            return
        self._responding = True
        if self._retrying:
            self._end_retry()
        self._try_at, self.deadline = NEVER, self._timeout_at
        entry.status, entry.details = status, "via_upstream"
        if entry.grpc:
            entry.grpc_status = grpc.status_of(head.get(b"grpc-status"))
            self._received = grpc.MessageCounter()
        response.headers = entry.response_headers = self._headers_down(response.headers, head)
        if status == 101:
            self._begin_tunnel()
        self._kept = False
        if self._pieces:
            self._pieces.clear()  # kept for another try: there is none any more
        self.downstream.respond(response, end)
        if end:
            self._complete()

    def _telling(self, head: Head) -> bool:
        """Whether a gRPC response that looks well so far says something by which it may be tried again."""
        return b"grpc-status" in head or b"x-envoy-ratelimited" in head or self.retry is not self.plan.retry

    def _headers_down(self, given: Headers, head: Head) -> Headers:
        headers = given.copy()
        if self._request_over:
            taken = self.entry.upstream_time = self.engine.now() - self._ended
            if self.plan is not INBOUND:
                if SERVICE_TIME in head:
                    headers = [pair for pair in headers if pair[0] != SERVICE_TIME]
                headers.append(service_time(taken))
        if DATE not in head:  # whoever passes on what bears no date has to date it (RFC 9110, 6.6.1)
            headers.append(replies.date(self.engine.wall()))
        if self._target.response:
            for changes in self._target.response:
                headers = changes.apply(headers)
        if self._cookie:
            headers.append((b"set-cookie", self._cookie))
        return self._with_cors(headers) if self._origin else headers

    def _with_cors(self, headers: Headers) -> Headers:
        cors = self.plan.cors
        assert cors is not None
        ours = cors.response(self._origin)
        names = {name for name, _ in ours}
        return [pair for pair in headers if pair[0] not in names] + ours

    def response_body(self, data: bytes) -> None:
        if not self._responding or self._finished:
            return
        self.entry.response_bytes += len(data)
        if self._received is not None:
            self._received.feed(data)
        elif self._tunnel:
            self._touched = self.engine.now()
        self.downstream.send(data)

    def response_end(self, trailers: Headers | None) -> None:
        """`trailers`: gRPC's status among them. A response that ends before its request ends the request, too."""
        if not self._responding or self._finished:
            return
        if trailers and self.entry.grpc:
            self.entry.grpc_status = grpc.status_of(dict(trailers).get(b"grpc-status"))
        self.downstream.finish(trailers)
        if self._tunnel:
            self._half_closed()
        else:
            self._complete()

    # the end

    def _begin_tunnel(self) -> None:
        """Both ways as they come; no timeout but idleness."""
        self._tunnel, self._request_over = True, False
        self._timeout_at = self._client_deadline = NEVER
        self._touched = self.engine.now()
        pool = self.cluster.policy.connection_pool
        self._timeout = pool.tcp_idle_timeout if pool else 3600.0
        self.deadline = self._touched + self._timeout if self._timeout else NEVER

    def _half_closed(self) -> None:
        if self._closed:
            self._complete()
        self._closed = True

    def _complete(self) -> None:
        """The whole response has gone on. If the request has not, nobody wants the rest of it."""
        if self._finished:
            return
        upstream, self.upstream = self.upstream, None
        if self._open:
            self._open = False
            self._tell(self._status, None)
        if upstream is not None and not self._request_over:
            upstream.reset(Reset.NO_ERROR)
        self._finish()

    def answer(
        self, status: int, body: bytes, details: str, extra: Headers | None = None, code: int | None = None
    ) -> None:
        """An answer of our own; nothing of another one has gone out. `code`: of gRPC, if not the table's."""
        entry, engine = self.entry, self.engine
        extra = self._with_cors(extra or []) if self._origin else extra or []
        response, body = replies.local(status, body, extra, engine.wall(), is_grpc=entry.grpc, grpc_status=code)
        entry.status, entry.details = response.status, details
        entry.response_headers, entry.response_bytes = response.headers, len(body)
        entry.grpc_status = grpc.status_of(dict(response.headers).get(b"grpc-status"))
        self._responding = True
        self._end_retry()
        whole = not body or self.request.method == b"HEAD"
        self.downstream.respond(response, whole)
        if not whole:
            self.downstream.send(body)
            self.downstream.finish(None)
        self._finish()

    def cut(self, details: str, reason: Reset = Reset.INTERNAL_ERROR) -> None:
        if self._finished:
            return
        self.entry.details = details
        self.downstream.reset(reason)
        self._finish()

    def revoke(self, details: str) -> None:
        """What was let begin is not let go on."""
        if self._finished:
            return
        self.engine.revoked += 1
        self._let_go(self._status)
        if self._responding:
            self.entry.verdict, self.entry.allowed_by = "DROPPED", ()
            self.cut(details)
        else:
            self.denied()

    def crash(self) -> None:
        if self._finished:
            return
        try:
            self.entry.verdict = "ERROR"
            self._let_go()
            if self._responding:
                self.cut("internal_error")
            else:
                self.answer(500, b"", "internal_error")
        except Exception:  # what is broken stands in the way of telling: then without
            log.exception("a request could not be ended in order")
            self._finished = True
            self.engine.active.pop(self, None)
            self.downstream.reset(Reset.INTERNAL_ERROR)
            self.downstream = NOBODY

    def due(self, now: float) -> None:
        """The deadline has come: the request's, the try's, or the end of patience with a silent tunnel."""
        if self._tunnel:
            self.deadline = self._touched + self._timeout
            if self.deadline <= now:
                self._let_go(self._status)
                self.cut("stream_idle_timeout")
        elif self._timeout_at <= now:
            self._timed_out()
        elif self._try_at <= now:
            self.overdue()

    def _timed_out(self) -> None:
        self.flag("UT")
        self.entry.verdict = "ERROR"
        self._let_go(self._status or 504)
        if self._responding:
            self.cut("response_timeout")
            return
        code = grpc.DEADLINE_EXCEEDED if self._timeout_at == self._client_deadline else None
        self.answer(504, replies.TIMEOUT_BODY, "response_timeout", None, code)

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        engine, entry = self.engine, self.entry
        engine.active.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._retrying:
            self._end_retry()
        self.deadline = NEVER
        entry.ended = engine.now()
        if self._flags:
            entry.flags = replies.flags(self._flags)
        if self._counter is not None:
            entry.request_messages = self._counter.count
        if self._received is not None:
            entry.response_messages = self._received.count
        if self._mirrors is not None:
            self._leave_mirrors()
        engine.observer.over(entry)
        downstream, self.downstream = self.downstream, NOBODY
        if self._pieces:
            self._pieces = []
        if self._holds:
            downstream.resume()  # what still comes of the request is drained, not kept waiting

    def _leave_mirrors(self) -> None:
        """A whole request is mirrored to its end, half of one is of no use to anybody."""
        mirrors, self._mirrors = self._mirrors, None
        if not self._request_over:
            for mirror in mirrors or ():
                mirror.abandon()


class _Nobody:
    """In place of the client of an exchange that is over, so that no reference and no cycle is left."""

    def __init__(self) -> None:
        self.peer = Peer(("", 0), ("", 0))

    def informational(self, response: Response) -> None: ...
    def respond(self, response: Response, end: bool) -> None: ...
    def send(self, data: bytes) -> None: ...
    def finish(self, trailers: Headers | None = None) -> None: ...
    def reset(self, reason: Reset) -> None: ...
    def close_after(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


NOBODY = _Nobody()
