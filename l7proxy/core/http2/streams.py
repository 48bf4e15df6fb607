"""One stream, either side (RFC 9113, 5): what may still come, what may still go, and the windows for both.

The rule: a stream is in its connection's `streams` as long as frames for it mean something, and state is put right
before anybody is called. Data that the peer's windows (or its reading) do not let through waits in a `Backlog`; at
half a window the source is asked to pause, so with what is on its way not more than a window and a half is held.
Data that came is credited on the connection at once, so that one slow reader does not stop its neighbours, and on
the stream unless the reader has paused: that bounds what one stream can hold to one window.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from weft.l7proxy.core.http2 import frames
from weft.l7proxy.core.http2.frames import DATA, END_STREAM, pack
from weft.l7proxy.core.stream import Headers, Reset

if TYPE_CHECKING:
    from weft.l7proxy.core.http2.connection import Connection


class Backlog:
    """What could not be sent as yet, in order. `since`: when it last moved."""

    __slots__ = ("ended", "pieces", "since", "size", "trailers")

    def __init__(self, since: float) -> None:
        self.pieces: deque[bytes] = deque()
        self.size, self.since = 0, since
        self.ended = False
        self.trailers: Headers | None = None

    def take(self, most: int) -> bytes:
        piece = self.pieces.popleft()
        if len(piece) > most:
            self.pieces.appendleft(piece[most:])
            piece = piece[:most]
        self.size -= len(piece)
        return piece


class Stream:
    """`begun`: our head has gone. `open_in`, `open_out`: END_STREAM has not come, has not gone. `length`: of the
    body that comes, -1: not said; `received` of it. `uncredited`: bytes that came and were not given back to the
    peer's window."""

    __slots__ = (
        "asked_to_pause",
        "backlog",
        "begun",
        "connection",
        "id",
        "length",
        "open_in",
        "open_out",
        "paused",
        "receive_window",
        "received",
        "send_window",
        "uncredited",
    )

    def __init__(self, connection: Connection, id: int) -> None:
        self.connection, self.id = connection, id
        self.open_in = self.open_out = True
        self.begun = False
        self.send_window, self.receive_window = connection.peer_window, connection.own_window
        self.uncredited = self.received = 0
        self.length = -1
        self.backlog: Backlog | None = None
        self.paused = self.asked_to_pause = False

    # What goes

    def send(self, data: bytes) -> None:
        if not self.open_out or not self.begun or not data:
            return
        connection, size = self.connection, len(data)
        if (
            self.backlog is not None
            or size > self.send_window
            or size > connection.send_window
            or size > connection.largest
            or connection.choked
        ):
            self._wait(data)
            return
        self.send_window -= size
        connection.send_window -= size
        connection.useful += 1
        out = connection.out
        out.append(pack(0, size, DATA, 0, self.id))
        out.append(data)
        connection.tail, connection.tail_at = self, len(out)
        if not connection.dirty:
            connection.touch()

    def finish(self, trailers: Headers | None = None) -> None:
        if not self.open_out or not self.begun:
            return
        backlog = self.backlog
        if backlog is not None:
            backlog.ended, backlog.trailers = True, trailers
            return
        connection = self.connection
        out = connection.out
        if trailers:
            connection.write_headers(self.id, trailers, True)
        elif connection.tail is self and connection.tail_at == len(out):
            # our last DATA has not gone out: it can say the end itself
            out[-2] = pack(0, len(out[-1]), DATA, END_STREAM, self.id)
            connection.tail = None
        else:
            out.append(pack(0, 0, DATA, END_STREAM, self.id))
            if not connection.dirty:
                connection.touch()
        self.sent_all()

    def reset(self, reason: Reset) -> None:
        if self.open_in or self.open_out:
            self.close(reason)

    def close(self, reason: Reset) -> None:
        """We end it. Whoever stands behind it knows already, or is told by the caller."""
        self.open_in = self.open_out = False
        self.backlog = None
        if self.id:
            self.connection.append(frames.rst_stream(self.id, reason))
        self.connection.forget(self, frames.RST_STREAM)

    def sent_all(self) -> None:
        self.open_out = False
        if not self.open_in:
            self.connection.forget(self, END_STREAM)

    def _wait(self, data: bytes) -> None:
        connection, backlog = self.connection, self.backlog
        if backlog is None:
            backlog = self.backlog = Backlog(connection.now())
            connection.waiting[self.id] = self
        elif backlog.ended:
            return
        backlog.pieces.append(data)
        backlog.size += len(data)
        self.pump()
        if self.backlog is not None and backlog.size > connection.half_window and not self.asked_to_pause:
            self.asked_to_pause = True
            self.ask_to_pause()

    def pump(self) -> None:
        """As much as all windows let through."""
        while self.pump_one():
            pass

    def pump_one(self) -> bool:
        """One frame. False: there is no more, or it has to wait."""
        backlog, connection = self.backlog, self.connection
        if backlog is None or connection.choked:
            return False
        if backlog.pieces:
            most = min(self.send_window, connection.send_window, connection.largest)
            if most <= 0:
                return False
            piece = backlog.take(most)
            size = len(piece)
            self.send_window -= size
            connection.send_window -= size
            connection.useful += 1
            backlog.since = connection.now()
            out = connection.out
            out.append(pack(0, size, DATA, 0, self.id))
            out.append(piece)
            connection.tail, connection.tail_at = self, len(out)
            if not connection.dirty:
                connection.touch()
        if backlog.pieces:
            return True
        self.backlog = None
        connection.waiting.pop(self.id, None)
        if backlog.ended:
            self.finish(backlog.trailers)
        return False

    def widened(self, increment: int) -> None:
        """The peer takes more on this stream."""
        self.send_window += increment
        if self.send_window > frames.MAX_WINDOW:
            raise frames.StreamFault(self.id, Reset.FLOW_CONTROL_ERROR, "window over 2^31-1")
        if self.backlog is not None:
            self.pump()
            self.relieve()

    def relieve(self) -> None:
        """The source may go on, once not much waits."""
        backlog = self.backlog
        if self.asked_to_pause and (backlog is None or backlog.size <= self.connection.half_window >> 1):
            self.asked_to_pause = False
            if self.open_out:
                self.ask_to_resume()

    # What comes

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self.open_in and self.uncredited >= self.connection.half_window:
            self.credit()

    def credit(self) -> None:
        """Gives the window back to the peer."""
        self.receive_window += self.uncredited
        self.connection.append(frames.window_update(self.id, self.uncredited))
        self.uncredited = 0

    def deliver(self, data: bytes) -> None:
        raise NotImplementedError

    def ended(self, trailers: Headers | None) -> None:
        """END_STREAM came; `open_in` is False already."""
        raise NotImplementedError

    def broken(self, reason: Reset, detail: str, code: int = -1) -> None:
        """The peer reset it (`code` is what it said), or we had to, or the connection is lost. It is forgotten
        already; whoever stands behind it is told."""
        raise NotImplementedError

    def ask_to_pause(self) -> None:
        raise NotImplementedError

    def ask_to_resume(self) -> None:
        raise NotImplementedError
