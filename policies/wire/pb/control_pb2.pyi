from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeMessage(_message.Message):
    __slots__ = ("hello", "ack")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    ack: Ack
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "addresses", "version", "revision", "epoch")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    node: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    version: str
    revision: int
    epoch: str
    def __init__(self, node: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("revision", "refusals")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, revision: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("resource", "reason")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    resource: str
    reason: str
    def __init__(self, resource: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("revision", "epoch", "full", "cluster", "node")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    revision: int
    epoch: str
    full: bool
    cluster: bytes
    node: NodeDelta
    def __init__(self, revision: _Optional[int] = ..., epoch: _Optional[str] = ..., full: _Optional[bool] = ..., cluster: _Optional[bytes] = ..., node: _Optional[_Union[NodeDelta, _Mapping]] = ...) -> None: ...

class ClusterDelta(_message.Message):
    __slots__ = ("identities", "identities_gone", "addresses", "addresses_gone", "nodes", "nodes_gone", "services", "services_gone", "policies", "policies_gone", "routing", "routing_gone", "telemetry", "telemetry_gone", "settings", "settings_gone")
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_GONE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_GONE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODES_GONE_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    SERVICES_GONE_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    POLICIES_GONE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    ROUTING_GONE_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_GONE_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_GONE_FIELD_NUMBER: _ClassVar[int]
    identities: _containers.RepeatedCompositeFieldContainer[Identity]
    identities_gone: _containers.RepeatedScalarFieldContainer[int]
    addresses: _containers.RepeatedCompositeFieldContainer[Address]
    addresses_gone: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    nodes_gone: _containers.RepeatedScalarFieldContainer[str]
    services: _containers.RepeatedCompositeFieldContainer[Service]
    services_gone: _containers.RepeatedScalarFieldContainer[str]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    policies_gone: _containers.RepeatedCompositeFieldContainer[ObjectRef]
    routing: _containers.RepeatedCompositeFieldContainer[Item]
    routing_gone: _containers.RepeatedScalarFieldContainer[str]
    telemetry: _containers.RepeatedCompositeFieldContainer[Item]
    telemetry_gone: _containers.RepeatedScalarFieldContainer[str]
    settings: _containers.RepeatedCompositeFieldContainer[Item]
    settings_gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, identities: _Optional[_Iterable[_Union[Identity, _Mapping]]] = ..., identities_gone: _Optional[_Iterable[int]] = ..., addresses: _Optional[_Iterable[_Union[Address, _Mapping]]] = ..., addresses_gone: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., nodes_gone: _Optional[_Iterable[str]] = ..., services: _Optional[_Iterable[_Union[Service, _Mapping]]] = ..., services_gone: _Optional[_Iterable[str]] = ..., policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., policies_gone: _Optional[_Iterable[_Union[ObjectRef, _Mapping]]] = ..., routing: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., routing_gone: _Optional[_Iterable[str]] = ..., telemetry: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., telemetry_gone: _Optional[_Iterable[str]] = ..., settings: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., settings_gone: _Optional[_Iterable[str]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class NodeDelta(_message.Message):
    __slots__ = ("endpoints", "endpoints_gone")
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_GONE_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    endpoints_gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., endpoints_gone: _Optional[_Iterable[str]] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("id", "labels")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    id: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class NamedPort(_message.Message):
    __slots__ = ("name", "protocol", "port")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: int
    port: int
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[int] = ..., port: _Optional[int] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("ip", "identity", "node", "pod", "named_ports", "workload_kind", "workload_name")
    IP_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    NAMED_PORTS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_KIND_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_NAME_FIELD_NUMBER: _ClassVar[int]
    ip: str
    identity: int
    node: str
    pod: str
    named_ports: _containers.RepeatedCompositeFieldContainer[NamedPort]
    workload_kind: str
    workload_name: str
    def __init__(self, ip: _Optional[str] = ..., identity: _Optional[int] = ..., node: _Optional[str] = ..., pod: _Optional[str] = ..., named_ports: _Optional[_Iterable[_Union[NamedPort, _Mapping]]] = ..., workload_kind: _Optional[str] = ..., workload_name: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "addresses", "pod_cidrs", "locality")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    POD_CIDRS_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    pod_cidrs: _containers.RepeatedScalarFieldContainer[str]
    locality: str
    def __init__(self, name: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., pod_cidrs: _Optional[_Iterable[str]] = ..., locality: _Optional[str] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("namespace", "name", "type", "cluster_ips", "headless", "ports", "prefer")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_IPS_FIELD_NUMBER: _ClassVar[int]
    HEADLESS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    PREFER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    type: str
    cluster_ips: _containers.RepeatedScalarFieldContainer[str]
    headless: bool
    ports: _containers.RepeatedCompositeFieldContainer[ServicePort]
    prefer: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., cluster_ips: _Optional[_Iterable[str]] = ..., headless: _Optional[bool] = ..., ports: _Optional[_Iterable[_Union[ServicePort, _Mapping]]] = ..., prefer: _Optional[str] = ...) -> None: ...

class ServicePort(_message.Message):
    __slots__ = ("name", "protocol", "port", "node_port", "app_protocol", "backends")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    NODE_PORT_FIELD_NUMBER: _ClassVar[int]
    APP_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: int
    port: int
    node_port: int
    app_protocol: str
    backends: _containers.RepeatedCompositeFieldContainer[Backend]
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[int] = ..., port: _Optional[int] = ..., node_port: _Optional[int] = ..., app_protocol: _Optional[str] = ..., backends: _Optional[_Iterable[_Union[Backend, _Mapping]]] = ...) -> None: ...

class Backend(_message.Message):
    __slots__ = ("ip", "port", "node", "pod", "labels", "locality", "weight")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IP_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ip: str
    port: int
    node: str
    pod: str
    labels: _containers.ScalarMap[str, str]
    locality: str
    weight: int
    def __init__(self, ip: _Optional[str] = ..., port: _Optional[int] = ..., node: _Optional[str] = ..., pod: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., locality: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class ObjectRef(_message.Message):
    __slots__ = ("kind", "namespace", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("ref", "revision", "labels", "specs")
    REF_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    ref: ObjectRef
    revision: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    specs: _containers.RepeatedCompositeFieldContainer[Spec]
    def __init__(self, ref: _Optional[_Union[ObjectRef, _Mapping]] = ..., revision: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., specs: _Optional[_Iterable[_Union[Spec, _Mapping]]] = ...) -> None: ...

class Spec(_message.Message):
    __slots__ = ("subjects", "default_deny_ingress", "default_deny_egress", "rules", "log")
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DENY_INGRESS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DENY_EGRESS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    subjects: _containers.RepeatedScalarFieldContainer[int]
    default_deny_ingress: bool
    default_deny_egress: bool
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    log: str
    def __init__(self, subjects: _Optional[_Iterable[int]] = ..., default_deny_ingress: _Optional[bool] = ..., default_deny_egress: _Optional[bool] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., log: _Optional[str] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("path", "direction", "action", "peers", "all_ports", "ports", "l7", "tier", "priority")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    ALL_PORTS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    L7_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    path: str
    direction: int
    action: str
    peers: Peers
    all_ports: bool
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    l7: L7
    tier: int
    priority: int
    def __init__(self, path: _Optional[str] = ..., direction: _Optional[int] = ..., action: _Optional[str] = ..., peers: _Optional[_Union[Peers, _Mapping]] = ..., all_ports: _Optional[bool] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., l7: _Optional[_Union[L7, _Mapping]] = ..., tier: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class Peers(_message.Message):
    __slots__ = ("any", "identities", "cidrs", "world_ipv4", "world_ipv6")
    ANY_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    CIDRS_FIELD_NUMBER: _ClassVar[int]
    WORLD_IPV4_FIELD_NUMBER: _ClassVar[int]
    WORLD_IPV6_FIELD_NUMBER: _ClassVar[int]
    any: bool
    identities: _containers.RepeatedScalarFieldContainer[int]
    cidrs: _containers.RepeatedCompositeFieldContainer[Cidr]
    world_ipv4: bool
    world_ipv6: bool
    def __init__(self, any: _Optional[bool] = ..., identities: _Optional[_Iterable[int]] = ..., cidrs: _Optional[_Iterable[_Union[Cidr, _Mapping]]] = ..., world_ipv4: _Optional[bool] = ..., world_ipv6: _Optional[bool] = ...) -> None: ...

class Cidr(_message.Message):
    __slots__ = ("cidr", "excepts", "includes_pods")
    CIDR_FIELD_NUMBER: _ClassVar[int]
    EXCEPTS_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_PODS_FIELD_NUMBER: _ClassVar[int]
    cidr: str
    excepts: _containers.RepeatedScalarFieldContainer[str]
    includes_pods: bool
    def __init__(self, cidr: _Optional[str] = ..., excepts: _Optional[_Iterable[str]] = ..., includes_pods: _Optional[bool] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("protocol", "port", "end_port", "name")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    END_PORT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    port: int
    end_port: int
    name: str
    def __init__(self, protocol: _Optional[int] = ..., port: _Optional[int] = ..., end_port: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class L7(_message.Message):
    __slots__ = ("http",)
    HTTP_FIELD_NUMBER: _ClassVar[int]
    http: _containers.RepeatedCompositeFieldContainer[HttpRule]
    def __init__(self, http: _Optional[_Iterable[_Union[HttpRule, _Mapping]]] = ...) -> None: ...

class HttpRule(_message.Message):
    __slots__ = ("path", "method", "host", "headers", "spec_path")
    PATH_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    SPEC_PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    method: str
    host: str
    headers: _containers.RepeatedCompositeFieldContainer[HeaderMatch]
    spec_path: str
    def __init__(self, path: _Optional[str] = ..., method: _Optional[str] = ..., host: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[HeaderMatch, _Mapping]]] = ..., spec_path: _Optional[str] = ...) -> None: ...

class HeaderMatch(_message.Message):
    __slots__ = ("name", "value", "mismatch", "secret_namespace", "secret_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MISMATCH_FIELD_NUMBER: _ClassVar[int]
    SECRET_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SECRET_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    mismatch: str
    secret_namespace: str
    secret_name: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., mismatch: _Optional[str] = ..., secret_namespace: _Optional[str] = ..., secret_name: _Optional[str] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("namespace", "name", "ips", "identity", "named_ports", "workload_kind", "workload_name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IPS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAMED_PORTS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_KIND_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    ips: _containers.RepeatedScalarFieldContainer[str]
    identity: int
    named_ports: _containers.RepeatedCompositeFieldContainer[NamedPort]
    workload_kind: str
    workload_name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., ips: _Optional[_Iterable[str]] = ..., identity: _Optional[int] = ..., named_ports: _Optional[_Iterable[_Union[NamedPort, _Mapping]]] = ..., workload_kind: _Optional[str] = ..., workload_name: _Optional[str] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("documents", "default_namespace")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[Document]
    default_namespace: str
    def __init__(self, documents: _Optional[_Iterable[_Union[Document, _Mapping]]] = ..., default_namespace: _Optional[str] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("json", "file", "line")
    JSON_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    json: str
    file: str
    line: int
    def __init__(self, json: _Optional[str] = ..., file: _Optional[str] = ..., line: _Optional[int] = ...) -> None: ...

class ApplyReply(_message.Message):
    __slots__ = ("outcomes", "revision")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    revision: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("ref", "what", "error", "warnings")
    REF_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ref: ObjectRef
    what: str
    error: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ref: _Optional[_Union[ObjectRef, _Mapping]] = ..., what: _Optional[str] = ..., error: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("refs",)
    REFS_FIELD_NUMBER: _ClassVar[int]
    refs: _containers.RepeatedCompositeFieldContainer[ObjectRef]
    def __init__(self, refs: _Optional[_Iterable[_Union[ObjectRef, _Mapping]]] = ...) -> None: ...

class DeleteReply(_message.Message):
    __slots__ = ("outcomes", "revision")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    revision: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("kinds",)
    KINDS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("type", "ref", "json")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    type: str
    ref: ObjectRef
    json: str
    def __init__(self, type: _Optional[str] = ..., ref: _Optional[_Union[ObjectRef, _Mapping]] = ..., json: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("version", "epoch", "revision", "nodes", "problems", "counts")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    epoch: str
    revision: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    counts: _containers.ScalarMap[str, int]
    def __init__(self, version: _Optional[str] = ..., epoch: _Optional[str] = ..., revision: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("name", "connected", "acknowledged", "refusals", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    connected: bool
    acknowledged: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    version: str
    def __init__(self, name: _Optional[str] = ..., connected: _Optional[bool] = ..., acknowledged: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("file", "line", "object", "path", "reason", "warning")
    FILE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    file: str
    line: int
    object: str
    path: str
    reason: str
    warning: bool
    def __init__(self, file: _Optional[str] = ..., line: _Optional[int] = ..., object: _Optional[str] = ..., path: _Optional[str] = ..., reason: _Optional[str] = ..., warning: _Optional[bool] = ...) -> None: ...
