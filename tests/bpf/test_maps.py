"""Every kind of map: written, read back, walked, in batches, and refused with the name of what refused."""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from testkit.bpf import private_pins
from weft.bpf import abi, layout, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import ENOTSUPP, EXIST, NOEXIST
from weft.bpf.layout import CounterKey, CounterValue, CtKey, CtValue, Endpoint, IpcacheKey, IpcacheValue, MapSpec
from weft.bpf.maps import Map, Maps, encoded, possible_cpus
from weft.bpf.sys import syscall

pytestmark = pytest.mark.root

u32, u64 = ctypes.c_uint32, ctypes.c_uint64

#: One row a kind: small, with a key and a value as programs use them.
KINDS: dict[str, tuple[MapSpec, Any, Any]] = {
    "hash": (MapSpec("hash", "hash", u32, Endpoint, 100), lambda at: at, lambda at: Endpoint(ep_id=at)),
    "lru hash": (MapSpec("lru", "lru_hash", CtKey, CtValue, 1000), lambda at: CtKey(ep_id=at), CtValue),
    "per-CPU hash": (
        MapSpec("percpu", "percpu_hash", CounterKey, CounterValue, 100),
        lambda at: CounterKey(ep_id=at),
        lambda at: CounterValue(packets=at, bytes=at * 100),
    ),
    "per-CPU LRU hash": (
        MapSpec("lrupercpu", "lru_percpu_hash", CounterKey, CounterValue, 1000),
        lambda at: CounterKey(ep_id=at),
        lambda at: CounterValue(packets=at, bytes=1),
    ),
    "longest prefix": (
        MapSpec("lpm", "lpm_trie", IpcacheKey, IpcacheValue, 100),
        lambda at: IpcacheKey(32 + 128, 6, (ctypes.c_uint8 * 16)(at)),
        lambda at: IpcacheValue(at),
    ),
    "array": (
        MapSpec("array", "array", u32, layout.Config, 12),
        lambda at: at,
        lambda at: layout.Config(revision=at),
    ),
    "per-CPU array": (MapSpec("stats", "percpu_array", u32, u64, 12), lambda at: at, lambda at: at),
}


Sample = tuple[Map[Any, Any], list[tuple[Any, Any]]]


@pytest.fixture(params=KINDS)
def sample(request: pytest.FixtureRequest) -> Iterator[Sample]:
    spec, key, value = KINDS[request.param]
    found: Map[Any, Any] = Map(spec, tables.create(spec))
    yield found, [(key(at), value(at)) for at in range(1, 11)]
    found.close()


def plain(items: Iterable[tuple[Any, Any]]) -> list[tuple[bytes, bytes]]:
    """As bytes, in order, for structures are equal only by identity; without the zero entries of arrays."""
    pairs = ((encoded(key), encoded(value, 8)) for key, value in items)
    return sorted(pair for pair in pairs if any(pair[1]))


def test_what_is_written_is_read_back(sample: Sample) -> None:
    table, entries = sample
    for key, value in entries:
        table.put(key, value)
    assert plain((key, table.get(key)) for key, _ in entries) == plain(entries)


def test_walking_finds_every_entry_once(sample: Sample) -> None:
    table, entries = sample
    table.put_all(entries)
    assert plain(table.items()) == plain(entries)


def test_walking_one_by_one_finds_what_batches_find(sample: Sample) -> None:
    table, entries = sample
    table.put_all(entries)
    assert sorted(table._rows_one_by_one()) == sorted(table.rows())


def test_clearing_leaves_nothing(sample: Sample) -> None:
    table, entries = sample
    table.put_all(entries)
    table.clear()
    assert plain(table.items()) == []


def test_removing_in_batches_passes_over_keys_that_are_not_there() -> None:
    spec, key, value = KINDS["hash"]
    table: Map[int, Endpoint] = Map(spec, tables.create(spec))
    table.put_all((key(at), value(at)) for at in range(10))
    table.remove(encoded(at) for at in (50, 3, 51, 52, 4, 53))
    assert sorted(table.keys()) == [0, 1, 2, 5, 6, 7, 8, 9]
    table.close()


def test_a_missing_key_is_none_and_deleting_it_false() -> None:
    spec, _, value = KINDS["hash"]
    table: Map[int, Endpoint] = Map(spec, tables.create(spec))
    assert table.get(1) is None
    assert not table.delete(1)
    table.put(1, value(1))
    assert table.delete(1)
    table.close()


def test_flags_create_only_or_replace_only() -> None:
    spec, _, value = KINDS["hash"]
    table: Map[int, Endpoint] = Map(spec, tables.create(spec))
    with pytest.raises(FileNotFoundError, match="write to hash_v1"):
        table.put(1, value(1), EXIST)
    table.put(1, value(1), NOEXIST)
    with pytest.raises(FileExistsError, match="write to hash_v1"):
        table.put(1, value(1), NOEXIST)
    table.close()


def test_a_full_map_refuses_and_is_named() -> None:
    spec, _, value = KINDS["hash"]
    table: Map[int, Endpoint] = Map(spec, tables.create(spec))
    with pytest.raises(OSError, match=r"write 101 entries, failed after 100, to hash_v1"):
        table.put_all((at, value(at)) for at in range(101))
    table.close()


def test_longest_prefix_wins_and_families_are_apart() -> None:
    spec, _, _ = KINDS["longest prefix"]
    table: Map[IpcacheKey, IpcacheValue] = Map(spec, tables.create(spec))
    rows = {(4, 8): 1, (4, 24): 2, (6, 8): 3}
    for (family, bits), identity in rows.items():
        table.put(IpcacheKey(32 + bits, family, (ctypes.c_uint8 * 16)(10, 1, 2)), IpcacheValue(identity))

    def lookup(family: int, *address: int) -> int | None:
        found = table.get(IpcacheKey(32 + 128, family, (ctypes.c_uint8 * 16)(*address)))
        return found.identity if found else None

    assert lookup(4, 10, 1, 2, 3) == 2
    assert lookup(4, 10, 9, 9, 9) == 1
    assert lookup(4, 11) is None
    assert lookup(6, 10, 1, 2, 3) == 3
    table.close()


def test_per_cpu_values_are_summed_over_the_cpus() -> None:
    spec, key, _ = KINDS["per-CPU hash"]
    table: Map[CounterKey, CounterValue] = Map(spec, tables.create(spec))
    cpus = possible_cpus()
    each = b"".join(bytes(CounterValue(packets=at + 1, bytes=10)) for at in range(cpus))
    bpf.map_update(table.fd, bytes(key(1)), each)
    value = table.get(key(1))
    assert value is not None
    assert (value.packets, value.bytes) == (cpus * (cpus + 1) // 2, cpus * 10)
    table.close()


def test_many_more_entries_than_a_batch_are_all_found() -> None:
    spec = MapSpec("many", "hash", u32, Endpoint, 20_000)
    table: Map[int, Endpoint] = Map(spec, tables.create(spec))
    table.put_all((at, Endpoint(ep_id=at)) for at in range(20_000))
    assert sum(1 for _ in table.rows()) == 20_000
    table.clear()
    assert list(table.rows()) == []
    table.close()


def test_a_hash_bucket_larger_than_the_chunk_is_read_whole() -> None:
    spec = MapSpec("few", "hash", u32, u32, 64)
    table: Map[int, int] = Map(spec, tables.create(spec))
    table.put_all((at, at) for at in range(64))
    found = sum(count for _, _, count in bpf.map_lookup_batch(table.fd, 4, 4, chunk=1))
    assert found == 64
    table.close()


def test_half_a_million_prefixes_are_written_at_over_a_hundred_thousand_a_second() -> None:
    spec = MapSpec("big", "lpm_trie", IpcacheKey, IpcacheValue, 100_000)
    table: Map[IpcacheKey, IpcacheValue] = Map(spec, tables.create(spec))
    chance = random.Random(1)
    rows = [
        (bytes(IpcacheKey(32 + 32, 4, (ctypes.c_uint8 * 16)(*chance.randbytes(4)))), bytes(8))
        for _ in range(50_000)
    ]
    started = time.monotonic()
    table.write(rows)
    assert time.monotonic() - started < 0.5
    table.close()


def test_where_the_kernel_has_no_batches_entries_are_handled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = syscall.call

    def without_batches(command: abi.Command, attributes: bytearray) -> int:
        return -ENOTSUPP if "BATCH" in command.name else real(command, attributes)

    monkeypatch.setattr(syscall, "call", without_batches)
    spec, key, value = KINDS["longest prefix"]
    table: Map[IpcacheKey, IpcacheValue] = Map(spec, tables.create(spec))
    entries = [(key(at), value(at)) for at in range(1, 11)]
    table.put_all(entries)
    assert plain(table.items()) == plain(entries)
    table.clear()
    assert plain(table.items()) == []
    table.close()


def test_maps_open_from_their_pins_and_missing_ones_are_named() -> None:
    with private_pins("maps") as pin_dir:
        pin_dir.mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"ipcache_v1.*not loaded"):
            Maps.open(pin_dir)
        for spec in layout.MAPS:
            fd = tables.create(spec)
            bpf.obj_pin(fd, pin_dir / spec.pin)
            os.close(fd)
        with Maps.open(pin_dir) as maps:
            maps.endpoints.put(3, Endpoint(ep_id=9))
            maps.config.put(0, layout.Config(revision=5))
        with Maps.open(pin_dir) as maps:
            found = maps.endpoints.get(3)
            config = maps.config.get(0)
            assert found is not None
            assert config is not None
            assert (found.ep_id, config.revision) == (9, 5)
            assert maps.stats.get(0) == 0


def test_ids_lead_to_the_objects_that_exist() -> None:
    spec, _, _ = KINDS["array"]
    fd = tables.create(spec)
    number = bpf.map_info(fd).id
    assert number in set(bpf.map_ids())
    again = bpf.map_by_id(number)
    assert bpf.map_info(again) == bpf.map_info(fd)
    for each in (fd, again):
        os.close(each)
    with pytest.raises(FileNotFoundError, match="open map 4294967294"):
        bpf.map_by_id(0xFFFFFFFE)
