"""Records go to the observer a bounded number at a time, and what was lost is told once."""

from __future__ import annotations

import asyncio
import os

from weft.daemon.pump import TURN, Pump


class Ring:
    """Readable while it holds records, as the real one."""

    def __init__(self, records: int) -> None:
        self.left = records
        self._read, self._write = os.pipe()
        os.write(self._write, b"x")

    def fileno(self) -> int:
        return self._read

    def drain(self, limit: int = 4096) -> list[bytes]:
        count = min(limit, self.left)
        self.left -= count
        if not self.left:
            os.read(self._read, 1)
        return [b"record"] * count


class Sink:
    def __init__(self) -> None:
        self.fed, self.told = 0, 0

    def feed(self, record: bytes) -> None:
        self.fed += 1

    def lost(self, count: int) -> None:
        self.told += count


def test_others_have_their_turn_between_two_loads() -> None:
    async def main() -> None:
        ring, sink = Ring(TURN * 3 + 1), Sink()
        pump = Pump(ring, sink, lambda: 0)
        loop = asyncio.get_running_loop()
        pump.start(loop)
        seen = []
        while sink.fed < TURN * 3 + 1:
            await asyncio.sleep(0)
            seen.append(sink.fed)
        assert set(seen) >= {TURN, TURN * 2, TURN * 3}
        pump.stop(loop)
        assert pump.records == sink.fed

    asyncio.run(main())


def test_losses_are_told_once_and_not_those_from_before() -> None:
    lost = 100
    sink = Sink()
    pump = Pump(Ring(1), sink, lambda: lost)
    pump.check_losses()
    assert sink.told == 0
    lost = 107
    pump.check_losses()
    pump.check_losses()
    assert sink.told == 7
