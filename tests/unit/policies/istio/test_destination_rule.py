"""DestinationRule: subsets, balancing, limits, outliers, TLS, settings of ports (F30 to F37)."""

from __future__ import annotations

import pytest

from istio_manifests import destination_rule, istio, reaching, refusal, with_policy
from weft.policies.mesh.model import (
    UNLIMITED,
    Balance,
    ClientTls,
    ConnectionPool,
    HashKey,
    LeveledPolicy,
    LoadBalancer,
    Locality,
    Outlier,
    PortPolicy,
    Subset,
    TrafficPolicy,
    Warmup,
)

LB, POOL, OUTLIER, TLS = (
    "policy.policy.load_balancer",
    "policy.policy.connection_pool",
    "policy.policy.outlier",
    "policy.policy.tls",
)


def balanced(by: Balance) -> LoadBalancer:
    return LoadBalancer(by)


def hashed(key: HashKey) -> LoadBalancer:
    return LoadBalancer(Balance.HASH, key)


# The whole

WHOLE: dict[str, tuple[str, str, object]] = {
    "F30 a short host is of the rule's namespace": ("host: a", "host", "a.shop.svc.cluster.local"),
    "a full host": ("host: a.pay.svc.cluster.local", "host", "a.pay.svc.cluster.local"),
    "a wildcard": ("host: '*.example.com'", "host", "*.example.com"),
    "every host": ("host: '*'", "host", "*"),
    "no policy": ("host: a", "policy", LeveledPolicy()),
    "for every namespace": ("host: a", "clients", None),
    "for its own": ("host: a\nexportTo: ['.']", "clients", ("shop",)),
    "for some workloads": ("host: a\nworkloadSelector: {matchLabels: {app: x}}", "selector", (("app", "x"),)),
    "F30 subsets": (
        "host: a\nsubsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {b: c, a: b}}]",
        "subsets",
        (Subset("v1", (("version", "v1"),)), Subset("v2", (("a", "b"), ("b", "c")))),
    ),
    "F30 a subset without labels": ("host: a\nsubsets: [{name: all}]", "subsets", (Subset("all"),)),
    "F30 a subset's own policy": (
        "host: a\nsubsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]",
        "subsets.0.policy.policy",
        TrafficPolicy(load_balancer=balanced(Balance.RANDOM)),
    ),
}

#: `trafficPolicy`, where to look, what is there.
POLICIES: dict[str, tuple[str, str, object]] = {
    "F31 unspecified": ("loadBalancer: {simple: UNSPECIFIED}", LB, balanced(Balance.LEAST_REQUEST)),
    "F31 left out": ("loadBalancer: {}", LB, balanced(Balance.LEAST_REQUEST)),
    "F31 least request": ("loadBalancer: {simple: LEAST_REQUEST}", LB, balanced(Balance.LEAST_REQUEST)),
    "F31 round robin": ("loadBalancer: {simple: ROUND_ROBIN}", LB, balanced(Balance.ROUND_ROBIN)),
    "F31 random": ("loadBalancer: {simple: RANDOM}", LB, balanced(Balance.RANDOM)),
    "F31 passthrough": ("loadBalancer: {simple: PASSTHROUGH}", LB, balanced(Balance.PASSTHROUGH)),
    "F31 warm-up": (
        "loadBalancer: {warmup: {duration: 5m}}",
        LB,
        LoadBalancer(warmup=Warmup(300.0, 10.0, 1.0)),
    ),
    "F31 warm-up in full": (
        "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1m, minimumPercent: 5, aggression: 1.5}}",
        LB,
        LoadBalancer(Balance.ROUND_ROBIN, warmup=Warmup(60.0, 5.0, 1.5)),
    ),
    "F31 the old warm-up": ("loadBalancer: {warmupDurationSecs: 45s}", LB, LoadBalancer(warmup=Warmup(45.0))),
    "F32 a header": (
        "loadBalancer: {consistentHash: {httpHeaderName: X-User}}",
        LB,
        hashed(HashKey(header="x-user")),
    ),
    "F32 a query parameter": (
        "loadBalancer: {consistentHash: {httpQueryParameterName: q}}",
        LB,
        hashed(HashKey(query="q")),
    ),
    "F32 the address": (
        "loadBalancer: {consistentHash: {useSourceIp: true}}",
        LB,
        hashed(HashKey(source_ip=True)),
    ),
    "F32 a cookie that is made": (
        "loadBalancer: {consistentHash: {httpCookie: {name: user, path: /a, ttl: 10s}}}",
        LB,
        hashed(HashKey(cookie="user", cookie_path="/a", cookie_ttl=10.0)),
    ),
    "F32 a session's cookie": (
        "loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}",
        LB,
        hashed(HashKey(cookie="user", cookie_ttl=0.0)),
    ),
    "F32 a cookie that is not made": (
        "loadBalancer: {consistentHash: {httpCookie: {name: user}}}",
        LB,
        hashed(HashKey(cookie="user")),
    ),
    "F32 a ring's size": (
        "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 2048}}}",
        LB,
        hashed(HashKey(source_ip=True, ring_size=2048)),
    ),
    "F32 a ring's size, the old way": (
        "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 16}}",
        LB,
        hashed(HashKey(source_ip=True, ring_size=16)),
    ),
    "F32 a ring of no size has the default": (
        "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}}}",
        LB,
        hashed(HashKey(source_ip=True)),
    ),
    "F32 Maglev": (
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}",
        LB,
        hashed(HashKey(source_ip=True, maglev=True)),
    ),
    "F32 Maglev's table": (
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 251}}}",
        LB,
        hashed(HashKey(source_ip=True, maglev=True, table_size=251)),
    ),
    "F33 off": (
        "loadBalancer: {localityLbSetting: {enabled: false}}",
        LB + ".locality",
        Locality(enabled=False),
    ),
    "F33 as the mesh says": ("loadBalancer: {localityLbSetting: {}}", LB + ".locality", Locality()),
    "F33 distribution": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: us/a/*, to: {us/a/*: 80, us/b/*: 20}}]}}",
        LB + ".locality.distribute",
        (("us/a/*", (("us/a/*", 80), ("us/b/*", 20))),),
    ),
    "F33 failover": (
        "loadBalancer: {localityLbSetting: {failover: [{from: us, to: eu}]}}",
        LB + ".locality.failover",
        (("us", "eu"),),
    ),
    "F33 priorities": (
        "loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/zone, a=b]}}",
        LB + ".locality.priority",
        ("topology.kubernetes.io/zone", "a=b"),
    ),
    "F34 defaults of tcp": ("connectionPool: {tcp: {}}", POOL, ConnectionPool()),
    "F34 defaults of http": ("connectionPool: {http: {}}", POOL, ConnectionPool()),
    "F34 connections": ("connectionPool: {tcp: {maxConnections: 100}}", POOL + ".max_connections", 100),
    "F34 0 connections is no limit": (
        "connectionPool: {tcp: {maxConnections: 0}}",
        POOL + ".max_connections",
        UNLIMITED,
    ),
    "F34 connect timeout": ("connectionPool: {tcp: {connectTimeout: 30ms}}", POOL + ".connect_timeout", 0.03),
    "F34 connect timeout, default": ("connectionPool: {tcp: {}}", POOL + ".connect_timeout", 10.0),
    "F34 keep-alive": (
        "connectionPool: {tcp: {tcpKeepalive: {time: 7200s, interval: 75s, probes: 5}}}",
        POOL + ".keepalive",
        (7200.0, 75.0, 5),
    ),
    "F34 keep-alive as the system has it": (
        "connectionPool: {tcp: {tcpKeepalive: {}}}",
        POOL + ".keepalive",
        (0.0, 0.0, 0),
    ),
    "F34 age of a connection": (
        "connectionPool: {tcp: {maxConnectionDuration: 1h}}",
        POOL + ".max_connection_duration",
        3600.0,
    ),
    "F34 idle TCP": ("connectionPool: {tcp: {idleTimeout: 5s}}", POOL + ".tcp_idle_timeout", 5.0),
    "F34 idle TCP for ever": ("connectionPool: {tcp: {idleTimeout: 0s}}", POOL + ".tcp_idle_timeout", 0.0),
    "F34 pending": (
        "connectionPool: {http: {http1MaxPendingRequests: 1}}",
        POOL + ".http1_max_pending",
        1,
    ),
    "F34 requests": ("connectionPool: {http: {http2MaxRequests: 1000}}", POOL + ".http2_max_requests", 1000),
    "F34 requests per connection": (
        "connectionPool: {http: {maxRequestsPerConnection: 1}}",
        POOL + ".max_requests_per_connection",
        1,
    ),
    "F34 retries at once": ("connectionPool: {http: {maxRetries: 3}}", POOL + ".max_retries", 3),
    "F34 idle HTTP": ("connectionPool: {http: {idleTimeout: 30s}}", POOL + ".idle_timeout", 30.0),
    "F34 upgrade": ("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}", POOL + ".upgrade_h2", True),
    "F34 no upgrade": ("connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", POOL + ".upgrade_h2", False),
    "F34 upgrade by default": ("connectionPool: {http: {h2UpgradePolicy: DEFAULT}}", POOL + ".upgrade_h2", None),
    "F34 the client's protocol": (
        "connectionPool: {http: {useClientProtocol: true}}",
        POOL + ".use_client_protocol",
        True,
    ),
    "F34 streams": (
        "connectionPool: {http: {maxConcurrentStreams: 7}}",
        POOL + ".max_concurrent_streams",
        7,
    ),
    "1.3 a retry budget": (
        "retryBudget: {percent: 25, minRetryConcurrency: 5}",
        POOL,
        ConnectionPool(retry_budget=(25.0, 5)),
    ),
    "1.3 a retry budget's defaults": ("retryBudget: {}", POOL + ".retry_budget", (20.0, 3)),
    "1.3 a budget beside limits": (
        "retryBudget: {}\nconnectionPool: {http: {maxRetries: 3}}",
        POOL,
        ConnectionPool(max_retries=3, retry_budget=(20.0, 3)),
    ),
    "F35 off": ("loadBalancer: {}", OUTLIER, None),
    "F35 defaults": ("outlierDetection: {}", OUTLIER, Outlier()),
    "F35 in full": (
        "outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 5m,"
        " splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, baseEjectionTime: 1m,"
        " maxEjectionPercent: 50, minHealthPercent: 30}",
        OUTLIER,
        Outlier(7, 3, True, 2, 300.0, 60.0, 300.0, 50, 30),
    ),
    "F35 5xx not counted": ("outlierDetection: {consecutive5xxErrors: 0}", OUTLIER + ".consecutive_5xx", 0),
    "F35 an ejection is never shorter than its base": (
        "outlierDetection: {baseEjectionTime: 15m}",
        OUTLIER + ".max_ejection",
        900.0,
    ),
    "F35 0 percent is the default": (
        "outlierDetection: {maxEjectionPercent: 0}",
        OUTLIER + ".max_ejection_percent",
        10,
    ),
    "F36 none": ("tls: {mode: DISABLE}", TLS, ClientTls("DISABLE")),
    "F36 left out is none": ("tls: {}", TLS, ClientTls("DISABLE")),
    "F37 settings of a port": (
        "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]",
        "policy.ports",
        (PortPolicy(80, TrafficPolicy(load_balancer=balanced(Balance.RANDOM))),),
    ),
    "F37 what a port leaves out is default, not inherited": (
        "loadBalancer: {simple: RANDOM}\nportLevelSettings: [{port: {number: 80}}]",
        "policy.ports",
        (PortPolicy(80, TrafficPolicy()),),
    ),
}
ACCEPTED = {**WHOLE, **{name: (with_policy(text), *rest) for name, (text, *rest) in POLICIES.items()}}


@pytest.mark.parametrize(("text", "path", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_fields(text: str, path: str, expected: object) -> None:
    found = destination_rule(text)
    assert reaching(found, path) == expected
    assert not found.warnings


WARNED: dict[str, tuple[str, str, object, str]] = {
    "F31 LEAST_CONN": ("loadBalancer: {simple: LEAST_CONN}", LB, balanced(Balance.LEAST_REQUEST), "deprecated"),
    "F31 warm-up where it has no effect": (
        "loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}",
        LB,
        balanced(Balance.RANDOM),
        "alone",
    ),
    "F31 both warm-ups": (
        "loadBalancer: {warmupDurationSecs: 45s, warmup: {duration: 1s}}",
        LB,
        LoadBalancer(warmup=Warmup(1.0)),
        "is ignored",
    ),
    "F32 nothing to hash": ("loadBalancer: {consistentHash: {}}", LB, balanced(Balance.RANDOM), "at random"),
    "F32 not the address": (
        "loadBalancer: {consistentHash: {useSourceIp: false}}",
        LB,
        balanced(Balance.RANDOM),
        "at random",
    ),
    "F35 consecutiveErrors": (
        "outlierDetection: {consecutiveErrors: 4}",
        OUTLIER,
        Outlier(consecutive_gateway=4),
        "deprecated",
    ),
    "F36 simple": ("tls: {mode: SIMPLE, sni: x}", TLS, ClientTls("SIMPLE", sni="x"), "not in effect yet"),
    "F36 mutual": (
        "tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a, subjectAltNames: [san]}",
        TLS,
        ClientTls(
            "MUTUAL",
            subject_alt_names=("san",),
            ca_certificates="/a",
            client_certificate="/c",
            private_key="/k",
        ),
        "not in effect yet",
    ),
    "F36 a secret": (
        "tls: {mode: MUTUAL, credentialName: s, insecureSkipVerify: true}",
        TLS,
        ClientTls("MUTUAL", credential="s", insecure_skip_verify=True),
        "not in effect yet",
    ),
    "F36 Istio's": ("tls: {mode: ISTIO_MUTUAL}", TLS, ClientTls("ISTIO_MUTUAL"), "not in effect yet"),
}


@pytest.mark.parametrize(("text", "path", "expected", "said"), WARNED.values(), ids=WARNED)
def test_what_is_said(text: str, path: str, expected: object, said: str) -> None:
    found = destination_rule(with_policy(text))
    assert reaching(found, path) == expected
    (warning,) = found.warnings
    assert said in warning and warning.startswith("spec.trafficPolicy.")


REFUSED_WHOLE: dict[str, tuple[str, str, str]] = {
    "no host": ("subsets: []", "host", "is missing"),
    "an empty host": ("host: ''", "host", "must not be empty"),
    "an unknown field": ("host: a\nsubset: []", "subset", "unknown field"),
    "a subset without name": ("host: a\nsubsets: [{}]", "subsets[0].name", "is missing"),
    "a subset's name that is none": ("host: a\nsubsets: [{name: V_1}]", "subsets[0].name", "at most 63"),
    "two subsets of a name": ("host: a\nsubsets: [{name: v}, {name: v}]", "subsets[1].name", "already"),
    "a subset's label that is none": (
        "host: a\nsubsets: [{name: v, labels: {a: '*'}}]",
        "subsets[0].labels.a",
        "no label value",
    ),
    "a selector with a wildcard": (
        "host: a\nworkloadSelector: {matchLabels: {a: '*'}}",
        "workloadSelector.matchLabels.a",
        "no label value",
    ),
    "a selector of the other kind": (
        "host: a\nworkloadSelector: {labels: {a: b}}",
        "workloadSelector.labels",
        "unknown field",
    ),
    "a policy that says nothing": ("host: a\ntrafficPolicy: {}", "trafficPolicy", "says nothing"),
    "exportTo of nobody": ("host: a\nexportTo: ['~']", "exportTo[0]", "at most 63"),
}
REFUSED: dict[str, tuple[str, str, str]] = {
    "an unknown field": ("circuitBreaker: {}", "circuitBreaker", "unknown field"),
    "F31 two ways": (
        "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
        "loadBalancer.consistentHash",
        "exclude each other",
    ),
    "F31 an unknown way": ("loadBalancer: {simple: FASTEST}", "loadBalancer.simple", "is not one of"),
    "F31 warm-up without duration": ("loadBalancer: {warmup: {}}", "loadBalancer.warmup.duration", "is missing"),
    "F31 warm-up from more than all": (
        "loadBalancer: {warmup: {duration: 1s, minimumPercent: 150.0}}",
        "loadBalancer.warmup.minimumPercent",
        "0 to 100",
    ),
    "F31 warm-up too gentle": (
        "loadBalancer: {warmup: {duration: 1s, aggression: 0.3}}",
        "loadBalancer.warmup.aggression",
        "must be 1 to",
    ),
    "F32 two keys": (
        "loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}",
        "loadBalancer.consistentHash",
        "exclude each other",
    ),
    "F32 two algorithms": (
        "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}}",
        "loadBalancer.consistentHash.maglev",
        "exclude each other",
    ),
    "F32 a cookie without name": (
        "loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}",
        "loadBalancer.consistentHash.httpCookie.name",
        "is missing",
    ),
    "F32 a cookie's name that is none": (
        "loadBalancer: {consistentHash: {httpCookie: {name: 'a;b'}}}",
        "loadBalancer.consistentHash.httpCookie.name",
        "is no name",
    ),
    "F32 a cookie's path that breaks out": (
        "loadBalancer: {consistentHash: {httpCookie: {name: a, path: '/; Secure'}}}",
        "loadBalancer.consistentHash.httpCookie.path",
        "in no cookie",
    ),
    "F32 a header that is none": (
        "loadBalancer: {consistentHash: {httpHeaderName: 'a b'}}",
        "loadBalancer.consistentHash.httpHeaderName",
        "is no name",
    ),
    "F32 a table that is not prime": (
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}",
        "loadBalancer.consistentHash.maglev.tableSize",
        "is no prime",
    ),
    "F32 a table too large": (
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000077}}}",
        "loadBalancer.consistentHash.maglev.tableSize",
        "must be 0 to",
    ),
    "F33 distribution and failover": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}}",
        "loadBalancer.localityLbSetting.distribute",
        "excludes failover",
    ),
    "F33 shares that are not 100": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}}",
        "loadBalancer.localityLbSetting.distribute[0].to",
        "add up to 100",
    ),
    "F33 a share of 0": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100, c: 0}}]}}",
        "loadBalancer.localityLbSetting.distribute[0].to.c",
        "must be 1 to 100",
    ),
    "F33 targets that overlap": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b/*: 50, b/c: 50}}]}}",
        "loadBalancer.localityLbSetting.distribute[0].to",
        "overlap",
    ),
    "F33 sources that overlap": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}, {from: a/*, to: {b: 100}}]}}",
        "loadBalancer.localityLbSetting",
        "overlap",
    ),
    "F33 a star in the middle": (
        "loadBalancer: {localityLbSetting: {distribute: [{from: a/*/c, to: {b: 100}}]}}",
        "loadBalancer.localityLbSetting.distribute[0].from",
        "is no locality",
    ),
    "F33 failover of a zone": (
        "loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}",
        "loadBalancer.localityLbSetting.failover[0].from",
        "a region alone",
    ),
    "F33 failover to itself": (
        "loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}",
        "loadBalancer.localityLbSetting.failover[0].to",
        "fails over from",
    ),
    "F33 a priority that is no label": (
        "loadBalancer: {localityLbSetting: {failoverPriority: ['a b']}}",
        "loadBalancer.localityLbSetting.failoverPriority[0]",
        "is no label key",
    ),
    "F34 an empty pool": ("connectionPool: {}", "connectionPool", "needs tcp, http"),
    "F34 negative connections": (
        "connectionPool: {tcp: {maxConnections: -1}}",
        "connectionPool.tcp.maxConnections",
        "must be 0 to",
    ),
    "F34 more than 32 bits": (
        "connectionPool: {tcp: {maxConnections: 2147483648}}",
        "connectionPool.tcp.maxConnections",
        "must be 0 to",
    ),
    "F34 a connect timeout of nothing": (
        "connectionPool: {tcp: {connectTimeout: 0s}}",
        "connectionPool.tcp.connectTimeout",
        "at least 1ms",
    ),
    "F34 a connect timeout as number": (
        "connectionPool: {tcp: {connectTimeout: 5}}",
        "connectionPool.tcp.connectTimeout",
        "put it in quotes",
    ),
    "F34 an age of nothing": (
        "connectionPool: {tcp: {maxConnectionDuration: 0s}}",
        "connectionPool.tcp.maxConnectionDuration",
        "at least 1ms",
    ),
    "F34 upgrade and the client's protocol": (
        "connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
        "connectionPool.http.useClientProtocol",
        "excludes",
    ),
    "F34 an unknown upgrade": (
        "connectionPool: {http: {h2UpgradePolicy: MAYBE}}",
        "connectionPool.http.h2UpgradePolicy",
        "is not one of",
    ),
    "F34 an unknown limit": (
        "connectionPool: {http: {maxRequests: 1}}",
        "connectionPool.http.maxRequests",
        "unknown field",
    ),
    "1.3 a budget of more than all": ("retryBudget: {percent: 101}", "retryBudget.percent", "0 to 100"),
    "F35 a share of more than all": (
        "outlierDetection: {maxEjectionPercent: 101}",
        "outlierDetection.maxEjectionPercent",
        "0 to 100",
    ),
    "F35 a negative share": (
        "outlierDetection: {minHealthPercent: -1}",
        "outlierDetection.minHealthPercent",
        "0 to 100",
    ),
    "F35 an interval of nothing": (
        "outlierDetection: {interval: 0s}",
        "outlierDetection.interval",
        "at least 1ms",
    ),
    "F35 an ejection of nothing": (
        "outlierDetection: {baseEjectionTime: 0s}",
        "outlierDetection.baseEjectionTime",
        "at least 1ms",
    ),
    "F35 negative errors": (
        "outlierDetection: {consecutive5xxErrors: -1}",
        "outlierDetection.consecutive5xxErrors",
        "must be 0 to",
    ),
    "F35 local failures that are not told apart": (
        "outlierDetection: {consecutiveLocalOriginFailures: 10}",
        "outlierDetection.consecutiveLocalOriginFailures",
        "needs splitExternalLocalOriginErrors",
    ),
    "F36 not verified, by an authority": (
        "tls: {mode: SIMPLE, caCertificates: c, insecureSkipVerify: true}",
        "tls.insecureSkipVerify",
        "excludes what",
    ),
    "F36 not verified, by a secret": (
        "tls: {mode: SIMPLE, credentialName: c, insecureSkipVerify: true}",
        "tls.insecureSkipVerify",
        "excludes what",
    ),
    "F36 not verified, by name": (
        "tls: {mode: SIMPLE, subjectAltNames: [c], insecureSkipVerify: true}",
        "tls.insecureSkipVerify",
        "excludes what",
    ),
    "F36 mutual, not verified, by an authority": (
        "tls: {mode: MUTUAL, caCertificates: c, clientCertificate: a, privateKey: b, insecureSkipVerify: true}",
        "tls.insecureSkipVerify",
        "excludes what",
    ),
    "F35 an unknown field": (
        "outlierDetection: {consecutiveErrorsLimit: 1}",
        "outlierDetection.consecutiveErrorsLimit",
        "unknown field",
    ),
    "F36 an unknown mode": ("tls: {mode: STRICT}", "tls.mode", "is not one of"),
    "F36 mutual without keys": ("tls: {mode: MUTUAL}", "tls", "needs clientCertificate"),
    "F36 mutual without key": ("tls: {mode: MUTUAL, clientCertificate: /c}", "tls", "needs privateKey"),
    "F36 a secret and files": (
        "tls: {mode: SIMPLE, credentialName: s, caCertificates: /c}",
        "tls.credentialName",
        "excludes certificates",
    ),
    "F36 a secret and revocations": (
        "tls: {mode: SIMPLE, credentialName: s, caCrl: /c}",
        "tls.credentialName",
        "excludes certificates",
    ),
    "F36 Istio's with files": ("tls: {mode: ISTIO_MUTUAL, privateKey: /k}", "tls", "leave these out"),
    "F37 no port": ("portLevelSettings: [{}]", "portLevelSettings[0].port", "is missing"),
    "F37 no number": ("portLevelSettings: [{port: {}}]", "portLevelSettings[0].port.number", "is missing"),
    "F37 port 0": ("portLevelSettings: [{port: {number: 0}}]", "portLevelSettings[0].port.number", "1 to 65535"),
    "F37 twice": (
        "portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]",
        "portLevelSettings[1].port.number",
        "already",
    ),
    "F37 inside itself": (
        "portLevelSettings: [{port: {number: 1}, portLevelSettings: []}]",
        "portLevelSettings[0].portLevelSettings",
        "unknown field",
    ),
    "F37 a budget of a port": (
        "portLevelSettings: [{port: {number: 1}, retryBudget: {}}]",
        "portLevelSettings[0].retryBudget",
        "unknown field",
    ),
    "a tunnel": ("tunnel: {targetHost: a, targetPort: 1}", "tunnel", "is not supported"),
    "the PROXY protocol": ("proxyProtocol: {version: V2}", "proxyProtocol", "is not supported"),
}
ALL_REFUSED = {
    **REFUSED_WHOLE,
    **{f"policy: {name}": (with_policy(text), f"trafficPolicy.{p}", r) for name, (text, p, r) in REFUSED.items()},
}


@pytest.mark.parametrize(("text", "path", "reason"), ALL_REFUSED.values(), ids=ALL_REFUSED)
def test_refused(text: str, path: str, reason: str) -> None:
    error = refusal(istio("DestinationRule", text))
    assert error.where.path == f"spec.{path}"
    assert reason in error.reason


def test_a_selector_of_every_workload_is_told() -> None:
    found = destination_rule("host: a\nworkloadSelector: {}")
    assert (found.selector, found.warnings) == ((), ("spec.workloadSelector: selects every workload",))


# Budgets and pools are inherited each by itself

BUDGETS = {
    "a budget alone keeps the limits above": (
        "retryBudget: {percent: 50}",
        ConnectionPool(max_connections=9, retry_budget=(50.0, 3)),
    ),
    "limits alone keep the budget above": (
        "connectionPool: {http: {maxRetries: 1}}",
        ConnectionPool(max_retries=1, retry_budget=(10.0, 3)),
    ),
    "both of its own": (
        "retryBudget: {}\n    connectionPool: {http: {maxRetries: 1}}",
        ConnectionPool(max_retries=1, retry_budget=(20.0, 3)),
    ),
    "limits that are the defaults": (
        "retryBudget: {}\n    connectionPool: {tcp: {}}",
        ConnectionPool(retry_budget=(20.0, 3)),
    ),
    "neither": ("loadBalancer: {}", None),
}


@pytest.mark.parametrize(("text", "expected"), BUDGETS.values(), ids=BUDGETS)
def test_what_a_subset_keeps_of_the_level_above(text: str, expected: ConnectionPool | None) -> None:
    found = destination_rule(
        "host: a\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}, retryBudget: {percent: 10}}\n"
        f"subsets:\n- name: v1\n  trafficPolicy:\n    {text}"
    )
    assert reaching(found, "subsets.0.policy.policy.connection_pool") == expected
