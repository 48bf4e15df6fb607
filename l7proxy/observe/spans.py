"""Spans of traced requests, waiting for their collector.

A request that is reported has a client span, of whoever sent it, and below it a server span, where no other proxy
will make one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.observe.context import Context
from weft.l7proxy.observe.telemetry import CLIENT, SERVER, TracePlan
from weft.policies.mesh.model import CustomTag, Provider


class Trace:
    """Of one request. `span`: ours as the client's side, `parent`: whose child it is; `server` "": no server span.
    `written`: the context stands in the request's headers."""

    __slots__ = ("context", "parent", "plan", "server", "span", "written")

    def __init__(self, context: Context, span: str, plan: TracePlan | None) -> None:
        self.context, self.span, self.parent = context, span, context.span
        self.plan = plan  # None: the context goes on, nothing is told
        self.server = ""
        self.written = False


@dataclass(frozen=True, slots=True)
class Span:
    """Times are seconds of the wall clock. `kind`: CLIENT or SERVER. `local`: (service, ip, port) of who reports,
    `remote` of the other side."""

    trace: str
    span: str
    parent: str
    kind: str
    name: str
    start: float
    seconds: float
    local: tuple[str, str, int]
    remote: tuple[str, str, int]
    error: bool
    tags: dict[str, str] = field(default_factory=dict)


class Outbox:
    """Spans by provider, bounded: what does not fit is counted in `lost`."""

    def __init__(self, most: int = 5000) -> None:
        self.lost = 0
        self._most = most
        self._waiting: dict[Provider, deque[Span]] = {}

    def put(self, provider: Provider, span: Span) -> None:
        waiting = self._waiting.setdefault(provider, deque())
        if len(waiting) >= self._most:
            self.lost += 1
            return
        waiting.append(span)

    def take(self, provider: Provider, most: int = 500) -> list[Span]:
        waiting = self._waiting.get(provider, deque())
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def providers(self) -> list[Provider]:
        return [provider for provider, waiting in self._waiting.items() if waiting]


def spans(entry: Entry, trace: Trace, tags: tuple[CustomTag, ...], environment: dict[str, str]) -> list[Span]:
    """What a finished request comes to. Names and tags are Envoy's."""
    client, endpoint = entry.client, entry.endpoint
    server = endpoint.workload if endpoint is not None else None
    name = _operation(entry)
    common = _tags(entry) | _custom(entry, tags, environment)
    one = (_service(client), client.ip if client is not None else "", entry.source_port)
    port = endpoint.port if endpoint is not None else entry.destination_port
    other = (_service(server), server.ip if server is not None else entry.destination_ip, port)
    error = entry.status >= 500 or entry.status == 0
    seconds = max(0.0, entry.ended - entry.started)
    identity = trace.context.trace

    def span(kind: str, number: str, parent: str) -> Span:
        local, remote = (one, other) if kind == CLIENT else (other, one)
        own = common | {"istio.canonical_service": local[0], "peer.address": remote[1]}
        return Span(identity, number, parent, kind, name, entry.started_wall, seconds, local, remote, error, own)

    found = [span(CLIENT, trace.span, trace.parent)] if entry.reports_source else []
    if trace.server:
        # Where the client's span is told by the proxy before us, it stands in the request: it is our parent.
        found.append(span(SERVER, trace.server, trace.span if entry.reports_source else trace.parent))
    return found


def _operation(entry: Entry) -> str:
    """host:port/*, as Istio names it."""
    host = entry.host or entry.authority.decode("latin-1").rpartition(":")[0] or entry.authority.decode("latin-1")
    return f"{host}:{entry.destination_port}/*"


def _service(workload: Workload | None) -> str:
    """Canonical service and namespace, as Istio names services of traces."""
    if workload is None or not workload.namespace:
        return "unknown"
    labels = workload.labels
    name = labels.get("service.istio.io/canonical-name") or labels.get("app") or workload.name or workload.pod
    return f"{name}.{workload.namespace}"


def _tags(entry: Entry) -> dict[str, str]:
    authority = entry.authority.decode("latin-1")
    tags = {
        "component": "proxy",
        "http.method": entry.method.decode("latin-1"),
        "http.url": f"{entry.scheme.decode('latin-1')}://{authority}{entry.path.decode('latin-1')}"[:256],
        "http.protocol": entry.protocol,
        "http.status_code": str(entry.status),
        "request_size": str(entry.request_bytes),
        "response_size": str(entry.response_bytes),
        "response_flags": entry.flags or "-",
        "upstream_cluster": entry.cluster or "-",
        "guid:x-request-id": entry.request_id.decode("latin-1"),
    }
    agent = next((value for name, value in entry.headers if name == b"user-agent"), b"")
    if agent:
        tags["user_agent"] = agent.decode("latin-1")
    if entry.grpc_status is not None:
        tags["grpc.status_code"] = str(entry.grpc_status)
    if entry.status >= 500 or entry.status == 0:
        tags["error"] = "true"
    return tags


def _custom(entry: Entry, tags: tuple[CustomTag, ...], environment: dict[str, str]) -> dict[str, str]:
    found = {}
    for tag in tags:
        value = tag.value
        if tag.source == "environment":
            value = environment.get(tag.value, tag.default)
        elif tag.source == "header":
            wanted = tag.value.lower().encode()
            given = next((value for name, value in entry.headers if name == wanted), None)
            value = given.decode("latin-1") if given is not None else tag.default
        if value:
            found[tag.name] = value
    return found
