"""The ten `istio_*` families: what each request and connection adds, and what of it goes to the daemon.

In: entries that are over. Out: `Counts` of what was added since the last time. Labels and buckets are Istio's (the
standard metrics). A request counts once; its source and its destination series differ by labels alone, so both are
made of one `Cell` when counts are sent. What is remembered of labels is bounded: beyond it a request counts under
the series that is labelled unknown throughout, and `forgotten` says how often that happened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from weft.l7proxy.core.parties import Workload
from weft.l7proxy.core.record import Entry
from weft.l7proxy.observe.telemetry import CLIENT, SERVER, MetricPlan
from weft.policies.mesh.model import TagOverride
from weft.policies.wire.pb import proxy_pb2 as pb

BOUNDS: Final = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
)  # fmt: skip
UNKNOWN: Final = "unknown"
MAX_CELLS: Final = 20_000
#: Destinations that nothing but a client's authority names: its to invent, so they shall not use up all cells.
MAX_NAMED: Final = 500
MAX_NAME: Final = 255
#: Numbers below it are those of the worker's own series.
FIRST_NUMBER: Final = 1 << 24

REQUESTS, DURATION = "istio_requests_total", "istio_request_duration_milliseconds"
REQUEST_BYTES, RESPONSE_BYTES = "istio_request_bytes", "istio_response_bytes"
REQUEST_MESSAGES, RESPONSE_MESSAGES = "istio_request_messages_total", "istio_response_messages_total"
SENT, RECEIVED = "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"
OPENED, CLOSED = "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"

Labels = dict[str, str]
Plans = Callable[[Workload, str], MetricPlan]
Evaluate = Callable[[str, Mapping[str, object]], str | None]


class Histogram:
    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0


class Cell:
    """What was added since the last time under one set of labels. `numbers`: the series that it became, by family
    and reporter, once they are described."""

    __slots__ = (
        "closed", "duration", "labels", "numbers", "opened", "received", "reporters", "request_bytes",
        "request_messages", "requests", "response_bytes", "response_messages", "sent", "touched",
    )  # fmt: skip

    def __init__(self, labels: Mapping[str, Labels], reporters: tuple[str, ...]) -> None:
        self.labels, self.reporters = labels, reporters
        self.numbers: dict[tuple[str, str], int] = {}
        self.touched = False
        self.requests = self.request_messages = self.response_messages = 0
        self.duration, self.request_bytes, self.response_bytes = Histogram(), Histogram(), Histogram()
        self.opened = self.closed = self.sent = self.received = 0


@dataclass(frozen=True, slots=True)
class Mesh:
    """Names that are the same for everybody. `plan`: what Telemetry says of a workload's metrics."""

    plan: Plans
    cluster: str = "Kubernetes"
    evaluate: Evaluate = lambda expression, facts: None


class Metrics:
    def __init__(self, mesh: Mesh) -> None:
        self.forgotten = 0
        self._mesh = mesh
        self._by_key: dict[tuple[object, ...], Cell] = {}
        self._cells: dict[tuple[object, ...], Cell] = {}
        self._touched: list[Cell] = []
        self._names: set[str] = set()
        self._next = FIRST_NUMBER

    # on the request's way

    def request(self, entry: Entry) -> None:
        cell = self._cell(entry)
        cell.requests += 1
        taken, sent, received = (entry.ended - entry.started) * 1000, entry.request_bytes, entry.response_bytes
        histogram = cell.duration
        histogram.buckets[bisect_left(BOUNDS, taken)] += 1
        histogram.sum += taken
        histogram = cell.request_bytes
        histogram.buckets[bisect_left(BOUNDS, sent) if sent else 0] += 1
        histogram.sum += sent
        histogram = cell.response_bytes
        histogram.buckets[bisect_left(BOUNDS, received) if received else 0] += 1
        histogram.sum += received
        if entry.grpc:
            cell.request_messages += entry.request_messages
            cell.response_messages += entry.response_messages

    def opened(self, entry: Entry) -> None:
        """A TCP connection, once it has its endpoint."""
        self._cell(entry).opened += 1

    def moved(self, entry: Entry) -> None:
        """Bytes of a TCP connection since the last call. What was counted of it is kept where a request has its
        messages."""
        cell = self._cell(entry)
        cell.received += entry.request_bytes - entry.request_messages
        cell.sent += entry.response_bytes - entry.response_messages
        entry.request_messages, entry.response_messages = entry.request_bytes, entry.response_bytes

    def closed(self, entry: Entry) -> None:
        self._cell(entry).closed += 1

    def _cell(self, entry: Entry) -> Cell:
        client, endpoint = entry.client, entry.endpoint
        key = (
            client and client.ip,
            client and client.identity,
            endpoint,
            entry.cluster or entry.host,
            entry.destination or entry.service,
            entry.protocol == "TCP",
            entry.grpc,
            entry.status,
            entry.flags,
            entry.grpc_status,
            entry.reports_source,
            entry.reports_destination,
        )
        cell = self._by_key.get(key)
        if cell is None:
            cell = self._new(entry, client, endpoint.workload if endpoint is not None else None, key)
        if not cell.touched:
            cell.touched = True
            self._touched.append(cell)
        return cell

    # the first of its kind

    def _new(self, entry: Entry, client: Workload | None, server: Workload | None, key: tuple[object, ...]) -> Cell:
        if len(self._by_key) >= MAX_CELLS:
            self.forget()
        reporters = self._reporters(entry, client, server)
        labels = self._labels(entry, client, server)
        same = (*sorted(labels.items()), *reporters)
        cell = self._cells.get(same)
        if cell is None:
            if len(self._cells) >= MAX_CELLS:
                self.forgotten += 1
                labels, same = dict.fromkeys(labels, UNKNOWN), (UNKNOWN, *reporters)
                cell = self._cells.get(same)
            if cell is None:
                cell = self._cells[same] = Cell(self._by_family(labels, entry, client, server), reporters)
        self._by_key[key] = cell
        return cell

    def forget(self) -> None:
        """Who had which labels; told again as it is met. After a snapshot, too: labels of workloads change."""
        self._by_key.clear()

    def settle(self) -> None:
        """Telemetry changed: everything is labelled anew. What was not sent yet is sent first, by the caller."""
        self._by_key.clear()
        self._cells.clear()

    def _named(self, entry: Entry) -> str:
        """By nobody but the client."""
        name = entry.authority.decode("latin-1")
        if name not in self._names:
            if len(self._names) >= MAX_NAMED or len(name) > MAX_NAME:
                return UNKNOWN
            self._names.add(name)
        return name or UNKNOWN

    @staticmethod
    def _reporters(entry: Entry, client: Workload | None, server: Workload | None) -> tuple[str, ...]:
        """A client that nobody knows reports nothing; a request that reached no server is its client's to
        report."""
        found = []
        if entry.reports_source and client is not None and client.namespace:
            found.append("source")
        if entry.reports_destination and server is not None and server.namespace:
            found.append("destination")
        return tuple(found) or ("source",)

    def _labels(self, entry: Entry, client: Workload | None, server: Workload | None) -> Labels:
        name, namespace = _service(entry)
        tcp = entry.protocol == "TCP"
        labels = {
            **_party("source", client, self._mesh.cluster),
            **_party("destination", server, self._mesh.cluster),
        }
        labels["destination_service"] = _host(entry) or self._named(entry)
        labels["destination_service_name"] = name
        labels["destination_service_namespace"] = namespace
        labels["request_protocol"] = "tcp" if tcp else "grpc" if entry.grpc else "http"
        labels["response_flags"] = entry.flags or "-"
        labels["connection_security_policy"] = "none"
        if not tcp:
            labels["response_code"] = str(entry.status)
            status = entry.grpc_status
            labels["grpc_response_status"] = str(status) if entry.grpc and status is not None else ""
        return labels

    def _by_family(
        self, labels: Labels, entry: Entry, client: Workload | None, server: Workload | None
    ) -> dict[str, Labels]:
        """Where Telemetry changes labels of a family for one reporter, "family reporter" has its own."""
        found = {"": labels}
        for reporter, side, workload in (("source", CLIENT, client), ("destination", SERVER, server)):
            if workload is None:
                continue
            plan = self._mesh.plan(workload, side)
            for family in plan.disabled:
                found[f"{family} {reporter}"] = {}
            for family, changes in plan.tags.items():
                if family not in plan.disabled:
                    found[f"{family} {reporter}"] = self._changed(labels, changes, entry)
        return found

    def _changed(self, labels: Labels, changes: tuple[TagOverride, ...], entry: Entry) -> Labels:
        changed = dict(labels)
        for change in changes:
            if change.remove:
                changed.pop(change.tag, None)
            else:
                changed[change.tag] = self._mesh.evaluate(change.value, facts(entry)) or UNKNOWN
        return changed

    # to the daemon

    def drain(self) -> pb.Counts | None:
        """None: nothing was added."""
        if not self._touched:
            return None
        counts = pb.Counts()
        touched, self._touched = self._touched, []
        for cell in touched:
            cell.touched = False
            self._tell(cell, counts)
        return counts

    def described_anew(self) -> None:
        """The daemon that knew our series is gone."""
        for cell in self._cells.values():
            cell.numbers.clear()

    def _tell(self, cell: Cell, counts: pb.Counts) -> None:
        for reporter in cell.reporters:
            policy = "unknown" if reporter == "source" else "none"
            for family, value in _sums(cell):
                number = self._number(cell, family, reporter, policy, counts, histogram=False)
                if number:
                    counts.samples.add(id=number, value=value)
            for family, histogram in _histograms(cell):
                number = self._number(cell, family, reporter, policy, counts, histogram=True)
                if number:
                    total = sum(histogram.buckets)
                    counts.samples.add(id=number, value=histogram.sum, count=total, buckets=histogram.buckets)
        _zero(cell)

    def _number(
        self, cell: Cell, family: str, reporter: str, policy: str, counts: pb.Counts, *, histogram: bool
    ) -> int:
        """0: Telemetry turned it off."""
        number = cell.numbers.get((family, reporter))
        if number is not None:
            return number
        labels = cell.labels.get(f"{family} {reporter}", cell.labels[""])
        number = 0
        if labels:
            number, self._next = self._next, self._next + 1
            told = {**labels, "reporter": reporter}
            if "connection_security_policy" in labels:
                told["connection_security_policy"] = policy
            counts.series.add(id=number, family=family, labels=told, bounds=BOUNDS if histogram else ())
        cell.numbers[family, reporter] = number
        return number


def _sums(cell: Cell) -> Iterator[tuple[str, float]]:
    named = (
        (REQUESTS, cell.requests),
        (REQUEST_MESSAGES, cell.request_messages),
        (RESPONSE_MESSAGES, cell.response_messages),
        (OPENED, cell.opened),
        (CLOSED, cell.closed),
        (SENT, cell.sent),
        (RECEIVED, cell.received),
    )
    return ((family, float(value)) for family, value in named if value)


def _histograms(cell: Cell) -> Iterator[tuple[str, Histogram]]:
    if cell.requests:
        yield DURATION, cell.duration
        yield REQUEST_BYTES, cell.request_bytes
        yield RESPONSE_BYTES, cell.response_bytes


def _zero(cell: Cell) -> None:
    cell.requests = cell.request_messages = cell.response_messages = 0
    cell.opened = cell.closed = cell.sent = cell.received = 0
    if any(cell.duration.buckets):
        cell.duration, cell.request_bytes, cell.response_bytes = Histogram(), Histogram(), Histogram()


def _host(entry: Entry) -> str:
    """Of the service that a route chose, else that was addressed; "": none was."""
    chosen = entry.cluster.rpartition("|")[2] if "|" in entry.cluster else ""
    return chosen or entry.host


def _service(entry: Entry) -> tuple[str, str]:
    """Name and namespace; what was addressed by nobody's name is Istio's PassthroughCluster."""
    namespace, slash, name = (entry.destination or entry.service).partition("/")
    return (name, namespace) if slash else ("PassthroughCluster", UNKNOWN)


def _party(side: str, workload: Workload | None, cluster: str) -> Labels:
    """Istio's labels of one end; all unknown for whom nobody knows."""
    known = workload is not None and bool(workload.namespace)
    labels = workload.labels if workload is not None else {}
    name = (workload.name or workload.pod) if workload is not None and known else UNKNOWN
    app = labels.get("app") or labels.get("app.kubernetes.io/name") or UNKNOWN
    version = labels.get("version") or labels.get("app.kubernetes.io/version") or UNKNOWN
    canonical = labels.get("service.istio.io/canonical-name") or (app if app != UNKNOWN else name)
    revision = labels.get("service.istio.io/canonical-revision") or version
    return {
        f"{side}_workload": name,
        f"{side}_workload_namespace": workload.namespace if workload is not None and known else UNKNOWN,
        f"{side}_principal": UNKNOWN,
        f"{side}_app": app if known else UNKNOWN,
        f"{side}_version": version if known else UNKNOWN,
        f"{side}_canonical_service": canonical if known else UNKNOWN,
        f"{side}_canonical_revision": (revision if revision != UNKNOWN else "latest") if known else UNKNOWN,
        f"{side}_cluster": cluster if known else UNKNOWN,
    }


def facts(entry: Entry) -> dict[str, object]:
    """What CEL expressions of Telemetry may ask: Envoy's attributes, as far as they are known here."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in entry.headers}
    return {
        "request": {
            "method": entry.method.decode("latin-1"),
            "path": entry.path.decode("latin-1"),
            "url_path": entry.path.partition(b"?")[0].decode("latin-1"),
            "host": entry.authority.decode("latin-1"),
            "scheme": entry.scheme.decode("latin-1"),
            "protocol": entry.protocol,
            "headers": headers,
            "size": entry.request_bytes,
            "id": entry.request_id.decode("latin-1"),
            "useragent": headers.get("user-agent", ""),
        },
        "response": {
            "code": entry.status,
            "flags": entry.flags,
            "code_details": entry.details,
            "size": entry.response_bytes,
            "grpc_status": entry.grpc_status if entry.grpc_status is not None else -1,
            "headers": {n.decode("latin-1"): v.decode("latin-1") for n, v in entry.response_headers},
        },
        "source": {"address": entry.client.ip if entry.client is not None else "", "port": entry.source_port},
        "destination": {"address": entry.destination_ip, "port": entry.destination_port},
        "upstream": {"address": entry.endpoint.ip if entry.endpoint is not None else ""},
        "xds": {"cluster_name": entry.cluster, "route_name": entry.route},
    }
