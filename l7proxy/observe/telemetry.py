"""What the mesh wants told of a workload's requests: MeshConfig and Telemetry -> a `Plan` for workload and side.

Three levels, the later says more: the root namespace, the workload's namespace, the workload itself (a
selector). Of several on one level the oldest counts. Field by field: what a level leaves out is what the level
above says. Sampling, where nobody says: the mesh's `tracing_sampling` (Istio: 1 %). No provider: nothing is
traced, or logged. Sources: Istio's Telemetry API, pilot's tracing.go and telemetry.go (order of precedence).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from weft.l7proxy.core.parties import Workload
from weft.policies.mesh.model import (
    DEFAULT_PROVIDERS,
    CustomTag,
    MeshSettings,
    MetricOverride,
    Provider,
    TagOverride,
    Telemetry,
)

CLIENT, SERVER = "CLIENT", "SERVER"
#: The mesh-wide log file stands for a provider without a name.
MESH_LOG = Provider("", "file")

#: Istio's names of the metrics -> the families' names.
METRICS = {
    "REQUEST_COUNT": "istio_requests_total",
    "REQUEST_DURATION": "istio_request_duration_milliseconds",
    "REQUEST_SIZE": "istio_request_bytes",
    "RESPONSE_SIZE": "istio_response_bytes",
    "TCP_OPENED_CONNECTIONS": "istio_tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "istio_tcp_connections_closed_total",
    "TCP_SENT_BYTES": "istio_tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "istio_tcp_received_bytes_total",
    "GRPC_REQUEST_MESSAGES": "istio_request_messages_total",
    "GRPC_RESPONSE_MESSAGES": "istio_response_messages_total",
}


@dataclass(frozen=True, slots=True)
class TracePlan:
    """`reported` False: context goes on, spans are not sent. `sampling`: percent, where nobody has decided."""

    providers: tuple[Provider, ...]
    sampling: float
    reported: bool = True
    tags: tuple[CustomTag, ...] = ()


@dataclass(frozen=True, slots=True)
class LogPlan:
    """`filter`: CEL; "" for every request."""

    providers: tuple[Provider, ...]
    filter: str = ""


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """By family: those that are not counted, and what becomes of labels."""

    disabled: frozenset[str] = frozenset()
    tags: Mapping[str, tuple[TagOverride, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    tracing: TracePlan | None = None
    logs: tuple[LogPlan, ...] = ()
    metrics: MetricPlan = MetricPlan()


def quiet(settings: MeshSettings, telemetry: Sequence[Telemetry]) -> bool:
    """Whether `plan` says for whomever that nothing is traced and nothing logged."""
    return not (
        telemetry or settings.default_tracing or settings.default_access_logging or settings.access_log_file
    )


def plan(settings: MeshSettings, telemetry: Iterable[Telemetry], workload: Workload, side: str) -> Plan:
    """`side`: CLIENT or SERVER, whichever the workload was."""
    levels = _levels(settings, telemetry, workload)
    providers = {provider.name: provider for provider in settings.providers}
    return Plan(
        _tracing(settings, levels, side, providers),
        _logs(settings, levels, side, providers),
        _metrics(levels, side),
    )


def _levels(settings: MeshSettings, telemetry: Iterable[Telemetry], workload: Workload) -> list[Telemetry]:
    """At most three, the most general first."""
    found: dict[int, Telemetry] = {}
    for item in sorted(telemetry, key=lambda item: (item.created or "9999", item.ref)):
        if item.selector:
            own = item.ref.namespace == workload.namespace != ""
            if own and all(workload.labels.get(key) == value for key, value in item.selector):
                found.setdefault(2, item)
        elif item.ref.namespace == settings.root_namespace:
            found.setdefault(0, item)
        elif item.ref.namespace == workload.namespace:
            found.setdefault(1, item)
    return [found[level] for level in sorted(found)]


def _is_for(mode: str, side: str) -> bool:
    return mode in (side, "CLIENT_AND_SERVER")


def _tracing(
    settings: MeshSettings, levels: list[Telemetry], side: str, known: Mapping[str, Provider]
) -> TracePlan | None:
    names, sampling, reported = settings.default_tracing, settings.tracing_sampling, True
    tags: dict[str, CustomTag] = {}
    for level in levels:
        for entry in level.tracing:
            if not _is_for(entry.mode, side):
                continue
            names = entry.providers if entry.providers is not None else names
            sampling = entry.sampling_percent if entry.sampling_percent is not None else sampling
            reported = not entry.disabled if entry.disabled is not None else reported
            tags.update((tag.name, tag) for tag in entry.tags)
    providers = tuple(known[name] for name in names if name in known)
    return TracePlan(providers, sampling, reported, tuple(tags.values())) if providers else None


def _logs(
    settings: MeshSettings, levels: list[Telemetry], side: str, known: Mapping[str, Provider]
) -> tuple[LogPlan, ...]:
    names: tuple[str, ...] = settings.default_access_logging
    mesh_log, disabled, wanted = bool(settings.access_log_file), False, ""
    for level in levels:
        for entry in level.access_logging:
            if not _is_for(entry.mode, side):
                continue
            if entry.providers is not None:
                names, mesh_log = entry.providers, False
            elif not names and not mesh_log:
                names = ("envoy",)
            disabled = bool(entry.disabled) if entry.disabled is not None else False
            wanted = entry.filter or wanted
    if disabled:
        return ()
    providers = [
        _as_the_mesh(settings, known[name]) for name in names if name in known and known[name].type == "file"
    ]
    if mesh_log and not names:
        providers.append(_mesh_log(settings))
    return (LogPlan(tuple(providers), wanted),) if providers else ()


def _as_the_mesh(settings: MeshSettings, provider: Provider) -> Provider:
    """Istio's own provider `envoy` writes what the mesh's log would, to its own file."""
    if provider not in DEFAULT_PROVIDERS:
        return provider
    return msgspec.structs.replace(_mesh_log(settings), name=provider.name, log_file=provider.log_file)


def _mesh_log(settings: MeshSettings) -> Provider:
    text = "" if settings.access_log_json else settings.access_log_format
    return Provider(
        "", "file", log_file=settings.access_log_file, format=text, json=_JSON if settings.access_log_json else ()
    )


#: What Istio writes with accessLogEncoding JSON.
_JSON = (
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
)


def _metrics(levels: list[Telemetry], side: str) -> MetricPlan:
    disabled: dict[str, bool] = {}
    tags: dict[str, dict[str, TagOverride]] = {}
    for level in levels:
        for metrics in level.metrics:
            for override in metrics.overrides:
                if _is_for(override.mode, side):
                    _override(override, disabled, tags)
    return MetricPlan(
        frozenset(family for family, off in disabled.items() if off),
        {family: tuple(changes.values()) for family, changes in tags.items()},
    )


def _override(override: MetricOverride, disabled: dict[str, bool], tags: dict[str, dict[str, TagOverride]]) -> None:
    every = override.metric == "ALL_METRICS"
    for family in METRICS.values() if every else (METRICS.get(override.metric, override.metric),):
        if override.disabled is not None:
            disabled[family] = override.disabled
        for change in override.tags:
            tags.setdefault(family, {})[change.tag] = change
