from weft.policies.wire.pb import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToProxy(_message.Message):
    __slots__ = ("setup", "update", "query", "flush", "drain", "tap")
    SETUP_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    TAP_FIELD_NUMBER: _ClassVar[int]
    setup: Setup
    update: _control_pb2.Update
    query: Query
    flush: Flush
    drain: Drain
    tap: Tap
    def __init__(self, setup: _Optional[_Union[Setup, _Mapping]] = ..., update: _Optional[_Union[_control_pb2.Update, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., flush: _Optional[_Union[Flush, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., tap: _Optional[_Union[Tap, _Mapping]] = ...) -> None: ...

class FromProxy(_message.Message):
    __slots__ = ("hello", "ack", "ready", "reply", "records", "counts")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ack: Ack
    ready: Ready
    reply: Reply
    records: Records
    counts: Counts
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., records: _Optional[_Union[Records, _Mapping]] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ...) -> None: ...

class Setup(_message.Message):
    __slots__ = ("node", "addresses", "mark", "port", "first_port", "last_port", "dns", "cluster_name", "locality")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    FIRST_PORT_FIELD_NUMBER: _ClassVar[int]
    LAST_PORT_FIELD_NUMBER: _ClassVar[int]
    DNS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    node: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    mark: int
    port: int
    first_port: int
    last_port: int
    dns: _containers.RepeatedScalarFieldContainer[str]
    cluster_name: str
    locality: str
    def __init__(self, node: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., mark: _Optional[int] = ..., port: _Optional[int] = ..., first_port: _Optional[int] = ..., last_port: _Optional[int] = ..., dns: _Optional[_Iterable[str]] = ..., cluster_name: _Optional[str] = ..., locality: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "pid", "worker", "generation")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    version: str
    pid: int
    worker: int
    generation: int
    def __init__(self, version: _Optional[str] = ..., pid: _Optional[int] = ..., worker: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ack(_message.Message):
    __slots__ = ("revision", "refusals")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    refusals: _containers.RepeatedCompositeFieldContainer[_control_pb2.Refusal]
    def __init__(self, revision: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[_control_pb2.Refusal, _Mapping]]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("id", "what", "arg")
    ID_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    ARG_FIELD_NUMBER: _ClassVar[int]
    id: int
    what: str
    arg: str
    def __init__(self, id: _Optional[int] = ..., what: _Optional[str] = ..., arg: _Optional[str] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "json", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    json: bytes
    error: str
    def __init__(self, id: _Optional[int] = ..., json: _Optional[bytes] = ..., error: _Optional[str] = ...) -> None: ...

class Flush(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Drain(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class Tap(_message.Message):
    __slots__ = ("on",)
    ON_FIELD_NUMBER: _ClassVar[int]
    on: bool
    def __init__(self, on: _Optional[bool] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("time_ns", "duration_ns", "start", "source_ip", "source_port", "destination_ip", "destination_port", "upstream_ip", "upstream_port", "upstream_local_port", "source_identity", "destination_identity", "service", "destination_service", "egress", "ingress", "protocol", "grpc", "method", "scheme", "authority", "path", "status", "grpc_status", "flags", "details", "request_bytes", "response_bytes", "tries", "verdict", "allowed_by", "denied_by", "route", "trace_id", "headers", "request_id", "id", "latency_ns")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IP_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_IP_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_PORT_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_IP_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_PORT_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_LOCAL_PORT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_SERVICE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    GRPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LATENCY_NS_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    duration_ns: int
    start: bool
    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int
    upstream_ip: str
    upstream_port: int
    upstream_local_port: int
    source_identity: int
    destination_identity: int
    service: str
    destination_service: str
    egress: bool
    ingress: bool
    protocol: str
    grpc: bool
    method: str
    scheme: str
    authority: str
    path: str
    status: int
    grpc_status: int
    flags: str
    details: str
    request_bytes: int
    response_bytes: int
    tries: int
    verdict: str
    allowed_by: _containers.RepeatedScalarFieldContainer[str]
    denied_by: _containers.RepeatedScalarFieldContainer[str]
    route: str
    trace_id: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    request_id: str
    id: int
    latency_ns: int
    def __init__(self, time_ns: _Optional[int] = ..., duration_ns: _Optional[int] = ..., start: _Optional[bool] = ..., source_ip: _Optional[str] = ..., source_port: _Optional[int] = ..., destination_ip: _Optional[str] = ..., destination_port: _Optional[int] = ..., upstream_ip: _Optional[str] = ..., upstream_port: _Optional[int] = ..., upstream_local_port: _Optional[int] = ..., source_identity: _Optional[int] = ..., destination_identity: _Optional[int] = ..., service: _Optional[str] = ..., destination_service: _Optional[str] = ..., egress: _Optional[bool] = ..., ingress: _Optional[bool] = ..., protocol: _Optional[str] = ..., grpc: _Optional[bool] = ..., method: _Optional[str] = ..., scheme: _Optional[str] = ..., authority: _Optional[str] = ..., path: _Optional[str] = ..., status: _Optional[int] = ..., grpc_status: _Optional[int] = ..., flags: _Optional[str] = ..., details: _Optional[str] = ..., request_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., tries: _Optional[int] = ..., verdict: _Optional[str] = ..., allowed_by: _Optional[_Iterable[str]] = ..., denied_by: _Optional[_Iterable[str]] = ..., route: _Optional[str] = ..., trace_id: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., request_id: _Optional[str] = ..., id: _Optional[int] = ..., latency_ns: _Optional[int] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("records", "lost")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    lost: int
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., lost: _Optional[int] = ...) -> None: ...

class Counts(_message.Message):
    __slots__ = ("series", "samples")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[Series]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    def __init__(self, series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("id", "family", "labels", "bounds", "gauge")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    GAUGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    family: str
    labels: _containers.ScalarMap[str, str]
    bounds: _containers.RepeatedScalarFieldContainer[float]
    gauge: bool
    def __init__(self, id: _Optional[int] = ..., family: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., bounds: _Optional[_Iterable[float]] = ..., gauge: _Optional[bool] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("id", "value", "count", "buckets")
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    id: int
    value: float
    count: int
    buckets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[int] = ..., value: _Optional[float] = ..., count: _Optional[int] = ..., buckets: _Optional[_Iterable[int]] = ...) -> None: ...
