"""A copy of a request, sent elsewhere, whose answer nobody reads (F20).

Rule: whatever happens to a mirror, the request that it copies does not notice. It is held by the engine while it
runs, takes what it is given without ever holding anybody back, and gives up when that is more than its bound.
Network policy holds for it as for any request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.l7proxy.core import admission
from weft.l7proxy.core.attempt import NEVER, copy_of
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.replies import broken, broken_details
from weft.l7proxy.core.stream import Failure, Headers, Peer, Request, Reset, Response, Upstream

if TYPE_CHECKING:
    from weft.l7proxy.core.exchange import Engine
    from weft.l7proxy.core.parties import Cluster, Endpoint, Workload

PATIENCE = 15.0  # seconds after the whole copy is sent, where the rule has no timeout: Envoy's route default
BOUND = 256 << 10  # bytes that wait to be sent: four windows; beyond it the copy is given up
_SAMPLED = (b"x-b3-sampled", b"b3", b"traceparent")


class Mirror:
    """Fulfils ResponseSink, and has the sending half of an Upstream for the exchange."""

    __slots__ = (
        "_client",
        "_cluster",
        "_ended",
        "_endpoint",
        "_entry",
        "_finished",
        "_open",
        "_opened_at",
        "_patience",
        "_paused",
        "_pieces",
        "_reports",
        "_request",
        "_sent",
        "_size",
        "_trailers",
        "_upstream",
        "deadline",
        "engine",
    )

    def __init__(self, engine: Engine, cluster: Cluster, client: Workload, request: Request, entry: Entry) -> None:
        self.engine, self._cluster, self._client = engine, cluster, client
        self._request = copy_of(request)
        self._request.headers = unsampled(self._request.headers)
        self._entry = _entry_of(entry, cluster.name)
        self._endpoint: Endpoint | None = None
        self._upstream: Upstream | None = None
        self._pieces: list[bytes] = []
        self._trailers: Headers | None = None
        self._size, self._opened_at, self._patience = 0, 0.0, PATIENCE
        self._open = self._ended = self._finished = self._paused = self._reports = self._sent = False
        self.deadline = NEVER

    def start(self, peer: Peer, protocol: str, timeout: float, end: bool) -> None:
        self._patience = timeout or PATIENCE
        engine = self.engine
        key, _ = self._cluster.hash_key(self._request, peer)
        endpoint = self._cluster.pick(key, (), self._may_reach)
        if endpoint is None:
            return self.abandon()
        permit = engine.world.permit(self._client, endpoint.workload, endpoint.port)
        asked = self._request
        if not admission.admit(engine.world, permit, asked, self._request, self._entry):
            return self.abandon()
        self._endpoint = self._entry.endpoint = endpoint
        self._reports = permit.reports_destination
        engine.mirrors[self] = None
        self._open, self._opened_at = True, engine.now()
        if end:
            self.finish(None)
        self._cluster.open(endpoint, self._client, protocol, self)
        return None

    def _may_reach(self, endpoint: Endpoint) -> bool:
        return self.engine.world.permit(self._client, endpoint.workload, endpoint.port).allowed

    def permitted(self) -> bool:
        """Still, by who both are now."""
        return self._endpoint is None or self._may_reach(self._endpoint)

    # what the exchange hands over

    def send(self, data: bytes) -> None:
        if self._finished:
            return
        self._entry.request_bytes += len(data)
        if self._upstream is not None and not self._paused:
            self._upstream.send(data)
            return
        self._size += len(data)
        if self._size > BOUND:
            self.abandon()
        else:
            self._pieces.append(data)

    def finish(self, trailers: Headers | None) -> None:
        if self._finished or self._ended:
            return
        self._ended, self._trailers = True, trailers
        self.deadline = self.engine.now() + self._patience
        if self._upstream is not None and not self._paused:
            self._send_end(self._upstream)

    def _send_end(self, upstream: Upstream) -> None:
        if not self._sent:
            self._sent = True
            upstream.finish(self._trailers)

    def abandon(self) -> None:
        """Also where nothing has begun. Tells nobody but the cluster, which counts it."""
        if self._open:
            upstream, self._upstream = self._upstream, None
            self._open = False
            if upstream is None:
                self._cluster.cancel(self)
            else:
                upstream.reset(Reset.CANCEL)
            self._tell(0, None)
        self._over()

    # ResponseSink

    def opened(self, upstream: Upstream) -> None:
        if not self._open:
            upstream.reset(Reset.CANCEL)
            return
        self._upstream, self._entry.upstream_local = upstream, upstream.local
        whole = self._sent = self._ended and not self._pieces and self._trailers is None
        upstream.request(self._request, whole)
        if not whole:
            self._drain()

    def _drain(self) -> None:
        upstream, pieces = self._upstream, self._pieces
        self._pieces, self._size = [], 0
        for at, piece in enumerate(pieces):
            if self._upstream is not upstream or upstream is None:
                return
            if self._paused:
                self._pieces = pieces[at:] + self._pieces
                self._size = sum(map(len, self._pieces))
                return
            upstream.send(piece)
        if self._ended and self._upstream is upstream and upstream is not None:
            self._send_end(upstream)

    def informational(self, response: Response) -> None: ...

    def response(self, response: Response, end: bool) -> None:
        if not self._open:
            return
        self._entry.status, self._entry.details = response.status, "via_upstream"
        self._entry.response_headers = response.headers
        if end:
            self.response_end(None)

    def response_body(self, data: bytes) -> None:
        self._entry.response_bytes += len(data)

    def response_end(self, trailers: Headers | None) -> None:
        if not self._open:
            return
        upstream, self._upstream = self._upstream, None
        self._open = False
        if upstream is not None and not self._ended:
            upstream.reset(Reset.NO_ERROR)
        self._tell(self._entry.status, None)
        self._over()

    def failed(self, failure: Failure, detail: str) -> None:
        if not self._open:
            return
        self._open, self._upstream = False, None
        what = broken(failure, detail)
        self._entry.flags, self._entry.failure = what.flag, detail
        self._entry.details = broken_details(what, self._entry.status != 0)
        self._tell(0, failure)
        self._over()

    def pause_request(self) -> None:
        self._paused = True

    def resume_request(self) -> None:
        if self._paused:
            self._paused = False
            if self._upstream is not None and (self._pieces or self._ended):
                self._drain()

    # the end

    def _tell(self, status: int, failure: Failure | None) -> None:
        assert self._endpoint is not None
        self._cluster.done(self._endpoint, status, failure, self.engine.now() - self._opened_at)

    def _over(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._pieces = []
        self.engine.mirrors.pop(self, None)
        if self._reports:
            self._entry.ended = self.engine.now()
            self.engine.observer.over(self._entry)


def unsampled(headers: Headers) -> Headers:
    """The trace context goes on, marked as not sampled, so that servers report no spans of the copy."""
    changed: Headers = []
    for name, value in headers:
        if name == b"traceparent" and len(value) == 55:
            value = value[:-2] + b"00"
        elif name == b"b3":
            parts = value.split(b"-")
            value = b"-".join((*parts[:2], b"0")) if len(parts) > 1 else b"0"
        elif name == b"x-b3-sampled":
            value = b"0"
        changed.append((name, value))
    return changed


def _entry_of(entry: Entry, cluster: str) -> Entry:
    """Of the copy, as its server sees it: the source reports only the request that somebody waits for."""
    mine = Entry(entry.started, entry.started_wall)
    for name in _SHARED:
        setattr(mine, name, getattr(entry, name))
    mine.mirrored, mine.reports_source, mine.cluster, mine.tries = True, False, cluster, 1
    return mine


_SHARED = (
    "client", "service", "host", "source_port", "destination_ip", "destination_port", "protocol", "method", "path",
    "authority", "scheme", "headers", "grpc", "request_id", "id", "route",
)  # fmt: skip
