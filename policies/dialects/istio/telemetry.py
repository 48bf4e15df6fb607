"""Telemetry: documents to `model.Telemetry`. Which of several holds for a workload is decided where it is known."""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import created_of, flag, header_name, number, selector_labels, text_of
from weft.policies.mesh.model import (
    AccessLogging,
    CustomTag,
    MetricOverride,
    Metrics,
    TagOverride,
    Telemetry,
    Tracing,
)
from weft.policies.model import ObjectRef

_MODES = ("CLIENT_AND_SERVER", "CLIENT", "SERVER", "UNDEFINED")
_METRICS = (
    *("ALL_METRICS", "REQUEST_COUNT", "REQUEST_DURATION", "REQUEST_SIZE", "RESPONSE_SIZE"),
    *("TCP_OPENED_CONNECTIONS", "TCP_CLOSED_CONNECTIONS", "TCP_SENT_BYTES", "TCP_RECEIVED_BYTES"),
    *("GRPC_REQUEST_MESSAGES", "GRPC_RESPONSE_MESSAGES"),
)


def parse_telemetry(root: Field, ref: ObjectRef) -> Telemetry:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    spec = root.get("spec") or root  # `spec: {}` may be left out: it then says nothing
    findings = Findings()
    if spec is not root:
        spec.record("selector", "targetRef", "targetRefs", "tracing", "metrics", "accessLogging")
    for name in ("targetRef", "targetRefs"):
        if (target := spec.get(name)) is not None:
            findings.not_enforced(target, name)
    selector = spec.get("selector")
    found = Telemetry(
        ref=ref,
        selector=selector_labels(selector, "matchLabels") if selector is not None else (),
        tracing=tuple(_tracing(item, findings) for item in _items(spec, "tracing")),
        metrics=tuple(_metrics(item, findings) for item in _items(spec, "metrics")),
        access_logging=tuple(_logging(item) for item in _items(spec, "accessLogging")),
        created=created_of(root),
        warnings=findings.warnings,
    )
    findings.settle()
    return found


def _items(field: Field, name: str) -> list[Field]:
    found = field.get(name)
    return found.items() if found is not None else []


def _mode(match: Field) -> str:
    field = match.get("mode")
    mode = field.one_of(_MODES) if field is not None else "UNDEFINED"
    return "CLIENT_AND_SERVER" if mode == "UNDEFINED" else mode


def _matched(item: Field) -> str:
    match = item.get("match")
    return _mode(match.record("mode")) if match is not None else "CLIENT_AND_SERVER"


def _providers(item: Field) -> tuple[str, ...] | None:
    """An empty list is the same as none: whom the level above says."""
    found = tuple(each.record("name").need("name").text() for each in _items(item, "providers"))
    return found or None


def _optional_flag(item: Field, name: str) -> bool | None:
    field = item.get(name)
    return field.boolean() if field is not None else None


# Tracing


def _tracing(item: Field, findings: Findings) -> Tracing:
    item.record(
        *("match", "providers", "randomSamplingPercentage", "disableSpanReporting", "customTags"),
        *("useRequestIdForTraceSampling", "enableIstioTags", "disableContextPropagation"),
    )
    percent = item.get("randomSamplingPercentage")
    providers = _providers(item)
    if providers and len(providers) > 1:
        findings.warn(
            item.need("providers"), "several tracing providers: the first one alone has an effect in Istio"
        )
    for name, usual in (
        ("useRequestIdForTraceSampling", True),
        ("enableIstioTags", True),
        ("disableContextPropagation", False),
    ):
        if flag(item, name, default=usual) is not usual:
            findings.warn(item.need(name), f"is not supported: it stays {str(usual).lower()}")
    return Tracing(
        mode=_matched(item),
        providers=providers,
        sampling_percent=number(percent, 0, 100) if percent is not None else None,
        disabled=_optional_flag(item, "disableSpanReporting"),
        tags=custom_tags(item.get("customTags")),
    )


def custom_tags(field: Field | None) -> tuple[CustomTag, ...]:
    return tuple(_tag(name, value) for name, value in field.entries()) if field is not None else ()


def _tag(name: str, field: Field) -> CustomTag:
    sources = ("literal", "environment", "header", "formatter")
    field.record(*sources)
    given = [(source, found) for source in sources if (found := field.get(source)) is not None]
    if not name:
        raise field.invalid("the name of a tag must not be empty")
    if len(given) != 1:
        raise field.invalid(f"needs exactly one of {', '.join(sources)}")
    source, inner = given[0]
    if source in ("literal", "formatter"):
        return CustomTag(name, source, inner.record("value").need("value").text())
    inner.record("name", "defaultValue")
    key = inner.need("name")
    read = header_name(key, key.text()) if source == "header" else key.text()
    return CustomTag(name, source, read, text_of(inner, "defaultValue"))


# Metrics


def _metrics(item: Field, findings: Findings) -> Metrics:
    item.record("providers", "overrides", "reportingInterval")
    if (interval := item.get("reportingInterval")) is not None:
        findings.warn(interval, "has no effect: counters are always current")
    return Metrics(_providers(item), tuple(_override(each) for each in _items(item, "overrides")))


def _override(item: Field) -> MetricOverride:
    item.record("match", "disabled", "tagOverrides")
    match, tags = item.get("match"), item.get("tagOverrides")
    metric, mode = _selected(match) if match is not None else ("ALL_METRICS", "CLIENT_AND_SERVER")
    return MetricOverride(
        metric=metric,
        mode=mode,
        disabled=_optional_flag(item, "disabled"),
        tags=tuple(_tag_override(name, value) for name, value in tags.entries()) if tags is not None else (),
    )


def _selected(match: Field) -> tuple[str, str]:
    match.record("metric", "customMetric", "mode")
    metric, custom = match.get("metric"), match.get("customMetric")
    if metric is not None and custom is not None:
        raise custom.invalid("metric and customMetric exclude each other")
    name = custom.text() if custom is not None else metric.one_of(_METRICS) if metric is not None else "ALL_METRICS"
    return name, _mode(match)


def _tag_override(name: str, field: Field) -> TagOverride:
    field.record("operation", "value")
    given, value = field.get("operation"), field.get("value")
    operation = given.one_of(("UPSERT", "REMOVE")) if given is not None else "UPSERT"
    if not name:
        raise field.invalid("the name of a tag must not be empty")
    if operation == "REMOVE":
        if value is not None:
            raise value.invalid("REMOVE takes no value")
        return TagOverride(name, remove=True)
    if value is None or not value.string():
        raise (value or field).invalid(f"{shown(name)} needs a value to be set to")
    return TagOverride(name, value=value.string())


# Access logs


def _logging(item: Field) -> AccessLogging:
    item.record("match", "providers", "disabled", "filter")
    chosen = item.get("filter")
    return AccessLogging(
        mode=_matched(item),
        providers=_providers(item),
        disabled=_optional_flag(item, "disabled"),
        filter=text_of(chosen.record("expression"), "expression") if chosen is not None else "",
    )
