"""What a scrape shows after some records, under Hubble's names."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from flow_records import Cluster, record
from weft.bpf.layout import CtState, EventType
from weft.daemon.observer.metrics import MAX_KEYS, MAX_PORTS
from weft.daemon.observer.service import Observer

DROP, TRACE, VERDICT, SOCK = EventType.DROP, EventType.TRACE, EventType.VERDICT, EventType.SOCK


def scraped(*records: bytes) -> dict[str, float]:
    registry = CollectorRegistry()
    observer = Observer("n", Cluster(), registry=registry)
    for raw in records:
        observer.feed(raw)
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def processed(protocol: str, subtype: str, kind: str, verdict: str) -> str:
    labels = f'protocol="{protocol}",subtype="{subtype}",type="{kind}",verdict="{verdict}"'
    return f"hubble_flows_processed_total{{{labels}}}"


COUNTED: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "a drop": (
        {"kind": DROP, "reason": 133},
        {
            'hubble_drop_total{protocol="TCP",reason="POLICY_DENIED"}': 1,
            processed("TCP", "", "Drop", "DROPPED"): 1,
        },
    ),
    "a SYN that arrives": (
        {"kind": TRACE},
        {
            processed("TCP", "to-endpoint", "Trace", "FORWARDED"): 1,
            'hubble_tcp_flags_total{family="IPv4",flag="SYN"}': 1,
            'hubble_port_distribution_total{port="8080",protocol="TCP"}': 1,
        },
    ),
    "its answer, whose port is the client's": (
        {"kind": TRACE, "flags": 0x12, "ct_state": CtState.REPLY, "sub_type": 3},
        {
            processed("TCP", "to-stack", "Trace", "FORWARDED"): 1,
            'hubble_tcp_flags_total{family="IPv4",flag="SYN-ACK"}': 1,
        },
    ),
    "a verdict": (
        {"kind": VERDICT, "verdict": 1, "match": 2, "direction": 1},
        {
            processed("TCP", "", "PolicyVerdict", "FORWARDED"): 1,
            'hubble_tcp_flags_total{family="IPv4",flag="SYN"}': 1,
            'hubble_port_distribution_total{port="8080",protocol="TCP"}': 1,
            'hubble_policy_verdicts_total{action="forwarded",direction="egress",match="l3-l4"}': 1,
        },
    ),
    "a verdict about the host, which may always": (
        {"kind": VERDICT, "verdict": 1, "src_identity": 1, "protocol": "udp"},
        {
            processed("UDP", "", "PolicyVerdict", "FORWARDED"): 1,
            'hubble_port_distribution_total{port="8080",protocol="UDP"}': 1,
        },
    ),
    "a flow to the world": (
        {"kind": TRACE, "dst_identity": 9, "protocol": "udp"},
        {
            processed("UDP", "to-endpoint", "Trace", "FORWARDED"): 1,
            'hubble_flows_to_world_total{protocol="UDP",verdict="FORWARDED"}': 1,
            'hubble_port_distribution_total{port="8080",protocol="UDP"}': 1,
        },
    ),
    "a ping": (
        {"kind": DROP, "reason": 203, "protocol": "icmp", "flags": 8},
        {
            processed("ICMPv4", "", "Drop", "DROPPED"): 1,
            'hubble_icmp_total{family="IPv4",type="EchoRequest"}': 1,
        },
    ),
    "a socket": (
        {"kind": SOCK, "sub_type": 1},
        {processed("Unknown flow", "7", "Unknown", "TRACED"): 1},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), COUNTED.values(), ids=COUNTED.keys())
def test_counted_once(fields: dict[str, Any], expected: dict[str, float]) -> None:
    found = scraped(record(**fields))
    drops = {name: value for name, value in found.items() if name.startswith("hubble_drop_total")}
    assert {name: found.get(name, 0) for name in expected} == expected
    assert set(found) - set(drops) == {n for n, value in expected.items() if value and "hubble_drop_total" not in n}
    assert sum(drops.values()) == (1 if fields["kind"] is DROP else 0)


def test_losses_are_counted_by_where_they_happened() -> None:
    registry = CollectorRegistry()
    observer = Observer("n", Cluster(), registry=registry)
    observer.lost(3)
    observer.lost(4)
    observer.feed(b"")
    assert registry.get_sample_value("hubble_lost_events_total", {"source": "perf_event_ring_buffer"}) == 7
    assert registry.get_sample_value("hubble_lost_events_total", {"source": "observer_events_queue"}) == 1


def test_a_port_scan_does_not_grow_the_labels() -> None:
    found = scraped(*(record(ports=(1, port)) for port in range(1, MAX_PORTS + 100)))
    ports = [name for name in found if name.startswith("hubble_port_distribution_total")]
    assert len(ports) == MAX_PORTS + 1
    assert found['hubble_port_distribution_total{port="other",protocol="TCP"}'] == 99


def test_many_different_records_are_folded_and_none_is_lost() -> None:
    found = scraped(*(record(ports=(1, port)) for port in range(1, MAX_KEYS + 500)))
    assert sum(value for name, value in found.items() if "flows_processed" in name) == MAX_KEYS + 499
