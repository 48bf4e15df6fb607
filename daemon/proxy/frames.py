"""Frames of the feed: a length (u32, big endian) and that many bytes of a ToProxy or FromProxy.

An update is put into its frame as the bytes that the operator sent: nothing is decoded or encoded on its way, and
all workers are written the same bytes object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from weft.policies.wire.pb import proxy_pb2 as pb

#: Bytes of one frame from a worker. The largest honest one is its whole configuration as JSON (5,000 services).
LARGEST: Final = 64 << 20
_UPDATE: Final = bytes([pb.ToProxy.UPDATE_FIELD_NUMBER << 3 | 2])


class BadFrame(ValueError):
    """Bytes that are no frame of a worker: there is no way back into step, the connection has to end."""


def frame(message: pb.ToProxy) -> bytes:
    return framed(message.SerializeToString())


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def update_frame(update: bytes) -> bytes:
    """ToProxy{update}, of a serialized weft.control.v1.Update."""
    return framed(b"".join((_UPDATE, _varint(len(update)), update)))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Frames:
    """Bytes in, messages out, however they were cut. Holds no more than one frame and what came with it."""

    __slots__ = ("_buffer", "largest")

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[pb.FromProxy]:
        """BadFrame: too long, or not a message."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 4:
                length = int.from_bytes(buffer[at : at + 4], "big")
                if length > self.largest:
                    raise BadFrame(f"a frame of {length} bytes, at most {self.largest}")
                if len(buffer) - at - 4 < length:
                    return
                body = bytes(buffer[at + 4 : at + 4 + length])
                at += 4 + length
                yield _parsed(body)
        finally:
            del buffer[:at]


def _parsed(body: bytes) -> pb.FromProxy:
    try:
        message = pb.FromProxy.FromString(body)
    except Exception as error:  # DecodeError, and what else an implementation of protobuf may raise
        raise BadFrame(f"not a message: {error}") from None
    if message.WhichOneof("message") is None:
        raise BadFrame("an empty message")
    return message
