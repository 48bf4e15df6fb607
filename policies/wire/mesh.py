"""Values of `mesh.model` <-> msgpack, without loss. Bytes that are no such value raise ValueError."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from weft.policies.mesh.model import HostRouting, MeshSettings, Model, Telemetry

M = TypeVar("M", bound=Model)

_ENCODER = msgspec.msgpack.Encoder()
_ROUTING = msgspec.msgpack.Decoder(HostRouting)
_TELEMETRY = msgspec.msgpack.Decoder(Telemetry)
_SETTINGS = msgspec.msgpack.Decoder(MeshSettings)


def encode(value: Model) -> bytes:
    return _ENCODER.encode(value)


def routing(data: bytes) -> HostRouting:
    return _decoded(_ROUTING, data)


def telemetry(data: bytes) -> Telemetry:
    return _decoded(_TELEMETRY, data)


def settings(data: bytes) -> MeshSettings:
    return _decoded(_SETTINGS, data)


def _decoded(decoder: msgspec.msgpack.Decoder[M], data: bytes) -> M:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
