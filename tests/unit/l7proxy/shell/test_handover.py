"""Handing over by itself: whatever breaks off, somebody accepts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from weft.l7proxy import handover
from weft.l7proxy.handover import Given, Giver, Refused, take


class Predecessor:
    def __init__(self, path: Path, idle: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.pairs = [socket.socketpair() for _ in range(idle)]
        self.left = self.gone = 0
        self.giver = Giver(path, self._listeners, self._left, self._idle, self._gone)
        self.giver.start()

    def _listeners(self) -> Sequence[Given]:
        return [Given(self.listener, {"destination": None})]

    def _idle(self) -> Sequence[Given]:
        return [Given(ours, {"number": number}) for number, (ours, _) in enumerate(self.pairs)]

    def _left(self) -> None:
        self.left += 1

    def _gone(self) -> None:
        self.gone += 1


def run(main: object) -> None:
    asyncio.run(main)  # type: ignore[arg-type]


def test_listeners_come_first_and_more_connections_than_fit_one_message_follow(tmp_path: Path) -> None:
    async def main() -> None:
        old = Predecessor(tmp_path / "h", idle=handover.MOST_SOCKETS + 5)
        seen = []

        async def accept(given: Sequence[Given]) -> None:
            assert old.left == 0, "the predecessor accepts until we do"
            seen.extend(each.sock.getsockname() for each in given)

        found = await take(tmp_path / "h", accept)
        assert seen == [old.listener.getsockname()]
        assert [each.about["number"] for each in found] == list(range(handover.MOST_SOCKETS + 5))
        found[-1].sock.sendall(b"x")
        assert old.pairs[-1][1].recv(1) == b"x"
        assert (old.left, old.gone) == (1, 1)
        assert not (tmp_path / "h").exists(), "the path is free for the successor's own"

    run(main())


def test_a_successor_that_dies_before_it_accepts_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        old = Predecessor(tmp_path / "h", idle=1)
        for _ in range(2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(str(tmp_path / "h"))
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
        assert (old.left, old.gone) == (0, 0)

        async def accept(given: Sequence[Given]) -> None:
            return None

        assert len(await take(tmp_path / "h", accept)) == 1, "the next one is served"

    run(main())


def test_a_successor_that_dies_after_it_accepts_leaves_a_draining_predecessor(tmp_path: Path) -> None:
    async def main() -> None:
        old = Predecessor(tmp_path / "h", idle=1)

        async def accept(given: Sequence[Given]) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await take(tmp_path / "h", accept)
        await asyncio.sleep(0.05)
        assert old.left == 0, "it never confirmed"

    run(main())


@pytest.mark.parametrize("there", ["nothing", "a file", "a dead socket"])
def test_without_a_predecessor_it_is_told_so(tmp_path: Path, there: str) -> None:
    path = tmp_path / "h"
    if there == "a file":
        path.write_text("")
    elif there == "a dead socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.bind(str(path))

    async def accept(given: Sequence[Given]) -> None:
        raise AssertionError

    async def main() -> None:
        with pytest.raises(Refused, match="h: "):
            await take(path, accept)

    run(main())
