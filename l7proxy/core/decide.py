"""One request on its way: from the codec that read it, through what is declared for it, to its answer.

In: a request (`Handler.request`), its body, its client's going. Out: exactly one answer downstream, and one
`Entry`, told to the observer when it is over. What decides is asked in this order: CORS preflight, redirect and
direct response, fault, the destination by weight, header changes and rewrites, network policy, retries.

What Istio's sidecars add, and we too: upstream `x-forwarded-proto` where there is none and `x-envoy-attempt-count`;
downstream `x-envoy-upstream-service-time`. `x-forwarded-for` is left as it is (the server sees the client's address
as the connection's), and so is `server`.
"""

from __future__ import annotations

import logging

from weft.l7proxy.core import fault, grpc, replies
from weft.l7proxy.core.mirror import Mirror
from weft.l7proxy.core.named import Named
from weft.l7proxy.core.outgoing import outgoing, protocol_of
from weft.l7proxy.core.parties import Cluster
from weft.l7proxy.core.plan import INBOUND, PASSTHROUGH, ROUTELESS, Plan, Target, plan_of
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.retry import TIMEOUT, asked_for, milliseconds
from weft.l7proxy.core.rewrite import location
from weft.l7proxy.core.sight import Sight, Way
from weft.l7proxy.core.stream import Headers, Reset
from weft.l7proxy.core.streaming import Streaming
from weft.policies.mesh.model import Destination
from weft.policies.mesh.model import Mirror as MirrorRule

log = logging.getLogger(__name__)

_PROTOCOLS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}
FIRST_PORT = 61000  # from it on, source ports are proxies': what comes from there was routed already


class Exchange(Streaming):
    """`_addressed`: host and port that the client asked for."""

    __slots__ = ("_port", "_way")

    _port: int
    _way: Way

    def start(self, end: bool, sight: Sight | None) -> None:
        """`sight`: as it is now; None: the connection has none yet."""
        self._begin(end, sight)
        self._route()
        self._starting = False

    def _begin(self, end: bool, sight: Sight | None) -> None:
        engine, request, peer = self.engine, self.request, self.downstream.peer
        now = engine.now()
        entry = self.entry = Entry(now, engine.wall())
        self.sight = sight = sight or engine.sight(peer)
        client = self.client = entry.client = sight.client
        port = entry.source_port = peer.source[1]
        entry.destination_ip, entry.destination_port = peer.destination
        version = request.version
        if version != "1.1":
            entry.protocol = _PROTOCOLS.get(version, "HTTP/1.1")
        entry.method, entry.path, entry.authority = request.method, request.path, request.authority
        entry.scheme, entry.id = request.scheme, peer.id
        if port >= FIRST_PORT and client.namespace and not client.local:
            entry.reports_source = False
        named = request.named
        if named is None:
            named = request.named = Named(request.headers)
        engine.observer.begin(request, peer, client, entry)
        entry.headers = request.headers
        if named.grpc:
            entry.grpc = True
            self._counter = grpc.MessageCounter()
        if end:
            self._request_over, self._ended = True, now

    # where it goes

    def _route(self) -> None:
        """Only the client's own node routes: what comes from elsewhere has been routed, and is judged here."""
        entry, request, sight = self.entry, self.request, self.sight
        if not self.client.local:
            self._direct(INBOUND)
            return
        way = self._way = sight.way(request.authority)
        if not way.host:
            self._direct(PASSTHROUGH)
            return
        self._port, entry.host, entry.service = way.port, way.host, way.service
        chosen = way.choose(request)
        if chosen is None and sight.pod:
            self._direct(PASSTHROUGH)  # it asked for this very pod, and no route of the service behind is for it
        elif chosen is None:
            self._use(ROUTELESS)
            self._to_target(ROUTELESS.targets[0])
        elif chosen.rule is None:
            self._unrouted(chosen.route.grpc)
        else:
            plan: Plan = chosen.plan or plan_of(chosen)
            self._use(plan)
            if not plan.plain:
                self._consider(plan)
            elif len(plan.targets) == 1:
                self._to_target(plan.targets[0])
            else:
                self._to_target(self._drawn())

    def _unrouted(self, of_grpc: bool) -> None:
        self._use(ROUTELESS)
        self.flag("NR")
        self.entry.verdict = "ERROR"
        code = grpc.UNIMPLEMENTED if of_grpc else None
        self.answer(404, b"", "route_not_found", None, code)

    def _direct(self, plan: Plan) -> None:
        """To the very address that the client asked for."""
        self._use(plan)
        engine, peer = self.engine, self.downstream.peer
        declared = plan is INBOUND or engine.world.settings.allow_any or self.sight.pod
        if not declared:
            self.entry.route, self.entry.verdict = "block_all", "DROPPED"
            self.answer(502, b"", "direct_response")
            return
        self._port = peer.destination[1]
        self._target = plan.targets[0]
        self._send_to(engine.clusters.original(peer.destination, self.client), "")

    def _use(self, plan: Plan) -> None:
        """The plan, and what the request itself asks of timeouts and retries."""
        self.plan, self.retry, self._timeout, entry = plan, plan.retry, plan.timeout, self.entry
        entry.route = plan.name
        head = self.request.named
        assert head is not None
        if entry.grpc and b"grpc-timeout" in head:
            limit = grpc.timeout(head[b"grpc-timeout"])
            if limit is not None:
                self._client_deadline = self._timeout_at = self.deadline = entry.started + limit
        if head.asking and plan is not INBOUND and self.client.namespace:
            self.retry = asked_for(plan.retry, head)
            asked = milliseconds(head.get(TIMEOUT))
            if asked is not None:
                self._timeout = asked / 1000

    def _consider(self, plan: Plan) -> None:
        """All that may answer before a destination does."""
        rule = plan.rule
        assert rule is not None
        head = self.request.named
        if plan.cors is not None and head is not None:
            self._origin = plan.cors.origin(head)
            preflight = plan.cors.preflight(self.request.method, head, self._origin)
            if preflight is not None:
                self._origin = b""  # it is all in there
                self.answer(200, b"", "cors_response", preflight)
                return
        if rule.redirect is not None:
            where = location(rule.redirect, self.request, plan.match, self._port)
            self._reply(rule.redirect.status, b"", [(b"location", where)])
        elif rule.direct is not None:
            self._reply(rule.direct.status, rule.direct.body, [])
        elif rule.fault is not None:
            self._fault()
        else:
            self._proceed()

    def _reply(self, status: int, body: bytes, headers: Headers) -> None:
        changes = self.plan.response
        self.answer(status, body, "direct_response", changes.apply(headers) if changes else headers)

    def _fault(self) -> None:
        rule, engine = self.plan.rule, self.engine
        assert rule is not None and rule.fault is not None
        seconds = fault.delay(rule.fault, engine.draw)
        if seconds:
            self.flag("DI")
            self._timer = engine.schedule(seconds, self._delayed)
        else:
            self._abort_or_proceed()

    def _delayed(self) -> None:
        self._timer = None
        if not self._finished:
            self.engine.guard(self, self._abort_or_proceed)

    def _abort_or_proceed(self) -> None:
        rule = self.plan.rule
        assert rule is not None and rule.fault is not None
        injected = rule.fault
        if not fault.aborts(injected, self.engine.draw):
            self._proceed()
            return
        self.flag("FI")
        if injected.abort_h2 is not None:
            self.cut("fault_filter_abort", reset_of(injected.abort_h2))
            return
        status = injected.abort_status or grpc.to_http(injected.abort_grpc or 0)
        self.answer(status, replies.FAULT_BODY, "fault_filter_abort", None, injected.abort_grpc)

    def _proceed(self) -> None:
        self._to_target(self._drawn())

    def _drawn(self) -> Target | None:
        """The destination by weight."""
        plan = self.plan
        if len(plan.targets) == 1:
            return plan.targets[0]
        index = plan.weights.at(self.engine.draw()) if plan.weights else 0
        return plan.targets[index] if index >= 0 else None

    def _to_target(self, target: Target | None) -> None:
        if target is None:
            self._nowhere(503, "no_destination")
            return
        known = self._way.clusters.get(target)
        if known is None or known[0].retired:
            known = self._asked(target)
            if known is None:
                return
        self._target = target
        self._send_to(*known)

    def _asked(self, target: Target) -> tuple[Cluster, str] | None:
        """The target's cluster, and the service's key. None: there is none, and the client was told."""
        destination, way, engine = target.destination, self._way, self.engine
        cluster = None
        if destination is None:
            if self.plan.rule is not None:
                self._nowhere(500, "no_destination")
                return None
            cluster = engine.clusters.cluster(way.host, way.port, "", self.client)
        elif not destination.refused:
            cluster = self._cluster(destination)
        if cluster is None:
            self._nowhere(destination.missing if destination else 503, "cluster_not_found")
            return None
        known = cluster, engine.world.service_key(cluster.host)
        way.clusters[target] = known
        return known

    def _cluster(self, to: Destination) -> Cluster | None:
        """`port` 0: the port addressed if the host has it, else its only one."""
        clusters = self.engine.clusters
        if to.port:
            return clusters.cluster(to.host, to.port, to.subset, self.client)
        service = self.engine.world.service(to.host)
        numbers = [port.port for port in service.ports] if service else []
        port = self._port if self._port in numbers or len(numbers) != 1 else numbers[0]
        return clusters.cluster(to.host, port, to.subset, self.client)

    def _nowhere(self, status: int, details: str) -> None:
        self.flag("NC")
        self.entry.verdict = "ERROR"
        self.answer(status, b"", details)

    # what goes

    def _send_to(self, cluster: Cluster, service: str) -> None:
        """`service`: the key of the cluster's own."""
        entry, request = self.entry, self.request
        self.cluster = cluster
        entry.cluster, entry.destination = cluster.name, service
        plan, peer = self.plan, self.downstream.peer
        self.sent = outgoing(request, plan, self._target)
        self._protocol = protocol_of(cluster, request, peer)
        self._key, self._cookie = cluster.hash_key(self.sent, peer)
        if not plan.plain:
            self._mirror()
        if self._request_over and (self._timeout or not self._starting):
            self.request_complete(self._ended if self._starting else self.engine.now())
        self.attempt()

    def _mirror(self) -> None:
        rule = self.plan.rule
        for wanted in rule.mirrors if rule is not None else ():
            if not fault.hits(wanted.percent, self.engine.draw):
                continue
            try:
                self._mirror_to(wanted)
            except Exception:
                self.engine.errors += 1
                log.exception("a mirror met a fault")

    def _mirror_to(self, wanted: MirrorRule) -> None:
        cluster = None if wanted.destination.refused else self._cluster(wanted.destination)
        if cluster is None:
            return
        copy = Mirror(self.engine, cluster, self.client, self.sent, self.entry)
        whole = self._request_over and not self._pieces and self._trailers is None
        peer = self.downstream.peer
        copy.start(peer, protocol_of(cluster, self.request, peer), self.plan.timeout, whole)
        for piece in self._pieces:
            copy.send(piece)
        if self._request_over and not whole:
            copy.finish(self._trailers)
        self._mirrors = [*(self._mirrors or ()), copy]


def reset_of(code: int) -> Reset:
    try:
        return Reset(code)
    except ValueError:
        return Reset.INTERNAL_ERROR
