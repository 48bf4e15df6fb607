"""The ledger's families as text: Prometheus' format, or OpenMetrics.

prometheus_client sorts and escapes the 25 labels of each bucket anew: 0.7 s for 1,000 histograms, in which the
daemon would do nothing else [measured]; here a series' labels are text from its beginning, and a scrape of as many
takes 10 ms, in turns. Tests read both formats back by prometheus_client's own parsers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from weft.daemon.proxy.counts import Family, Total

#: Series that are written before others in this loop get their turn: about a millisecond.
TURN: Final = 64
HELP: Final = {
    "istio_requests_total": "Requests carried, over HTTP and gRPC",
    "istio_request_duration_milliseconds": "Duration of requests",
    "istio_request_bytes": "Size of request bodies",
    "istio_response_bytes": "Size of response bodies",
    "istio_request_messages_total": "gRPC messages sent by clients",
    "istio_response_messages_total": "gRPC messages sent by servers",
    "istio_tcp_sent_bytes_total": "Bytes sent in responses of TCP connections",
    "istio_tcp_received_bytes_total": "Bytes received in requests of TCP connections",
    "istio_tcp_connections_opened_total": "TCP connections opened",
    "istio_tcp_connections_closed_total": "TCP connections closed",
}


async def text(families: Mapping[str, Family], openmetrics: bool) -> str:
    """All families, by name; without OpenMetrics' last line."""
    parts: list[str] = []
    for name in sorted(families):
        family = families[name]
        parts.append(head(name, family, openmetrics))
        series = [*family.series.values()]
        for at in range(0, len(series), TURN):
            parts.extend(lines(name, family, series[at : at + TURN], openmetrics))
            await asyncio.sleep(0)
    return "".join(parts)


def head(name: str, family: Family, openmetrics: bool) -> str:
    """OpenMetrics names a counter without the ending that its samples have."""
    shown = name.removesuffix("_total") if openmetrics else name
    about = HELP.get(name, "Counted by the L7 proxy")
    return f"# HELP {shown} {about}\n# TYPE {shown} {family.kind}\n"


def lines(name: str, family: Family, series: list[Total], openmetrics: bool) -> Iterator[str]:
    if family.kind != "histogram":
        for total in series:
            value = sum(total.shares.values()) if family.kind == "gauge" else total.value
            yield f"{name}{{{total.labels}}} {value!r}\n" if total.labels else f"{name} {value!r}\n"
        return
    bounds = [_le(bound, openmetrics) for bound in (*family.bounds, math.inf)]
    for total in series:
        begin = f'{name}_bucket{{{total.labels}{"," if total.labels else ""}le="'
        for bound, count in zip(bounds, accumulate(total.buckets), strict=True):
            yield f'{begin}{bound}"}} {count}\n'
        braces = f"{{{total.labels}}}" if total.labels else ""
        yield f"{name}_count{braces} {total.count}\n{name}_sum{braces} {total.value!r}\n"


def _le(bound: float, openmetrics: bool) -> str:
    """In text as Envoy and Istio write it, so that queries by `le` match: 0.5, 1, +Inf. OpenMetrics wants 1.0."""
    if bound == math.inf:
        return "+Inf"
    return repr(float(bound)) if openmetrics else f"{bound:.15g}"
