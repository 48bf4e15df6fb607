"""The stream from the operator: updates in, acknowledgements out, and again when it breaks.

In: `Held` (what this node has) at each new stream. Out: `UpdateArrived` by the callback, in order and without
gaps; its return value is the acknowledgement. Knows nothing of what an update means.

Rule: while the operator is away nothing changes. A revision that does not follow the one we hold is never
applied: the stream is opened anew, asking for everything.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from weft.policies.delta import OutOfOrder
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc

log = logging.getLogger("weft.upstream")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between two attempts; doubled each time, minus up to half by lot
CONNECT_TIMEOUT = 2.0
LARGEST_UPDATE = 512 << 20  # bytes: 5,000 workloads and 1,000 policies are about 5 MB
OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST_UPDATE),
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, slots=True)
class Held:
    """Revision 0: nothing, or nothing that can be built upon."""

    revision: int = 0
    epoch: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(slots=True)
class Link:
    """How the connection is, for status and metrics."""

    connected: bool = False
    since: float = field(default_factory=time.time)
    reconnects: int = 0
    problem: str = "not tried yet"

    def became(self, connected: bool, problem: str = "") -> None:
        if connected != self.connected:
            self.connected, self.since = connected, time.time()
        self.problem = problem


Refusals = dict[str, str]
Arrived = Callable[[pb.Update], Awaitable[Refusals]]
Settled = Callable[[int], Awaitable[Refusals]]


class Upstream:
    def __init__(
        self,
        target: str,
        node: str,
        version: str,
        held: Callable[[], Held],
        arrived: Arrived,
        settled: Settled | None = None,
    ) -> None:
        """`arrived` puts an update in force and returns what it refused; OutOfOrder: everything is asked for.
        `settled` returns what is refused when others, too, have put a revision in force, or had their time; updates
        go on arriving meanwhile, and the newest alone is acknowledged then."""
        self._target, self._node, self._version = target, node, version
        self._held, self._arrived, self._settled = held, arrived, settled
        self._from_nothing = False
        self._news = asyncio.Event()
        self._taken: tuple[int, Refusals] | None = None  # of this stream, not yet acknowledged or changed since
        self.link = Link()

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                got_any = await self._one_stream()
                problem = "the operator ended the stream"
            except grpc.RpcError as error:
                got_any, problem = self.link.connected, _describe(error)
            except TimeoutError:
                got_any, problem = False, "nobody listens there"
            except OutOfOrder as gap:
                self._from_nothing, got_any, problem = True, True, str(gap)
            except Exception as error:
                # Whatever an update holds, it must not end the loop that would bring its successor.
                log.exception("an update could not be taken in")
                self._from_nothing, got_any, problem = True, False, f"{type(error).__name__}: {error}"
            if self.link.connected:
                log.warning("operator %s: %s", self._target, problem)
            self.link.became(False, problem)
            self.link.reconnects += 1
            pause = FIRST_PAUSE if got_any else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _one_stream(self) -> bool:
        # A channel for each attempt: a channel's own back-off would hide an operator that is back.
        async with grpc.aio.insecure_channel(self._target, options=OPTIONS) as channel:
            # not wait_for: in Python 3.11 it forgets a cancellation that comes together with the answer
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await channel.channel_ready()
            got_any = False
            stub: Any = control_pb2_grpc.ControlStub(channel)  # type: ignore[no-untyped-call]
            stream = stub.Stream()
            await stream.write(self._hello())
            self.link.became(True)
            log.info("operator %s: connected", self._target)
            self._taken = None
            self._news.clear()
            acknowledging = asyncio.get_running_loop().create_task(self._acknowledge(stream))
            try:
                while isinstance(update := await stream.read(), pb.Update):  # else grpc.aio.EOF
                    refusals = await self._arrived(update)
                    self._from_nothing, got_any = False, True
                    self._taken = (update.revision, refusals)
                    self._news.set()
                return got_any
            finally:
                acknowledging.cancel()
                await asyncio.gather(acknowledging, return_exceptions=True)

    def tell(self) -> None:
        """Refusals have changed since the last acknowledgement, or may have."""
        self._news.set()

    async def _acknowledge(self, stream: Any) -> None:
        """One stream's. What comes while one is settled is acknowledged together."""
        told: tuple[int, Refusals] | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            if self._taken is None:
                continue
            revision, refusals = self._taken
            if self._settled is not None:
                refusals = await self._settled(revision)
            if told != (revision, refusals):
                told = (revision, refusals)
                await stream.write(_ack(revision, refusals))

    def _hello(self) -> pb.NodeMessage:
        held = self._held()
        hello = pb.Hello(node=self._node, version=self._version, addresses=held.addresses)
        if not self._from_nothing:
            hello.revision, hello.epoch = held.revision, held.epoch
        return pb.NodeMessage(hello=hello)


def _ack(revision: int, refusals: Refusals) -> pb.NodeMessage:
    listed = [pb.Refusal(resource=resource, reason=reason) for resource, reason in sorted(refusals.items())]
    return pb.NodeMessage(ack=pb.Ack(revision=revision, refusals=listed))


def _describe(error: grpc.RpcError) -> str:
    details = getattr(error, "details", lambda: "")() or ""
    code = getattr(error, "code", lambda: None)()
    return f"{code.name if code else type(error).__name__}: {details}"
