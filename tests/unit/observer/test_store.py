from __future__ import annotations

import asyncio

import pytest

from weft.daemon.observer.store import Entry, Gap, Ring


def filled(capacity: int, count: int, *, step: int = 1_000_000_000) -> Ring:
    ring = Ring(capacity)
    for number in range(count):
        ring.append(Entry(number, number * step, b"", None, None, ()))
    return ring


def test_the_ring_keeps_the_last_ones() -> None:
    ring = filled(7, 10)
    assert (len(ring), ring.oldest, ring.next) == (7, 3, 10)
    assert [ring[number].number for number in range(3, 10)] == list(range(3, 10))


@pytest.mark.parametrize("number", [2, 10, -1])
def test_what_is_overwritten_or_not_here_yet_cannot_be_had(number: int) -> None:
    with pytest.raises(IndexError):
        filled(7, 10)[number]


@pytest.mark.parametrize("capacity", [0, 4096, 6, 65536 * 2 - 1])
def test_a_capacity_is_one_less_than_a_power_of_two(capacity: int) -> None:
    with pytest.raises(ValueError):
        Ring(capacity)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 3), (3, 3), (4.5, 5), (9, 9), (99, 10)])
def test_since_finds_the_oldest_that_is_not_before(seconds: float, expected: int) -> None:
    assert filled(7, 10).since(int(seconds * 1e9)) == expected


def test_the_rate_is_of_the_last_minute_or_of_what_is_held() -> None:
    minute = 60_000_000_000
    assert Ring(7).rate(minute) == 0
    assert filled(127, 100).rate(100 * 1_000_000_000) == pytest.approx(1.0)
    assert filled(7, 100).rate(100 * 1_000_000_000) == pytest.approx(1.0)
    assert filled(127, 100).rate(1000 * minute) == 0


def test_readers_wake_when_their_entry_comes() -> None:
    async def scenario() -> None:
        ring = filled(7, 2)
        await asyncio.wait_for(ring.wait(1), 1)
        waiting = asyncio.create_task(ring.wait(3))
        await asyncio.sleep(0)
        ring.append(Gap(2, 0, 1, 5))
        await asyncio.sleep(0)
        assert not waiting.done()
        ring.append(Gap(3, 0, 1, 5))
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())
