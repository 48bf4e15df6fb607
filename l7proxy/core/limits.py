"""Bounds on what a stranger may make us hold or do. Each of them has its cases in the table of hostile bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds. `head`: request line and headers together (Envoy 60 KiB; nginx closes the shared upstream
    connection for everyone beyond its 8 to 32 KiB, so a head over it must not be forwarded blindly). `window`: what
    is buffered in one direction of a stream before the sender is paused."""

    head: int = 60 << 10
    headers: int = 100
    request_line: int = 16 << 10
    window: int = 64 << 10
    connection_window: int = 1 << 20
    streams: int = 100  # concurrent, of one HTTP/2 connection
    head_timeout: float = 10.0  # from the first byte of a request to the end of its head
    body_timeout: float = 60.0  # without a byte of the request's body while one is awaited
    idle_timeout: float = 3600.0  # between two requests
    resets: int = 200  # of streams in 10 s that were not answered yet (rapid reset), settings, pings: each
    requests_per_connection: int = 0  # 0: no limit
    retry_buffer: int = 64 << 10  # of a request's body, so that it can be sent again


DEFAULTS = Limits()
