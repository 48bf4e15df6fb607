"""How a connection writes: one `transport.write` for each turn, and what to do when the transport is full.

While the transport is full (the shell says so by `pause_writing`) DATA waits in its streams, as if their windows
were empty; answers to what the peer sends still go, up to a bound, and beyond it nothing more is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.encoder import Encoder
from weft.l7proxy.core.http2.frames import FRAME, HEADERS, pack
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.http2.turn import TURN
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Headers, Transport

_CHOKED: Final = 256 << 10  # bytes written while the transport is full, before we stop reading


class Output:
    """`streams`: all that are open; `waiting`: those of them with a backlog. `useful`: frames that carried
    something, both ways. `largest`: payload that the peer takes in one frame."""

    __slots__ = (
        "choked",
        "choked_bytes",
        "choked_since",
        "dead",
        "dirty",
        "encoder",
        "half_window",
        "largest",
        "limits",
        "now",
        "out",
        "own_window",
        "peer_window",
        "send_window",
        "streams",
        "tail",
        "tail_at",
        "transport",
        "useful",
        "waiting",
    )

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        self.transport, self.limits, self.now = transport, limits, now
        self.out: list[bytes] = []
        self.dirty = self.dead = self.choked = False
        self.choked_bytes, self.choked_since = 0, 0.0
        self.tail: Stream | None = None  # whose DATA is the last frame in `out`, if `out` is `tail_at` long
        self.tail_at = self.useful = 0
        self.streams: dict[int, Stream] = {}
        self.waiting: dict[int, Stream] = {}
        self.encoder = Encoder()
        self.largest = FRAME
        self.send_window = self.peer_window = frames.DEFAULT_WINDOW
        self.own_window = max(frames.DEFAULT_WINDOW, limits.window)  # until our SETTINGS are acknowledged
        self.half_window = limits.window >> 1

    def touch(self) -> None:
        if TURN.depth:
            self.dirty = True
            TURN.dirty.append(self)
        else:
            self.flush()

    def append(self, frame: bytes) -> None:
        self.out.append(frame)
        if not self.dirty:
            self.touch()

    def flush(self) -> None:
        self.dirty = False
        out = self.out
        if not out:
            return
        self.out, self.tail = [], None
        data = out[0] if len(out) == 1 else b"".join(out)
        self.transport.write(data)
        if self.choked:
            self._written_choked(len(data))

    def write_headers(self, stream: int, headers: Headers, end: bool) -> None:
        self.write_block(stream, self.encoder.encode(headers), end)

    def write_block(self, stream: int, block: bytes, end: bool) -> None:
        size = len(block)
        if size <= FRAME:
            self.out.append(pack(0, size, HEADERS, 5 if end else 4, stream) + block)
        else:
            self.out.append(frames.headers(stream, block, end, self.largest))
        self.useful += 1
        if not self.dirty:
            self.touch()

    def _written_choked(self, size: int) -> None:
        """Answers to what the peer sends while it does not read: at some point we stop reading, too."""
        before = self.choked_bytes
        self.choked_bytes += size
        if before <= _CHOKED < self.choked_bytes:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        self.choked, self.choked_bytes, self.choked_since = True, 0, self.now()

    def resume_writing(self) -> None:
        if not self.choked:
            return
        self.choked = False
        if self.dead:
            return
        if self.choked_bytes > _CHOKED:
            self.transport.resume_reading()
        self.pump()

    def pump(self) -> None:
        """What waits goes out, a frame of each stream in turn, as far as the connection's window goes."""
        TURN.depth += 1
        try:
            moving = list(self.waiting.values())
            while moving and self.send_window > 0 and not self.choked:
                moving = [stream for stream in moving if stream.pump_one()]
            for stream in list(self.streams.values()) if self.streams else ():
                if stream.asked_to_pause:
                    stream.relieve()
        finally:
            TURN.leave()
