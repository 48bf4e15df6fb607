"""HTTP/2's frames as bytes (RFC 9113, 4 and 6): numbers, heads, settings, and the two ways to be wrong."""

from __future__ import annotations

import base64
import binascii
from struct import Struct
from typing import Final

from weft.l7proxy.core.stream import Reset

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

HEAD: Final = 9
FRAME: Final = 16384  # the largest payload that we take: the default, which senders do not exceed unasked
LARGEST: Final = 65535  # that we send, where the peer takes more: it fits the low two bytes of a length
DEFAULT_WINDOW: Final = 65535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM: Final = 2**31 - 1

_HEAD = Struct(">BHBBL")  # length in one and two bytes, type, flags, stream
pack = _HEAD.pack  # pack(0, length, type, flags, stream)
unpack_head = _HEAD.unpack_from
unpack_short = Struct(">LBL").unpack_from  # length and type in one number, flags, stream: made sooner
_SETTING = Struct(">HL")
_LONG = Struct(">L")
_TWO = Struct(">LL")


class Fault(Exception):
    """The whole connection is over (5.4.1): GOAWAY with this code."""

    def __init__(self, reason: Reset, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class StreamFault(Exception):
    """One stream is over (5.4.2): RST_STREAM with this code."""

    def __init__(self, stream: int, reason: Reset, detail: str) -> None:
        super().__init__(detail)
        self.stream, self.reason, self.detail = stream, reason, detail


def settings(values: list[tuple[int, int]]) -> bytes:
    return pack(0, 6 * len(values), SETTINGS, 0, 0) + b"".join([_SETTING.pack(*value) for value in values])


SETTINGS_ACK: Final = pack(0, 0, SETTINGS, ACK, 0)


def ping(data: bytes, flags: int = 0) -> bytes:
    return pack(0, 8, PING, flags, 0) + data


def rst_stream(stream: int, reason: int) -> bytes:
    return pack(0, 4, RST_STREAM, 0, stream) + _LONG.pack(reason)


def window_update(stream: int, increment: int) -> bytes:
    return pack(0, 4, WINDOW_UPDATE, 0, stream) + _LONG.pack(increment)


def goaway(last: int, reason: int, detail: str = "") -> bytes:
    said = detail.encode()
    return pack(0, 8 + len(said), GOAWAY, 0, 0) + _TWO.pack(last, reason) + said


def headers(stream: int, block: bytes, end: bool, largest: int) -> bytes:
    """HEADERS, and CONTINUATION for what does not fit into it."""
    flags = END_STREAM if end else 0
    if len(block) <= largest:
        return pack(0, len(block), HEADERS, flags | END_HEADERS, stream) + block
    out = [pack(0, largest, HEADERS, flags, stream), block[:largest]]
    for at in range(largest, len(block), largest):
        piece = block[at : at + largest]
        out.append(pack(0, len(piece), CONTINUATION, END_HEADERS if at + largest >= len(block) else 0, stream))
        out.append(piece)
    return b"".join(out)


def word(payload: bytes, at: int = 0) -> int:
    value: int = _LONG.unpack_from(payload, at)[0]
    return value


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Fault(Reset.PROTOCOL_ERROR, "padding longer than the frame")
    return payload[1 : len(payload) - payload[0]]


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Checked as 6.5.2 says; unknown ones are left out by whoever reads them."""
    if len(payload) % 6:
        raise Fault(Reset.FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    values = list(_SETTING.iter_unpack(payload))
    for name, value in values:
        if name == ENABLE_PUSH and value > 1:
            raise Fault(Reset.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Fault(Reset.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE over 2^31-1")
        if name == MAX_FRAME_SIZE and not FRAME <= value < 1 << 24:
            raise Fault(Reset.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
    return values


def settings_of_upgrade(value: bytes) -> bytes:
    """The payload in an HTTP2-Settings header (RFC 7540, 3.2.1). ValueError: it is none; answer 400, do not
    switch."""
    try:
        payload = base64.b64decode(value + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
        parse_settings(payload)
    except (binascii.Error, Fault) as error:
        raise ValueError(f"HTTP2-Settings: {error}") from None
    return payload
