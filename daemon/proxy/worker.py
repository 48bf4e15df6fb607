"""One worker's connection to the feed, from its Hello to its end.

```
connected --Setup--> Hello --> Update(full) --> Ack, Ready --> differences, questions, counts, records
```

Rules: 1. The first frame is Hello, and comes once. 2. A worker that says what makes no sense, or does not read what
it is sent, is cut off; it comes back by itself and gets everything anew. 3. What it was cut off for is told.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from weft.daemon.proxy.frames import BadFrame, Frames, frame
from weft.policies.wire.pb import proxy_pb2 as pb

log = logging.getLogger("weft.proxy")

#: Bytes that may wait to be read by a worker beyond a full update: some thousand differences.
BACKLOG: Final = 16 << 20
#: Seconds that a worker may leave what it was sent unread.
STALLED: Final = 30.0
#: Questions that one worker may owe answers to.
MAX_QUESTIONS: Final = 64
_CREDENTIALS: Final = struct.Struct("3i")


class AskFailed(Exception):
    """There is no answer; the text is for the person who asked."""


class Owner(Protocol):
    """The feed, as a worker's connection sees it."""

    def connected(self, worker: Worker) -> None: ...
    def greeted(self, worker: Worker) -> None:
        """Hello came."""

    def arrived(self, worker: Worker, message: pb.FromProxy) -> None:
        """Anything else; BadFrame: it makes no sense."""

    def lost(self, worker: Worker, why: str) -> None: ...


class Worker(asyncio.Protocol):
    """`pid` is the kernel's word where it has one (a proxy in another container is not in our pid namespace: 0,
    then it is the worker's own). `acked` 0: nothing yet."""

    def __init__(
        self, owner: Owner, setup: Callable[[], pb.Setup], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._owner, self._setup, self._clock = owner, setup, clock
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._next_question = 1
        self._allowance = BACKLOG
        self._blocked_since = 0.0  # 0: it reads
        self._why = "it closed its connection"
        self.hello: pb.Hello | None = None
        self.pid = self.number = self.generation = 0
        self.version = ""
        self.connected_at = self.heard_at = clock()
        self.updated_at = 0.0  # when it was first sent an update; 0: there was none yet
        self.ready = self.draining = False
        self.sent = self.acked = 0  # revisions
        self.refusals: dict[str, str] = {}
        self.records = self.records_lost = 0
        self.status: dict[str, Any] = {}  # its last answer to "status"

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer: socket.socket = transport.get_extra_info("socket")
        self.pid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        self._owner.connected(self)
        self.send(pb.ToProxy(setup=self._setup()))

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._clock()
        try:
            for message in self._frames.receive(data):
                self._take(message)
                if self.closed:
                    return
        except BadFrame as bad:
            self.cut(str(bad))
        except Exception as error:
            log.exception("worker %d of the proxy: a message could not be taken in", self.number)
            self.cut(f"{type(error).__name__}: {error}")

    def pause_writing(self) -> None:
        self._blocked_since = self._clock()

    def resume_writing(self) -> None:
        self._blocked_since, self._allowance = 0.0, BACKLOG

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ready = False
        for question in self._questions.values():
            if not question.done():
                question.set_exception(AskFailed("the worker is gone"))
        self._questions.clear()
        self._owner.lost(self, self._why)

    # what the feed does with it

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def cut(self, why: str) -> None:
        """Its connection ends at once."""
        if self._transport is not None and not self._transport.is_closing():
            self._why = why
            self._transport.abort()

    def close(self) -> None:
        """The daemon ends: what was written goes out, and the worker tries to come back."""
        if self._transport is not None:
            self._why = "the daemon ends"
            self._transport.close()

    def send(self, message: pb.ToProxy) -> None:
        self._write(frame(message))

    def send_full(self, revision: int, data: bytes) -> None:
        """`data`: a frame of `update_frame`, shared with the other workers."""
        self._allowance += len(data)
        self.sent = revision
        self.updated_at = self.updated_at or self._clock()
        self._write(data)

    def send_difference(self, revision: int, data: bytes) -> None:
        self.sent = revision
        self._write(data)

    def stalled(self) -> bool:
        """Whether it has left what it was sent unread for too long."""
        return bool(self._blocked_since) and self._clock() - self._blocked_since > STALLED

    async def ask(self, what: str, arg: str, seconds: float) -> bytes:
        """Its answer, JSON. AskFailed."""
        if self.closed or len(self._questions) >= MAX_QUESTIONS:
            raise AskFailed("the worker is gone" if self.closed else "the worker owes too many answers")
        number, self._next_question = self._next_question, self._next_question + 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self.send(pb.ToProxy(query=pb.Query(id=number, what=what, arg=arg)))
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise AskFailed(f"the worker did not answer within {seconds:g} s") from None
        finally:
            self._questions.pop(number, None)

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > self._allowance:
            self.cut(f"it does not read: {self._transport.get_write_buffer_size()} bytes wait")
            return
        self._transport.write(data)

    def _take(self, message: pb.FromProxy) -> None:
        kind = message.WhichOneof("message")
        if self.hello is None:
            if kind != "hello":
                raise BadFrame(f"{kind} before hello")
            self._greet(message.hello)
        elif kind == "hello":
            raise BadFrame("a second hello")
        elif kind == "reply":
            self._answered(message.reply)
        else:
            self._owner.arrived(self, message)

    def _greet(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.pid = self.pid or hello.pid
        self.number, self.generation, self.version = hello.worker, hello.generation, hello.version
        self._owner.greeted(self)

    def _answered(self, reply: pb.Reply) -> None:
        """One that comes too late is nobody's any more."""
        question = self._questions.get(reply.id)
        if question is None or question.done():
            return
        if reply.error:
            question.set_exception(AskFailed(reply.error))
        else:
            question.set_result(reply.json)
