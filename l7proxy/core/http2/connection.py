"""What both sides of an HTTP/2 connection have in common (RFC 9113): frames in, frames out, no I/O.

`receive` takes bytes as they come and calls what the sides fill in (`on_block`, `on_goaway`, `on_pong`). What is
wrong raises `Fault` (GOAWAY, then close) or `StreamFault` (RST_STREAM), never anything else. How bytes go out is in
`output`; the peer's settings, pings and GOAWAY are in `control`; what a stream may do is in `streams`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, Final

from weft.l7proxy.core.http2 import control, frames, guard
from weft.l7proxy.core.http2.frames import FRAME, PADDED, PREFACE, Fault, StreamFault, unpack_short
from weft.l7proxy.core.http2.hpack import BadBlock, Decoder, Oversize
from weft.l7proxy.core.http2.ledger import Ledger
from weft.l7proxy.core.http2.streams import Stream
from weft.l7proxy.core.http2.turn import TURN
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import Headers, Reset, Transport

_CONTINUATIONS: Final = 32  # of one block: at 16 KiB each they carry eight times the largest head
_WHOLE: Final = (
    frames.END_HEADERS | PADDED | frames.WITH_PRIORITY
)  # flags of HEADERS that may need more than decoding


class Connection(Ledger):
    """`pending`: the beginning of a frame that needs `need` bytes. `settled`: the peer's SETTINGS came;
    `acknowledged`: it has read ours."""

    __slots__ = (
        "acknowledged",
        "block",
        "decoder",
        "guard",
        "half_connection",
        "need",
        "peer_list",
        "peer_streams",
        "pending",
        "pending_since",
        "prefaced",
        "receive_window",
        "settled",
        "uncredited",
    )

    accepts_push_setting: ClassVar[bool]  # a client may say whether it wants pushes, a server must not

    def __init__(self, transport: Transport, limits: Limits, now: Callable[[], float]) -> None:
        Ledger.__init__(self, transport, limits, now)
        self.decoder = Decoder(limits.head, limits.headers)
        self.guard = guard.Guard(limits.resets, now)
        self.prefaced = self.settled = self.acknowledged = False
        self.pending = bytearray()
        self.pending_since, self.need = 0.0, 0
        self.block: _Block | None = None
        self.peer_list = 0  # bytes of a header list that the peer takes; 0: it did not say
        self.peer_streams = limits.streams
        self.receive_window = frames.DEFAULT_WINDOW
        self.half_connection = limits.connection_window >> 1
        self.uncredited = limits.connection_window - frames.DEFAULT_WINDOW

    def announce(self, first: tuple[int, int]) -> None:
        """Our SETTINGS, and the connection's window: they go out with whatever is written first."""
        limits = self.limits
        values = [first, (frames.INITIAL_WINDOW_SIZE, limits.window), (frames.MAX_HEADER_LIST_SIZE, limits.head)]
        self.out.append(frames.settings(values))
        if self.uncredited > 0:
            self.out.append(frames.window_update(0, self.uncredited))
            self.receive_window += self.uncredited
            self.uncredited = 0

    def receive(self, data: bytes) -> None:
        if self.dead:
            return
        TURN.depth += 1
        try:
            at = self._completed(data) if self.pending else 0
            if at >= 0 and not self.dead:
                at = self._frames(data, at)
                if at < len(data) and not self.dead:
                    self.pending += data[at:]
                    self.pending_since = self.now()
        except Fault as fault:
            self.fail(fault.reason, fault.detail)
        finally:
            TURN.leave()

    def _completed(self, data: bytes) -> int:
        """The frame that waits for its rest: only its own bytes are put together, for what follows may be much.
        Where the next one begins in `data`; -1: there is no more of it."""
        at, pending = 0, self.pending
        while pending and not self.dead:
            missing = self.need - len(pending)
            pending += data[at : at + missing]
            at += missing
            if at > len(data):
                return -1
            frame = bytes(pending)
            done = self._frames(frame, 0)
            del pending[:done]
        return at

    def _frames(self, data: bytes, at: int) -> int:
        """Where the first frame begins that is not whole; `need`: how long it has to be."""
        size = len(data)
        if not self.prefaced:
            if size < len(PREFACE):
                self.need = len(PREFACE)
                if PREFACE.startswith(data):
                    return 0
            if not data.startswith(PREFACE):
                raise Fault(Reset.PROTOCOL_ERROR, "no preface")
            self.prefaced = True
            self.touch()
            at = len(PREFACE)
        body = at + 9
        while body <= size:
            word, flags, id = unpack_short(data, at)
            length, kind, id = word >> 8, word & 0xFF, id & 0x7FFFFFFF
            if length > FRAME:
                raise Fault(Reset.FRAME_SIZE_ERROR, "a frame larger than announced")
            end = body + length
            if end > size:
                self.need = 9 + length
                return at
            payload = data[body:end]
            at, body = end, end + 9
            try:
                if kind > 1 or self.block is not None or not self.settled:
                    self._frame(kind, flags, id, payload)
                elif kind == 0:
                    self._data(flags, id, payload)
                elif flags & _WHOLE == frames.END_HEADERS:
                    self.on_block(id, flags & 1 == 1, payload)
                else:
                    self._headers(flags, id, payload)
            except StreamFault as fault:
                self._stream_fault(fault)
            if self.dead:
                return size
        self.need = 9
        return at

    def _frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if self.block is not None and (kind != frames.CONTINUATION or id != self.block.stream):
            raise Fault(Reset.PROTOCOL_ERROR, "something else within a header block")
        if not self.settled:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise Fault(Reset.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.settled = True
        if kind < len(_FRAMES):
            _FRAMES[kind](self, flags, id, payload)
        else:  # of an extension: ignored (5.5), though not for ever
            self.guard.count(guard.UPDATES, self.useful)

    def _data(self, flags: int, id: int, payload: bytes) -> None:
        size = len(payload)
        left = self.receive_window = self.receive_window - size
        if left < 0:
            raise Fault(Reset.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        owed = self.uncredited = self.uncredited + size
        if owed >= self.half_connection:
            self.credit()
        stream = self.streams.get(id)
        if stream is None or not stream.open_in:
            self.late(id, frames.DATA)
            return
        left = stream.receive_window = stream.receive_window - size
        if left < 0:
            raise StreamFault(id, Reset.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        stream.uncredited += size
        if flags & PADDED:
            payload = frames.unpadded(payload)
        if payload:
            self.useful += 1
            received = stream.received = stream.received + len(payload)
            if -1 < stream.length < received:
                raise StreamFault(id, Reset.PROTOCOL_ERROR, "more DATA than content-length")
            stream.deliver(payload)
        elif not flags & 1:
            self.guard.count(guard.EMPTY)
        if flags & 1:
            self.input_ended(stream, None)
        elif stream.uncredited >= self.half_window and not stream.paused and stream.open_in:
            stream.credit()

    def input_ended(self, stream: Stream, trailers: Headers | None) -> None:
        """END_STREAM, unless the stream was reset by whoever got its last piece."""
        if not stream.open_in:
            return
        if stream.length >= 0 and stream.length != stream.received:
            raise StreamFault(stream.id, Reset.PROTOCOL_ERROR, "less DATA than content-length")
        stream.open_in = False
        if not stream.open_out:
            self.forget(stream, frames.END_STREAM)
        stream.ended(trailers)

    def credit(self) -> None:
        self.receive_window += self.uncredited
        self.append(frames.window_update(0, self.uncredited))
        self.uncredited = 0

    def _headers(self, flags: int, id: int, payload: bytes) -> None:
        if not id:
            raise Fault(Reset.PROTOCOL_ERROR, "HEADERS of stream 0")
        if flags & PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Fault(Reset.FRAME_SIZE_ERROR, "HEADERS without its priority")
            if frames.word(payload) & 0x7FFFFFFF == id:
                raise Fault(Reset.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self.on_block(id, bool(flags & 1), payload)
        else:
            self.block = _Block(id, bool(flags & 1), payload, self.now())

    def _continuation(self, flags: int, id: int, payload: bytes) -> None:
        block = self.block
        if block is None:
            raise Fault(Reset.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.size += len(payload)
        block.pieces.append(payload)
        if block.size > self.limits.head or len(block.pieces) > _CONTINUATIONS:
            raise Fault(Reset.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self.block = None
            self.on_block(id, block.end, b"".join(block.pieces))

    def _rst_stream(self, flags: int, id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Reset.FRAME_SIZE_ERROR, "RST_STREAM of a broken length")
        stream = self.streams.get(id)
        if stream is None:
            if self.is_idle(id):
                raise Fault(Reset.PROTOCOL_ERROR, "RST_STREAM of an idle stream")
            return
        code = frames.word(payload)
        self.end_stream(stream, -1)
        stream.broken(control.reason(code), f"reset by the peer: {control.name(code)}", code)
        self.was_reset(stream)

    def was_reset(self, stream: Stream) -> None:
        """The server counts those that it did not answer as yet."""

    # Streams

    def decode(self, block: bytes) -> Headers:
        try:
            return self.decoder.decode(block)
        except BadBlock as error:
            raise Fault(Reset.COMPRESSION_ERROR, str(error)) from None

    def late_headers(self, id: int, block: bytes) -> None:
        """Decoded all the same: it may change the table."""
        with contextlib.suppress(Oversize):
            self.decode(block)
        self.late(id, frames.HEADERS)

    def _stream_fault(self, fault: StreamFault) -> None:
        """Counted: a peer can make us reset streams as fast as it can reset them itself."""
        self.append(frames.rst_stream(fault.stream, fault.reason))
        stream = self.streams.get(fault.stream)
        if stream is None:
            self.remember(fault.stream, frames.RST_STREAM)
        else:
            self.end_stream(stream, frames.RST_STREAM)
            stream.broken(fault.reason, fault.detail)
        self.guard.count(guard.ERRORS)

    # The end

    def fail(self, reason: Reset, detail: str) -> None:
        """GOAWAY, and all is over."""
        if self.dead:
            return
        self.append(frames.goaway(self.last_in, reason, detail))
        self.hang_up(reason, detail)

    def hang_up(self, reason: Reset, detail: str) -> None:
        """What was written goes out; streams that are left are broken."""
        self.dead = True
        self.flush()
        self.transport.close()
        self.abandon(reason, detail)

    def abandon(self, reason: Reset, detail: str) -> None:
        self.dead = True
        streams, self.streams = list(self.streams.values()), {}
        self.waiting.clear()
        self.pending.clear()
        self.block = None
        for stream in streams:
            if stream.open_in or stream.open_out:
                stream.open_in = stream.open_out = False
                stream.backlog = None
                self.over(stream)
                stream.broken(reason, detail)

    def on_block(self, id: int, end: bool, block: bytes) -> None:
        raise NotImplementedError

    def on_goaway(self, last: int, code: int) -> None:
        raise NotImplementedError

    def on_pong(self, data: bytes) -> None:
        """The answer to our PING."""

    def on_settings(self) -> None:
        """The peer's were applied."""

    def stalled(self, now: float) -> str:
        """What makes the connection not worth waiting for; "": nothing does."""
        if self.block is not None and now - self.block.since > self.limits.head_timeout:
            return "a header block that does not end"
        if self.pending and now - self.pending_since > self.limits.body_timeout:
            return "a frame that does not end"
        if self.choked and now - self.choked_since > self.limits.body_timeout:
            return "nothing is read"
        return ""


class _Block:
    """HEADERS that wait for their CONTINUATION."""

    __slots__ = ("end", "pieces", "since", "size", "stream")

    def __init__(self, stream: int, end: bool, piece: bytes, since: float) -> None:
        self.stream, self.end, self.since = stream, end, since
        self.pieces, self.size = [piece], len(piece)


_Frame = Callable[[Any, int, int, bytes], None]
_FRAMES: tuple[_Frame, ...] = (
    Connection._data,
    Connection._headers,
    control.priority,
    Connection._rst_stream,
    control.settings,
    control.push_promise,
    control.ping,
    control.goaway,
    control.window_update,
    Connection._continuation,
)
