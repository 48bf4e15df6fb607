"""The requests, byte by byte."""

from __future__ import annotations

from dataclasses import dataclass

HOST = "orders"


@dataclass(frozen=True)
class Case:
    name: str
    sent: bytes


def request(
    path: str, method: str = "GET", *headers: str, body: bytes = b"", version: str = "1.1", host: str = HOST
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *headers]
    if body and not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


#: Envoy takes a request for one of its own network by this; we, by who the client is.
INTERNAL = "X-Forwarded-For: 10.0.0.1"
CHUNKED = "Transfer-Encoding: chunked"
PREFLIGHT = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-one")
SHOP, EVIL = "Origin: https://shop.example", "Origin: https://evil.example"
CASES = [
    Case("GET", request("/plain/x?a=b&c")),
    Case("POST with a body", request("/plain/x", "POST", "Content-Type: text/plain", body=b"hello")),
    Case("POST without one", request("/plain/x", "POST", "Content-Length: 0")),
    Case("POST without length", request("/plain/x", "POST")),
    Case("chunked request", request("/plain/x", "POST", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n")),
    Case("chunked, extensions", request("/plain/x", "POST", CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n")),
    Case(
        "request trailers",
        request("/plain/x", "POST", CHUNKED, "Trailer: x-t", body=b"5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n"),
    ),
    Case("PUT", request("/plain/x", "PUT", body=b"x")),
    Case("DELETE with a body", request("/plain/x", "DELETE", body=b"x")),
    Case("GET with a body", request("/plain/x", "GET", body=b"x")),
    Case("OPTIONS", request("/plain/x", "OPTIONS")),
    Case("OPTIONS *", request("*", "OPTIONS")),
    Case("TRACE", request("/plain/x", "TRACE")),
    Case("an odd method", request("/plain/x", "BREW")),
    Case("PATCH", request("/plain/x", "PATCH", body=b"x")),
    Case("CONNECT", request("orders:80", "CONNECT")),
    Case("HEAD", request("/plain/x", "HEAD")),
    Case("HEAD, chunked answer", request("/plain/chunked", "HEAD")),
    Case("HEAD, 404", request("/none", "HEAD")),
    Case("204", request("/plain/status-204")),
    Case("304", request("/plain/status-304")),
    Case("404 of the server", request("/plain/status-404")),
    Case("500 of the server", request("/plain/status-500")),
    Case("503 of the server, default retries", request("/plain/status-503")),
    Case("600", request("/plain/status-600")),
    Case("chunked answer", request("/plain/chunked")),
    Case("answer's trailers", request("/plain/trailers", "GET", "TE: trailers")),
    Case("answer's trailers, not asked for", request("/plain/trailers")),
    Case("an answer until close", request("/plain/until-close")),
    Case("an answer with Connection: close", request("/plain/closing")),
    Case("an answer of HTTP/1.0", request("/plain/old")),
    Case("103", request("/plain/hints")),
    Case("fields of the answer", request("/plain/fields")),
    Case("100-continue", request("/plain/x", "POST", "Expect: 100-continue", body=b"hello")),
    Case("an odd expectation", request("/plain/x", "POST", "Expect: tea", body=b"hello")),
    Case(
        "hop-by-hop fields",
        request(
            "/plain/x",
            "GET",
            "Connection: x-hop, keep-alive",
            "X-Hop: 1",
            "Keep-Alive: 5",
            "Proxy-Connection: keep-alive",
            "TE: gzip",
        ),
    ),
    Case("Connection: close", request("/plain/x", "GET", "Connection: close")),
    Case("HTTP/1.0", request("/plain/x", version="1.0")),
    Case("HTTP/1.0, keep-alive", request("/plain/x", "GET", "Connection: keep-alive", version="1.0")),
    Case("HTTP/1.0, no host", request("/plain/x", version="1.0", host="")),
    Case("no host", request("/plain/x", host="")),
    Case("two hosts", request("/plain/x", "GET", "Host: other")),
    Case("a host with a port", request("/plain/x", host="orders:80")),
    Case("a host in capitals", request("/plain/x", host="OrDers")),
    Case("absolute form", request("http://orders/plain/x")),
    Case("absolute form, another host", request("http://other.example/plain/x")),
    Case("dots in the path", request("/plain/a/../b/./x")),
    Case("escaped dots", request("/plain/a/%2e%2e/x")),
    Case("above the root", request("/../plain/x")),
    Case("two slashes", request("//plain//x")),
    Case("an escaped slash", request("/plain/a%2Fx")),
    Case("escapes", request("/plain/%41%7a%20x")),
    Case("a fragment", request("/plain/x#part")),
    Case("a backslash", request("/plain/a\\x")),
    Case("UTF-8 in the path", request("/plain/ä/x")),
    Case("no route", request("/none")),
    Case("a header twice", request("/plain/x", "GET", "X-A: 1", "X-B: 2", "x-a: 3")),
    Case("cookies twice", request("/plain/x", "GET", "Cookie: a=1", "Cookie: b=2")),
    Case("an empty header", request("/plain/x", "GET", "X-Empty:", "X-Space:   a  b  ")),
    Case("underscores", request("/plain/x", "GET", "x_under: 1")),
    Case("UTF-8 in a header", request("/plain/x", "GET", "x-a: ä")),
    Case(
        "forwarded before",
        request(
            "/plain/x", "GET", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4"
        ),
    ),
    Case("a request id of its own", request("/plain/x", "GET", "X-Request-Id: my-own")),
    Case(
        "Envoy's own headers",
        request(
            "/plain/x", "GET", "x-envoy-internal: true", "x-envoy-original-path: /y", "x-envoy-attempt-count: 7"
        ),
    ),
    Case("timeout by header", request("/plain/slow", "GET", "x-envoy-upstream-rq-timeout-ms: 200", INTERNAL)),
    Case(
        "retries by header",
        request("/plain/fails-1", "GET", "x-envoy-retry-on: 5xx", "x-envoy-max-retries: 1", "x-key: KEY", INTERNAL),
    ),
    Case("User-Agent and Accept", request("/plain/x", "GET", "User-Agent: test/1", "Accept: */*")),
    Case("rewrite of the prefix", request("/rewrite/x?q=1")),
    Case("rewrite to the root", request("/root/x")),
    Case("rewrite of the authority", request("/authority/x")),
    Case("rewrite by regex", request("/regex/abc/x?q=1")),
    Case("redirect, path", request("/moved/x?q=1")),
    Case("redirect, host", request("/host/x?q=1")),
    Case("redirect, host, with port", request("/host/x", host="orders:8080")),
    Case("redirect, scheme and port", request("/secure/x")),
    Case("redirect, prefix", request("/swap/x?q=1")),
    Case("redirect of a POST", request("/moved/x", "POST", body=b"hello")),
    Case("redirect of a HEAD", request("/moved/x", "HEAD")),
    Case("direct response", request("/direct/x")),
    Case("direct response, HEAD", request("/direct/x", "HEAD")),
    Case("direct response, POST", request("/direct/x", "POST", body=b"hello")),
    Case("direct response, no body", request("/empty/x")),
    Case(
        "header operations",
        request("/headers/fields", "GET", "X-Set: old", "X-Set: older", "X-Add: first", "X-Gone: 1"),
    ),
    Case("header operations, none there", request("/headers/x")),
    Case("retry, mended", request("/retry/fails-1", "GET", "x-key: KEY")),
    Case("retry, all fail", request("/retry/fails-9", "GET", "x-key: KEY")),
    Case("retry of a POST", request("/retry/fails-1", "POST", "x-key: KEY", body=b"hello")),
    Case(
        "retry of a chunked POST",
        request("/retry/fails-1", "POST", "x-key: KEY", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    Case("retry, reset", request("/retry/reset-once", "GET", "x-key: KEY")),
    Case("retries used up, reset", request("/retry/reset", "GET", "x-key: KEY")),
    Case("no retry", request("/once/fails-1", "GET", "x-key: KEY")),
    Case("reset", request("/once/reset")),
    Case("closed without an answer", request("/once/close")),
    Case("cut in the body", request("/once/cut")),
    Case("garbage", request("/once/garbage")),
    Case("an answer with two lengths", request("/once/smuggled")),
    Case("an answer with a large head", request("/once/big-head")),
    Case("timeout", request("/timeout/slow")),
    Case("per-try timeouts", request("/tries/slow", "GET", "x-key: KEY")),
    Case(
        "timeout, gRPC",
        request("/timeout/slow", "POST", "Content-Type: application/grpc", "TE: trailers", body=b"\0\0\0\0\0"),
    ),
    Case("no route, gRPC", request("/none", "POST", "Content-Type: application/grpc", body=b"\0\0\0\0\0")),
    Case("nobody there, gRPC", request("/nobody/x", "POST", "Content-Type: application/grpc", body=b"\0\0\0\0\0")),
    Case("preflight", request("/cors/x", "OPTIONS", SHOP, *PREFLIGHT)),
    Case("preflight of another origin", request("/cors/x", "OPTIONS", EVIL, *PREFLIGHT)),
    Case("preflight without a method", request("/cors/x", "OPTIONS", SHOP)),
    Case("CORS request", request("/cors/x", "GET", SHOP)),
    Case("CORS request of another origin", request("/cors/x", "GET", EVIL)),
    Case("CORS, no origin", request("/cors/x")),
    Case("abort", request("/abort/x")),
    Case("abort, POST", request("/abort/x", "POST", body=b"hello")),
    Case("abort, gRPC", request("/abort/x", "POST", "Content-Type: application/grpc", body=b"\0\0\0\0\0")),
    Case("no endpoint", request("/nobody/x")),
    Case("refused", request("/refused/x")),
    Case("weights", request("/weighted/x")),
    Case("query matches", request("/query/x?v=2")),
    Case("query does not match", request("/query/x?v=3")),
    Case("query, the first counts", request("/query/x?v=3&v=2")),
    Case("bad method characters", request("/plain/x", "G(ET")),
    Case("a space in the target", request("/plain/a b")),
    Case("a bad header name", request("/plain/x", "GET", "x y: 1")),
    Case("a NUL in a header", request("/plain/x", "GET", "x-a: a\0b")),
    Case(
        "both lengths", request("/plain/x", "POST", "Content-Length: 5", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n")
    ),
    Case("two lengths", request("/plain/x", "POST", "Content-Length: 5", "Content-Length: 6") + b"hello"),
    Case("equal lengths twice", request("/plain/x", "POST", "Content-Length: 5", "Content-Length: 5") + b"hello"),
    Case("gzip, chunked", request("/plain/x", "POST", "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    Case("HTTP/1.2", request("/plain/x", version="1.2")),
    Case("HTTP/3.0", request("/plain/x", version="3.0")),
    Case("a head of 70 kB", request("/plain/x", "GET", "x-big: " + "x" * 70000)),
    Case("200 headers", request("/plain/x", "GET", *(f"x-{n}: 1" for n in range(200)))),
    Case("an upgrade nobody knows", request("/plain/x", "GET", "Connection: Upgrade", "Upgrade: something")),
    Case("leading empty lines", b"\r\n\r\n" + request("/plain/x")),
]
