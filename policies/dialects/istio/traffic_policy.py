"""`trafficPolicy` of a DestinationRule, its subsets and ports: limits, outliers, TLS. Balancing is in `balancing`.

In Istio 0 in a limit is the same as leaving it out, and so it is here. A retry budget stands beside the connection
pool there and in it in the model.
"""

from __future__ import annotations

import msgspec

from weft.policies.dialects.fields import Field, Findings
from weft.policies.dialects.istio.balancing import load_balancer
from weft.policies.dialects.istio.values import INT32, UINT32, duration, flag, number, port, text_of
from weft.policies.mesh.model import (
    UNLIMITED,
    ClientTls,
    ConnectionPool,
    LeveledPolicy,
    Outlier,
    PortPolicy,
    TrafficPolicy,
)

_PARTS = ("loadBalancer", "connectionPool", "outlierDetection", "tls")
_UPGRADE = {"DEFAULT": None, "DO_NOT_UPGRADE": False, "UPGRADE": True}
_TLS = ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")
_MAX_PORTS = 4096


def traffic_policy(field: Field, findings: Findings) -> LeveledPolicy:
    for name in ("tunnel", "proxyProtocol"):
        if (other := field.get(name)) is not None:
            raise other.invalid(f"{name} is not supported", not_enforced=True)
    field.record(*_PARTS, "retryBudget", "portLevelSettings")
    if not field.mapping():
        raise field.invalid("says nothing: it needs at least one field")
    ports = field.get("portLevelSettings")
    items = ports.items(at_most=_MAX_PORTS) if ports is not None else []
    found: dict[int, PortPolicy] = {}
    for item in items:
        selector = item.record("port", *_PARTS).need("port").record("number").need("number")
        number_ = port(selector)
        if number_ in found:
            raise selector.invalid(f"there are settings for port {number_} already")
        found[number_] = PortPolicy(number_, _policy(item, findings))
    return LeveledPolicy(_policy(field, findings), tuple(found.values()))


def inherited(field: Field, subset: LeveledPolicy, above: LeveledPolicy) -> LeveledPolicy:
    """A subset's policy that names only one of connection pool and retry budget keeps the other of the level above:
    for Istio they are two fields, and each is inherited by itself."""
    mine, theirs = subset.policy.connection_pool, above.policy.connection_pool
    if mine is None or theirs is None:
        return subset
    budget = mine.retry_budget or theirs.retry_budget
    base = mine if field.get("connectionPool") is not None else theirs
    pool = msgspec.structs.replace(base, retry_budget=budget)
    return msgspec.structs.replace(subset, policy=msgspec.structs.replace(subset.policy, connection_pool=pool))


def _policy(field: Field, findings: Findings) -> TrafficPolicy:
    balance, pool, outlier, tls = (field.get(name) for name in _PARTS)
    budget = field.get("retryBudget")
    limits = connection_pool(pool) if pool is not None else None
    if budget is not None:
        limits = msgspec.structs.replace(limits or ConnectionPool(), retry_budget=_budget(budget))
    return TrafficPolicy(
        load_balancer=load_balancer(balance, findings) if balance is not None else None,
        connection_pool=limits,
        outlier=outlier_detection(outlier, findings) if outlier is not None else None,
        tls=client_tls(tls, findings) if tls is not None else None,
    )


def _budget(field: Field) -> tuple[float, int]:
    percent, least = field.record("percent", "minRetryConcurrency").get("percent"), field.get("minRetryConcurrency")
    return (
        number(percent, 0, 100) if percent is not None else 20.0,
        least.integer(0, UINT32) if least is not None else 3,
    )


# Limits


def connection_pool(field: Field) -> ConnectionPool:
    tcp, http = field.record("tcp", "http").get("tcp"), field.get("http")
    if tcp is None and http is None:
        raise field.invalid("needs tcp, http, or both")
    found = ConnectionPool()
    if tcp is not None:
        found = _tcp(tcp, found)
    return _http(http, found) if http is not None else found


def _tcp(field: Field, pool: ConnectionPool) -> ConnectionPool:
    field.record("maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout")
    alive = field.get("tcpKeepalive")
    return msgspec.structs.replace(
        pool,
        max_connections=_limit(field, "maxConnections", UNLIMITED),
        connect_timeout=_seconds(field, "connectTimeout", pool.connect_timeout),
        keepalive=_keepalive(alive) if alive is not None else None,
        max_connection_duration=_seconds(field, "maxConnectionDuration", 0.0),
        tcp_idle_timeout=_seconds(field, "idleTimeout", pool.tcp_idle_timeout, zero=True),
    )


def _keepalive(field: Field) -> tuple[float, float, int]:
    probes = field.record("probes", "time", "interval").get("probes")
    return (
        _seconds(field, "time", 0.0, zero=True),
        _seconds(field, "interval", 0.0, zero=True),
        probes.integer(0, UINT32) if probes is not None else 0,
    )


def _http(field: Field, pool: ConnectionPool) -> ConnectionPool:
    field.record(
        *("http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection", "maxRetries", "idleTimeout"),
        *("h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams"),
    )
    policy, same = field.get("h2UpgradePolicy"), flag(field, "useClientProtocol")
    upgrade = _UPGRADE[policy.one_of(_UPGRADE)] if policy is not None else None
    if upgrade and same:
        raise field.need("useClientProtocol").invalid("excludes h2UpgradePolicy: UPGRADE")
    return msgspec.structs.replace(
        pool,
        http1_max_pending=_limit(field, "http1MaxPendingRequests", UNLIMITED),
        http2_max_requests=_limit(field, "http2MaxRequests", UNLIMITED),
        max_requests_per_connection=_limit(field, "maxRequestsPerConnection", 0),
        max_retries=_limit(field, "maxRetries", UNLIMITED),
        idle_timeout=_seconds(field, "idleTimeout", pool.idle_timeout, zero=True),
        upgrade_h2=upgrade,
        use_client_protocol=same,
        max_concurrent_streams=_limit(field, "maxConcurrentStreams", 0),
    )


def _limit(field: Field, name: str, default: int) -> int:
    given = field.get(name)
    return (given.integer(0, INT32) if given is not None else 0) or default


def _seconds(field: Field, name: str, default: float, *, zero: bool = False) -> float:
    given = field.get(name)
    return duration(given, zero=zero) if given is not None else default


# Outliers


def outlier_detection(field: Field, findings: Findings) -> Outlier:
    """`consecutiveErrors` is the old form: gateway errors."""
    field.record(
        *("consecutiveErrors", "splitExternalLocalOriginErrors", "consecutiveLocalOriginFailures"),
        *("consecutiveGatewayErrors", "consecutive5xxErrors", "interval", "baseEjectionTime"),
        *("maxEjectionPercent", "minHealthPercent"),
    )
    default = Outlier()
    gateway, old = _count(field, "consecutiveGatewayErrors", 0), field.get("consecutiveErrors")
    if old is not None:
        findings.warn(old, "consecutiveErrors is deprecated: use consecutiveGatewayErrors or consecutive5xxErrors")
        count = old.integer(0, INT32)
        gateway = gateway if field.get("consecutiveGatewayErrors") is not None else count
    base, local = _seconds(field, "baseEjectionTime", default.base_ejection), "consecutiveLocalOriginFailures"
    split = flag(field, "splitExternalLocalOriginErrors")
    if field.get(local) is not None and not split:
        raise field.need(local).invalid("needs splitExternalLocalOriginErrors: true beside it")
    return Outlier(
        consecutive_5xx=_count(field, "consecutive5xxErrors", default.consecutive_5xx),
        consecutive_gateway=gateway,
        split_local=split,
        consecutive_local=_count(field, local, default.consecutive_local),
        interval=_seconds(field, "interval", default.interval),
        base_ejection=base,
        max_ejection=max(default.max_ejection, base),
        max_ejection_percent=_share(field, "maxEjectionPercent") or default.max_ejection_percent,
        min_health_percent=_share(field, "minHealthPercent"),
    )


def _count(field: Field, name: str, default: int) -> int:
    given = field.get(name)
    return given.integer(0, UINT32) if given is not None else default


def _share(field: Field, name: str) -> int:
    given = field.get(name)
    return given.integer(0, 100) if given is not None else 0


# TLS


def client_tls(field: Field, findings: Findings) -> ClientTls:
    """Kept whole; what needs keys and authorities that Weft does not have yet is warned of."""
    field.record(
        *("mode", "clientCertificate", "privateKey", "caCertificates", "credentialName", "subjectAltNames", "sni"),
        *("insecureSkipVerify", "caCrl"),
    )
    mode, names = field.get("mode"), field.get("subjectAltNames")
    found = ClientTls(
        mode=mode.one_of(_TLS) if mode is not None else "DISABLE",
        sni=text_of(field, "sni"),
        credential=text_of(field, "credentialName"),
        subject_alt_names=tuple(item.text() for item in names.items()) if names is not None else (),
        ca_certificates=text_of(field, "caCertificates"),
        client_certificate=text_of(field, "clientCertificate"),
        private_key=text_of(field, "privateKey"),
        insecure_skip_verify=flag(field, "insecureSkipVerify"),
    )
    revoked = text_of(field, "caCrl")
    _check_tls(field, found, revoked)
    if found.mode != "DISABLE":
        findings.warn(
            field, f"mode {found.mode} is not in effect yet: connections are made without TLS by the mesh"
        )
    return found


def _check_tls(field: Field, tls: ClientTls, revoked: str) -> None:
    files = tls.client_certificate or tls.private_key or tls.ca_certificates or revoked
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential and files:
        raise field.need("credentialName").invalid("excludes certificates and keys from files")
    if tls.insecure_skip_verify and tls.mode in ("SIMPLE", "MUTUAL"):
        secret = tls.mode == "SIMPLE" and tls.credential  # it would hold an authority alone
        if tls.ca_certificates or tls.subject_alt_names or secret:
            raise field.need("insecureSkipVerify").invalid("excludes what a server would be verified by")
    if tls.mode == "MUTUAL" and not tls.credential:
        for name, given in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not given:
                raise field.invalid(f"mode MUTUAL needs {name}, or credentialName")
    if tls.mode == "ISTIO_MUTUAL" and (files or tls.credential):
        raise field.invalid("mode ISTIO_MUTUAL has keys and certificates of its own: leave these out")
