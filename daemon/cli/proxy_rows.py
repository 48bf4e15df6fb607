"""The tables of `weft proxy`: a worker's answer (l7proxy/queries.py) in, cells out. A field that is not there is an
older or younger worker's: a dash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from weft.daemon.cli.units import size, span

Item = Mapping[str, Any]
WORKERS: Final = (
    "WORKER", "PID", "GENERATION", "STATE", "REVISION", "UP", "CONNECTIONS", "REQUESTS", "REFUSED", "LOST",
    "RESTARTS", "MEMORY", "PROBLEM",
)  # fmt: skip
ROUTES: Final = ("HOST", "MATCH", "ACTION", "MORE", "SOURCE")
CLUSTERS: Final = (
    "CLUSTER", "CLIENT", "PROTOCOL", "ENDPOINTS", "AVAILABLE", "REQUESTS", "PENDING", "CONNECTIONS", "OVERFLOWS",
)  # fmt: skip
ENDPOINTS: Final = (
    "CLUSTER", "ADDRESS", "WORKLOAD", "HEALTH", "ACTIVE", "CONNECTIONS", "OK", "ERRORS", "EJECTIONS",
)  # fmt: skip
CONNECTIONS: Final = ("PROTOCOL", "SOURCE", "DESTINATION", "UPSTREAM", "STATE")


def means(wanted: str, item: Item) -> bool:
    """Whether somebody who typed `wanted` means it: a host, ns/service, a service, or an address."""
    if not wanted:
        return True
    if "source" in item and "destination" in item:
        return any(wanted in (end[0], _address(end)) for end in (item["source"], item["destination"]))
    host = str(item.get("host") or item.get("cluster") or item.get("name") or "").rpartition("|")[2]
    namespace, slash, name = wanted.partition("/")
    if slash:
        return host.startswith(f"{name}.{namespace}.") or item.get("service") == wanted
    return wanted in (host, host.partition(".")[0], item.get("address"), item.get("name"), item.get("cluster"))


# workers


def workers(proxy: Item) -> Iterator[tuple[str, ...]]:
    for row in proxy.get("workers", ()):
        own = row.get("status", {})
        memory = own.get("memory", {})
        yield (
            _cell(row, "worker"),
            _cell(row, "pid"),
            _cell(row, "generation"),
            _cell(row, "state"),
            _cell(row, "revision"),
            span(row["uptime_seconds"]) if "uptime_seconds" in row else "-",
            _cell(own, "connections"),
            _cell(own, "requests_active"),
            _cell(row, "refusals"),
            _cell(row, "records_lost"),
            _cell(row, "restarts"),
            size(memory["anonymous"]) if "anonymous" in memory else "-",
            row.get("problem") or "-",
        )


# routes


def routes(item: Item) -> Iterator[tuple[str, ...]]:
    """One host's: a row for each rule, in the order in which they are asked."""
    host = str(item.get("host", "-"))
    for route in item.get("routes", ()):
        source = _ref(route.get("ref"))
        for rule in route.get("http", ()):
            matches = "\n".join(match(each) for each in rule.get("matches", ())) or "any request"
            yield host, matches, action(rule), "\n".join(more(rule)) or "-", f"{source} {_path(rule)}".rstrip()
        for kind in ("tls", "tcp"):
            for rule in route.get(kind, ()):
                matches = (
                    "\n".join(tcp_match(kind, each) for each in rule.get("matches", ())) or f"any {kind.upper()}"
                )
                yield host, matches, action(rule), "-", f"{source} {_path(rule)}".rstrip()
    for policy in item.get("policies", ()):
        subsets = ", ".join(str(each.get("name")) for each in policy.get("subsets", ()))
        yield host, "-", f"subsets {subsets}" if subsets else "traffic policy", "-", _ref(policy.get("ref"))


def match(wanted: Item) -> str:
    """As one would say it: path prefix /api, method GET, header x-canary true."""
    parts = [
        f"{name} {matcher(wanted[name])}" for name in ("method", "path", "authority", "scheme") if wanted.get(name)
    ]
    parts += [f"header {each['name']} {matcher(each['matcher'])}" for each in wanted.get("headers", ())]
    parts += [f"query {each['name']} {matcher(each['matcher'])}" for each in wanted.get("query", ())]
    parts += [f"port {wanted['port']}"] if wanted.get("port") else []
    return ", ".join([*parts, *_clients(wanted)]) or "any request"


def tcp_match(kind: str, wanted: Item) -> str:
    parts = [kind.upper()]
    parts += [f"sni {', '.join(wanted['sni'])}"] if wanted.get("sni") else []
    parts += [f"port {wanted['port']}"] if wanted.get("port") else []
    parts += [f"to {', '.join(wanted['subnets'])}"] if wanted.get("subnets") else []
    return ", ".join([*parts, *_clients(wanted)])


def matcher(wanted: Item) -> str:
    said = f"{wanted.get('how', '')} {wanted.get('value', '')}".strip()
    said = said.removeprefix("exact ")
    return f"not {said}" if wanted.get("invert") else said


def _clients(wanted: Item) -> list[str]:
    parts = [f"from namespace {wanted['source_namespace']}"] if wanted.get("source_namespace") else []
    labels = ",".join(f"{key}={value}" for key, value in wanted.get("source_labels", ()))
    return parts + ([f"from {labels}"] if labels else [])


def action(rule: Item) -> str:
    if redirect := rule.get("redirect"):
        where = "".join(str(redirect.get(name) or "") for name in ("host", "path"))
        return f"redirect {redirect.get('status', 301)} {where}".rstrip()
    if direct := rule.get("direct"):
        return f"answer {direct.get('status', '')}"
    destinations = rule.get("destinations", ())
    total = sum(each.get("weight", 1) for each in destinations)
    return "\n".join(destination(each, total, len(destinations) > 1) for each in destinations) or "-"


def destination(wanted: Item, total: int, share: bool) -> str:
    port = f":{wanted['port']}" if wanted.get("port") else ""
    subset = f" subset {wanted['subset']}" if wanted.get("subset") else ""
    part = f"{100 * wanted.get('weight', 1) / total:.4g}% " if share and total else ""
    refused = f" REFUSED: {wanted['refused']}" if wanted.get("refused") else ""
    return f"{part}{wanted.get('host', '-')}{port}{subset}{refused}"


def more(rule: Item) -> Iterator[str]:
    """What else is done with a request that gets here."""
    if rule.get("timeout"):
        yield f"timeout {rule['timeout']:g}s"
    if "retries" in rule:
        retries = rule["retries"]
        yield f"retries {retries.get('attempts', 2)} on {','.join(retries.get('on', ())) or 'the usual'}"
    if fault := rule.get("fault"):
        yield from _fault(fault)
    for mirror in rule.get("mirrors", ()):
        yield f"mirror {mirror.get('percent', 100):g}% to {destination(mirror['destination'], 1, False)}"
    yield from (name for name in ("rewrite", "cors") if rule.get(name))
    if rule.get("request_headers") or rule.get("response_headers"):
        yield "headers"


def _fault(fault: Item) -> Iterator[str]:
    if fault.get("delay_percent"):
        yield f"delay {fault.get('delay', 0):g}s for {fault['delay_percent']:g}%"
    if fault.get("abort_percent"):
        with_what = fault.get("abort_status") or f"grpc {fault.get('abort_grpc', '')}"
        yield f"abort {with_what} for {fault['abort_percent']:g}%"


def _path(rule: Item) -> str:
    return str(rule.get("origin", {}).get("path", ""))


def _ref(ref: Item | None) -> str:
    """`ref` is an object's {kind, namespace, name}."""
    if not ref:
        return "-"
    namespace = f"{ref['namespace']}/" if ref.get("namespace") else ""
    return f"{ref.get('kind', '')} {namespace}{ref.get('name', '')}".strip()


# clusters, endpoints, connections


def clusters(item: Item) -> Iterator[tuple[str, ...]]:
    panic = " PANIC" if item.get("panic") else ""
    yield (
        _cell(item, "name"),
        _cell(item, "client"),
        _cell(item, "protocol"),
        _cell(item, "endpoints"),
        _cell(item, "available") + panic,
        *(_cell(item, name) for name in ("requests", "pending", "connections", "overflows")),
    )


def endpoints(item: Item) -> Iterator[tuple[str, ...]]:
    names: Sequence[str] = (
        "cluster", "address", "workload", "health", "active", "connections", "rq_success", "rq_error", "ejections",
    )  # fmt: skip
    yield tuple(_cell(item, name) for name in names)


def connections(item: Item) -> Iterator[tuple[str, ...]]:
    idle = item.get("idle")
    state = "idle" if idle else f"{item['seconds']:.0f}s" if "seconds" in item else "-" if idle is None else "busy"
    yield (
        item.get("protocol") or "unknown yet",
        _address(item.get("source")),
        _address(item.get("destination")),
        _address(item.get("upstream")),
        state,
    )


def _address(end: Any) -> str:
    if not end:
        return "-"
    host, port = end
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _cell(item: Item, name: str) -> str:
    value = item.get(name)
    return "-" if value is None or value == "" else str(value)
