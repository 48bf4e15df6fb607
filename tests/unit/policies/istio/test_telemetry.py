"""Telemetry (F63) and MeshConfig."""

from __future__ import annotations

import pytest

from declared import declared
from istio_manifests import config_map, istio, mesh_settings, reaching, refusal, telemetry
from weft.policies.mesh.model import (
    DEFAULT_PROVIDERS,
    AccessLogging,
    CustomTag,
    MeshSettings,
    MetricOverride,
    Metrics,
    Provider,
    TagOverride,
    Telemetry,
    Tracing,
)
from weft.policies.model import ObjectRef

ACCEPTED: dict[str, tuple[str, str, object]] = {
    "nothing": ("{}", "tracing", ()),
    "F63 for some workloads": ("selector: {matchLabels: {app: x}}", "selector", (("app", "x"),)),
    "F63 providers and sampling": (
        "tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 10.0}]",
        "tracing",
        (Tracing(providers=("jaeger",), sampling_percent=10.0),),
    ),
    "F63 sampling as a whole number": (
        "tracing: [{randomSamplingPercentage: 100}]",
        "tracing.0.sampling_percent",
        100.0,
    ),
    "F63 sampling of nothing is something": (
        "tracing: [{randomSamplingPercentage: 0}]",
        "tracing.0.sampling_percent",
        0.0,
    ),
    "F63 nothing said": ("tracing: [{}]", "tracing", (Tracing(),)),
    "F63 an empty list of providers is none": ("tracing: [{providers: []}]", "tracing.0.providers", None),
    "F63 of clients": ("tracing: [{match: {mode: CLIENT}}]", "tracing.0.mode", "CLIENT"),
    "F63 of servers": ("tracing: [{match: {mode: SERVER}}]", "tracing.0.mode", "SERVER"),
    "F63 of both": ("tracing: [{match: {mode: UNDEFINED}}]", "tracing.0.mode", "CLIENT_AND_SERVER"),
    "F63 spans off": ("tracing: [{disableSpanReporting: true}]", "tracing.0.disabled", True),
    "F63 spans on, said": ("tracing: [{disableSpanReporting: false}]", "tracing.0.disabled", False),
    "F63 tags": (
        "tracing: [{customTags: {a: {literal: {value: x}}, b: {environment: {name: E, defaultValue: d}},"
        " c: {header: {name: X-H}}, d: {formatter: {value: '%PROTOCOL%'}}}}]",
        "tracing.0.tags",
        (
            CustomTag("a", "literal", "x"),
            CustomTag("b", "environment", "E", "d"),
            CustomTag("c", "header", "x-h"),
            CustomTag("d", "formatter", "%PROTOCOL%"),
        ),
    ),
    "what is usual may be said": (
        "tracing: [{useRequestIdForTraceSampling: true, enableIstioTags: true, disableContextPropagation: false}]",
        "tracing",
        (Tracing(),),
    ),
    "F63 metrics": (
        "metrics: [{providers: [{name: prometheus}]}]",
        "metrics",
        (Metrics(("prometheus",)),),
    ),
    "F63 metrics off": (
        "metrics: [{overrides: [{disabled: true}]}]",
        "metrics.0.overrides",
        (MetricOverride(disabled=True),),
    ),
    "F63 one metric": (
        "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: SERVER}}]}]",
        "metrics.0.overrides",
        (MetricOverride("REQUEST_COUNT", "SERVER"),),
    ),
    "F63 a metric of another's": (
        "metrics: [{overrides: [{match: {customMetric: mine}}]}]",
        "metrics.0.overrides.0.metric",
        "mine",
    ),
    "F63 tags of metrics": (
        "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE}, b: {value: request.host},"
        " c: {operation: UPSERT, value: '''x'''}}}]}]",
        "metrics.0.overrides.0.tags",
        (TagOverride("a", remove=True), TagOverride("b", value="request.host"), TagOverride("c", value="'x'")),
    ),
    "F63 access logs": (
        "accessLogging: [{providers: [{name: envoy}], match: {mode: CLIENT}, disabled: false}]",
        "access_logging",
        (AccessLogging("CLIENT", ("envoy",), False),),
    ),
    "F63 a filter": (
        "accessLogging: [{filter: {expression: 'response.code >= 400'}}]",
        "access_logging.0.filter",
        "response.code >= 400",
    ),
}


@pytest.mark.parametrize(("spec", "path", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_fields(spec: str, path: str, expected: object) -> None:
    found = telemetry(spec)
    assert reaching(found, path) == expected
    assert not found.warnings


def test_a_telemetry_without_a_spec_says_nothing() -> None:
    found = declared("apiVersion: telemetry.istio.io/v1alpha1\nkind: Telemetry\nmetadata: {name: x}")
    assert found == Telemetry(ObjectRef("Telemetry", "default", "x"))


WARNED = {
    "several providers": ("tracing: [{providers: [{name: a}, {name: b}]}]", "the first one alone"),
    "sampling by request ids": ("tracing: [{useRequestIdForTraceSampling: false}]", "it stays true"),
    "fewer tags": ("tracing: [{enableIstioTags: false}]", "it stays true"),
    "no propagation": ("tracing: [{disableContextPropagation: true}]", "it stays false"),
    "an interval of reports": ("metrics: [{reportingInterval: 5s}]", "has no effect"),
}


@pytest.mark.parametrize(("spec", "said"), WARNED.values(), ids=WARNED)
def test_what_is_said(spec: str, said: str) -> None:
    (warning,) = telemetry(spec).warnings
    assert said in warning


REFUSED: dict[str, tuple[str, str, str]] = {
    "an unknown field": ("traces: []", "traces", "unknown field"),
    "a provider without name": ("metrics: [{providers: [{}]}]", "metrics[0].providers[0].name", "is missing"),
    "a provider with an empty name": (
        "metrics: [{providers: [{name: ''}]}]",
        "metrics[0].providers[0].name",
        "must not be empty",
    ),
    "a provider as text": ("tracing: [{providers: [jaeger]}]", "tracing[0].providers[0]", "must be a mapping"),
    "sampling of more than all": (
        "tracing: [{randomSamplingPercentage: 100.5}]",
        "tracing[0].randomSamplingPercentage",
        "0 to 100",
    ),
    "sampling as text": (
        "tracing: [{randomSamplingPercentage: '10'}]",
        "tracing[0].randomSamplingPercentage",
        "must be a number",
    ),
    "an unknown mode": ("tracing: [{match: {mode: BOTH}}]", "tracing[0].match.mode", "is not one of"),
    "a tag of nothing": ("tracing: [{customTags: {a: {}}}]", "tracing[0].customTags.a", "exactly one of"),
    "a tag of two": (
        "tracing: [{customTags: {a: {literal: {value: x}, header: {name: y}}}}]",
        "tracing[0].customTags.a",
        "exactly one of",
    ),
    "a tag with an empty literal": (
        "tracing: [{customTags: {a: {literal: {value: ''}}}}]",
        "tracing[0].customTags.a.literal.value",
        "must not be empty",
    ),
    "a tag of a header without name": (
        "tracing: [{customTags: {a: {header: {}}}}]",
        "tracing[0].customTags.a.header.name",
        "is missing",
    ),
    "a tag without name": (
        "tracing: [{customTags: {'': {literal: {value: x}}}}]",
        'tracing[0].customTags[""]',
        "must not be empty",
    ),
    "an unknown metric": (
        "metrics: [{overrides: [{match: {metric: REQUESTS}}]}]",
        "metrics[0].overrides[0].match.metric",
        "is not one of",
    ),
    "a metric twice": (
        "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: x}}]}]",
        "metrics[0].overrides[0].match.customMetric",
        "exclude each other",
    ),
    "an empty custom metric": (
        "metrics: [{overrides: [{match: {customMetric: ''}}]}]",
        "metrics[0].overrides[0].match.customMetric",
        "must not be empty",
    ),
    "a tag without value": (
        "metrics: [{overrides: [{tagOverrides: {foo: {operation: UPSERT}}}]}]",
        "metrics[0].overrides[0].tagOverrides.foo",
        "needs a value",
    ),
    "a tag that is removed with a value": (
        "metrics: [{overrides: [{tagOverrides: {foo: {operation: REMOVE, value: oops}}}]}]",
        "metrics[0].overrides[0].tagOverrides.foo.value",
        "takes no value",
    ),
    "a filter as text": (
        "accessLogging: [{filter: 'response.code >= 400'}]",
        "accessLogging[0].filter",
        "must be a mapping",
    ),
    "a target": ("targetRefs: [{kind: Service, name: a}]", "targetRefs", "not enforced yet"),
}


@pytest.mark.parametrize(("spec", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(spec: str, path: str, reason: str) -> None:
    error = refusal(istio("Telemetry", spec))
    assert error.where.path == f"spec.{path}"
    assert reason in error.reason


# MeshConfig

ZIPKIN = Provider("zipkin", "zipkin", "zipkin.obs", 9412)
SETTINGS: dict[str, tuple[str, str, object]] = {
    "the root namespace": ("rootNamespace: mesh", "root_namespace", "mesh"),
    "an empty one is the default": ("rootNamespace: ''", "root_namespace", "istio-system"),
    "the trust domain": ("trustDomain: example.org", "trust_domain", "example.org"),
    "F65 no access log": ("{}", "access_log_file", ""),
    "F65 an access log": ("accessLogFile: /dev/stdout", "access_log_file", "/dev/stdout"),
    "F65 its format": ('accessLogFormat: "%PROTOCOL%\\n"', "access_log_format", "%PROTOCOL%\n"),
    "F65 text": ("accessLogEncoding: TEXT", "access_log_json", False),
    "F65 JSON": ("accessLogEncoding: JSON", "access_log_json", True),
    "F63 sampling": ("defaultConfig: {tracing: {sampling: 50}}", "tracing_sampling", 50.0),
    "F63 sampling by default": ("{}", "tracing_sampling", 1.0),
    "F63 tags of all spans": (
        "defaultConfig: {tracing: {customTags: {a: {literal: {value: b}}}}}",
        "tracing_tags",
        (CustomTag("a", "literal", "b"),),
    ),
    "F64 no tracing": ("{}", "default_tracing", ()),
    "F64 tracing": ("enableTracing: true", "default_tracing", ("zipkin",)),
    "F64 tracing to an address": (
        "enableTracing: true\ndefaultConfig: {tracing: {zipkin: {address: 'Zipkin.obs:9412'}}}",
        "providers",
        tuple(ZIPKIN if each.name == "zipkin" else each for each in DEFAULT_PROVIDERS),
    ),
    "F64 an address is enough": (
        "defaultConfig: {tracing: {zipkin: {address: 'zipkin.obs:9412'}}}",
        "default_tracing",
        ("zipkin",),
    ),
    "F64 unless it is off": (
        "enableTracing: false\ndefaultConfig: {tracing: {zipkin: {address: 'zipkin.obs:9412'}}}",
        "default_tracing",
        (),
    ),
    "F64 a declared zipkin keeps its address": (
        "extensionProviders: [{name: zipkin, zipkin: {service: a, port: 1}}]\n"
        "defaultConfig: {tracing: {zipkin: {address: 'zipkin.obs:9412'}}}",
        "providers.0",
        Provider("zipkin", "zipkin", "a", 1),
    ),
    "providers that nobody declared are there": ("{}", "providers", DEFAULT_PROVIDERS),
    "one of the same name takes their place": (
        "extensionProviders: [{name: jaeger, zipkin: {service: j.obs.svc.cluster.local, port: 9411}}]",
        "providers",
        (
            Provider("jaeger", "zipkin", "j.obs.svc.cluster.local", 9411),
            *(each for each in DEFAULT_PROVIDERS if each.name != "jaeger"),
        ),
    ),
    "OTLP over gRPC": (
        "extensionProviders: [{name: o, opentelemetry: {service: obs/otel, port: 4317}}]",
        "providers.0",
        Provider("o", "opentelemetry", "obs/otel", 4317),
    ),
    "OTLP over HTTP": (
        "extensionProviders: [{name: o, opentelemetry: {service: otel, port: 4318,"
        " http: {path: /v1/traces, timeout: 5s, headers: [{name: X-Key, value: v}]}}}]",
        "providers.0",
        Provider("o", "opentelemetry", "otel", 4318, "/v1/traces", 5.0, (("x-key", "v"),)),
    ),
    "Zipkin's path": (
        "extensionProviders: [{name: z, zipkin: {service: z, port: 1, path: /api}}]",
        "providers.0.http_path",
        "/api",
    ),
    "Prometheus": (
        "extensionProviders: [{name: p, prometheus: {}}]",
        "providers.0",
        Provider("p", "prometheus"),
    ),
    "a log in text": (
        "extensionProviders: [{name: f, envoyFileAccessLog: {path: /l, logFormat: {text: '%START_TIME%'}}}]",
        "providers.0",
        Provider("f", "file", log_file="/l", format="%START_TIME%"),
    ),
    "a log in JSON": (
        "extensionProviders: [{name: f, envoyFileAccessLog: {logFormat: {labels: {status: '%RESPONSE_CODE%'}}}}]",
        "providers.0",
        Provider("f", "file", log_file="/dev/stdout", json=(("status", "%RESPONSE_CODE%"),)),
    ),
    "defaults of providers": (
        "defaultProviders: {tracing: [otel], metrics: [], accessLogging: [envoy, envoy]}",
        "default_tracing",
        ("otel",),
    ),
    "defaults of access logs": ("defaultProviders: {accessLogging: [envoy]}", "default_access_logging", ("envoy",)),
    "no metrics by default": ("defaultProviders: {metrics: []}", "default_metrics", ()),
    "metrics unless it says otherwise": ("defaultProviders: {tracing: [otel]}", "default_metrics", ("prometheus",)),
    "every host may be reached": ("{}", "allow_any", True),
    "hosts that are declared alone": ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "allow_any", False),
    "any, said": ("outboundTrafficPolicy: {mode: ALLOW_ANY}", "allow_any", True),
}


@pytest.mark.parametrize(("text", "path", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_settings(text: str, path: str, expected: object) -> None:
    found = mesh_settings(text)
    assert reaching(found, path) == expected
    assert not found.warnings


UNSERVED = (
    *("envoyExtAuthzHttp", "envoyExtAuthzGrpc", "lightstep", "datadog", "stackdriver", "opencensus", "skywalking"),
    *("envoyHttpAls", "envoyTcpAls", "envoyOtelAls", "sds"),
)


@pytest.mark.parametrize("kind", UNSERVED)
def test_providers_that_are_not_served_keep_their_name_and_are_told(kind: str) -> None:
    found = mesh_settings(f"extensionProviders: [{{name: x, {kind}: {{service: a, port: 1}}}}]")
    assert found.providers[0] == Provider("x", kind)
    assert f"{kind} is not served" in found.warnings[0]


SAID = {
    "what is not read": (
        "pathNormalization: {normalization: NONE}\nfoo: 1\nenableAutoMtls: true",
        'data["mesh"] not read by Weft: enableAutoMtls, foo, pathNormalization',
    ),
    "what is not read of the proxies": (
        "defaultConfig: {discoveryAddress: x, concurrency: 2}",
        'data["mesh"] defaultConfig: not read by Weft: concurrency, discoveryAddress',
    ),
    "what is not read of tracing": (
        "defaultConfig: {tracing: {maxPathTagLength: 5}}",
        'data["mesh"] defaultConfig.tracing: not read by Weft: maxPathTagLength',
    ),
}


@pytest.mark.parametrize(("text", "said"), SAID.values(), ids=SAID)
def test_what_is_said_of_settings(text: str, said: str) -> None:
    assert mesh_settings(text).warnings == (said,)


BAD_SETTINGS: dict[str, tuple[str, str, str]] = {
    "no YAML": ("a: [", "line 2", "not YAML"),
    "a list": ("- a", "line 1", "object"),
    "several documents": ("a: 1\n---\nb: 1", "", "must be one YAML document"),
    "a namespace that is none": ("rootNamespace: A", "rootNamespace", "is no name"),
    "a trust domain that is none": ("trustDomain: a_b", "trustDomain", "is no name"),
    "an unknown encoding": ("accessLogEncoding: XML", "accessLogEncoding", "is not one of"),
    "sampling of more than all": (
        "defaultConfig: {tracing: {sampling: 101}}",
        "defaultConfig.tracing.sampling",
        "0 to 100",
    ),
    "an address without port": (
        "defaultConfig: {tracing: {zipkin: {address: zipkin}}}",
        "defaultConfig.tracing.zipkin.address",
        "host:port",
    ),
    "a port that is none": (
        "defaultConfig: {tracing: {zipkin: {address: 'zipkin:0'}}}",
        "defaultConfig.tracing.zipkin.address",
        "host:port",
    ),
    "a provider without name": (
        "extensionProviders: [{prometheus: {}}]",
        "extensionProviders[0].name",
        "is missing",
    ),
    "a provider of no kind": ("extensionProviders: [{name: x}]", "extensionProviders[0]", "exactly one kind"),
    "a provider of two kinds": (
        "extensionProviders: [{name: x, prometheus: {}, zipkin: {service: a, port: 1}}]",
        "extensionProviders[0]",
        "has zipkin and prometheus",
    ),
    "a provider of an unknown kind": (
        "extensionProviders: [{name: x, jaeger: {}}]",
        "extensionProviders[0].jaeger",
        "unknown field",
    ),
    "two providers of a name": (
        "extensionProviders: [{name: x, prometheus: {}}, {name: x, prometheus: {}}]",
        "extensionProviders[1].name",
        "already",
    ),
    "Zipkin without service": (
        "extensionProviders: [{name: x, zipkin: {port: 1}}]",
        "extensionProviders[0].zipkin.service",
        "is missing",
    ),
    "Zipkin without port": (
        "extensionProviders: [{name: x, zipkin: {service: a}}]",
        "extensionProviders[0].zipkin.port",
        "is missing",
    ),
    "OTLP over HTTP without path": (
        "extensionProviders: [{name: x, opentelemetry: {service: a, port: 1, http: {}}}]",
        "extensionProviders[0].opentelemetry.http.path",
        "is missing",
    ),
    "a path that is none": (
        "extensionProviders: [{name: x, opentelemetry: {service: a, port: 1, http: {path: v1}}}]",
        "extensionProviders[0].opentelemetry.http.path",
        "begins with /",
    ),
    "a log in two forms": (
        "extensionProviders: [{name: x, envoyFileAccessLog: {logFormat: {text: a, labels: {b: c}}}}]",
        "extensionProviders[0].envoyFileAccessLog.logFormat.labels",
        "exclude each other",
    ),
    "a default that is not there": (
        "defaultProviders: {tracing: [lightstep]}",
        "defaultProviders.tracing[0]",
        "there is no provider",
    ),
    "an unknown mode": ("outboundTrafficPolicy: {mode: NONE}", "outboundTrafficPolicy.mode", "is not one of"),
}


@pytest.mark.parametrize(("text", "path", "reason"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_are_refused(text: str, path: str, reason: str) -> None:
    error = refusal(config_map(text))
    assert error.where.path == (f"data.mesh: {path}" if path else "data.mesh")
    assert reason in error.reason
    assert (error.where.object, error.where.file) == ("ConfigMap istio-system/istio", "manifest.yaml")


@pytest.mark.parametrize(("name", "namespace"), [("istio", "shop"), ("istio-other", "istio-system")])
def test_another_config_map_is_none_of_wefts_business(name: str, namespace: str) -> None:
    assert declared(config_map("nonsense: [", name, namespace)) is None


@pytest.mark.parametrize("data", ["{}", "{data: {}}", "{data: {other: x}}", "{data: {mesh: ''}}", "{data: null}"])
def test_a_config_map_that_says_nothing_has_the_defaults(data: str) -> None:
    body = data.strip("{}") and "\n" + data[1:-1]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}{body}\n"
    assert declared(text) == MeshSettings()
