"""The formats of rows and the structs of the layout are one thing written twice: held together here."""

from __future__ import annotations

import ctypes

import pytest

from weft.bpf import layout
from weft.daemon.datapath import codec, counters, kernel
from weft.daemon.datapath.rows import BackendRow, EndpointRow, Frontend, Prefix, Slot, SlotRow, packed

V4, V6 = packed("10.1.2.3"), packed("fd00::7")


@pytest.mark.parametrize(
    ("form", "struct"),
    [
        (codec.IPCACHE_KEY, layout.IpcacheKey),
        (codec.IPCACHE_VALUE, layout.IpcacheValue),
        (codec.ENDPOINT, layout.Endpoint),
        (codec.SERVICE_KEY, layout.ServiceKey),
        (codec.SERVICE_VALUE, layout.ServiceValue),
        (codec.BACKEND, layout.Backend),
        (kernel.CONFIG, layout.Config),
        (counters.KEY, layout.CounterKey),
        (counters.RULE_KEY, layout.RuleStatKey),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_format_is_as_long_as_its_struct(form, struct) -> None:  # type: ignore[no-untyped-def]
    assert form.size == ctypes.sizeof(struct)


def test_fields_of_an_endpoint_stand_where_the_programs_look_for_them() -> None:
    row = layout.Endpoint.from_buffer_copy(codec.endpoint(EndpointRow(7, 300, 9, 5, V4, V6)))
    assert (row.ep_id, row.identity, row.policy_id, row.flags) == (7, 300, 9, 5)
    assert bytes(row.ipv4) == V4 and bytes(row.ipv6) == V6


def test_fields_of_a_service_stand_where_the_programs_look_for_them() -> None:
    key = layout.ServiceKey.from_buffer_copy(codec.slot(Slot(Frontend(V4, 80, 6), 3)))
    assert (key.family, bytes(key.addr)[:4], key.port, key.protocol, key.slot) == (4, V4, 0x5000, 6, 3)
    value = layout.ServiceValue.from_buffer_copy(codec.slot_row(SlotRow(1, 2, 3, 4)))
    assert (value.backend_id, value.count, value.service_id, value.flags) == (1, 2, 3, 4)
    backend = layout.Backend.from_buffer_copy(codec.backend(BackendRow(V6, 80, 17)))
    assert (backend.family, bytes(backend.addr), backend.port, backend.protocol) == (6, V6, 0x5000, 17)


def test_a_prefix_counts_the_family_among_its_bits() -> None:
    key = layout.IpcacheKey.from_buffer_copy(codec.prefix(Prefix(packed("10.0.0.0"), 8)))
    assert (key.prefixlen, key.family, bytes(key.addr)[:4]) == (40, 4, packed("10.0.0.0"))


@pytest.mark.parametrize(
    ("to", "back", "row"),
    [
        (codec.prefix, codec.prefix_of, Prefix(V4, 32)),
        (codec.prefix, codec.prefix_of, Prefix(packed("::"), 0)),
        (codec.identity, codec.identity_of, 1 << 24),
        (codec.endpoint, codec.endpoint_of, EndpointRow(1, 2, 3, 4, V4)),
        (codec.endpoint, codec.endpoint_of, EndpointRow(1, 2, 3, 4, b"", V6)),
        (codec.slot, codec.slot_of, Slot(Frontend(V6, 65535, 132), 0)),
        (codec.slot_row, codec.slot_row_of, SlotRow(0, 5, 6)),
        (codec.backend, codec.backend_of, BackendRow(V4, 1, 6)),
        (codec.number, codec.number_of, 4_000_000_000),
    ],
    ids=str,
)
def test_a_row_comes_back_as_it_went(to, back, row) -> None:  # type: ignore[no-untyped-def]
    assert back(to(row)) == row
