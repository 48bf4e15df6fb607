"""The proxy's parts together: the kernel's way to it, its warnings, a scrape, what people may ask."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import standin_proxy
from flow_records import Cluster
from weft.daemon.proxy import processes, proxies
from weft.daemon.proxy.proxies import Proxies
from weft.daemon.proxy.worker import AskFailed
from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb

FULL = control_pb2.Update(revision=7, epoch="e", full=True).SerializeToString()


class Way:
    """Steering that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken = self.gone = False

    def prepare(self) -> None:
        if self.broken:
            raise OSError("no such device")
        self.done.append("prepare")
        self.gone = False

    def enable(self, mark: int = 0, port: int = 0) -> None:
        self.done.append(f"enable {port}")

    def retire(self) -> None:
        self.done.append("retire")

    def whole(self) -> bool:
        return not self.gone


class Recorder:
    def __init__(self) -> None:
        self.records: list[pb.Record] = []

    def carried(self, record: pb.Record) -> None:
        self.records.append(record)

    def lost_requests(self, count: int) -> None: ...


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.end_all(tmp_path / "proxy.sock")


def play(
    run_dir: Path, act: Callable[[Proxies, Way], Awaitable[None]], workers: int = 1, way: Way | None = None
) -> None:
    async def main() -> None:
        steering = way or Way()
        made = Proxies(
            workers=workers,
            words=(sys.executable, standin_proxy.__file__),
            run_dir=run_dir,
            cgroup=None,
            counters=None,
            version="0.1.0",
            setup=lambda: pb.Setup(mark=0x800, port=15001),
            held=lambda: 7,
            full=lambda: FULL,
            directory=Cluster(),
            observer=Recorder(),
            living=frozenset,
            steering=steering,
        )
        await made.prepare()
        await made.start()
        try:
            await act(made, steering)
        finally:
            await made.stop()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110  # it watches what has no event
            await asyncio.sleep(0.01)


def test_the_way_is_prepared_first_and_opened_when_a_worker_is_ready(run_dir: Path) -> None:
    async def act(made: Proxies, way: Way) -> None:
        assert way.done[0] == "prepare" and made.status()["steering"] == "off"
        await until(lambda: made.feed.serving())
        assert way.done == ["prepare", "enable 15001"] and made.status()["steering"] == "on"

    play(run_dir, act)


def test_a_node_without_a_proxy_has_no_way_to_one(run_dir: Path) -> None:
    async def act(made: Proxies, way: Way) -> None:
        assert way.done == ["retire"]
        assert made.problems() == [] and made.status()["wanted"] == 0
        with pytest.raises(AskFailed, match="no worker"):
            await made.answer("routes")
        with pytest.raises(AskFailed, match="has no proxy"):
            await made.answer("restart")

    play(run_dir, act, workers=0)


def test_the_way_is_mended_when_it_has_gaps_and_tried_again_when_it_failed(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "LOOK_INTERVAL", 0.02)
    way = Way()
    way.broken = True

    async def act(made: Proxies, way: Way) -> None:
        await until(lambda: made.feed.serving())
        assert made.problems() == ["proxy steering: no such device"] and way.done == []
        way.broken = False
        await until(lambda: made.status()["steering"] == "on")
        assert made.problems() == []
        way.gone = True
        await until(lambda: way.done.count("prepare") == 2)

    play(run_dir, act, way=way)


def test_questions_that_make_no_sense_are_refused(run_dir: Path) -> None:
    async def act(made: Proxies, way: Way) -> None:
        for arg in ("", "weather", "restart soon"):
            with pytest.raises(AskFailed):
                await made.answer(arg)

    play(run_dir, act)


def test_what_is_alike_everywhere_one_worker_is_asked_else_each(run_dir: Path) -> None:
    async def act(made: Proxies, way: Way) -> None:
        await until(lambda: len(made.feed.serving()) == 2)
        assert len(await made.answer("routes orders")) == 1
        assert {row["worker"] for row in await made.answer("connections")} == {0, 1}

    play(run_dir, act, workers=2)


def test_a_scrape_has_what_was_counted_until_then(run_dir: Path) -> None:
    async def act(made: Proxies, way: Way) -> None:
        await until(lambda: made.feed.serving())
        for count in (1, 2):
            text = await made.scraped(False)
            assert f'istio_requests_total{{reporter="source",response_code="200"}} {count}.0' in text

    play(run_dir, act)
