"""Who speaks to whom, and what stands between the exchange and the rest of the proxy.

`World` knows the snapshot, `Clusters` the endpoints and connections, `Observer` what is told of a request. The
exchange asks all three and knows how none of them is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Failure, Peer, Request, ResponseSink
from weft.policies.l7 import HttpAnswer, HttpLimits
from weft.policies.l7 import Request as PolicyRequest
from weft.policies.mesh.model import HostRouting, MeshSettings, TrafficPolicy
from weft.policies.snapshot import ServiceItem


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod, or whoever else has an address. `namespace` "": nobody of the cluster; then `labels` are empty and
    `identity` is world's or a CIDR's. `local`: on this node. `labels`: the pod's, without source prefixes.
    `kind`, `name`: the workload that owns the pod (Deployment orders)."""

    ip: str
    identity: int
    namespace: str = ""
    pod: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    name: str = ""
    service_account: str = ""
    node: str = ""
    local: bool = False
    locality: str = ""

    @property
    def key(self) -> str:
        """What limits are counted by: the client workload on this node."""
        return f"{self.namespace}/{self.name or self.pod}" if self.namespace else self.ip


def same_workload(one: Workload, other: Workload) -> bool:
    """By whatever address, and with other labels, too, so of another identity."""
    return (one.namespace, one.pod) == (other.namespace, other.pod)


@dataclass(frozen=True, slots=True)
class Permit:
    """What network policy says of a client and an endpoint. `egress`, `ingress`: the limits on requests that this
    proxy has to judge (None: there are none, or the other node's proxy judges them). `denied_by`, `allowed_by`:
    "CiliumNetworkPolicy ns/name". `reason`: for flows and `--verbose`, never for the client."""

    allowed: bool
    egress: HttpLimits | None = None
    ingress: HttpLimits | None = None
    reason: str = ""
    allowed_by: tuple[str, ...] = ()
    denied_by: tuple[str, ...] = ()
    reports_destination: bool = True  # no other proxy comes after this one: it reports for the server, too

    @property
    def judges(self) -> bool:
        """Whether there are limits on requests, so that nothing else may pass."""
        return any(limits is not None and not limits.lifted for limits in (self.egress, self.ingress))


class World(Protocol):
    """The snapshot in force, as the exchange asks it. Answers are remembered until what they rest on changes.
    `generation`: another object as soon as any of them may be another."""

    settings: MeshSettings

    @property
    def generation(self) -> object: ...

    def workload(self, ip: str) -> Workload: ...
    def addressed(self, destination: tuple[str, int], authority: bytes = b"") -> tuple[str, int]:
        """The host and service port that a client addressed, by service or by pod address; ("", 0): none that has
        routing. Of a pod behind several, the authority picks."""

    def routing(self, host: str) -> HostRouting | None: ...
    def service(self, host: str) -> ServiceItem | None:
        """Ports and backends of a host, of a ServiceEntry's too."""

    def behind(self, ip: str, port: int) -> ServiceItem | None:
        """A service that an endpoint stands behind, for who tells of requests that addressed a pod."""

    def service_key(self, host: str) -> str:
        """ "ns/name"; "": no such host."""

    def permit(self, client: Workload, server: Workload, port: int) -> Permit: ...
    def judge(self, limits: HttpLimits, request: PolicyRequest) -> HttpAnswer: ...


class Endpoint(Protocol):
    """One backend of a cluster."""

    ip: str
    port: int

    @property
    def workload(self) -> Workload: ...


class Cluster(Protocol):
    """One destination as one client workload sees it: host, port, subset. It may be kept until the world's next
    generation, or until it is `retired`."""

    name: str  # outbound|80|v1|orders.default.svc.cluster.local
    host: str
    port: int
    subset: str
    policy: TrafficPolicy  # every field that matters filled in
    retired: bool  # it is given to nobody any more: ask again

    @property
    def protocol(self) -> str:
        """ "http1", "http2", "tcp" as the port declares, "" where it does not: as the client speaks."""

    def hash_key(self, request: Request, peer: Peer) -> tuple[int | None, bytes]:
        """What to call `pick` with, and a Set-Cookie value to add, or b"". The key is the hash of consistent
        hashing (None: choose at random); where the address that was asked for is kept, it is that address."""

    def pick(
        self, key: int | None, tried: Collection[Endpoint], allowed: Callable[[Endpoint], bool]
    ) -> Endpoint | None:
        """None: nobody is there (UH), or none that is `allowed`: see `denied`."""

    @property
    def denied(self) -> bool:
        """Whether the last pick found endpoints, and none of them allowed."""

    def open(self, endpoint: Endpoint, client: Workload, protocol: str, sink: ResponseSink) -> None:
        """Calls `sink.opened` or `sink.failed`, perhaps before it returns. `protocol`: http1 or http2. Counts the
        endpoint's active requests until `done`. OVERFLOW: a limit (UO)."""

    def cancel(self, sink: ResponseSink) -> None:
        """Nobody waits for `opened` any more."""

    def done(self, endpoint: Endpoint, status: int, failure: Failure | None, seconds: float) -> None:
        """One try is over: once for each `open`. `status` 0: there was no response."""

    def begin_retry(self) -> bool:
        """False: max_retries or the budget is spent; the response in hand stands. Else `end_retry` follows."""

    def end_retry(self) -> None: ...

    def connect(self, endpoint: Endpoint) -> bool:
        """A connection that the caller makes itself (a TCP tunnel) begins, and counts until `disconnected`. False:
        there are as many as the limit allows (UO), and nothing follows."""

    def connected(self, endpoint: Endpoint, failure: Failure | None) -> None:
        """Whether it came to be: what TCP's endpoints are ejected by. Once for each `connect`."""

    def disconnected(self, endpoint: Endpoint) -> None:
        """It is over, or never came to be. Once for each `connect`."""


class Clusters(Protocol):
    def cluster(self, host: str, port: int, subset: str, client: Workload) -> Cluster | None:
        """None: no such host, port or subset (NC)."""

    def original(self, destination: tuple[str, int], client: Workload) -> Cluster:
        """The very address that the client asked for: PassthroughCluster, with default policy."""


class Observer(Protocol):
    """Trace context and request id at the start; metrics, log, flow and spans at the end."""

    def begin(self, request: Request, peer: Peer, client: Workload, entry: Entry) -> None:
        """Before routing, once. Sees to x-request-id and trace context in `request.headers`, and notes them."""

    def attempt(self, request: Request, entry: Entry) -> None:
        """Before each try of a request that is traced (`entry.trace`): a span of its own, its context in the
        headers."""

    def carried(self, entry: Entry) -> None:
        """Of TCP only: when it is connected to its endpoint, and every few seconds from then on, with the bytes so
        far; `over` comes last, also if it was never connected (then `upstream_local` is None)."""

    def over(self, entry: Entry) -> None: ...
