"""Handlers and sinks that write down what they are told, and a reader of frames that is not the codec's own."""

from __future__ import annotations

import struct
from typing import Any

import hpack

from weft.l7proxy.core.stream import Downstream, Failure, Headers, Request, Reset, Response, Upstream

Frame = tuple[int, int, int, bytes]  # type, flags, stream, payload


def frames_of(data: bytes) -> list[Frame]:
    found, at = [], 0
    if data.startswith(b"PRI * HTTP/2.0"):
        at = 24
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        kind, flags, stream = struct.unpack_from(">BBL", data, at + 3)
        assert at + 9 + length <= len(data), "a frame was cut off"
        found.append((kind, flags, stream, data[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def goaways(frames: list[Frame]) -> list[int]:
    return [int.from_bytes(payload[4:8], "big") for kind, _, _, payload in frames if kind == 7]


def resets_of(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(stream, int.from_bytes(payload, "big")) for kind, _, stream, payload in frames if kind == 3]


def of_kind(frames: list[Frame], kind: int) -> list[Frame]:
    return [frame for frame in frames if frame[0] == kind]


def body_of(frames: list[Frame], stream: int) -> bytes:
    return b"".join(payload for kind, _, of, payload in frames if kind == 0 and of == stream)


def statuses(frames: list[Frame], decoder: Any = None) -> dict[int, int]:
    """The last status of each stream, for small heads."""
    found: dict[int, int] = {}
    decoder = decoder or hpack.Decoder()
    for kind, _, stream, payload in frames:
        if kind == 1:
            for name, value in decoder.decode(payload, raw=True):
                if name == b":status":
                    found[stream] = int(value)
    return found


class Recorded:
    """One request as a handler saw it. Answers 200 with "ok" at its end, if it is told to."""

    def __init__(self, request: Request, downstream: Downstream, end: bool, answer: bool) -> None:
        self.request, self.downstream = request, downstream
        self.pieces: list[bytes] = []
        self.ended = False
        self.trailers: Headers | None = None
        self.reason: Reset | None = None
        self.pauses: list[str] = []
        self._answer = answer
        if end:
            self.end(None)

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return self.ended or self.reason is not None

    def body(self, data: bytes) -> None:
        assert not self.over and data
        self.pieces.append(data)

    def end(self, trailers: Headers | None) -> None:
        assert not self.over
        self.ended, self.trailers = True, trailers
        if self._answer:
            self.downstream.respond(Response(200, [(b"content-length", b"2")], length=2), False)
            self.downstream.send(b"ok")
            self.downstream.finish()

    def gone(self, reason: Reset) -> None:
        assert self.reason is None
        self.reason = reason

    def pause_response(self) -> None:
        self.pauses.append("pause")

    def resume_response(self) -> None:
        self.pauses.append("resume")


class Recorder:
    def __init__(self, answer: bool = True) -> None:
        self.requests: list[Recorded] = []
        self.answer = answer

    def request(self, request: Request, downstream: Downstream, end: bool) -> Recorded:
        recorded = Recorded(request, downstream, end, self.answer)
        self.requests.append(recorded)
        return recorded

    @property
    def last(self) -> Recorded:
        return self.requests[-1]


class Sink:
    """One response as the exchange sees it."""

    def __init__(self) -> None:
        self.infos: list[Response] = []
        self.head: Response | None = None
        self.pieces: list[bytes] = []
        self.ended = False
        self.trailers: Headers | None = None
        self.failure: Failure | None = None
        self.detail = ""
        self.pauses: list[str] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return self.ended or self.failure is not None

    def opened(self, upstream: Upstream) -> None: ...

    def informational(self, response: Response) -> None:
        assert not self.over and self.head is None
        self.infos.append(response)

    def response(self, response: Response, end: bool) -> None:
        assert not self.over and self.head is None
        self.head, self.ended = response, end

    def response_body(self, data: bytes) -> None:
        assert not self.over and self.head is not None and data
        self.pieces.append(data)

    def response_end(self, trailers: Headers | None) -> None:
        assert not self.over and self.head is not None
        self.ended, self.trailers = True, trailers

    def failed(self, failure: Failure, detail: str) -> None:
        assert not self.over
        self.failure, self.detail = failure, detail

    def pause_request(self) -> None:
        self.pauses.append("pause")

    def resume_request(self) -> None:
        self.pauses.append("resume")
