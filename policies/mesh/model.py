"""The one model of routing, whatever the dialect. Pure data; it travels to the nodes as msgpack (`wire.mesh`).

Hosts are how things are named here: a Kubernetes Service is `name.namespace.svc.cluster.local`, a ServiceEntry is
its host as written; both lower case, without a port. The dialects resolve short names (in the namespace of the
rule, never of the caller) before anything gets here.

Rule of this file: empty and missing are different things, and each field says what each means. Times are seconds.
"""

from __future__ import annotations

import enum

import msgspec

from weft.policies.model import ObjectRef


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """Compared and hashed by value."""


class Origin(Model, frozen=True):
    """Where a decision was declared: `HTTPRoute shop/orders spec.rules[0]`."""

    kind: str
    namespace: str
    name: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" + (f" {self.path}" if self.path else "")


# --- what a request must be like ---------------------------------------------------------------------------------


class How(enum.StrEnum):
    """EXACT, PREFIX, SUFFIX, CONTAINS: of the bytes. REGEX: RE2, the whole value. PRESENT: any value, also an empty
    one. SEGMENTS: of paths, Gateway API's PathPrefix: whole segments, `/a` matches `/a`, `/a/` and `/a/b`."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"
    PRESENT = "present"
    SEGMENTS = "segments"


class Matcher(Model, frozen=True):
    """`ignore_case` holds for EXACT and PREFIX. `invert`: the outcome turned around; a value that is absent fails
    the test, so it passes an inverted one (also an inverted PRESENT)."""

    how: How
    value: str = ""
    ignore_case: bool = False
    invert: bool = False


class Named(Model, frozen=True):
    """A test of the header (lower case) or the query parameter `name`. Several values of a header are tested as
    one, joined by ","; of `cookie`, by "; ". Of a query parameter, the first one is tested."""

    name: str
    matcher: Matcher


class RequestMatch(Model, frozen=True):
    """All that is set must hold; nothing set: every request. `path` is tested without the query string.
    `port`: of the service, as addressed; 0: any. `source_labels`: all on the client's pod. `source_namespace` "":
    any. `scheme`, `authority`, `method`: as the request has them (the authority with its port, if it has one)."""

    path: Matcher | None = None
    method: Matcher | None = None
    scheme: Matcher | None = None
    authority: Matcher | None = None
    headers: tuple[Named, ...] = ()
    query: tuple[Named, ...] = ()
    port: int = 0
    source_labels: tuple[tuple[str, str], ...] = ()
    source_namespace: str = ""
    name: str = ""


# --- what becomes of it ------------------------------------------------------------------------------------------


class HeaderChanges(Model, frozen=True):
    """Names lower case. `set` overwrites, `add` appends a value, `remove` takes all. In this order: remove, set,
    add. `host` (`:authority`) may be set on requests. Values are literal: the dialect took `%%` apart."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class Destination(Model, frozen=True):
    """One of the places a rule sends to. `port` 0: the port addressed if the host has it, else its only one.
    `weight`: share of the sum; of a single destination it is ignored; 0 among several: none.
    `missing`: the status when there is no such host or port, or the reference is not permitted (Istio 503, Gateway
    API 500); `refused` says why it is not permitted, "": it is."""

    host: str
    port: int = 0
    subset: str = ""
    weight: int = 1
    request_headers: HeaderChanges | None = None
    response_headers: HeaderChanges | None = None
    missing: int = 503
    refused: str = ""


class Rewrite(Model, frozen=True):
    """At most one of `path` (the whole path), `prefix` (in place of the prefix that matched) and `regex` (RE2, with
    `substitution`, `\\1` for groups; every match in the path) is set. The query string stays. `authority` "": as it
    was."""

    path: str = ""
    prefix: str | None = None
    regex: str = ""
    substitution: str = ""
    authority: str = ""


class Redirect(Model, frozen=True):
    """What is "" or 0 stays as it was in the request, and the query string stays always. `derive_port`: "request"
    (the port the request came to), "protocol" (the scheme's default port), "" (as `port` says; 0: the request's
    authority keeps its port unless scheme or host change, as each dialect prescribes by setting the other two)."""

    scheme: str = ""
    host: str = ""
    port: int = 0
    derive_port: str = ""
    path: str = ""
    prefix: str | None = None
    status: int = 301


class DirectResponse(Model, frozen=True):
    status: int
    body: bytes = b""


class Fault(Model, frozen=True):
    """Percentages 0 to 100. The delay is drawn first and then the abort, independently. At most one of the abort's
    forms is set: an HTTP status, a gRPC status (number), an HTTP/2 error code."""

    delay: float = 0.0
    delay_percent: float = 0.0
    abort_status: int = 0
    abort_grpc: int | None = None
    abort_h2: int | None = None
    abort_percent: float = 0.0


class Mirror(Model, frozen=True):
    destination: Destination
    percent: float = 100.0


class Cors(Model, frozen=True):
    """`allow_origins`: any may match. None or empty: the header is not sent. `forward_unmatched`: a preflight whose
    origin does not match goes on to the server; False: it is answered without CORS headers."""

    allow_origins: tuple[Matcher, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: float | None = None
    allow_credentials: bool = False
    forward_unmatched: bool = True


class Retries(Model, frozen=True):
    """`attempts`: retries after the first try; 0: none. `on`: tokens of the retry table, known ones, trimmed.
    `statuses`: besides. `per_try_timeout` 0: the rule's timeout. `base` and `maximum` bound the back-off.
    `avoid_previous`: prefer hosts not tried yet. `remote_localities`: retries may leave the locality."""

    attempts: int = 2
    on: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    statuses: tuple[int, ...] = ()
    response_headers: tuple[Named, ...] = ()
    per_try_timeout: float = 0.0
    base: float = 0.025
    maximum: float = 0.25
    avoid_previous: bool = True
    remote_localities: bool = False


#: Istio's, where a rule says nothing of retries; also for a Service without any route.
DEFAULT_RETRIES = Retries()


class Rule(Model, frozen=True):
    """One rule of a route. `matches`: any of them; empty: every request. `action`: exactly one of `destinations`,
    `redirect`, `direct`; none of them (Gateway API without backendRefs): 500. `timeout` 0: none.
    `delegate`: of a VirtualService, "ns/name" of the one whose rules stand here; only before binding.
    `groups`: of a TrafficSplit, (HTTPRouteGroup, match or "" for all) in its namespace; only before binding."""

    origin: Origin
    name: str = ""
    matches: tuple[RequestMatch, ...] = ()
    destinations: tuple[Destination, ...] = ()
    redirect: Redirect | None = None
    direct: DirectResponse | None = None
    rewrite: Rewrite | None = None
    request_headers: HeaderChanges | None = None
    response_headers: HeaderChanges | None = None
    fault: Fault | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    timeout: float = 0.0
    retries: Retries = DEFAULT_RETRIES
    delegate: str = ""
    groups: tuple[tuple[str, str], ...] = ()


class TcpMatch(Model, frozen=True):
    """As RequestMatch. `subnets`: of the destination address; empty: any. `sni`: exact names or `*.x`, of TLS
    routes only; empty: none needed."""

    port: int = 0
    subnets: tuple[str, ...] = ()
    source_labels: tuple[tuple[str, str], ...] = ()
    source_namespace: str = ""
    sni: tuple[str, ...] = ()


class TcpRule(Model, frozen=True):
    """`matches`: any of them; empty: every connection. Weights are drawn for each connection."""

    origin: Origin
    matches: tuple[TcpMatch, ...] = ()
    destinations: tuple[Destination, ...] = ()


class Dialect(enum.IntEnum):
    """Where several speak for one host, the lowest wins and the others are Conflicted."""

    GATEWAY = 1
    ISTIO = 2
    SMI = 3


class Route(Model, frozen=True):
    """One declared routing object, or after binding what several of them are together for one host.

    `hosts`: exact, or `*.suffix`, or `*`; empty: a VirtualService that only others delegate to. `clients`:
    namespaces whose workloads it is for; None: all. `ports`: of the service, that it is for; empty: all. `http`:
    the first rule that matches decides, none that matches: 404. `http` and `tcp` both empty: it routes nothing.
    `created`: RFC 3339, "" unknown: older ones win. `grpc`: what is not matched gets gRPC's UNIMPLEMENTED.
    `parents`: of Gateway API, (host, port or 0 for all) of the Services it is attached to; only before binding,
    which makes `clients` and `ports` of them for each host.
    """

    ref: ObjectRef
    dialect: Dialect
    hosts: tuple[str, ...]
    http: tuple[Rule, ...] = ()
    tls: tuple[TcpRule, ...] = ()
    tcp: tuple[TcpRule, ...] = ()
    clients: tuple[str, ...] | None = None
    ports: tuple[int, ...] = ()
    created: str = ""
    grpc: bool = False
    parents: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


# --- how to talk to a destination --------------------------------------------------------------------------------


class Balance(enum.StrEnum):
    LEAST_REQUEST = "least-request"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"
    HASH = "hash"


class HashKey(Model, frozen=True):
    """At most one of header, cookie, source_ip, query is set. `cookie_ttl` None: none is made; 0: a session's."""

    header: str = ""
    cookie: str = ""
    cookie_path: str = ""
    cookie_ttl: float | None = None
    source_ip: bool = False
    query: str = ""
    maglev: bool = False
    ring_size: int = 1024
    table_size: int = 65537


class Warmup(Model, frozen=True):
    duration: float
    minimum_percent: float = 10.0
    aggression: float = 1.0


class Locality(Model, frozen=True):
    """localityLbSetting. `distribute`: (from, ((to, weight), ...)); `failover`: (region, region);
    `priority`: label keys of failoverPriority. `enabled` None: as the mesh says (on)."""

    enabled: bool | None = None
    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    priority: tuple[str, ...] = ()


class LoadBalancer(Model, frozen=True):
    """`prefer`: Kubernetes trafficDistribution, "zone" or "node"; "": none."""

    balance: Balance = Balance.LEAST_REQUEST
    hash: HashKey | None = None
    warmup: Warmup | None = None
    locality: Locality | None = None
    prefer: str = ""


UNLIMITED = 2**32 - 1


class ConnectionPool(Model, frozen=True):
    """Limits count per client workload on the node. `max_requests_per_connection` 0: no limit. `keepalive`:
    (idle seconds, interval seconds, probes), 0: the system's. `upgrade_h2`: HTTP/1.1 becomes HTTP/2 on the way."""

    max_connections: int = UNLIMITED
    connect_timeout: float = 10.0
    max_connection_duration: float = 0.0
    tcp_idle_timeout: float = 3600.0
    keepalive: tuple[float, float, int] | None = None
    http1_max_pending: int = UNLIMITED
    http2_max_requests: int = UNLIMITED
    max_requests_per_connection: int = 0
    max_retries: int = UNLIMITED
    retry_budget: tuple[float, int] | None = None  # (percent, minimum concurrency)
    idle_timeout: float = 3600.0
    upgrade_h2: bool | None = None
    use_client_protocol: bool = False
    max_concurrent_streams: int = 0


class Outlier(Model, frozen=True):
    """0 in a count: that way of ejecting is off. `split_local`: connect failures are counted by `local_origin`
    alone and not among the 5xx."""

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    split_local: bool = False
    consecutive_local: int = 5
    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection: float = 300.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0


class ClientTls(Model, frozen=True):
    """DestinationRule `tls`. `mode`: DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL."""

    mode: str
    sni: str = ""
    credential: str = ""
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    insecure_skip_verify: bool = False


class TrafficPolicy(Model, frozen=True):
    """What is None comes from the level above (a subset's from the destination's), at last the defaults."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier: Outlier | None = None
    tls: ClientTls | None = None


class PortPolicy(Model, frozen=True):
    """Replaces the whole policy for the port: what it leaves out are defaults, not the level above's (F37)."""

    port: int
    policy: TrafficPolicy


class LeveledPolicy(Model, frozen=True):
    policy: TrafficPolicy = TrafficPolicy()
    ports: tuple[PortPolicy, ...] = ()


class Subset(Model, frozen=True):
    """An endpoint is in it if it bears all `labels`; no labels: every endpoint."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    policy: LeveledPolicy | None = None


class DestinationPolicy(Model, frozen=True):
    """One DestinationRule. `host`: exact or `*.suffix`. `clients`: as of Route. `selector`: labels of the client
    workloads that it is for; empty: all of its clients."""

    ref: ObjectRef
    host: str
    policy: LeveledPolicy = LeveledPolicy()
    subsets: tuple[Subset, ...] = ()
    clients: tuple[str, ...] | None = None
    selector: tuple[tuple[str, str], ...] = ()
    created: str = ""
    warnings: tuple[str, ...] = ()


# --- hosts that no Kubernetes Service declares -------------------------------------------------------------------


class Resolution(enum.StrEnum):
    """NONE: the address that the client asked for. STATIC: the endpoints. DNS: their names, all addresses;
    DNS_ROUND_ROBIN: the first address of each look-up."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"


class EntryPort(Model, frozen=True):
    number: int
    name: str
    protocol: str  # as written, upper case: HTTP, HTTPS, GRPC, HTTP2, TLS, TCP, MONGO
    target_port: int = 0  # 0: the number


class EntryEndpoint(Model, frozen=True):
    """`address`: IP or name. `ports`: (port name, number), what is missing: the entry's target port."""

    address: str
    ports: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    locality: str = ""  # region/zone/sub-zone
    network: str = ""
    service_account: str = ""


class ServiceEntry(Model, frozen=True):
    """`addresses` empty: each host gets its own from 240.240.0.0/16 and the ULA prefix, by the operator.
    `endpoints` empty with DNS: the host itself is looked up. `selector`: pods (and WorkloadEntries) of the
    namespace are the endpoints."""

    ref: ObjectRef
    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[EntryPort, ...] = ()
    resolution: Resolution = Resolution.NONE
    external: bool = True
    endpoints: tuple[EntryEndpoint, ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    clients: tuple[str, ...] | None = None
    created: str = ""
    warnings: tuple[str, ...] = ()


class WorkloadEntry(Model, frozen=True):
    ref: ObjectRef
    endpoint: EntryEndpoint
    warnings: tuple[str, ...] = ()


class RouteGroup(Model, frozen=True):
    """SMI's HTTPRouteGroup."""

    ref: ObjectRef
    matches: tuple[RequestMatch, ...] = ()
    warnings: tuple[str, ...] = ()


class ReferenceGrant(Model, frozen=True):
    """`sources`: (kind, namespace); `targets`: (kind, name or "" for all) in the grant's namespace."""

    ref: ObjectRef
    sources: tuple[tuple[str, str], ...] = ()
    targets: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


# --- telemetry ---------------------------------------------------------------------------------------------------


class CustomTag(Model, frozen=True):
    """`source`: literal, environment, header, formatter. `value`: the literal, or the name to read; `default`:
    where there is none."""

    name: str
    source: str
    value: str
    default: str = ""


class Tracing(Model, frozen=True):
    """`mode`: CLIENT, SERVER, CLIENT_AND_SERVER. None: as the level above says. `providers` None: the default
    providers of the mesh; empty cannot happen."""

    mode: str = "CLIENT_AND_SERVER"
    providers: tuple[str, ...] | None = None
    sampling_percent: float | None = None
    disabled: bool | None = None
    tags: tuple[CustomTag, ...] = ()


class TagOverride(Model, frozen=True):
    tag: str
    remove: bool = False
    value: str = ""  # CEL


class MetricOverride(Model, frozen=True):
    """`metric`: ALL_METRICS, REQUEST_COUNT, ... or a family's name. `mode`: as of Tracing."""

    metric: str = "ALL_METRICS"
    mode: str = "CLIENT_AND_SERVER"
    disabled: bool | None = None
    tags: tuple[TagOverride, ...] = ()


class Metrics(Model, frozen=True):
    providers: tuple[str, ...] | None = None
    overrides: tuple[MetricOverride, ...] = ()


class AccessLogging(Model, frozen=True):
    mode: str = "CLIENT_AND_SERVER"
    providers: tuple[str, ...] | None = None
    disabled: bool | None = None
    filter: str = ""  # CEL; "": every request


class Telemetry(Model, frozen=True):
    """`selector` empty: the whole namespace, or the mesh if it is the root namespace."""

    ref: ObjectRef
    selector: tuple[tuple[str, str], ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
    created: str = ""
    warnings: tuple[str, ...] = ()


class Provider(Model, frozen=True):
    """An extension provider. `type`: zipkin, opentelemetry, prometheus, file, stackdriver... `service`: host or
    ns/host; `format`: of a file's access log, text or "" for Istio's; `json`: label -> format, of a JSON log."""

    name: str
    type: str
    service: str = ""
    port: int = 0
    http_path: str = ""  # of opentelemetry: OTLP over HTTP at this path; "": gRPC
    timeout: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()
    log_file: str = ""
    format: str = ""
    json: tuple[tuple[str, str], ...] = ()


DEFAULT_PROVIDERS = (
    Provider("jaeger", "zipkin", "zipkin.istio-system.svc.cluster.local", 9411),
    Provider("zipkin", "zipkin", "zipkin.istio-system.svc.cluster.local", 9411),
    Provider("otel", "opentelemetry", "opentelemetry-collector.istio-system.svc.cluster.local", 4317),
    Provider("prometheus", "prometheus"),
    Provider("envoy", "file", log_file="/dev/stdout"),
)


class MeshSettings(Model, frozen=True):
    """What Istio keeps in MeshConfig. `tracing_sampling` (percent) and `tracing_tags`: where no Telemetry says.
    `allow_any`: hosts that nobody declared may be reached (outboundTrafficPolicy ALLOW_ANY)."""

    ref: ObjectRef = ObjectRef("ConfigMap", "istio-system", "istio")
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    access_log_file: str = ""  # "": no access log
    access_log_format: str = ""  # "": Istio's
    access_log_json: bool = False
    tracing_sampling: float = 1.0
    tracing_tags: tuple[CustomTag, ...] = ()
    default_tracing: tuple[str, ...] = ()
    default_metrics: tuple[str, ...] = ("prometheus",)
    default_access_logging: tuple[str, ...] = ()
    providers: tuple[Provider, ...] = DEFAULT_PROVIDERS
    allow_any: bool = True
    warnings: tuple[str, ...] = ()


Declared = (
    Route
    | DestinationPolicy
    | ServiceEntry
    | WorkloadEntry
    | RouteGroup
    | ReferenceGrant
    | Telemetry
    | MeshSettings
)


# --- bound: what nodes are told ----------------------------------------------------------------------------------


class HostRouting(Model, frozen=True):
    """All that is declared for one host, in force. `service`: key of `ClusterPart.services` ("ns/name"; of a
    ServiceEntry "ns/host"). `routes`: in the order in which they are asked; the first one that is for the client's
    namespace and the port, and whose hosts cover the request's authority, decides; if the authority fits none of
    them, the first for the client's namespace and the port does (the destination selects the Service). `policies`:
    in the order of precedence; the first one that is for the client decides alone. `entry`: of a host that a
    ServiceEntry declares."""

    host: str
    service: str
    routes: tuple[Route, ...] = ()
    policies: tuple[DestinationPolicy, ...] = ()
    entry: ServiceEntry | None = None

    @property
    def needs_proxy(self) -> bool:
        """Something is said of the host that the kernel cannot do: it is left for the proxy."""
        return bool(self.routes or self.policies or self.entry)
