"""What every connection of the proxy is given: the world, the engine, the connector, the clock, where it counts.

The shell is everything around the sans-I/O core. This file holds no behaviour, so that any part can be tested with
a shell of fakes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from weft.l7proxy.connector import Connector
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.parties import Clusters, Observer
from weft.l7proxy.core.stream import Handler, Peer, ServerCodec, Transport
from weft.l7proxy.world import SnapshotWorld

MakeCodec = Callable[[Transport, Handler, Peer, Limits, Callable[[], float]], ServerCodec]


class Open(Protocol):
    """A connection that a client opened, whatever it carries."""

    peer: Peer

    def tick(self, now: float) -> None:
        """Once a second: timeouts are judged here."""

    def drain(self) -> None:
        """Take no new work; close when there is none."""

    def reset(self) -> None:
        """Close at once, telling both ends that it is cut."""

    def describe(self) -> dict[str, Any]:
        """For `connections`: plain values."""


@dataclass(slots=True)
class Shell:
    """`first_port`: from it on, source ports are proxies'. `draining`: no new requests are taken."""

    loop: asyncio.AbstractEventLoop
    world: SnapshotWorld
    clusters: Clusters
    handler: Callable[[Peer], Handler]
    connector: Connector
    observer: Observer
    now: Callable[[], float]
    wall: Callable[[], float]
    random: Random
    http1: MakeCodec
    http2: MakeCodec
    limits: Limits = DEFAULTS
    first_port: int = 61000
    draining: bool = False
    open: set[Open] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
