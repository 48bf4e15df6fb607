"""Which streams there are, and how those ended that are no more (RFC 9113, 5.1).

What comes late for a closed stream is judged by how it closed: after our reset it is ignored, for the peer had not
heard of it; after the peer's own it is a stream error; after the end of both sides the connection is at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.frames import Fault, StreamFault
from weft.l7proxy.core.http2.output import Output
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Reset, Transport

_REMEMBERED: Final = 512  # closed streams, in each of two generations


class Ledger(Output):
    """`forgotten`: how streams closed: END_STREAM, RST_STREAM (ours), -1 (the peer's); the older ones in
    `forgotten_before`. `last_in`: the peer's highest stream."""

    __slots__ = ("forgotten", "forgotten_before", "last_in")

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        Output.__init__(self, transport, limits, now)
        self.forgotten: dict[int, int] = {}
        self.forgotten_before: dict[int, int] = {}
        self.last_in = 0

    def end_stream(self, stream: Stream, how: int) -> None:
        stream.open_in = stream.open_out = False
        stream.backlog = None
        self.forget(stream, how)

    def forget(self, stream: Stream, how: int) -> None:
        """Closed, both ways. What comes for it later is judged by how it closed."""
        id = stream.id
        if self.streams.pop(id, None) is None:
            return
        if self.waiting:
            self.waiting.pop(id, None)
        if len(self.forgotten) >= _REMEMBERED:
            self.forgotten_before, self.forgotten = self.forgotten, {}
        self.forgotten[id] = how
        self.over(stream)

    def remember(self, id: int, how: int) -> None:
        if len(self.forgotten) >= _REMEMBERED:
            self.forgotten_before, self.forgotten = self.forgotten, {}
        self.forgotten[id] = how

    def over(self, stream: Stream) -> None:
        """One stream less."""

    def is_idle(self, id: int) -> bool:
        raise NotImplementedError

    def late(self, id: int, kind: int) -> None:
        """DATA or HEADERS for a stream that takes none (5.1)."""
        if id in self.streams:
            raise StreamFault(id, Reset.STREAM_CLOSED, "half closed already")
        how = self.forgotten.get(id) or self.forgotten_before.get(id)
        if how == frames.RST_STREAM:  # it had not heard of our reset
            return
        if how == frames.END_STREAM:
            raise Fault(Reset.STREAM_CLOSED, "closed already")
        if not id or self.is_idle(id) or (how is None and kind == frames.HEADERS):
            raise Fault(Reset.PROTOCOL_ERROR, "no such stream")
        raise StreamFault(id, Reset.STREAM_CLOSED, "closed already")
