"""The shell around one client codec: bytes of an upstream connection in, its end and its watermarks out.

The codec's `receive` is the protocol's `data_received` itself, so bytes reach it without a call in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import ClientCodec, Failure


class Cancel(Protocol):
    def cancel(self) -> None: ...


class Connector(Protocol):
    """`l7proxy.connector.Connector`. Neither callback comes from within the call."""

    def connect(
        self,
        source_ip: str,
        address: tuple[str, int],
        timeout: float,
        opened: Callable[[asyncio.Transport], asyncio.Protocol],
        failed: Callable[[Failure, str], None],
        keepalive: tuple[float, float, int] | None = None,
    ) -> Cancel: ...


MakeCodec = Callable[[Any, Limits, Callable[[], float]], ClientCodec]


@dataclass(frozen=True, slots=True)
class Plumbing:
    """What all pools share. `codecs`: by protocol."""

    connector: Connector
    codecs: Mapping[str, MakeCodec]
    limits: Limits
    now: Callable[[], float]


class Owner(Protocol):
    """The pool."""

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """`carried`: requests so far. `since`: when it was last given back. `listed`: the pool counts it as ready;
    `retired`: it carries nothing new and closes when it is idle."""

    __slots__ = (
        "_owner",
        "born",
        "carried",
        "codec",
        "data_received",
        "listed",
        "retired",
        "since",
        "transport",
    )

    data_received: Callable[[bytes], None]  # type: ignore[assignment]

    def __init__(self, owner: Owner, transport: asyncio.Transport, codec: ClientCodec, now: float) -> None:
        self._owner: Owner | None = owner
        self.transport, self.codec = transport, codec
        self.born = self.since = now
        self.carried = 0
        self.listed = self.retired = False
        self.data_received = codec.receive

    def eof_received(self) -> bool:
        """The server said its last; the codec decides. True: our side stays open until it does."""
        self.codec.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        owner, self._owner = self._owner, None
        self.codec.on_change = None  # or codec and connection would keep each other
        if owner is not None:
            owner.lost(self)
        self.codec.lost(Failure.RESET)

    def pause_writing(self) -> None:
        self.codec.pause_writing()

    def resume_writing(self) -> None:
        self.codec.resume_writing()
