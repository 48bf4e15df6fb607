"""What is known of one request when it is over: filled by the exchange, read by everything that tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.l7proxy.core.parties import Endpoint, Workload


class Entry:
    """Times are seconds of the monotonic clock; `started_wall` is the wall clock's. `flags`: Istio's response flags
    (UH, UF, UO, UT, NR, NC, DC, UC, URX, DI, FI, RL, UAEX...), "" none. `verdict`: FORWARDED, DROPPED, ERROR.
    `service`: "ns/name" addressed; `destination`: "ns/name" chosen. `trace`: the observer's own."""

    __slots__ = (
        "allowed_by",
        "authority",
        "client",
        "cluster",
        "denied_by",
        "destination",
        "destination_ip",
        "destination_port",
        "details",
        "egress",
        "ended",
        "endpoint",
        "failure",
        "flags",
        "grpc",
        "grpc_status",
        "headers",
        "host",
        "id",
        "ingress",
        "method",
        "mirrored",
        "path",
        "protocol",
        "reports_destination",
        "reports_source",
        "request_bytes",
        "request_id",
        "request_messages",
        "response_bytes",
        "response_headers",
        "response_messages",
        "route",
        "scheme",
        "service",
        "source_port",
        "started",
        "started_wall",
        "status",
        "trace",
        "tries",
        "upstream_local",
        "upstream_time",
        "verdict",
    )

    def __init__(self, started: float, started_wall: float) -> None:
        self.started, self.started_wall, self.ended = started, started_wall, 0.0
        self.client: Workload | None = None
        self.endpoint: Endpoint | None = None
        self.cluster = self.service = self.destination = self.host = self.route = ""
        self.source_port = self.destination_port = 0
        self.destination_ip = ""
        self.upstream_local: tuple[str, int] | None = None
        self.upstream_time: float | None = None  # seconds from the request's end to the response's head
        self.protocol = "HTTP/1.1"  # HTTP/1.0, HTTP/1.1, HTTP/2, TCP
        self.method = self.path = self.authority = self.scheme = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.response_headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.grpc = False
        self.grpc_status: int | None = None
        self.flags = self.details = self.failure = ""
        self.request_bytes = self.response_bytes = 0
        self.request_messages = self.response_messages = 0  # of gRPC
        self.tries = 0
        self.verdict = "FORWARDED"
        self.egress = self.ingress = False  # which sides this proxy judged and stands for
        self.reports_source = self.reports_destination = True
        self.mirrored = False
        self.allowed_by: tuple[str, ...] = ()
        self.denied_by: tuple[str, ...] = ()
        self.request_id = b""
        self.id = 0
        self.trace: Any = None
