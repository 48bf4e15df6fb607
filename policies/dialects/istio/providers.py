"""`extensionProviders` of MeshConfig: where spans, logs and metrics go.

Every provider is kept under its name, so that what names it is not wrong; those that Weft does not send to are
warned of.
"""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import duration, header_name, port, text_of
from weft.policies.mesh.model import Provider

#: Field of a provider -> `Provider.type`.
_TYPES = {
    "zipkin": "zipkin",
    "opentelemetry": "opentelemetry",
    "prometheus": "prometheus",
    "envoyFileAccessLog": "file",
}
_UNSERVED = (
    *("envoyExtAuthzHttp", "envoyExtAuthzGrpc", "lightstep", "datadog", "stackdriver", "opencensus"),
    *("skywalking", "envoyHttpAls", "envoyTcpAls", "envoyOtelAls", "sds"),
)
#: Read by Envoy, of no consequence to what Weft sends.
_ZIPKIN_EXTRA = ("maxTagLength", "enable64bitTraceId", "traceContextOption")
_OTLP_EXTRA = ("maxTagLength", "grpc", "resourceDetectors", "dynatraceSampler")
_LABELS_MAX = 1 << 16


def providers(field: Field, findings: Findings) -> tuple[Provider, ...]:
    found: dict[str, Provider] = {}
    for item in field.items():
        item.record("name", *_TYPES, *_UNSERVED)
        name = item.need("name").text()
        if name in found:
            raise item.need("name").invalid(f"there is a provider {name} already")
        found[name] = _provider(name, item, findings)
    return tuple(found.values())


def _provider(name: str, item: Field, findings: Findings) -> Provider:
    given = [key for key in (*_TYPES, *_UNSERVED) if item.get(key) is not None]
    if len(given) != 1:
        raise item.invalid("needs exactly one kind of provider" + (f", has {' and '.join(given)}" if given else ""))
    key, body = given[0], item.need(given[0])
    if key == "zipkin":
        return _zipkin(name, body, findings)
    if key == "opentelemetry":
        return _otlp(name, body, findings)
    if key == "envoyFileAccessLog":
        return _file(name, body, findings)
    if key != "prometheus":
        findings.warn(body, f"{key} is not served: nothing is sent to {name}")
    body.mapping()
    return Provider(name, _TYPES.get(key, key))


def _service(field: Field) -> str:
    """`host`, or `namespace/host`."""
    text = field.text()
    namespace, _, host = text.rpartition("/")
    if not host or "/" in namespace or any(sign <= " " for sign in text):
        raise field.invalid(f"{shown(text)} is no service: [namespace/]host")
    return text


def _unserved(field: Field, names: tuple[str, ...], findings: Findings) -> None:
    for name in names:
        if (given := field.get(name)) is not None:
            findings.warn(given, "has no effect")


def _zipkin(name: str, field: Field, findings: Findings) -> Provider:
    field.record("service", "port", "path", "timeout", "headers", *_ZIPKIN_EXTRA)
    _unserved(field, _ZIPKIN_EXTRA, findings)
    return Provider(
        name,
        "zipkin",
        _service(field.need("service")),
        port(field.need("port")),
        http_path=text_of(field, "path"),
        timeout=_timeout(field),
        headers=_headers(field, findings),
    )


def _otlp(name: str, field: Field, findings: Findings) -> Provider:
    """OTLP over HTTP where it names a path, else gRPC."""
    field.record("service", "port", "http", *_OTLP_EXTRA)
    _unserved(field, _OTLP_EXTRA, findings)
    http, path = field.get("http"), ""
    if http is not None:
        path = http.record("path", "timeout", "headers").need("path").text()
        if not path.startswith("/"):
            raise http.need("path").invalid(f"{shown(path)}: a path begins with /")
    return Provider(
        name,
        "opentelemetry",
        _service(field.need("service")),
        port(field.need("port")),
        http_path=path,
        timeout=_timeout(http) if http is not None else 0.0,
        headers=_headers(http, findings) if http is not None else (),
    )


def _timeout(field: Field) -> float:
    given = field.get("timeout")
    return duration(given, zero=True) if given is not None else 0.0


def _headers(field: Field, findings: Findings) -> tuple[tuple[str, str], ...]:
    given = field.get("headers")
    found = []
    for item in given.items() if given is not None else ():
        name = item.record("name", "value", "envName").need("name")
        if (variable := item.get("envName")) is not None:
            findings.warn(variable, "values from the proxy's environment are not sent")
            continue
        found.append((header_name(name, name.text()), item.need("value").string()))
    return tuple(found)


def _file(name: str, field: Field, findings: Findings) -> Provider:
    field.record("path", "logFormat", "omitEmptyValues")
    _unserved(field, ("omitEmptyValues",), findings)
    form = field.get("logFormat")
    text, labels = "", None
    if form is not None:
        form.record("text", "labels")
        text, labels = text_of(form, "text", _LABELS_MAX), form.get("labels")
        if text and labels is not None:
            raise labels.invalid("text and labels exclude each other")
    return Provider(
        name,
        "file",
        log_file=text_of(field, "path") or "/dev/stdout",
        format=text,
        json=tuple(json_labels(labels)) if labels is not None else (),
    )


def json_labels(field: Field) -> list[tuple[str, str]]:
    """Label -> format, of a JSON log line; nested objects are not written."""
    return [(key, value.string(_LABELS_MAX)) for key, value in field.entries()]
