"""Frames that are about the connection, not about a request: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, and the two
that nobody may send or heed (PUSH_PROMISE, PRIORITY). Each is a function of connection, flags, stream and
payload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.l7proxy.core.http2 import frames, guard
from weft.l7proxy.core.http2.frames import Fault, StreamFault
from weft.l7proxy.core.stream import Reset

if TYPE_CHECKING:
    from weft.l7proxy.core.http2.connection import Connection

_CODES: Final = {code.value: code for code in Reset}
_NAMES: Final = {4: "SETTINGS_TIMEOUT", 10: "CONNECT_ERROR", 12: "INADEQUATE_SECURITY", 13: "HTTP_1_1_REQUIRED"}
_MOST_STREAMS: Final = 1024  # of one upstream connection, whatever its peer allows


def reason(code: int) -> Reset:
    """Codes that the rest of the proxy has no word for are a CANCEL to it."""
    return _CODES.get(code, Reset.CANCEL)


def name(code: int) -> str:
    known = _CODES.get(code)
    return known.name if known is not None else _NAMES.get(code, f"code {code}")


def settings(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    if id:
        raise Fault(Reset.PROTOCOL_ERROR, "SETTINGS of a stream")
    if flags & frames.ACK:
        if payload:
            raise Fault(Reset.FRAME_SIZE_ERROR, "an acknowledgement with settings")
        _acknowledged(connection)
        return
    connection.guard.count(guard.SETTINGS)
    apply(connection, frames.parse_settings(payload))
    connection.append(frames.SETTINGS_ACK)  # before what the new windows let through: then the peer is ready for it
    if connection.waiting:
        connection.pump()


def _acknowledged(connection: Connection) -> None:
    """From now on a window smaller than the default holds, for open streams too (6.9.2)."""
    connection.acknowledged = True
    change = connection.limits.window - connection.own_window
    if change:
        connection.own_window += change
        for stream in connection.streams.values():
            stream.receive_window += change


def apply(connection: Connection, values: list[tuple[int, int]]) -> None:
    for which, value in values:
        if which == frames.HEADER_TABLE_SIZE:
            connection.encoder.resize(value)
        elif which == frames.INITIAL_WINDOW_SIZE:
            _resize_windows(connection, value)
        elif which == frames.MAX_FRAME_SIZE:
            connection.largest = min(value, frames.LARGEST)
        elif which == frames.MAX_CONCURRENT_STREAMS:
            connection.peer_streams = min(value, _MOST_STREAMS)
        elif which == frames.MAX_HEADER_LIST_SIZE:
            connection.peer_list = max(value, 1)
        elif which == frames.ENABLE_PUSH and value and not connection.accepts_push_setting:
            raise Fault(Reset.PROTOCOL_ERROR, "a server that enables push")
    connection.on_settings()


def _resize_windows(connection: Connection, value: int) -> None:
    """May leave windows negative (6.9.2)."""
    change = value - connection.peer_window
    connection.peer_window = value
    for stream in connection.streams.values():
        stream.send_window += change
        if stream.send_window > frames.MAX_WINDOW:
            raise Fault(Reset.FLOW_CONTROL_ERROR, "a window over 2^31-1 by SETTINGS")


def ping(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    if id:
        raise Fault(Reset.PROTOCOL_ERROR, "PING of a stream")
    if len(payload) != 8:
        raise Fault(Reset.FRAME_SIZE_ERROR, "PING of a broken length")
    connection.guard.count(guard.PINGS, connection.useful)
    if flags & frames.ACK:
        connection.on_pong(payload)
    else:
        connection.append(frames.ping(payload, frames.ACK))


def goaway(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    if id:
        raise Fault(Reset.PROTOCOL_ERROR, "GOAWAY of a stream")
    if len(payload) < 8:
        raise Fault(Reset.FRAME_SIZE_ERROR, "GOAWAY of a broken length")
    connection.guard.count(guard.SETTINGS)
    connection.on_goaway(frames.word(payload) & 0x7FFFFFFF, frames.word(payload, 4))


def window_update(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    if len(payload) != 4:
        raise Fault(Reset.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a broken length")
    connection.guard.count(guard.UPDATES, connection.useful)
    increment = frames.word(payload) & 0x7FFFFFFF
    if not id:
        if not increment:
            raise Fault(Reset.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        connection.send_window += increment
        if connection.send_window > frames.MAX_WINDOW:
            raise Fault(Reset.FLOW_CONTROL_ERROR, "the connection's window over 2^31-1")
        if connection.waiting:
            connection.pump()
        return
    stream = connection.streams.get(id)
    if stream is not None:
        if not increment:
            raise StreamFault(id, Reset.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        stream.widened(increment)
    elif connection.is_idle(id):
        raise Fault(Reset.PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream")


def priority(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    """Deprecated (5.3.2): checked, and ignored."""
    if not id:
        raise Fault(Reset.PROTOCOL_ERROR, "PRIORITY of stream 0")
    connection.guard.count(guard.UPDATES, connection.useful)
    if len(payload) != 5:
        raise StreamFault(id, Reset.FRAME_SIZE_ERROR, "PRIORITY of a broken length")
    if frames.word(payload) & 0x7FFFFFFF == id:
        raise StreamFault(id, Reset.PROTOCOL_ERROR, "a stream that depends on itself")


def push_promise(connection: Connection, flags: int, id: int, payload: bytes) -> None:
    raise Fault(Reset.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody enabled")
