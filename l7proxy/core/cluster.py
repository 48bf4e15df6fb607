"""One destination as one client address sees it: `parties.Cluster`.

The choice is the group's, the counters are the endpoint's, the limits are the client workload's; the connections
are here, for they bear the client's address. The object stays the same while the snapshot changes around it:
policy and group are put in place, and connections that still lead somewhere are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import cast

from weft.l7proxy.core.circuit import Circuit
from weft.l7proxy.core.endpoints import Backend, Destination
from weft.l7proxy.core.group import Group
from weft.l7proxy.core.hashkeys import KeyMaker
from weft.l7proxy.core.levels import DEFAULT
from weft.l7proxy.core.parties import Endpoint, Workload
from weft.l7proxy.core.stream import Failure, Peer, Request, ResponseSink
from weft.l7proxy.upstream.connection import Plumbing
from weft.l7proxy.upstream.pool import Pool
from weft.policies.mesh.model import Balance, ConnectionPool, TrafficPolicy


class ClientCluster:
    """`settings`, `circuit`, `source` and `waiting` are what pools ask for. `used`: since the last sweep. `kept`:
    the address that was asked for is the destination (PASSTHROUGH, resolution NONE). `problem`: why nobody is
    picked."""

    __slots__ = (
        "_busy",
        "_keys",
        "_plumbing",
        "_pools",
        "circuit",
        "client",
        "denied",
        "destination",
        "group",
        "host",
        "kept",
        "name",
        "policy",
        "port",
        "problem",
        "protocol",
        "retired",
        "settings",
        "source",
        "subset",
        "used",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        place: tuple[str, int, str],
        client: Workload,
        circuit: Circuit,
        plumbing: Plumbing,
        busy: dict[ClientCluster, None],
    ) -> None:
        self.name, (self.host, self.port, self.subset) = name, place
        self.client, self.source = client, client.ip
        self.circuit, self._plumbing, self._busy = circuit, plumbing, busy
        self.policy, self.settings = DEFAULT, ConnectionPool()
        self.protocol = self.problem = ""
        self.denied, self.used, self.kept, self.retired = False, True, False, False
        self.waiting: dict[ResponseSink, Pool] = {}
        self._pools: dict[str, dict[Backend, Pool]] = {"http1": {}, "http2": {}}
        self._keys: KeyMaker | None = None
        self.destination: Destination
        self.group: Group = None  # type: ignore[assignment]  # until the first adopt, which comes before any use

    def adopt(self, policy: TrafficPolicy, protocol: str, destination: Destination, group: Group) -> None:
        """The snapshot's word. Defaults are filled in already."""
        assert policy.load_balancer is not None
        assert policy.connection_pool is not None
        self.policy, self.protocol = policy, protocol
        self.settings = policy.connection_pool
        self.problem = _unserved(policy)
        self.destination, self.group = destination, group
        self.kept = destination.open or policy.load_balancer.balance is Balance.PASSTHROUGH
        hashing = policy.load_balancer.hash if policy.load_balancer.balance is Balance.HASH else None
        self._keys = KeyMaker(hashing) if hashing is not None else None

    # choosing

    def hash_key(self, request: Request, peer: Peer) -> tuple[int | None, bytes]:
        if self._keys is not None:
            return self._keys.of(request, peer)
        return (address_key(peer.destination), b"") if self.kept else (None, b"")

    def pick(
        self, key: int | None, tried: Collection[Endpoint], allowed: Callable[[Endpoint], bool]
    ) -> Endpoint | None:
        self.used = True
        if self.problem:
            self.denied = False
            return None
        if self.kept:
            return self._asked_for(key, allowed)
        chosen = self.group.pick(key, tried, allowed)
        self.denied = chosen is None and self.group.available > 0
        return chosen

    def _asked_for(self, key: int | None, allowed: Callable[[Endpoint], bool]) -> Backend | None:
        """The address that was asked for. A service's own address means any of its endpoints: policy is judged on
        the endpoint, so it is not left to somebody behind us to choose one."""
        destination, address = self.destination, key_address(key) if key is not None else ("", 0)
        found = destination.endpoints.get(address)
        if found is None and destination.open and address[0]:
            found = destination.at(*address)
        chosen = found if found is not None and allowed(found) else None
        if found is None and not destination.open:
            chosen = self.group.pick(None, (), allowed)
        self.denied = chosen is None and (found is not None or self.group.available > 0)
        return chosen

    # requests

    def open(self, endpoint: Endpoint, client: Workload, protocol: str, sink: ResponseSink) -> None:
        backend = cast(Backend, endpoint)
        backend.begin()
        pool = self._pools[protocol].get(backend)
        if pool is None:
            pool = self._pools[protocol][backend] = Pool(self, backend, protocol, self._plumbing)
            pool.draining = backend.gone or self.retired
            self._busy[self] = None
        pool.open(sink)

    def cancel(self, sink: ResponseSink) -> None:
        pool = self.waiting.get(sink)
        if pool is not None:
            pool.cancel(sink)

    def done(self, endpoint: Endpoint, status: int, failure: Failure | None, seconds: float) -> None:
        backend = cast(Backend, endpoint)
        backend.end()
        self.circuit.end()
        if failure is None and 0 < status < 500 and self.group.detector is None:
            backend.successes += 1
        else:
            self._note(backend, status, failure)

    def begin_retry(self) -> bool:
        return self.circuit.retry(self.settings)

    def end_retry(self) -> None:
        self.circuit.retried()

    # connections of others: TCP tunnels

    def connect(self, endpoint: Endpoint) -> bool:
        """A connection that the caller makes itself begins; `disconnected` follows. False: there are as many as
        the limit allows (UO), and nothing follows."""
        if not self.circuit.connect(self.settings):
            self.circuit.overflows += 1
            return False
        backend = cast(Backend, endpoint)
        backend.begin()
        backend.connections += 1
        return True

    def connected(self, endpoint: Endpoint, failure: Failure | None) -> None:
        """Whether it came to be: what a series of an outlier is counted by, in TCP."""
        self._note(cast(Backend, endpoint), 0 if failure else 200, failure)

    def disconnected(self, endpoint: Endpoint) -> None:
        backend = cast(Backend, endpoint)
        backend.end()
        backend.connections -= 1
        self.circuit.disconnect()

    def _note(self, backend: Backend, status: int, failure: Failure | None) -> None:
        if failure is not None or status >= 500:
            backend.failures += 1
        elif status:
            backend.successes += 1
        detector = self.group.detector
        if detector is not None:
            detector.report(backend, status, failure)

    # from time to time

    def drain(self, gone: Iterable[Backend]) -> None:
        """Endpoints of the destination that are no more."""
        for backend in gone:
            for pools in self._pools.values():
                if (pool := pools.get(backend)) is not None:
                    pool.drain()

    def retire(self) -> None:
        """Nobody is given this view any more."""
        self.retired = True
        for pool in self.pools:
            pool.drain()

    def sweep(self, now: float) -> None:
        for pools in self._pools.values():
            for backend, pool in list(pools.items()):
                if not pool.sweep(now):
                    del pools[backend]

    def close(self) -> None:
        for pool in self.pools:
            pool.close()

    @property
    def holds(self) -> bool:
        """Whether connections or requests are here."""
        return any(self._pools.values()) or bool(self.waiting)

    @property
    def pools(self) -> list[Pool]:
        return [pool for pools in self._pools.values() for pool in pools.values()]


def _unserved(policy: TrafficPolicy) -> str:
    """What was asked for is not done the way it was not asked for: nobody is reached in the clear instead."""
    if policy.tls is not None and policy.tls.mode in ("SIMPLE", "MUTUAL"):
        return f"TLS mode {policy.tls.mode} is not served yet"
    return ""


def address_key(address: tuple[str, int]) -> int:
    """An address as one number, which `key_address` takes apart."""
    ip, port = address
    return int.from_bytes(ip.encode() + port.to_bytes(2, "big"), "big")


def key_address(key: int) -> tuple[str, int]:
    raw = key.to_bytes(-(-key.bit_length() // 8), "big")
    return raw[:-2].decode(), int.from_bytes(raw[-2:], "big")
