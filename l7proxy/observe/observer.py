"""The observer of a live proxy: what `parties.Observer` promises, put together.

On the request's way: the request's id, the trace context, the sums of the metrics, a place in the ring of records.
In turns (`flush`, ten times a second): log lines. Spans wait for `export`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from weft.l7proxy.core.ids import Ids
from weft.l7proxy.core.parties import Endpoint, Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Peer, Request
from weft.l7proxy.observe import context as contexts
from weft.l7proxy.observe import telemetry
from weft.l7proxy.observe.accesslog import JsonLine, Line
from weft.l7proxy.observe.context import Context
from weft.l7proxy.observe.expressions import Expressions
from weft.l7proxy.observe.metrics import Mesh, Metrics, facts
from weft.l7proxy.observe.records import record
from weft.l7proxy.observe.spans import Outbox, Trace, spans
from weft.l7proxy.observe.telemetry import CLIENT, SERVER, LogPlan, MetricPlan, Plan, TracePlan
from weft.policies.mesh.model import MeshSettings, Provider, Telemetry
from weft.policies.snapshot import ServiceItem
from weft.policies.wire.pb import proxy_pb2 as pb

#: Lines that wait for the log's file.
LINES: Final = 20_000
MAX_PLANS: Final = 20_000


class MeshObserver:
    """A request whose client nobody traces keeps the context that it came with. `random`: 0 to 1, for sampling.
    `environment`: what custom tags may read. `write_log(file, text)`. `tell`: takes what `told` makes
    records of."""

    def __init__(
        self,
        random: Callable[[], float],
        write_log: Callable[[str, str], None],
        tell: Callable[[object], None] = lambda item: None,
        environment: Mapping[str, str] | None = None,
        cluster: str = "Kubernetes",
        ids: Ids | None = None,
        behind: Callable[[str, int], ServiceItem | None] = lambda ip, port: None,
    ) -> None:
        self.expressions = Expressions()
        self.metrics = Metrics(Mesh(self._metric_plan, cluster, self.expressions.text))
        self.outbox = Outbox()
        self.tapped = False
        self.unlogged = 0  # lines that had no room
        self.problems: set[str] = set()
        self._random, self._write_log, self._tell = random, write_log, tell
        self._behind = behind
        self._environment = dict(environment or {})
        self._ids = ids or Ids()
        self._settings, self._telemetry = MeshSettings(), tuple[Telemetry, ...]()
        self._quiet = telemetry.quiet(self._settings, ())  # nobody traces or logs, whoever it is
        self._plans: dict[tuple[str, int, str], Plan] = {}
        self._lines: dict[Provider, Line | JsonLine] = {}
        self._to_log: deque[Entry] = deque()
        # Workers number apart: whoever sees the requests of several must not take one for the other.
        self._number = int(self._ids.take(5), 16) << 32

    # what is declared

    def settle(self, settings: MeshSettings | None, declared: Iterable[Telemetry]) -> pb.Counts | None:
        """New settings (None: the defaults). Returns what was counted under the old ones, to be sent first."""
        settings = settings or MeshSettings()
        told = tuple(sorted(declared, key=lambda item: item.ref))
        if (settings, told) == (self._settings, self._telemetry):
            return None
        counts = self.metrics.drain()
        self._settings, self._telemetry = settings, told
        self._quiet = telemetry.quiet(settings, told)
        self._lines.clear()
        self.workloads_changed()
        self.metrics.settle()
        return counts

    def workloads_changed(self) -> None:
        self._plans.clear()
        self.metrics.forget()

    def _plan(self, workload: Workload, side: str) -> Plan:
        key = (workload.ip, workload.identity, side)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = telemetry.plan(self._settings, self._telemetry, workload, side)
            self._plans[key] = plan
        return plan

    def _metric_plan(self, workload: Workload, side: str) -> MetricPlan:
        return self._plan(workload, side).metrics

    # on the request's way

    def begin(self, request: Request, peer: Peer, client: Workload, entry: Entry) -> None:
        self._number += 1
        entry.id = self._number
        named = request.named
        if named is None or contexts.REQUEST_ID in named:
            entry.request_id = contexts.found(request.headers).get(contexts.REQUEST_ID, b"")
        entry.request_id = entry.request_id or self._identify(request)
        if not self._quiet:
            plan = self._plan(client, CLIENT)
            if plan.tracing is not None:
                entry.trace = self._trace(contexts.found(request.headers), plan.tracing)
        if self.tapped:
            self._tell((entry, True))

    def _identify(self, request: Request) -> bytes:
        made = self._ids.request()
        request.headers.append((contexts.REQUEST_ID, made))
        return made

    def _trace(self, names: Mapping[bytes, bytes], tracing: TracePlan) -> Trace:
        context = contexts.read(names) or Context("", "", None, "")
        if not context.trace:
            context.trace = self._ids.trace()
        if context.sampled is None:
            context.sampled = self._random() * 100 < tracing.sampling
        return Trace(context, self._ids.span(), tracing)

    def attempt(self, request: Request, entry: Entry) -> None:
        trace: Trace | None = entry.trace
        if trace is None:
            return
        if entry.reports_destination and not trace.server:
            trace.server = self._ids.span()
        if trace.server and entry.reports_destination:
            above = trace.span if entry.reports_source else trace.parent
            request.headers = contexts.write(request.headers, trace.context, trace.server, above)
        else:
            trace.server = ""
            request.headers = contexts.write(request.headers, trace.context, trace.span, trace.parent)

    def carried(self, entry: Entry) -> None:
        if not entry.id:
            self._number += 1
            entry.id = self._number
            self.metrics.opened(entry)
        self.metrics.moved(entry)

    def over(self, entry: Entry) -> None:
        if not entry.destination and not entry.service and entry.endpoint is not None:
            self._name(entry, entry.endpoint)
        if entry.protocol == "TCP":
            if entry.id:
                self.metrics.moved(entry)
                self.metrics.closed(entry)
        elif not entry.mirrored:
            self.metrics.request(entry)
        self._tell((entry, False))
        if self._quiet:
            return
        trace: Trace | None = entry.trace
        if trace is not None and trace.context.sampled:
            self._report(entry, trace)
        if self._log_plans(entry):
            if len(self._to_log) < LINES:
                self._to_log.append(entry)
            else:
                self.unlogged += 1

    def _name(self, entry: Entry, endpoint: Endpoint) -> None:
        """A client that addressed a pod is told of by the pod's service."""
        service = self._behind(endpoint.ip, endpoint.port)
        if service is not None:
            entry.destination, entry.host = service.key, service.host

    # in turns

    def flush(self) -> None:
        """Lines go to their files."""
        texts: dict[str, list[str]] = {}
        while self._to_log:
            entry = self._to_log.popleft()
            for plan in self._log_plans(entry):
                if not plan.filter or self.expressions.holds(plan.filter, facts(entry)):
                    for provider in plan.providers:
                        line = self._line(provider).render(entry)
                        texts.setdefault(provider.log_file, []).append(line)
        for file, lines in texts.items():
            self._write_log(file, "".join(lines))

    def _report(self, entry: Entry, trace: Trace) -> None:
        plan = trace.plan
        if plan is None or not plan.reported:
            return
        for span in spans(entry, trace, plan.tags, self._environment):
            for provider in plan.providers:
                self.outbox.put(provider, span)

    def _log_plans(self, entry: Entry) -> list[LogPlan]:
        """Each side that this proxy stands for writes its line."""
        client, endpoint = entry.client, entry.endpoint
        found: list[LogPlan] = []
        if client is not None and client.namespace and entry.reports_source:
            found += self._plan(client, CLIENT).logs
        if endpoint is not None and entry.reports_destination and endpoint.workload.namespace:
            found += self._plan(endpoint.workload, SERVER).logs
        return found

    def _line(self, provider: Provider) -> Line | JsonLine:
        line = self._lines.get(provider)
        if line is None:
            line = JsonLine(provider.json) if provider.json else Line(_ended(provider.format))
            self._lines[provider] = line
            if line.unknown:
                self.problems.add(f"access log {provider.name or 'of the mesh'}: {', '.join(line.unknown)} unknown")
        return line


def told(item: object) -> pb.Record:
    """What was told, as the daemon reads it."""
    assert isinstance(item, tuple)
    entry, start = item
    return record(entry, _trace_id(entry), start=start)


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _trace_id(entry: Entry) -> str:
    trace: Trace | None = entry.trace
    return trace.context.trace if trace is not None else ""
