"""ServiceEntry and WorkloadEntry (F03)."""

from __future__ import annotations

import pytest

from istio_manifests import istio, reaching, refusal, service_entry, workload_entry
from weft.policies.mesh.model import EntryEndpoint, EntryPort, Resolution

HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"

ACCEPTED: dict[str, tuple[str, str, object]] = {
    "a host, as it is written": ("hosts: [api.example.com]", "hosts", ("api.example.com",)),
    "a short host stays short": ("hosts: [db]", "hosts", ("db",)),
    "case and the last dot": ("hosts: [API.example.com.]", "hosts", ("api.example.com",)),
    "a wildcard": ("hosts: ['*.example.com']", "hosts", ("*.example.com",)),
    "addresses and prefixes": (
        "hosts: [a.com]\naddresses: [192.0.2.1, 10.0.0.0/8, 'fd00::1', 192.0.2.1/32]",
        "addresses",
        ("192.0.2.1", "10.0.0.0/8", "fd00::1"),
    ),
    "no addresses": ("hosts: [a.com]", "addresses", ()),
    "a port": (f"hosts: [a.com]\n{HTTP}", "ports", (EntryPort(80, "http", "HTTP"),)),
    "a target port": (
        "hosts: [a.com]\nresolution: STATIC\nports: [{number: 80, name: h, protocol: http, targetPort: 8080}]",
        "ports",
        (EntryPort(80, "h", "HTTP", 8080),),
    ),
    "a port without protocol is looked at": (
        "hosts: [a.com]\nports: [{number: 80, name: h}]",
        "ports.0.protocol",
        "",
    ),
    "gRPC": ("hosts: [a.com]\nports: [{number: 80, name: g, protocol: GRPC-Web}]", "ports.0.protocol", "GRPC-WEB"),
    "resolution is NONE": ("hosts: [a.com]", "resolution", Resolution.NONE),
    "STATIC": ("hosts: [a.com]\nresolution: STATIC", "resolution", Resolution.STATIC),
    "DNS": ("hosts: [a.com]\nresolution: DNS", "resolution", Resolution.DNS),
    "DNS_ROUND_ROBIN": ("hosts: [a.com]\nresolution: DNS_ROUND_ROBIN", "resolution", Resolution.DNS_ROUND_ROBIN),
    "external unless it says otherwise": ("hosts: [a.com]", "external", True),
    "internal": ("hosts: [a.com]\nlocation: MESH_INTERNAL", "external", False),
    "said to be external": ("hosts: [a.com]\nlocation: MESH_EXTERNAL", "external", True),
    "endpoints": (
        f"hosts: [a.com]\nresolution: STATIC\n{HTTP}\n"
        "endpoints: [{address: 10.0.0.1}, {address: 'fd00::1', ports: {http: 8080}, weight: 3, labels: {v: '1'},"
        " locality: us/a/1, network: outer, serviceAccount: acc}]",
        "endpoints",
        (
            EntryEndpoint("10.0.0.1"),
            EntryEndpoint("fd00::1", (("http", 8080),), (("v", "1"),), 3, "us/a/1", "outer", "acc"),
        ),
    ),
    "endpoints by name": (
        "hosts: [a.com]\nresolution: DNS\nendpoints: [{address: B.example.com}]",
        "endpoints.0.address",
        "b.example.com",
    ),
    "DNS with an address": (
        "hosts: [a.com]\nresolution: DNS\nendpoints: [{address: 10.0.0.1}]",
        "endpoints.0.address",
        "10.0.0.1",
    ),
    "a wildcard with DNS, given endpoints": (
        "hosts: ['*.a.com']\nresolution: DNS\nendpoints: [{address: b.com}]",
        "hosts",
        ("*.a.com",),
    ),
    "a selector": (
        "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {labels: {app: x}}",
        "selector",
        (("app", "x"),),
    ),
    "a selector with DNS": (
        "hosts: [a.com]\nresolution: DNS\nworkloadSelector: {labels: {app: x}}",
        "selector",
        (("app", "x"),),
    ),
    "for all namespaces": ("hosts: [a.com]", "clients", None),
    "for its own": ("hosts: [a.com]\nexportTo: ['.']", "clients", ("shop",)),
    "for nobody": ("hosts: [a.com]\nexportTo: ['~']", "clients", ()),
    "several hosts over TLS": (
        "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 443, name: t, protocol: TLS}]",
        "hosts",
        ("a.com", "b.com"),
    ),
    "several hosts over TCP, to where they asked for": (
        "hosts: [a.com, b.com]\nports: [{number: 1, name: t, protocol: TCP}]",
        "hosts",
        ("a.com", "b.com"),
    ),
}


@pytest.mark.parametrize(("spec", "path", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_fields(spec: str, path: str, expected: object) -> None:
    found = service_entry(spec)
    assert reaching(found, path) == expected
    assert not found.warnings


WARNED = {
    "UDP": ("hosts: [a.com]\nports: [{number: 53, name: d, protocol: UDP}]", "UDP is not routed"),
    "a target port without endpoints": (
        "hosts: [a.com]\nports: [{number: 80, name: h, protocol: HTTP, targetPort: 1}]",
        "has no effect with resolution NONE",
    ),
    "a selector of everything": (
        "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {}",
        "every workload of the namespace",
    ),
    "a selector without resolution": (
        "hosts: [a.com]\nworkloadSelector: {labels: {a: b}}",
        "no effect with resolution NONE",
    ),
    "names of servers": ("hosts: [a.com]\nsubjectAltNames: [x]", "mutual TLS"),
    "a weight of 0": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1, weight: 0}]",
        "same as 1",
    ),
    "bits behind a prefix": ("hosts: [a.com]\naddresses: [10.1.0.0/8]", "it means 10.0.0.0/8"),
}


@pytest.mark.parametrize(("spec", "said"), WARNED.values(), ids=WARNED)
def test_what_is_said(spec: str, said: str) -> None:
    (warning,) = service_entry(spec).warnings
    assert said in warning and warning.startswith("spec.")


def test_an_endpoint_of_another_network_is_left_out_and_told() -> None:
    found = service_entry("hosts: [a.com]\nresolution: STATIC\nendpoints: [{network: far}, {address: 10.0.0.1}]")
    assert found.endpoints == (EntryEndpoint("10.0.0.1"),)
    (warning,) = found.warnings
    assert warning.startswith("spec.endpoints[0]: is behind the gateway")


REFUSED: dict[str, tuple[str, str, str]] = {
    "no hosts": ("location: MESH_EXTERNAL", "hosts", "is missing"),
    "empty hosts": ("hosts: []", "hosts", "at least one host"),
    "every host": ("hosts: ['*']", "hosts[0]", "every host there is"),
    "a host that is none": ("hosts: ['a_b']", "hosts[0]", "is no host"),
    "a host twice": ("hosts: [a.com, A.com]", "hosts[1]", "is there twice"),
    "an address that is none": ("hosts: [a.com]\naddresses: [1.2.3.4/99]", "addresses[0]", "is no"),
    "a prefix with DNS": ("hosts: [a.com]\naddresses: [1.2.0.0/16]\nresolution: DNS", "addresses", "alone"),
    "two ports of a name": (
        "hosts: [a.com]\nports: [{name: a, number: 1}, {name: a, number: 12}]",
        "ports[1].name",
        "already",
    ),
    "two ports of a number": (
        "hosts: [a.com]\nports: [{name: a, number: 1}, {name: b, number: 1}]",
        "ports[1].number",
        "already",
    ),
    "a port too high": ("hosts: [a.com]\nports: [{name: a, number: 99999}]", "ports[0].number", "1 to 65535"),
    "a target port too high": (
        "hosts: [a.com]\nports: [{name: a, number: 1, targetPort: 99999}]",
        "ports[0].targetPort",
        "1 to 65535",
    ),
    "a port without name": ("hosts: [a.com]\nports: [{number: 1}]", "ports[0].name", "is missing"),
    "a port's name that is none": (
        "hosts: [a.com]\nports: [{number: 1, name: A_b}]",
        "ports[0].name",
        "at most 63",
    ),
    "an unknown protocol": (
        "hosts: [a.com]\nports: [{number: 1, name: a, protocol: QUIC}]",
        "ports[0].protocol",
        "is none of HTTP",
    ),
    "an unknown location": ("hosts: [a.com]\nlocation: MOON", "location", "is not one of"),
    "an unknown resolution": ("hosts: [a.com]\nresolution: STATICS", "resolution", "is not one of"),
    "dynamic DNS": ("hosts: ['*.a.com']\nresolution: DYNAMIC_DNS", "resolution", "is not supported"),
    "selector and endpoints": (
        "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {}\nendpoints: [{address: 1.2.3.4}]",
        "workloadSelector",
        "exclude each other",
    ),
    "a selector with a wildcard": (
        "hosts: [a.com]\nworkloadSelector: {labels: {val: '*'}}",
        "workloadSelector.labels.val",
        "no label value",
    ),
    "endpoints without resolution": (
        "hosts: [a.com]\nresolution: NONE\nendpoints: [{address: 1.2.3.4}]",
        "endpoints",
        "no endpoints",
    ),
    "a name where STATIC needs an address": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: b.com}]",
        "endpoints[0].address",
        "is no address",
    ),
    "several endpoints of DNS_ROUND_ROBIN": (
        "hosts: [a.com]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.b.com}, {address: b.b.com}]",
        "endpoints",
        "one endpoint at most",
    ),
    "a wildcard that is to be looked up": ("hosts: ['*.a.com']\nresolution: DNS", "hosts", "a wildcard has none"),
    "an endpoint without address": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{labels: {a: b}}]",
        "endpoints[0]",
        "needs an address",
    ),
    "a unix socket": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 'unix:///a'}]",
        "endpoints[0].address",
        "unix sockets",
    ),
    "a port that the entry has not": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 1.2.3.4, ports: {http: 1}}]",
        "endpoints[0].ports.http",
        "no port named",
    ),
    "a locality of four parts": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 1.2.3.4, locality: a/b/c/d}]",
        "endpoints[0].locality",
        "is no locality",
    ),
    "a negative weight": (
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 1.2.3.4, weight: -1}]",
        "endpoints[0].weight",
        "must be 0 to",
    ),
    "several hosts over TCP": (
        "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 1, name: t, protocol: TCP}]",
        "hosts",
        "cannot be told apart",
    ),
    "several hosts over what is not known": (
        "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 1, name: t}]",
        "hosts",
        "cannot be told apart",
    ),
    "nobody and somebody": ("hosts: [a.com]\nexportTo: ['~', a]", "exportTo[0]", "stands alone"),
    "an unknown field": ("hosts: [a.com]\nport: 1", "port", "unknown field"),
}


@pytest.mark.parametrize(("spec", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(spec: str, path: str, reason: str) -> None:
    error = refusal(istio("ServiceEntry", spec))
    assert error.where.path == f"spec.{path}"
    assert reason in error.reason


# WorkloadEntry

WORKLOADS: dict[str, tuple[str, EntryEndpoint]] = {
    "an address": ("address: 10.0.0.1", EntryEndpoint("10.0.0.1")),
    "a name": ("address: vm.example.com", EntryEndpoint("vm.example.com")),
    "ports by any name": (
        "address: 10.0.0.1\nports: {grpc: 3550, http: 80}",
        EntryEndpoint("10.0.0.1", (("grpc", 3550), ("http", 80))),
    ),
    "labels, account, weight": (
        "address: 10.0.0.1\nlabels: {b: c, a: b}\nserviceAccount: acc\nweight: 5\nlocality: us\nnetwork: outer",
        EntryEndpoint("10.0.0.1", (), (("a", "b"), ("b", "c")), 5, "us", "outer", "acc"),
    ),
}


@pytest.mark.parametrize(("spec", "expected"), WORKLOADS.values(), ids=WORKLOADS)
def test_workload_entries(spec: str, expected: EntryEndpoint) -> None:
    assert workload_entry(spec).endpoint == expected


BAD_WORKLOADS = {
    "no address": ("{labels: {a: b}}", "spec"),
    "an empty address": ("{address: ''}", "spec.address"),
    "a wildcard": ("{address: '*.a.com'}", "spec.address"),
    "a network alone": ("{network: outer}", "spec"),
    "a port of 0": ("{address: 10.0.0.1, ports: {a: 0}}", "spec.ports.a"),
    "an unknown field": ("{address: 10.0.0.1, port: 1}", "spec.port"),
    "a label that is none": ("{address: 10.0.0.1, labels: {a: 'b c'}}", "spec.labels.a"),
}


@pytest.mark.parametrize(("spec", "path"), BAD_WORKLOADS.values(), ids=BAD_WORKLOADS)
def test_workload_entries_that_are_refused(spec: str, path: str) -> None:
    assert refusal(istio("WorkloadEntry", spec)).where.path == path
