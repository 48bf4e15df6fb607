"""What a scraper gets, and that a bad client gets nothing and harms nobody."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from weft.bpf.layout import Stat
from weft.daemon.datapath.counters import Counted, CounterKey
from weft.daemon.metrics import AgentMetrics, Exposition


class Still:
    """Numbers that do not move."""

    def traffic(self) -> dict[CounterKey, Counted]:
        return {
            CounterKey(1, 0, 0): Counted(10, 1000),
            CounterKey(2, 0, 0): Counted(5, 500),
            CounterKey(1, 1, 133): Counted(3, 180),
        }

    def stats(self) -> dict[Stat, int]:
        return {Stat.EVENT_LOST: 4}

    def fill_levels(self) -> dict[str, tuple[int, int]]:
        return {"ipcache": (1, 4)}

    def endpoint_states(self) -> dict[str, int]:
        return {"ready": 2}

    def enforcement(self) -> dict[str, int]:
        return {"both": 1}

    def gauges(self) -> dict[str, float]:
        return {"policy": 7}

    def counts(self) -> dict[str, float]:
        return {"snapshot_write_failures": 1}


def text() -> str:
    registry = CollectorRegistry()
    AgentMetrics(registry, Still())
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    "line",
    [
        'weft_forward_count_total{direction="INGRESS"} 15.0',
        'weft_forward_bytes_total{direction="INGRESS"} 1500.0',
        'weft_drop_count_total{direction="EGRESS",reason="Policy denied"} 3.0',
        'weft_drop_bytes_total{direction="EGRESS",reason="Policy denied"} 180.0',
        'weft_endpoint_state{endpoint_state="ready"} 2.0',
        'weft_bpf_map_pressure{map_name="ipcache"} 0.25',
        'weft_bpf_events_total{event="event_lost"} 4.0',
        "weft_policy 7.0",
        "weft_snapshot_write_failures_total 1.0",
        "weft_policy_implementation_delay_count 0.0",
    ],
)
def test_a_line_of_the_exposition(line: str) -> None:
    assert line in text().splitlines()


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def ask(*requests: bytes, healthy: bool = True) -> list[bytes]:
    async def main() -> list[bytes]:
        server = Exposition(CollectorRegistry(), lambda: healthy)
        port = await server.start("127.0.0.1", 0)
        try:
            return [await _ask(port, request) for request in requests]
        finally:
            await server.stop()

    return asyncio.run(main())


def test_answers_by_path_and_method() -> None:
    paths = (
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\n\r\n",
        b"PUT /metrics HTTP/1.1\r\n\r\n",
    )
    assert [answer.split()[1] for answer in ask(*paths)] == [b"200", b"200", b"404", b"405"]
    assert ask(paths[1], healthy=False)[0].split()[1] == b"503"


def test_a_client_that_cannot_ask_harms_nobody() -> None:
    bad = (b"", b"\0" * 100, b"GET /" + b"x" * 20000, b"GET /metrics")
    assert ask(*bad, b"GET /healthz HTTP/1.1\r\n\r\n")[-1].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("accept", "kind", "end"),
    [
        ("", b"text/plain", b"more 1.0\n"),
        (
            "application/openmetrics-text; version=1.0.0,*/*;q=0.1",
            b"application/openmetrics-text",
            b"# EOF\n",
        ),
        ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", b"text/plain", b"more 1.0\n"),
    ],
    ids=["text", "OpenMetrics", "text, where it will do"],
)
def test_a_scrape_is_answered_in_the_format_that_is_asked_for(accept: str, kind: bytes, end: bytes) -> None:
    async def more(openmetrics: bool) -> str:
        return "# TYPE more gauge\nmore 1.0\n"

    async def main() -> bytes:
        registry = CollectorRegistry()
        Gauge("own", "of the daemon", registry=registry)
        server = Exposition(registry, lambda: True, more)
        port = await server.start("127.0.0.1", 0)
        try:
            return await _ask(port, f"GET /metrics HTTP/1.1\r\naccept: {accept}\r\n\r\n".encode())
        finally:
            await server.stop()

    answer = asyncio.run(main())
    assert kind in answer.partition(b"\r\n\r\n")[0] and answer.endswith(end)
    assert answer.count(b"# EOF") == (end == b"# EOF\n") and b"own 0.0" in answer and b"more 1.0" in answer
