"""Gateway API in the mesh (GAMMA): HTTPRoute, GRPCRoute, ReferenceGrant -> `mesh.model`.

A route is attached to Services by `parentRefs`; what it says of Gateways is left out, and told. In the namespace of
its Service it is for all clients (producer), in another for the clients of its own (consumer). Hostnames mean
nothing in the mesh. Read as the API server does: null is the same as left out.
"""

from __future__ import annotations

import msgspec

from weft.policies.dialects import gateway_filters as filters
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import duration, header_name, regex
from weft.policies.dialects.metadata import check_name
from weft.policies.mesh.hosts import fqdn
from weft.policies.mesh.model import (
    DEFAULT_RETRIES,
    Destination,
    Dialect,
    DirectResponse,
    How,
    Matcher,
    Mirror,
    Named,
    Origin,
    ReferenceGrant,
    RequestMatch,
    Retries,
    Route,
    Rule,
)
from weft.policies.model import ObjectRef

VERSIONS = tuple(f"gateway.networking.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha2"))
GROUP = "gateway.networking.k8s.io"

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_SEGMENT = "[^/]+"


def parse_http_route(root: Field, ref: ObjectRef) -> Route:
    return _Reader(ref, grpc=False).route(root)


def parse_grpc_route(root: Field, ref: ObjectRef) -> Route:
    return _Reader(ref, grpc=True).route(root)


def parse_grant(root: Field, ref: ObjectRef) -> ReferenceGrant:
    spec = root.need("spec").record("from", "to")
    sources = []
    for item in spec.need("from").items(at_most=16):
        item.record("group", "kind", "namespace")
        if item.need("group").string() == GROUP:
            sources.append((item.need("kind").text(), check_name(item.need("namespace"), dns_label=True)))
    targets = []
    for item in spec.need("to").items(at_most=16):
        item.record("group", "kind", "name")
        name = item.lax("name")
        if item.need("group").string() in ("", "core"):
            targets.append((item.need("kind").text(), name.string() if name is not None else ""))
    return ReferenceGrant(ref, tuple(sources), tuple(targets))


class _Reader:
    """One route. What is noticed on the way goes to `findings`."""

    def __init__(self, ref: ObjectRef, *, grpc: bool) -> None:
        self.ref, self.grpc = ref, grpc
        self.findings = Findings()

    def route(self, root: Field) -> Route:
        spec = root.need("spec").record("parentRefs", "hostnames", "rules", "useDefaultGateways")
        parents = self._parents(spec)
        if (names := spec.lax("hostnames")) is not None and names.items():
            self.findings.warn(names, "mean nothing for Services, which are told apart by their addresses")
        listed = spec.lax("rules")
        rules = [self._rule(item) for item in listed.items(at_most=64)] if listed is not None else []
        if listed is None and not self.grpc:
            rules = [Rule(self._origin("spec.rules"))]
        stamp = root.need("metadata").lax("creationTimestamp")
        return Route(
            self.ref,
            Dialect.GATEWAY,
            tuple(dict.fromkeys(name for name, _ in parents)),
            tuple(rules),
            created=stamp.string() if stamp is not None and isinstance(stamp.value, str) else "",
            grpc=self.grpc,
            parents=tuple(parents),
            warnings=self.findings.warnings,
        )

    def _origin(self, path: str) -> Origin:
        return Origin(self.ref.kind, self.ref.namespace, self.ref.name, path)

    # whom it is attached to

    def _parents(self, spec: Field) -> list[tuple[str, int]]:
        listed = spec.lax("parentRefs")
        found = []
        for item in listed.items(at_most=32) if listed is not None else []:
            item.record("group", "kind", "namespace", "name", "sectionName", "port")
            group, kind = item.lax("group"), item.lax("kind")
            name = item.need("name").text()
            given = (group.string() if group is not None else GROUP, kind.text() if kind is not None else "Gateway")
            if given not in (("", "Service"), ("core", "Service")):
                self.findings.warn(item, f"{given[1]} {name} is no Service: left out")
                continue
            if (section := item.lax("sectionName")) is not None:
                self.findings.warn(section, f"ports are chosen by number: {name} is left out")
                continue
            found.append((self._service(item), self._port(item)))
        return found

    def _service(self, item: Field) -> str:
        namespace = item.lax("namespace")
        where = check_name(namespace, dns_label=True) if namespace is not None else self.ref.namespace
        return fqdn(check_name(item.need("name"), dns_label=True), where)

    def _port(self, item: Field) -> int:
        """0: left out."""
        port = item.lax("port")
        return port.integer(1, 65535) if port is not None else 0

    # rules

    def _rule(self, item: Field) -> Rule:
        item.record("name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence")
        if (sticky := item.lax("sessionPersistence")) is not None:
            self.findings.warn(sticky, "is not served: requests of a session may go to different backends")
        found = filters.read(item, self.findings, grpc=self.grpc)
        destinations = self._backends(item)
        timeout, retries = self._patience(item)
        name = item.lax("name")
        rule = Rule(
            self._origin(item.path),
            name=name.string() if name is not None else "",
            matches=self._matches(item),
            destinations=destinations,
            redirect=found.redirect,
            rewrite=found.rewrite,
            request_headers=found.request_headers,
            response_headers=found.response_headers,
            mirrors=tuple(self._mirror(mirror) for mirror in found.mirrors),
            cors=found.cors,
            timeout=timeout,
            retries=retries,
        )
        return self._served(item, rule, found.broken)

    def _served(self, item: Field, rule: Rule, broken: str) -> Rule:
        """One of the three actions, or none."""
        if broken or (rule.destinations and not any(d.weight for d in rule.destinations)):
            return msgspec.structs.replace(
                rule, destinations=(), redirect=None, rewrite=None, direct=DirectResponse(500)
            )
        if rule.redirect is not None and rule.destinations:
            raise item.need("backendRefs").invalid("a rule that redirects has no backends")
        return rule

    def _patience(self, item: Field) -> tuple[float, Retries]:
        """The rule's timeout, and its retries with the timeout of each try."""
        total = each = 0.0
        if (timeouts := item.lax("timeouts")) is not None:
            timeouts.record("request", "backendRequest")
            request, backend = timeouts.lax("request"), timeouts.lax("backendRequest")
            total = duration(request, zero=True) if request is not None else 0.0
            each = duration(backend, zero=True) if backend is not None else 0.0
            if backend is not None and total and each > total:
                raise backend.invalid("is longer than the request's")
        retries = self._retries(item.lax("retry"))
        return total, msgspec.structs.replace(retries, per_try_timeout=each) if each else retries

    def _retries(self, given: Field | None) -> Retries:
        if given is None:
            return DEFAULT_RETRIES
        given.record("codes", "attempts", "backoff")
        codes, attempts, backoff = given.lax("codes"), given.lax("attempts"), given.lax("backoff")
        base = duration(backoff) if backoff is not None else DEFAULT_RETRIES.base
        return Retries(
            attempts.integer(0, 2**31 - 1) if attempts is not None else DEFAULT_RETRIES.attempts,
            ("connect-failure", "refused-stream", "reset-before-request"),
            tuple(code.integer(400, 599) for code in codes.items()) if codes is not None else (),
            base=base,
            maximum=10 * base,
        )

    # backends

    def _backends(self, item: Field) -> tuple[Destination, ...]:
        listed = item.lax("backendRefs")
        return tuple(self._backend(each) for each in listed.items(at_most=16)) if listed is not None else ()

    def _backend(self, item: Field) -> Destination:
        item.record("group", "kind", "namespace", "name", "port", "weight", "filters")
        weight = item.lax("weight")
        share = weight.integer(0, 1_000_000) if weight is not None else 1
        found = filters.read(item, self.findings, grpc=self.grpc)
        if found.redirect or found.rewrite or found.mirrors or found.cors or found.broken:
            self.findings.warn(
                item.need("filters"), "of a backend only headers can be changed: its requests get 500"
            )
            return Destination(self._named(item), 0, weight=share, missing=500, refused="UnsupportedFilter")
        return self._destination(item, share, found)

    def _destination(self, item: Field, share: int, found: filters.Filters | None = None) -> Destination:
        group, kind = item.lax("group"), item.lax("kind")
        given = (group.string() if group is not None else "", kind.text() if kind is not None else "Service")
        if given not in (("", "Service"), ("core", "Service")):
            self.findings.warn(item, f"{shown(given[1])} is no backend here: its requests get 500")
            return Destination(self._named(item), 0, weight=share, missing=500, refused=f"InvalidKind: {given[1]}")
        port = item.lax("port")
        if port is None:
            raise item.need("name").invalid("a Service needs its port beside it")
        return Destination(
            self._service(item),
            port.integer(1, 65535),
            weight=share,
            request_headers=found.request_headers if found is not None else None,
            response_headers=found.response_headers if found is not None else None,
            missing=500,
        )

    def _named(self, item: Field) -> str:
        return fqdn(item.need("name").text(), self.ref.namespace)

    def _mirror(self, given: Field) -> Mirror:
        given.record("backendRef", "percent", "fraction")
        target = given.need("backendRef").record("group", "kind", "namespace", "name", "port")
        return Mirror(self._destination(target, 1), filters.percent(given))

    # matches

    def _matches(self, item: Field) -> tuple[RequestMatch, ...]:
        listed = item.lax("matches")
        items = listed.items(at_most=64) if listed is not None else []
        if self.grpc:
            return tuple(self._grpc_match(each) for each in items)
        return tuple(self._http_match(each) for each in items) or (RequestMatch(path=Matcher(How.SEGMENTS, "/")),)

    def _http_match(self, item: Field) -> RequestMatch:
        item.record("path", "headers", "queryParams", "method")
        method = item.lax("method")
        return RequestMatch(
            path=self._path(item.lax("path")),
            method=Matcher(How.EXACT, method.one_of(_METHODS)) if method is not None else None,
            headers=self._named_matches(item.lax("headers"), header=True),
            query=self._named_matches(item.lax("queryParams"), header=False),
        )

    def _path(self, given: Field | None) -> Matcher:
        if given is None:
            return Matcher(How.SEGMENTS, "/")
        given.record("type", "value")
        kind, value = given.lax("type"), given.lax("value")
        chosen = kind.one_of(("Exact", "PathPrefix", "RegularExpression")) if kind is not None else "PathPrefix"
        if chosen == "RegularExpression" and value is not None:
            return Matcher(How.REGEX, regex(value))
        text = value.string(1024) if value is not None else "/"
        if not text.startswith("/") or "//" in text or "/./" in text or "/../" in text:
            raise given.need("value").invalid(f"{shown(text)}: starts with '/', and has no '//', '/./' or '/../'")
        return Matcher(How.EXACT if chosen == "Exact" else How.SEGMENTS, text)

    def _named_matches(self, listed: Field | None, *, header: bool) -> tuple[Named, ...]:
        """Of several for one name the first counts."""
        found: dict[str, Named] = {}
        for item in listed.items(at_most=16) if listed is not None else []:
            item.record("type", "name", "value")
            kind = item.lax("type")
            chosen = kind.one_of(("Exact", "RegularExpression")) if kind is not None else "Exact"
            name = item.need("name").text()
            name = header_name(item.need("name"), name) if header else name
            value = item.need("value")
            exact = chosen == "Exact"
            matcher = Matcher(How.EXACT, value.string()) if exact else Matcher(How.REGEX, regex(value))
            found.setdefault(name, Named(name, matcher))
        return tuple(found.values())

    def _grpc_match(self, item: Field) -> RequestMatch:
        item.record("method", "headers")
        return RequestMatch(
            path=self._grpc_path(item.lax("method")),
            headers=self._named_matches(item.lax("headers"), header=True),
        )

    def _grpc_path(self, given: Field | None) -> Matcher | None:
        if given is None:
            return None
        given.record("type", "service", "method")
        kind, service, method = given.lax("type"), given.lax("service"), given.lax("method")
        chosen = kind.one_of(("Exact", "RegularExpression")) if kind is not None else "Exact"
        if service is None and method is None:
            raise given.invalid("names a service, a method or both")
        if chosen == "RegularExpression":
            first = regex(service) if service is not None else _SEGMENT
            second = regex(method) if method is not None else _SEGMENT
            return Matcher(How.REGEX, f"/(?:{first})/(?:{second})")
        first, second = (_symbol(part) if part is not None else "" for part in (service, method))
        if first and second:
            return Matcher(How.EXACT, f"/{first}/{second}")
        if first:
            return Matcher(How.PREFIX, f"/{first}/")
        return Matcher(How.REGEX, f"/{_SEGMENT}/{second}")


def _symbol(field: Field) -> str:
    """A name of protobuf: also what stands in a regular expression as it is, but for dots."""
    text = field.text()
    if not all(part.isidentifier() and part.isascii() for part in text.split(".")):
        raise field.invalid(f"{shown(text)} is no name of gRPC: letters, digits and '_', joined by dots")
    return text
