"""Records of many requests at once: all of them, in order, and others have their turn in between."""

from __future__ import annotations

import asyncio

import pytest

from weft.daemon.proxy import intake
from weft.daemon.proxy.intake import TURN, Intake
from weft.policies.wire.pb import proxy_pb2 as pb


def records(first: int, count: int, lost: int = 0) -> pb.Records:
    return pb.Records(records=[pb.Record(id=first + n) for n in range(count)], lost=lost)


def test_a_few_are_told_at_once() -> None:
    seen: list[int] = []
    Intake((lambda record: seen.append(record.id),), lambda count: None).bring(records(1, 3))
    assert seen == [1, 2, 3]


def test_many_come_in_order_and_leave_others_their_turn() -> None:
    seen: list[int] = []
    between: list[int] = []

    async def main() -> None:
        taking = Intake((lambda record: seen.append(record.id),), lambda count: None)
        taking.bring(records(0, 3 * TURN))
        taking.bring(records(3 * TURN, 5))
        while len(seen) < 3 * TURN + 5:
            between.append(len(seen))
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == list(range(3 * TURN + 5)) and between[:3] == [TURN, 2 * TURN, 3 * TURN]


def test_what_finds_no_room_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST", 10)
    seen: list[int] = []
    lost: list[int] = []

    async def main() -> None:
        taking = Intake((lambda record: seen.append(record.id),), lost.append)
        taking.bring(records(0, 25, lost=4))

    asyncio.run(main())
    assert (seen, lost) == (list(range(10)), [19])
