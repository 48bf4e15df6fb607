"""A collector of spans in a pod: Zipkin's JSON on 9411, OTLP over HTTP on 4318 and over gRPC on 4317.

`GET /spans` (9411) tells all of them in Zipkin's fields, `DELETE /spans` forgets them. Of OTLP: what it holds, by
Zipkin's names, and `via`.
"""

from __future__ import annotations

import json
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

SPANS: list[dict[str, Any]] = []
EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/api/v2/spans":
            SPANS.extend(span | {"via": "zipkin"} for span in json.loads(body))
            return self._answer(202, b"")
        if self.path == "/v1/traces":
            take(
                otlp.ExportTraceServiceRequest.FromString(body), f"http {self.headers.get('x-tenant', '')}".strip()
            )
            return self._answer(200, b"")
        return self._answer(404, b"")

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"spans": SPANS}).encode())

    def do_DELETE(self) -> None:
        SPANS.clear()
        self._answer(200, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


def take(request: otlp.ExportTraceServiceRequest, via: str) -> None:
    for resource in request.resource_spans:
        names = {each.key: each.value.string_value for each in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            SPANS.append(
                {
                    "via": via,
                    "traceId": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parentId": span.parent_span_id.hex(),
                    "kind": {2: "SERVER", 3: "CLIENT"}.get(span.kind, ""),
                    "name": span.name,
                    "localEndpoint": {"serviceName": names.get("service.name", "")},
                    "tags": {each.key: each.value.string_value for each in span.attributes},
                }
            )


def export(
    request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
) -> otlp.ExportTraceServiceResponse:
    take(request, "grpc")
    return otlp.ExportTraceServiceResponse()


def main() -> None:
    method = grpc.unary_unary_rpc_method_handler(
        export, otlp.ExportTraceServiceRequest.FromString, otlp.ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT, {"Export": method}),))
    server.add_insecure_port("[::]:4317")
    server.start()

    class Both(ThreadingHTTPServer):
        import socket

        address_family = socket.AF_INET6

    threading.Thread(target=Both(("::", 4318), Handler).serve_forever, daemon=True).start()
    Both(("::", 9411), Handler).serve_forever()


main()
