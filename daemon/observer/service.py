"""The observer's shell: takes records in, serves the Hubble API.

    observer = Observer("node-1", directory, registry=registry)
    await observer.serve("unix:/run/weft/observer.sock")     # returns once it listens; more addresses allowed
    for record in ring.poll(): observer.feed(record)         # in the event loop's thread
    observer.lost(7)                                         # records the kernel's ring had no room for
    await observer.stop()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.daemon.observer.directory import Directory

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Flows kept for who asks later: 2^n - 1, as Hubble's ring.
DEFAULT_CAPACITY = 4095


class Observer:
    """One node's flows. Not thread-safe: feed, serve and stop belong to one event loop."""

    def __init__(
        self,
        node_name: str,
        directory: Directory,
        *,
        cluster_name: str = "default",
        capacity: int = DEFAULT_CAPACITY,
        version: str = "",
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.node_name, self.directory = node_name, directory

    def feed(self, record: bytes) -> None:
        """One `weft_event` of the ring buffer. Never raises: what cannot be decoded is counted."""

    def lost(self, count: int) -> None:
        """The kernel's ring buffer had no room for `count` records since the last call."""

    async def serve(self, *addresses: str) -> None:
        """Listens on gRPC addresses ("unix:/run/weft/observer.sock", "127.0.0.1:4244"); returns when it does.
        A socket file left by a dead daemon is replaced."""

    async def stop(self, grace: float = 1.0) -> None:
        """Ends the streams, closes and removes the sockets."""

    def status(self) -> dict[str, Any]:
        """For Query("status"): current, max and seen flows, flows per second, lost by source."""
        return {}
