"""ServiceEntry and WorkloadEntry: hosts and endpoints that no Kubernetes Service declares."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from weft.policies.dialects.cidrs import prefix
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.hosts import export_to, plain_host
from weft.policies.dialects.istio.values import UINT32, created_of, dns_label, port, selector_labels, text_of
from weft.policies.dialects.metadata import checked_labels
from weft.policies.mesh.hosts import is_address, is_wildcard
from weft.policies.mesh.model import EntryEndpoint, EntryPort, Resolution, ServiceEntry, WorkloadEntry
from weft.policies.model import ObjectRef

_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY")
_TLS = ("HTTPS", "TLS")
_TCP = ("", "TCP", "MONGO", "MYSQL", "REDIS")
_PROTOCOLS = (*_HTTP, *_TLS, *_TCP, "UDP")
_DNS = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
_ENDPOINT = ("address", "ports", "labels", "network", "locality", "weight", "serviceAccount")


def parse_service_entry(root: Field, ref: ObjectRef) -> ServiceEntry:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    spec = root.need("spec").record(
        *("hosts", "addresses", "ports", "location", "resolution", "endpoints", "workloadSelector", "exportTo"),
        "subjectAltNames",
    )
    findings = Findings()
    location, selector, names = spec.get("location"), spec.get("workloadSelector"), spec.get("subjectAltNames")
    where = location.one_of(("MESH_EXTERNAL", "MESH_INTERNAL")) if location is not None else "MESH_EXTERNAL"
    ports = _ports(spec, findings)
    named = {each.name for each in ports}
    if names is not None and [item.text() for item in names.items()]:
        findings.warn(names, "names of servers are verified with mutual TLS alone, which is not in effect yet")
    found = ServiceEntry(
        ref=ref,
        hosts=_hosts(spec),
        addresses=_addresses(spec, findings),
        ports=ports,
        resolution=_resolution(spec),
        external=where == "MESH_EXTERNAL",
        endpoints=tuple(_endpoints(spec, findings, named)),
        selector=selector_labels(selector, "labels") if selector is not None else (),
        clients=export_to(spec, ref.namespace, nobody=True),
        created=created_of(root),
    )
    _check(spec, found, findings)
    return msgspec.structs.replace(found, warnings=findings.warnings)


def parse_workload_entry(root: Field, ref: ObjectRef) -> WorkloadEntry:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    findings = Findings()
    found = endpoint(root.need("spec"), findings, None)
    return WorkloadEntry(ref, found, findings.warnings)


def _hosts(spec: Field) -> tuple[str, ...]:
    field = spec.need("hosts")
    items = field.items()
    if not items:
        raise field.invalid("needs at least one host")
    found: dict[str, Field] = {}
    for item in items:
        name = plain_host(item)
        if name == "*":
            raise item.invalid('"*" would be every host there is')
        if name in found:
            raise item.invalid(f"{shown(name)} is there twice")
        found[name] = item
    return tuple(found)


def _addresses(spec: Field, findings: Findings) -> tuple[str, ...]:
    """Addresses as such, prefixes with their length."""
    field = spec.get("addresses")
    found: dict[str, None] = {}
    for item in field.items() if field is not None else ():
        network = prefix(item, findings, bare_address=True)
        whole = network.prefixlen == network.max_prefixlen
        found[str(network.network_address) if whole else str(network)] = None
    return tuple(found)


def _resolution(spec: Field) -> Resolution:
    field = spec.get("resolution")
    if field is None:
        return Resolution.NONE
    if field.value == "DYNAMIC_DNS":
        raise field.invalid("DYNAMIC_DNS is not supported", not_enforced=True)
    return Resolution(field.one_of([each.value for each in Resolution]))


def _ports(spec: Field, findings: Findings) -> tuple[EntryPort, ...]:
    field = spec.get("ports")
    found: dict[str, EntryPort] = {}
    numbers: set[int] = set()
    for item in field.items() if field is not None else ():
        item.record("number", "name", "protocol", "targetPort")
        each = _port(item, findings)
        if each.name in found:
            raise item.need("name").invalid(f"there is a port {each.name} already")
        if each.number in numbers:
            raise item.need("number").invalid(f"there is a port {each.number} already")
        found[each.name] = each
        numbers.add(each.number)
    return tuple(found.values())


def _port(item: Field, findings: Findings) -> EntryPort:
    given, target = item.get("protocol"), item.get("targetPort")
    protocol = given.string().upper() if given is not None else ""
    if given is not None and protocol not in _PROTOCOLS:
        raise given.invalid(f"{shown(given.value)} is none of {', '.join(filter(None, _PROTOCOLS))}")
    if given is not None and protocol == "UDP":
        findings.warn(given, "UDP is not routed")
    return EntryPort(
        number=port(item.need("number")),
        name=dns_label(item.need("name")),
        protocol=protocol,
        target_port=port(target) if target is not None else 0,
    )


def _endpoints(spec: Field, findings: Findings, ports: Collection[str]) -> Iterator[EntryEndpoint]:
    field = spec.get("endpoints")
    for item in field.items() if field is not None else ():
        if not text_of(item, "address") and text_of(item, "network"):
            findings.warn(item, "is behind the gateway of another network, where Weft does not send: left out")
            continue
        found = endpoint(item, findings, ports)
        if _resolution(spec) is Resolution.STATIC and not is_address(found.address):
            raise item.need("address").invalid(f"{shown(found.address)} is no address, which STATIC needs")
        yield found


def endpoint(field: Field, findings: Findings, ports: Collection[str] | None) -> EntryEndpoint:
    """`ports`: names of the entry's; None: any, it is a WorkloadEntry."""
    field.record(*_ENDPOINT)
    labels, given, weight = field.get("labels"), field.get("ports"), field.get("weight")
    share = weight.integer(0, UINT32) if weight is not None else 1
    if weight is not None and not share:
        findings.warn(weight, "0 is the same as 1")
    account = field.get("serviceAccount")
    return EntryEndpoint(
        address=_address(field),
        ports=tuple(_port_of(value, name, ports) for name, value in given.entries()) if given is not None else (),
        labels=tuple(sorted(checked_labels(labels).items())) if labels is not None else (),
        weight=share or 1,
        locality=_locality(field),
        network=text_of(field, "network"),
        service_account=account.string(max_length=253) if account is not None else "",
    )


def _address(field: Field) -> str:
    given = field.get("address")
    if given is None or not given.string():
        raise (given or field).invalid("needs an address: without one it is reached by a network's gateway alone")
    if given.string().startswith("unix://"):
        raise given.invalid("unix sockets are in another's file system: not supported")
    return plain_host(given, wildcard=False)


def _port_of(field: Field, name: str, ports: Collection[str] | None) -> tuple[str, int]:
    if ports is not None and name not in ports:
        raise field.invalid(f"the entry has no port named {shown(name)}")
    return name, port(field)


def _locality(field: Field) -> str:
    text = text_of(field, "locality", max_length=253)
    if text and (text.count("/") > 2 or not all(text.split("/"))):
        raise field.need("locality").invalid(f"{shown(text)} is no locality: region[/zone[/sub-zone]]")
    return text


def _check(spec: Field, entry: ServiceEntry, findings: Findings) -> None:
    """What must fit together."""
    mode, selector = entry.resolution, spec.get("workloadSelector")
    if selector is not None and spec.get("endpoints") is not None:
        raise selector.invalid("workloadSelector and endpoints exclude each other")
    if selector is not None and not entry.selector:
        findings.warn(selector, "selects every workload of the namespace")
    if any("/" in address for address in entry.addresses) and mode in _DNS:
        raise spec.need("addresses").invalid("prefixes go with resolution NONE and STATIC alone")
    if mode is Resolution.NONE and entry.endpoints:
        raise spec.need("endpoints").invalid("resolution NONE goes to the address that was asked for: no endpoints")
    if mode is Resolution.NONE and selector is not None:
        findings.warn(selector, "has no effect with resolution NONE, which goes to the address that was asked for")
    _check_endpoints(spec, entry)
    if mode is Resolution.NONE and any(each.target_port for each in entry.ports):
        findings.warn(spec.need("ports"), "targetPort has no effect with resolution NONE")
    distinct = (*_HTTP, *_TLS)
    if (
        mode is not Resolution.NONE
        and len(entry.hosts) > 1
        and any(p.protocol not in distinct for p in entry.ports)
    ):
        raise spec.need("hosts").invalid(
            "several hosts cannot be told apart on ports that are neither HTTP nor TLS"
        )


def _check_endpoints(spec: Field, entry: ServiceEntry) -> None:
    mode, field = entry.resolution, spec.get("endpoints")
    if mode is Resolution.DNS_ROUND_ROBIN and len(entry.endpoints) > 1 and field is not None:
        raise field.invalid("DNS_ROUND_ROBIN takes one endpoint at most")
    if mode in _DNS and not entry.endpoints and any(is_wildcard(name) for name in entry.hosts):
        raise spec.need("hosts").invalid(f"resolution {mode} looks names up: a wildcard has none")
