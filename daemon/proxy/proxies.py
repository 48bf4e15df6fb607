"""The node's L7 proxies, put together: fed, kept running, counted, seen, asked; and the kernel's way to them.

`node` makes one of these; it is all that the rest of the daemon knows of the proxy. Steering is prepared before any
flow is sent that way, switched on when the first worker is ready, and stays on for as long as this node has a proxy
at all: while none runs, the kernel refuses the flows that need one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from weft.daemon.netlink import NetlinkError
from weft.daemon.observer.directory import Directory
from weft.daemon.proxy import exposition
from weft.daemon.proxy.counts import Counts
from weft.daemon.proxy.feed import Feed
from weft.daemon.proxy.intake import Intake
from weft.daemon.proxy.processes import Launcher
from weft.daemon.proxy.supervise import Supervisor
from weft.daemon.proxy.tap import Taps
from weft.daemon.proxy.window import EVERY, KEPT, Window
from weft.daemon.proxy.worker import AskFailed, Worker
from weft.policies.wire.pb import proxy_pb2 as pb

log = logging.getLogger("weft.proxy")

#: Seconds that an acknowledgement of a change waits for the workers'.
ACK_WITHIN: Final = 1.0
#: Seconds that a scrape waits for what the workers counted since their last message.
FLUSH_WITHIN: Final = 0.2
ASK_WITHIN: Final = 4.0
#: Seconds between two looks at whose workload is gone, and whether the way to the proxy is whole.
LOOK_INTERVAL: Final = 10.0
#: Questions that are about one worker's own state; the others have the same answer everywhere.
OF_EACH: Final = frozenset(("clusters", "endpoints", "connections", "status"))
QUESTIONS: Final = ("status", "routes", "clusters", "endpoints", "config", "connections", "restart")


class Steering(Protocol):
    """`steering.Steering`: the kernel's way to the proxy. Everything twice is once; OSError where it fails."""

    def prepare(self) -> None: ...
    def enable(self, mark: int = ..., port: int = ...) -> None: ...
    def retire(self) -> None: ...
    def whole(self) -> bool: ...


class Recorder(Protocol):
    """The observer, as far as requests go."""

    def carried(self, record: pb.Record) -> None: ...
    def lost_requests(self, count: int) -> None: ...


class Proxies:
    """The feed's `Sink`."""

    def __init__(
        self,
        *,
        workers: int,
        words: tuple[str, ...],
        run_dir: Path,
        cgroup: Path | None,
        counters: Path | None,
        version: str,
        setup: Callable[[], pb.Setup],
        held: Callable[[], int],
        full: Callable[[], bytes],
        directory: Directory,
        observer: Recorder,
        living: Callable[[], frozenset[tuple[str, str]]],
        steering: Steering,
    ) -> None:
        """`words`: how a worker is started; (): it cannot be. `living`: the workloads of the snapshot."""
        self.trouble: dict[str, str] = {}
        self._workers, self._setup, self._living = workers, setup, living
        self._steering, self._steered = steering, False
        self._tasks: list[asyncio.Task[None]] = []
        self.ledger = Counts()
        self.window = Window(self.ledger)
        launcher = Launcher(words, run_dir / "proxy.sock", run_dir, cgroup, counters)
        self.supervisor = Supervisor(workers, launcher, version, self._drain, self._serving)
        self.feed = Feed(launcher.socket, setup, held, full, self.supervisor, self)
        self.taps = Taps(directory, self.feed.tap)
        self._lost_requests = observer.lost_requests
        self._intake = Intake((self.taps.carried, observer.carried), self._missed)

    async def prepare(self) -> None:
        """Before the programs are told of a service or policy that needs the proxy."""
        if self._workers:
            await self._try_steering(self._steering.prepare)

    async def start(self) -> None:
        """Raises OSError: the feed cannot listen."""
        await self.feed.start()
        self.supervisor.start()
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._look_after()), loop.create_task(self._keep_window())]
        if not self._workers:
            await self._try_steering(self._steering.retire)

    async def stop(self) -> None:
        """The proxies, and the kernel's way to them, stay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.supervisor.stop()
        await self.feed.stop()

    # what the workers tell

    def counts(self, worker: Worker, counts: pb.Counts) -> None:
        self.ledger.add(worker, counts)

    def records(self, worker: Worker, records: pb.Records) -> None:
        self._intake.bring(records)

    def forget(self, worker: Worker) -> None:
        self.ledger.forget(worker)

    def _missed(self, count: int) -> None:
        self._lost_requests(count)
        self.taps.missed(count)

    # what the daemon asks

    async def settled(self, revision: int) -> None:
        """Until the workers have put it in force, for a bounded time."""
        if not await self.feed.wait_acknowledged(revision, ACK_WITHIN):
            log.warning("revision %d: not all workers of the proxy have it after %g s", revision, ACK_WITHIN)

    async def scraped(self, openmetrics: bool) -> str:
        """The families, with what the workers counted until now."""
        await self._flushed()
        return await exposition.text(self.ledger.families, openmetrics)

    async def _flushed(self) -> None:
        await self.feed.flush(FLUSH_WITHIN)
        self.ledger.retire(self._living())

    def status(self) -> dict[str, Any]:
        feed = self.feed
        return {
            "wanted": self._workers,
            "serving": len(feed.serving()),
            "port": self._setup().port,
            "mark": self._setup().mark,
            "steering": "on" if self._steered else "off",
            "workers": self.supervisor.status(),
            "refused": [{"resource": what, "reason": why} for what, why in sorted(feed.refusals().items())],
            "series": {
                "now": self.ledger.series,
                "most": self.ledger.max_series,
                "overflow": self.ledger.overflow,
                "dropped": self.ledger.dropped,
            },
            "cut_off": feed.cut_off,
            "last_cut": feed.last_cut,
        }

    def problems(self) -> list[str]:
        told = [f"proxy {part}: {what}" for part, what in self.trouble.items()]
        told += [f"proxy {problem}" for problem in self.supervisor.problems()]
        return told

    def warnings(self) -> list[str]:
        told = [f"proxy {warning}" for warning in self.supervisor.warnings()]
        if self.ledger.overflow:
            told.append(
                f"proxy: {self.ledger.overflow} samples found no room among {self.ledger.max_series} series"
            )
        return told

    async def answer(self, arg: str) -> Any:
        """`arg`: what to ask, and its argument. AskFailed."""
        what, _, rest = arg.strip().partition(" ")
        if what not in QUESTIONS:
            raise AskFailed(f"no question {what!r}: there are {', '.join(QUESTIONS)}")
        if what == "restart":
            return await self._restart(rest.strip())
        workers = self.feed.serving()
        if what == "status":
            workers = [each for each in self.feed.workers if not each.closed]
        elif not workers:
            raise AskFailed("; ".join(self.problems()) or "no worker of the proxy serves")
        asked = workers if what in OF_EACH else workers[:1]
        answers = await self.feed.ask(what, rest, ASK_WITHIN, asked)
        return [_answer(worker, answer) for worker, answer in zip(asked, answers, strict=True)]

    async def families(self, prefix: str) -> dict[str, Any]:
        await self._flushed()
        return self.ledger.as_json(prefix)

    async def lately(self, seconds: str) -> dict[str, Any]:
        """What the families grew by in the last seconds. AskFailed."""
        if not seconds.isdigit() or not 0 < int(seconds) <= KEPT:
            raise AskFailed(f"a window of {seconds or 'no'} seconds: 1 to {KEPT:g} are kept")
        await self._flushed()
        return await self.window.since(int(seconds))

    async def _restart(self, which: str) -> list[dict[str, Any]]:
        if which and not which.isdigit():
            raise AskFailed(f"worker {which!r}: a number is expected")
        done = await self.supervisor.restart([int(which)] if which else None)
        if not done:
            raise AskFailed(f"no worker {which}" if which else "this node has no proxy")
        return done

    # the kernel's way

    def _serving(self) -> None:
        """Map writes alone: at once, between two changes of the kernel's state by this loop."""
        if self._steered or not self._workers or "steering" in self.trouble:
            return
        try:
            self._steering.enable(port=self._setup().port)
        except OSError as error:
            self._in_trouble(error)
        else:
            self._steered = True

    async def _try_steering(self, step: Callable[[], None]) -> bool:
        """In a thread, for it asks by netlink and waits. The data plane does not wait for it: what fails is shown,
        and tried again."""
        try:
            await asyncio.to_thread(step)
        except (OSError, NetlinkError) as error:
            self._in_trouble(error)
            return False
        self.trouble.pop("steering", None)
        return True

    def _in_trouble(self, error: Exception) -> None:
        self.trouble["steering"] = str(error)
        log.error("steering to the proxy: %s", error)

    def _drain(self, worker: Worker, seconds: float) -> None:
        self.feed.drain(worker, seconds)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            self.ledger.retire(self._living())
            if self._workers and ("steering" in self.trouble or not await asyncio.to_thread(self._whole)):
                log.warning("the way to the proxy has gaps: made anew")
                if await self._try_steering(self._steering.prepare) and self.feed.serving():
                    self._steered = False
                    self._serving()

    async def _keep_window(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.window.look()

    def _whole(self) -> bool:
        try:
            return self._steering.whole()
        except (OSError, NetlinkError):
            return False


def _answer(worker: Worker, answer: bytes | AskFailed) -> dict[str, Any]:
    row: dict[str, Any] = {"worker": worker.number, "pid": worker.pid, "generation": worker.generation}
    if isinstance(answer, AskFailed):
        return {**row, "error": str(answer)}
    try:
        return {**row, "answer": json.loads(answer)}
    except ValueError:
        return {**row, "error": "the worker's answer is not JSON"}
