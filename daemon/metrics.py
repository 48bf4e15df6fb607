"""Prometheus metrics of the agent, named after Cilium's with our prefix, and the HTTP server that shows them.

What programs count is read from the maps when somebody asks; so a scrape costs a read of the maps and a daemon
that was restarted goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from weft.bpf.layout import Stat
from weft.daemon.datapath.counters import Counted, CounterKey
from weft.daemon.observer.names import drop_reason
from weft.policies.model import Direction

#: Seconds: from a millisecond, what one policy should take, to what a whole cluster at start does.
DELAY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUEST_LIMIT, REQUEST_TIMEOUT = 8192, 5.0


class Source(Protocol):
    """One moment's numbers: `figures.Figures`."""

    def traffic(self) -> Mapping[CounterKey, Counted]: ...

    def stats(self) -> Mapping[Stat, int]: ...

    def fill_levels(self) -> Mapping[str, tuple[int, int]]: ...

    def endpoint_states(self) -> Mapping[str, int]: ...

    def enforcement(self) -> Mapping[str, int]: ...

    def gauges(self) -> Mapping[str, float]: ...

    def counts(self) -> Mapping[str, float]: ...


_HELP = {
    "policy": "Policies in force",
    "policy_max_revision": "Revision of the snapshot in force",
    "policy_map_revision": "Revision in the kernel: grows with every write that may change a verdict",
    "identity": "Identities known",
    "services": "Services known",
    "conntrack_entries": "Entries at the last sweep",
    "refused_resources": "Resources that could not be put in force; the last good version stays",
    "upstream_connected": "1 while the stream from the operator is open",
    "process_anonymous_bytes": "Anonymous memory of this process",
    "conntrack_expired": "Entries removed because they were over",
    "conntrack_evicted": "Entries that the map pushed out, an estimate",
    "snapshot_writes": "Snapshots and differences written to disk",
    "snapshot_write_failures": "Snapshots and differences that could not be written to disk",
    "map_write_failures": "Writes to the kernel that failed",
    "upstream_reconnects": "Times the stream from the operator was opened again",
    "netlink_resyncs": "Times everything was read again because netlink messages were lost",
    "flow_records": "Records read from the programs' ring",
    "proxy_workers": "Workers of the L7 proxy that serve",
    "proxy_series": "Metric series of the L7 proxy",
    "proxy_refused_resources": "Resources that the L7 proxy refused; the last good version stays",
    "proxy_restarts": "Workers of the L7 proxy that ended and were started again",
    "proxy_connections_cut": "Workers cut off because of what they sent, or did not read",
    "proxy_series_overflow": "Samples of the L7 proxy that found no room",
    "proxy_series_dropped": "Series dropped because their workload is gone",
    "proxy_records_lost": "Requests that the L7 proxy could not tell of",
}


class AgentMetrics:
    """Registers itself; the counters that the agent turns itself are its fields."""

    def __init__(self, registry: CollectorRegistry, source: Source) -> None:
        self._source = source
        self.delay = Histogram(
            "weft_policy_implementation_delay",
            "Seconds from a change's arrival to its being in force",
            registry=registry,
            buckets=DELAY_BUCKETS,
        )
        self.changes = Counter("weft_policy_change", "Snapshots taken in", ["outcome"], registry=registry)
        registry.register(self)

    def changed(self, seconds: float, whole: bool) -> None:
        """A snapshot was taken in; `whole`: nothing of it was refused."""
        self.delay.observe(seconds)
        self.changes.labels("success" if whole else "fail").inc()

    def collect(self) -> Iterator[Metric]:
        source = self._source
        pressure = {name: entries / room for name, (entries, room) in source.fill_levels().items()}
        events = {stat.name.lower(): count for stat, count in source.stats().items()}
        yield from _traffic(source.traffic())
        yield _gauge("endpoint_state", "Endpoints by state", "endpoint_state", source.endpoint_states())
        yield _gauge(
            "policy_endpoint_enforcement_status",
            "Endpoints by the directions that are default deny",
            "enforcement",
            source.enforcement(),
        )
        yield _gauge("bpf_map_pressure", "How full a map is, 0 to 1", "map_name", pressure)
        yield _labelled(CounterMetricFamily("weft_bpf_events", "What programs count", labels=["event"]), events)
        for name, value in source.gauges().items():
            yield GaugeMetricFamily(f"weft_{name}", _HELP.get(name, name), value=value)
        for name, value in source.counts().items():
            yield CounterMetricFamily(f"weft_{name}", _HELP.get(name, name), value=value)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would read every map to learn the names."""
        return ()


def _traffic(traffic: Mapping[CounterKey, Counted]) -> Iterator[Metric]:
    forwarded: dict[str, list[int]] = {}
    dropped: dict[tuple[str, str], list[int]] = {}
    for key, counted in traffic.items():
        direction = Direction(key.direction).name
        if key.reason:
            total = dropped.setdefault((drop_reason(key.reason), direction), [0, 0])
        else:
            total = forwarded.setdefault(direction, [0, 0])
        total[0] += counted.packets
        total[1] += counted.bytes
    for at, unit in enumerate(("count", "bytes")):
        family = CounterMetricFamily(f"weft_forward_{unit}", f"Forwarded packets ({unit})", labels=["direction"])
        for direction, total in sorted(forwarded.items()):
            family.add_metric([direction], total[at])
        yield family
        family = CounterMetricFamily(
            f"weft_drop_{unit}", f"Dropped packets ({unit})", labels=["reason", "direction"]
        )
        for labels, total in sorted(dropped.items()):
            family.add_metric(list(labels), total[at])
        yield family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _labelled(GaugeMetricFamily(f"weft_{name}", text, labels=[label]), values)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family


async def _nothing(openmetrics: bool) -> str:
    return ""


#: How OpenMetrics says that all was said.
END = b"# EOF\n"


class Exposition:
    """GET /metrics and /healthz, HTTP/1.1, one request a connection: enough for a scraper, and no thread. As text
    or as OpenMetrics, whichever is asked for."""

    def __init__(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        more: Callable[[bool], Awaitable[str]] = _nothing,
    ) -> None:
        """`more`: what is shown behind the registry's, as text or (True) OpenMetrics."""
        self._registry, self._healthy, self._more = registry, healthy, more
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """The port it listens on. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_LIMIT)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            request, _, fields = head.decode("latin-1").partition("\r\n")
            status, kind, body = await self._answer(request, fields)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # a client that cannot ask: no answer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: str, fields: str) -> tuple[str, str, bytes]:
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"only GET\n"
        if path == "/metrics":
            encode, kind = choose_encoder(preferred(accepted(fields)))
            openmetrics = "openmetrics" in kind
            more = (await self._more(openmetrics)).encode()
            body = encode(self._registry)
            return "200 OK", kind, body.removesuffix(END) + more + END if openmetrics else body + more
        if path == "/healthz":
            good = self._healthy()
            return ("200 OK" if good else "503 Service Unavailable"), "text/plain", b"ok\n" if good else b"not ok\n"
        return "404 Not Found", "text/plain", b"/metrics or /healthz\n"


def preferred(accept: str) -> str:
    """Text, where it will do: OpenMetrics has buckets as le="500.0", and rules that people have for Istio's
    metrics ask for le="500", which is what Envoy writes."""
    return "text/plain" if "text/plain" in accept else accept


def accepted(fields: str) -> str:
    """What the Accept header says; "": nothing."""
    for line in fields.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "accept":
            return value.strip()
    return ""
