"""The worker's end of the daemon's feed: what it is told, and what it tells.

In: frames of `ToProxy` from a unix socket. Out: calls of `Owner`, frames of `FromProxy`. Rule: the worker serves
without a daemon as with one. A connection that ends, or says what makes no sense, is made anew after 0.1 to 2 s;
the daemon then sends everything, and what was counted meanwhile is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec
from google.protobuf.message import DecodeError

from weft.l7proxy.reports import Counts, Ring
from weft.policies import delta
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb

log = logging.getLogger("weft.l7proxy")

#: A frame longer than this is none: 5,000 pods and 1,000 policies are some 3 MB.
LARGEST: Final = 512 << 20
#: From this size on, an update is decoded in a thread, so that requests go on meanwhile.
LARGE: Final = 128 << 10
#: Bytes that the daemon has not read yet, beyond which nothing more is written.
BACKLOG: Final = 4 << 20
RECORDS_EVERY: Final = 0.05
COUNTS_EVERY: Final = 20  # of those
RETRY: Final = (0.1, 2.0)


class BadFrame(ValueError):
    """There is no way back into step: the connection has to end."""


class Owner(Protocol):
    """The worker. `set_up` may come again, after the daemon's restart."""

    def hello(self) -> pb.Hello: ...
    async def set_up(self, setup: pb.Setup) -> None: ...
    async def updated(self, update: delta.Update) -> None:
        """Raises `delta.OutOfOrder`."""

    def refusals(self) -> Mapping[str, str]: ...
    @property
    def revision(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    def answer(self, what: str, arg: str) -> object:
        """Plain values for JSON. Raises LookupError, ValueError with words for the person who asked."""

    def drain(self, seconds: float) -> None: ...
    def tap(self, on: bool) -> None: ...


class Feed:
    def __init__(self, path: str, owner: Owner, counts: Counts, ring: Ring) -> None:
        self.path = path
        self.connected = False
        self.connections = 0  # made so far
        self._owner, self._counts, self._ring = owner, counts, ring
        self._writer: asyncio.StreamWriter | None = None
        self._refused_update: dict[str, str] = {}
        self._told_ready = False

    async def run(self) -> None:
        """Until it is cancelled."""
        wait = RETRY[0]
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 20)
            except OSError:
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY[1])
                continue
            heard = await self._serve(reader, writer)
            wait = RETRY[0] if heard else min(wait * 2, RETRY[1])
            await asyncio.sleep(wait)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether anything sensible came."""
        self._writer, self.connected = writer, True
        self.connections += 1
        self._told_ready = False
        self._counts.connected()
        self.send(pb.FromProxy(hello=self._owner.hello()))
        telling = asyncio.get_running_loop().create_task(self._tell())
        heard = False
        try:
            while True:
                await self._take(await _read(reader))
                heard = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except (BadFrame, DecodeError, ValueError) as error:
            log.warning("the daemon's feed: %s", error)
        finally:
            telling.cancel()
            self._writer, self.connected = None, False
            writer.close()
        return heard

    # what the worker is told

    async def _take(self, body: bytes) -> None:
        message = pb.ToProxy.FromString(body)
        kind = message.WhichOneof("message")
        if kind == "update":
            await self._update(message.update, len(body))
        elif kind == "setup":
            await self._owner.set_up(message.setup)
        elif kind == "query":
            self._answer(message.query)
        elif kind == "flush":
            self.flush()
        elif kind == "drain":
            self._owner.drain(message.drain.seconds)
        elif kind == "tap":
            self._owner.tap(message.tap.on)
        self.tell_ready()

    async def _update(self, message: control_pb2.Update, size: int) -> None:
        try:
            if size >= LARGE:
                update = await asyncio.get_running_loop().run_in_executor(None, convert.from_update, message)
            else:
                update = convert.from_update(message)
            await self._owner.updated(update)
            self._refused_update = {}
        except delta.OutOfOrder as error:
            raise BadFrame(str(error)) from None
        except OSError:
            raise  # it cannot listen: that is the process's end
        except Exception as error:
            if not isinstance(error, DecodeError | ValueError):
                log.exception("update %d", message.revision)
            self._refused_update = {f"update {message.revision}": f"{type(error).__name__}: {error}"}
            self._acknowledge()
            raise BadFrame(f"update {message.revision}: {error}") from None
        self._acknowledge()

    def _acknowledge(self) -> None:
        refusals = {**self._owner.refusals(), **self._refused_update}
        told = [control_pb2.Refusal(resource=resource, reason=reason) for resource, reason in refusals.items()]
        self.send(pb.FromProxy(ack=pb.Ack(revision=self._owner.revision, refusals=told)))

    def _answer(self, query: pb.Query) -> None:
        reply = pb.Reply(id=query.id)
        try:
            reply.json = msgspec.json.encode(self._owner.answer(query.what, query.arg))
        except (LookupError, ValueError, TypeError) as error:
            reply.error = str(error.args[0]) if error.args else type(error).__name__
        self.send(pb.FromProxy(reply=reply))

    # what the worker tells

    def send(self, message: pb.FromProxy) -> None:
        """Nobody there: it is not told."""
        if self._writer is not None and not self._writer.is_closing():
            body = message.SerializeToString()
            self._writer.write(len(body).to_bytes(4, "big") + body)

    def tell_ready(self) -> None:
        if self.connected and self._owner.ready and not self._told_ready:
            self._told_ready = True
            self.send(pb.FromProxy(ready=pb.Ready()))

    def flush(self) -> None:
        """What was recorded and counted until now; the counts always, for they say that this is done."""
        while (records := self._ring.take()) is not None:
            self.send(pb.FromProxy(records=records))
        self.send(pb.FromProxy(counts=self._counts.take()))

    async def drained(self) -> None:
        """What was written is out, or nobody reads it."""
        if self._writer is not None:
            try:
                async with asyncio.timeout(1.0):
                    self._writer.close()
                    await self._writer.wait_closed()
            except (OSError, TimeoutError):
                pass

    async def _tell(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(RECORDS_EVERY)
            turn += 1
            if not self._writable():
                continue
            if (records := self._ring.take()) is not None:  # one message: the rest waits for its turn
                self.send(pb.FromProxy(records=records))
            if turn % COUNTS_EVERY == 0:
                counts = self._counts.take()
                if counts.series or counts.samples:
                    self.send(pb.FromProxy(counts=counts))

    def _writable(self) -> bool:
        return self._writer is not None and self._writer.transport.get_write_buffer_size() < BACKLOG


async def _read(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > LARGEST:
        raise BadFrame(f"a frame of {length} bytes, at most {LARGEST}")
    return await reader.readexactly(length)
