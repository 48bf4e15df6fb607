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
from typing import Any, Final, Protocol

from weft.l7proxy.connector import Connector
from weft.l7proxy.core.limits import DEFAULTS, Limits
from weft.l7proxy.core.parties import Clusters, Observer
from weft.l7proxy.core.stream import Handler, Peer, ServerCodec, Transport
from weft.l7proxy.world import SnapshotWorld

#: Connections that one client address may have open, of each worker; fewer where there are fewer descriptors, of
#: which a connection needs two.
MOST_OF_ONE: Final = 10_000
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
    most_of_one: int = MOST_OF_ONE
    _of_one: Counter[str] = field(default_factory=Counter)
    _counting: bool = False

    def crowded(self, client: str) -> bool:
        """Whether this client has as many connections as one may, so that there are some left for others. Nothing
        is counted before there are that many of all clients."""
        if not self._counting:
            if len(self.open) < self.most_of_one:
                return False
            self._counting = True
            self.count_clients()
        self._of_one[client] += 1
        return self._of_one[client] > self.most_of_one

    def count_clients(self) -> None:
        """Anew, once a second while it matters: connections end without a word."""
        if self._counting:
            self._counting = len(self.open) >= self.most_of_one
            self._of_one = Counter(one.peer.source[0] for one in self.open) if self._counting else Counter()
