"""The routes in both forms: each rule of ours beside the route of Envoy's that says the same.

Envoy is configured as Istio configures a sidecar's outbound listener.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.policies.mesh import model as mesh

OWN = "orders.default.svc.cluster.local"
ORIGIN = mesh.Origin("VirtualService", "default", "beside", "spec.http[0]")


def prefix(value: str) -> tuple[mesh.RequestMatch, ...]:
    return (mesh.RequestMatch(path=mesh.Matcher(mesh.How.PREFIX, value)),)


def to(host: str = OWN, **more: Any) -> tuple[mesh.Destination, ...]:
    return (mesh.Destination(host, **more),)


def exact(value: str) -> mesh.Matcher:
    return mesh.Matcher(mesh.How.EXACT, value)


NONE = mesh.Retries(attempts=0, on=())
ISTIO = {"num_retries": 2, "retry_on": "connect-failure,refused-stream,unavailable,cancelled"}


@dataclass(frozen=True)
class Both:
    """A rule of ours, and Envoy's route that says the same (`route` within, or another action beside `match`)."""

    rule: mesh.Rule
    match: dict[str, Any]
    envoy: dict[str, Any]


def rule(path: str, envoy_says: dict[str, Any], match: dict[str, Any] | None = None, **more: Any) -> Both:
    more.setdefault("matches", prefix(path))
    if not more.keys() & {"redirect", "direct"}:
        more.setdefault("destinations", to())
    return Both(mesh.Rule(ORIGIN, **more), match or {"prefix": path}, envoy_says)


def routed(cluster: str = "orders", **more: Any) -> dict[str, Any]:
    return {"route": {"cluster": cluster, "timeout": "0s", "retry_policy": ISTIO, **more}}


def appended(action: str, **pairs: str) -> list[dict[str, Any]]:
    return [
        {"header": {"key": key.replace("_", "-"), "value": value}, "append_action": action}
        for key, value in pairs.items()
    ]


SET, ADD = "OVERWRITE_IF_EXISTS_OR_ADD", "APPEND_IF_EXISTS_OR_ADD"
CORS = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"
FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
RULES = [
    rule("/plain/", routed()),
    rule(
        "/rewrite/",
        routed(prefix_rewrite="/new/"),
        rewrite=mesh.Rewrite(prefix="/new/", authority=""),
    ),
    rule("/root/", routed(prefix_rewrite="/"), rewrite=mesh.Rewrite(prefix="/")),
    rule(
        "/authority/",
        routed(host_rewrite_literal="other.example"),
        rewrite=mesh.Rewrite(authority="other.example"),
    ),
    rule(
        "/regex/",
        routed(regex_rewrite={"pattern": {"regex": "^/regex/([a-z]+)/(.*)$"}, "substitution": r"/\2/\1"}),
        rewrite=mesh.Rewrite(regex="^/regex/([a-z]+)/(.*)$", substitution=r"/\2/\1"),
    ),
    rule("/moved/", {"redirect": {"path_redirect": "/there"}}, redirect=mesh.Redirect(path="/there")),
    rule(
        "/host/",
        {"redirect": {"host_redirect": "other.example", "response_code": "TEMPORARY_REDIRECT"}},
        redirect=mesh.Redirect(host="other.example", status=307),
    ),
    rule(
        "/secure/",
        {"redirect": {"scheme_redirect": "https", "port_redirect": 8443, "response_code": "FOUND"}},
        redirect=mesh.Redirect(scheme="https", port=8443, status=302),
    ),
    rule(
        "/swap/",
        {"redirect": {"prefix_rewrite": "/swapped/", "response_code": "PERMANENT_REDIRECT"}},
        redirect=mesh.Redirect(prefix="/swapped/", status=308),
    ),
    rule(
        "/direct/",
        {"direct_response": {"status": 418, "body": {"inline_string": "teapot\n"}}},
        direct=mesh.DirectResponse(418, b"teapot\n"),
    ),
    rule("/empty/", {"direct_response": {"status": 204}}, direct=mesh.DirectResponse(204)),
    rule(
        "/headers/",
        {
            **routed(),
            "request_headers_to_add": appended(SET, x_set="new") + appended(ADD, x_add="second"),
            "request_headers_to_remove": ["x-gone"],
            "response_headers_to_add": appended(SET, x_mixed_case="no") + appended(ADD, via="1.1 mesh"),
            "response_headers_to_remove": ["server"],
        },
        request_headers=mesh.HeaderChanges((("x-set", "new"),), (("x-add", "second"),), ("x-gone",)),
        response_headers=mesh.HeaderChanges((("x-mixed-case", "no"),), (("via", "1.1 mesh"),), ("server",)),
    ),
    rule(
        "/retry/",
        routed(retry_policy={"num_retries": 2, "retry_on": "5xx,reset,connect-failure"}),
        retries=mesh.Retries(2, ("5xx", "reset", "connect-failure")),
    ),
    rule("/once/", routed(retry_policy={"num_retries": 0}), retries=NONE),
    rule("/timeout/", routed(timeout="0.3s"), timeout=0.3),
    rule(
        "/tries/",
        routed(timeout="2s", retry_policy={"num_retries": 2, "retry_on": "5xx", "per_try_timeout": "0.2s"}),
        timeout=2.0,
        retries=mesh.Retries(2, ("5xx",), per_try_timeout=0.2),
    ),
    rule(
        "/cors/",
        {
            **routed(),
            "typed_per_filter_config": {
                "envoy.filters.http.cors": {
                    "@type": CORS,
                    "allow_origin_string_match": [{"exact": "https://shop.example"}],
                    "allow_methods": "GET,PUT",
                    "allow_headers": "x-one,x-two",
                    "expose_headers": "x-shown",
                    "max_age": "60",
                    "allow_credentials": True,
                    "filter_enabled": {"default_value": {"numerator": 100}},
                }
            },
        },
        cors=mesh.Cors(
            (exact("https://shop.example"),), ("GET", "PUT"), ("x-one", "x-two"), ("x-shown",), 60, True
        ),
    ),
    rule(
        "/abort/",
        {
            **routed(),
            "typed_per_filter_config": {
                "envoy.filters.http.fault": {
                    "@type": FAULT,
                    "abort": {"http_status": 429, "percentage": {"numerator": 100}},
                }
            },
        },
        fault=mesh.Fault(abort_status=429, abort_percent=100.0),
    ),
    rule("/nobody/", routed("nobody"), destinations=to("nobody.default.svc.cluster.local")),
    rule("/refused/", routed("refused"), destinations=to("refused.default.svc.cluster.local")),
    rule(
        "/weighted/",
        {
            "route": {
                "weighted_clusters": {
                    "clusters": [{"name": "orders", "weight": 100}, {"name": "nobody", "weight": 0}]
                },
                "timeout": "0s",
            }
        },
        destinations=(*to(), *to("nobody.default.svc.cluster.local", weight=0)),
    ),
    rule(
        "/query",
        routed(),
        {"prefix": "/query", "query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]},
        matches=(
            mesh.RequestMatch(path=mesh.Matcher(mesh.How.PREFIX, "/query"), query=(mesh.Named("v", exact("2")),)),
        ),
    ),
]


ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: beside
          codec_type: AUTO
          normalize_path: true
          path_with_escaped_slashes_action: KEEP_UNCHANGED
          use_remote_address: false
          internal_address_config: {{cidr_ranges: [{{address_prefix: 10.0.0.0, prefix_len: 8}}]}}
          http_protocol_options: {{enable_trailers: true, accept_http_10: true}}
          stream_idle_timeout: 0s
          server_header_transformation: PASS_THROUGH
          delayed_close_timeout: 0.05s
          upgrade_configs: [{{upgrade_type: websocket}}]
          http_filters:
          - name: envoy.filters.http.fault
            typed_config: {{"@type": {types}.filters.http.fault.v3.HTTPFault}}
          - name: envoy.filters.http.cors
            typed_config: {{"@type": {types}.filters.http.cors.v3.Cors}}
          - name: envoy.filters.http.router
            typed_config: {{"@type": {types}.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - {{name: beside, domains: ["*"], include_request_attempt_count: true, routes: {routes}}}
  clusters: {clusters}
"""


def cluster(name: str, address: tuple[str, int] | None) -> dict[str, Any]:
    at = (
        [{"endpoint": {"address": {"socket_address": {"address": address[0], "port_value": address[1]}}}}]
        if address
        else []
    )
    found = {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": at}]},
    }
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
    }
    return {
        **found,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }
