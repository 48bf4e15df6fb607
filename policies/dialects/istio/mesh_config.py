"""MeshConfig, the YAML text under `mesh` in ConfigMap istio-system/istio, to `model.MeshSettings`.

Read leniently, unlike policies: the schema is Istio's for all of its parts, it grows, and most of it is about
programs that are not there with Weft. What is not read is named in one warning. What is read is checked as strictly
as everywhere.
"""

from __future__ import annotations

import msgspec

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.providers import providers
from weft.policies.dialects.istio.telemetry import custom_tags
from weft.policies.dialects.istio.values import flag, number, text_of
from weft.policies.dialects.metadata import check_name
from weft.policies.errors import Invalid, Where
from weft.policies.mesh.model import DEFAULT_PROVIDERS, MeshSettings, Provider
from weft.policies.model import ObjectRef
from weft.policies.yamldoc import documents

NAMESPACE, NAME, KEY = "istio-system", "istio", "mesh"

_READ = (
    *("rootNamespace", "trustDomain", "accessLogFile", "accessLogFormat", "accessLogEncoding", "enableTracing"),
    *("defaultConfig", "extensionProviders", "defaultProviders", "outboundTrafficPolicy"),
)
_FORMAT_MAX = 1 << 16
_ZIPKIN = "zipkin"


def parse_config_map(root: Field, ref: ObjectRef) -> MeshSettings | None:
    """None: another ConfigMap, which is not Weft's."""
    if (ref.namespace, ref.name) != (NAMESPACE, NAME):
        return None
    data = root.lax("data")
    text = data.lax(KEY) if data is not None else None
    if text is None or not text.string(1 << 20).strip():
        return MeshSettings(ref=ref)
    try:
        inner = [Field(each, str(ref)) for each in documents(text.string(1 << 20))]
        if len(inner) == 1:
            return _settings(inner[0], ref)
    except Invalid as error:
        raise _told(text, error) from None
    raise text.invalid(f"must be one YAML document, has {len(inner)}")


def _told(text: Field, error: Invalid) -> Invalid:
    """The error with the place of the text, and in it."""
    inside = error.where.path or f"line {error.where.line}"
    place = Where(text.where.file, text.where.line, text.where.object, f"{text.path}: {inside}")
    return Invalid(place, error.reason, not_enforced=error.not_enforced)


def _settings(mesh: Field, ref: ObjectRef) -> MeshSettings:
    findings = Findings()
    other = sorted(key for key in mesh.mapping() if key not in _READ)
    if other:
        findings.warn(mesh, f"not read by Weft: {', '.join(other)[:1000]}")
    root, domain, default = mesh.get("rootNamespace"), mesh.get("trustDomain"), MeshSettings()
    found = MeshSettings(
        ref=ref,
        root_namespace=check_name(root, dns_label=True) if root is not None and root.string() else NAMESPACE,
        trust_domain=check_name(domain) if domain is not None and domain.string() else default.trust_domain,
        allow_any=_allow_any(mesh),
    )
    found = _with_logs(found, mesh)
    found = _with_defaults(_with_tracing(_with_providers(found, mesh, findings), mesh, findings), mesh)
    warnings = tuple(f'data["{KEY}"] {warning.removeprefix(": ")}' for warning in findings.warnings)
    return msgspec.structs.replace(found, warnings=warnings)


def _allow_any(mesh: Field) -> bool:
    field = mesh.get("outboundTrafficPolicy")
    mode = field.record("mode").get("mode") if field is not None else None
    return mode is None or mode.one_of(("ALLOW_ANY", "REGISTRY_ONLY")) == "ALLOW_ANY"


def _with_logs(settings: MeshSettings, mesh: Field) -> MeshSettings:
    encoding = mesh.get("accessLogEncoding")
    return msgspec.structs.replace(
        settings,
        access_log_file=text_of(mesh, "accessLogFile"),
        access_log_format=text_of(mesh, "accessLogFormat", _FORMAT_MAX),
        access_log_json=encoding is not None and encoding.one_of(("TEXT", "JSON")) == "JSON",
    )


def _with_providers(settings: MeshSettings, mesh: Field, findings: Findings) -> MeshSettings:
    """Those of the mesh, before the ones that are there without being declared."""
    field = mesh.get("extensionProviders")
    declared = providers(field, findings) if field is not None else ()
    names = {each.name for each in declared}
    kept = tuple(each for each in DEFAULT_PROVIDERS if each.name not in names)
    return msgspec.structs.replace(settings, providers=(*declared, *kept))


def _with_tracing(settings: MeshSettings, mesh: Field, findings: Findings) -> MeshSettings:
    """The old way to say where spans go: `enableTracing` and `defaultConfig.tracing`."""
    config = mesh.get("defaultConfig")
    tracing = config.get("tracing") if config is not None else None
    if config is not None and (rest := sorted(set(config.mapping()) - {"tracing"})):
        findings.warn(config, f"not read by Weft: {', '.join(rest)[:1000]}")
    if tracing is None:
        return _enabled(settings) if flag(mesh, "enableTracing") else settings
    if rest := sorted(set(tracing.mapping()) - {"sampling", _ZIPKIN, "customTags"}):
        findings.warn(tracing, f"not read by Weft: {', '.join(rest)[:1000]}")
    sampling, zipkin = tracing.get("sampling"), tracing.get(_ZIPKIN)
    if sampling is not None:
        settings = msgspec.structs.replace(settings, tracing_sampling=number(sampling, 0, 100))
    settings = msgspec.structs.replace(settings, tracing_tags=custom_tags(tracing.get("customTags")))
    if zipkin is not None and (address := zipkin.record("address").get("address")) is not None:
        settings = _with_zipkin(settings, address)
        return _enabled(settings) if flag(mesh, "enableTracing", default=True) else settings
    return _enabled(settings) if flag(mesh, "enableTracing") else settings


def _enabled(settings: MeshSettings) -> MeshSettings:
    return msgspec.structs.replace(settings, default_tracing=(_ZIPKIN,))


def _with_zipkin(settings: MeshSettings, field: Field) -> MeshSettings:
    """`host:port` is where the provider `zipkin` is, unless the mesh declares one of that name."""
    host, _, number_ = field.text().rpartition(":")
    if not host or not (number_.isascii() and number_.isdigit() and 0 < int(number_[:6]) < 65536):
        raise field.invalid(f"{shown(field.value)} is no address: host:port")
    default = next(each for each in DEFAULT_PROVIDERS if each.name == _ZIPKIN)
    there = Provider(_ZIPKIN, _ZIPKIN, host.lower(), int(number_))
    found = tuple(there if each == default else each for each in settings.providers)
    return msgspec.structs.replace(settings, providers=found)


def _with_defaults(settings: MeshSettings, mesh: Field) -> MeshSettings:
    """`defaultProviders`; what it names must be there."""
    field = mesh.get("defaultProviders")
    if field is None:
        return settings
    field.record("tracing", "metrics", "accessLogging")
    known = {each.name for each in settings.providers}
    said = {
        name: _names(given, known) for name in ("tracing", "metrics", "accessLogging") if (given := field.get(name))
    }
    return msgspec.structs.replace(
        settings,
        default_tracing=said.get("tracing", settings.default_tracing),
        default_metrics=said.get("metrics", settings.default_metrics),
        default_access_logging=said.get("accessLogging", settings.default_access_logging),
    )


def _names(field: Field, known: set[str]) -> tuple[str, ...]:
    for item in field.items():
        if item.text() not in known:
            raise item.invalid(f"there is no provider {shown(item.value)}")
    return tuple(dict.fromkeys(item.text() for item in field.items()))
