"""`weft endpoint|identity|service|bpf`: what they print of what daemons answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weft.daemon.cli import client
from weft.daemon.cli.main import main

SHOP = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]


def endpoint(number: int, namespace: str, name: str, workload: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "namespace": namespace, "name": name, "workload": workload, "identity": 256 + number,
        "labels": SHOP, "ipv4": f"10.244.1.{number}", "ipv6": f"fd00::{number}", "ingress": "Enabled",
        "egress": "Disabled", "state": "ready", **fields,
    }  # fmt: skip


ENDPOINTS = {
    "node-1": [endpoint(1, "shop", "web-1", "Deployment/web"), endpoint(2, "lab", "client")],
    "node-2": [endpoint(1, "shop", "web-2", "Deployment/web"), endpoint(3, "shop", "client")],
}
ENTRY = {
    "direction": "ingress", "identity": 257, "labels": SHOP, "protocol": "TCP", "port": 8080, "end_port": 8080,
    "prefix": 64, "verdict": "allow", "match": "L3-L4", "packets": 3, "bytes": 180,
    "rules": [{"policy": "CNP shop/web", "path": "spec.ingress[0]"}],
}  # fmt: skip
CONNECTION = {
    "protocol": "TCP", "local": "10.244.1.1", "local_port": 8080, "remote": "fd00::2", "remote_port": 4000,
    "remote_identity": 258, "origin": "ingress", "verdict": "allow", "flags": [], "packets": [1, 2],
    "bytes": [3, 4], "idle_seconds": 1.2,
}  # fmt: skip
SERVICE = {
    "id": 1, "frontend": "10.96.0.20:80/TCP", "type": "ClusterIP", "namespace": "shop", "name": "web",
    "refused": "", "backends": [{"address": "10.244.1.1:8080/TCP"}, {"address": "10.244.2.1:8080/TCP"}],
}  # fmt: skip


def answer(socket: Path, what: str, arg: str = "") -> Any:
    every = ENDPOINTS[socket.parent.name]
    mine = [each for each in every if arg in ("", f"{each['namespace']}/{each['name']}", str(each["id"]))]
    if what == "endpoints":
        return mine
    if what == "policy-table":
        return {**mine[0], "endpoint": arg, "entries": [ENTRY] if arg.startswith("shop/web") else []}
    return {
        "conntrack": {"entries": [CONNECTION], "more": False},
        "identities": [{"id": 257, "labels": SHOP, "kind": "workload", "endpoints": 1}],
        "services": [SERVICE, {**SERVICE, "id": 2, "backends": [], "refused": "no room"}],
        "addresses": [{"prefix": "10.244.1.1/32", "identity": 257, "source": "pod", "pod": "shop/web-1"}],
        "metrics": {
            "forwarded": [{"direction": "ingress", "packets": 5, "bytes": 300}],
            "drops": [{"reason": "Policy denied", "direction": "egress", "packets": 1, "bytes": 60}],
        },
    }[what]


@pytest.fixture(autouse=True)
def daemons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for node in ENDPOINTS:
        (tmp_path / node).mkdir()
        (tmp_path / node / "daemon.sock").touch()
    monkeypatch.setattr(client, "query", answer)
    monkeypatch.setenv("WEFT_RUN_DIR", str(tmp_path))


def printed(capsys: pytest.CaptureFixture[str], line: str, code: int = 0) -> str:
    assert main(line.split()) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_endpoints_in_cilium_columns_with_their_node(capsys: pytest.CaptureFixture[str]) -> None:
    lines = squeezed(printed(capsys, "endpoint list"))
    assert lines[:2] == [
        "NODE ENDPOINT POLICY (ingress) POLICY (egress) IDENTITY LABELS (source:key[=value]) IPv6 IPv4 STATUS",
        "ENFORCEMENT ENFORCEMENT",
    ]
    assert lines[2] == "node-1 1 Enabled Disabled 257 shop/web-1 fd00::1 10.244.1.1 ready"
    assert lines[3:5] == SHOP


def test_one_node_needs_no_column_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "endpoint list --node node-2").startswith("ENDPOINT   POLICY (ingress)")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("shop/web-1", ["web-1"]),
        ("web-1", ["web-1"]),
        ("web", ["web-1", "web-2"]),
        ("shop/web", ["web-1", "web-2"]),
        ("1", ["web-1", "web-2"]),
        ("lab/client", ["client"]),
    ],
)
def test_an_endpoint_by_what_people_type(capsys: pytest.CaptureFixture[str], wanted: str, found: list[str]) -> None:
    value = json.loads(printed(capsys, f"endpoint get {wanted} -o json"))
    assert [each["name"] for each in value] == found


def test_a_name_in_two_namespaces_is_asked_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        printed(capsys, "bpf policy list client", 2)
        == "weft: client is in several namespaces: lab/client or shop/client\n"
    )


@pytest.mark.parametrize("command", ["endpoint get", "bpf policy get", "bpf ct list"])
def test_a_name_of_nobody_says_where_to_look(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "no endpoint orders: `weft endpoint list`" in printed(capsys, f"{command} orders", 1)


def test_the_policy_of_a_workload_is_that_of_its_pods(capsys: pytest.CaptureFixture[str]) -> None:
    lines = squeezed(printed(capsys, "bpf policy list web"))
    assert [line for line in lines if line.startswith("Endpoint")] == [
        "Endpoint 1 shop/web-1 ingress Enabled, egress Disabled",
        "Endpoint 1 shop/web-2 ingress Enabled, egress Disabled",
    ]
    assert "Allow Ingress k8s:app=web 8080/TCP L3-L4 180 3 64 CNP shop/web spec.ingress[0]" in lines
    assert "Allow Ingress 257 8080/TCP L3-L4 180 3 64 CNP shop/web spec.ingress[0]" in squeezed(
        printed(capsys, "bpf policy list web -n")
    )
    assert "Policy stats empty" in printed(capsys, "bpf policy list lab/client")


def test_connections(capsys: pytest.CaptureFixture[str]) -> None:
    assert squeezed(printed(capsys, "bpf ct list web-1")) == [
        "PROTO LOCAL REMOTE IDENTITY ORIGIN VERDICT FLAGS PACKETS in/out BYTES in/out IDLE",
        "TCP 10.244.1.1:8080 [fd00::2]:4000 258 ingress allow - 1/2 3/4 1s",
    ]


def test_services_and_one_that_was_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert squeezed(printed(capsys, "service list --node node-1")) == [
        "ID Frontend Service Type Name Backend",
        "1 10.96.0.20:80/TCP ClusterIP shop/web 1 => 10.244.1.1:8080/TCP (active)",
        "2 => 10.244.2.1:8080/TCP (active)",
        "2 10.96.0.20:80/TCP ClusterIP shop/web REFUSED: no room",
    ]


def test_an_identity_of_two_nodes_is_one_with_all_its_endpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert squeezed(printed(capsys, "identity list --endpoints")) == [
        "ID LABELS REFCOUNT",
        "257 k8s:app=web 2",
        "k8s:io.kubernetes.pod.namespace=shop",
    ]


def test_addresses_and_counters(capsys: pytest.CaptureFixture[str]) -> None:
    assert squeezed(printed(capsys, "bpf ipcache list --node node-1")) == [
        "IP PREFIX/ADDRESS IDENTITY SOURCE POD",
        "10.244.1.1/32 257 pod shop/web-1",
    ]
    assert squeezed(printed(capsys, "bpf metrics list --node node-1"))[1:] == [
        "Success INGRESS 5 300",
        "Policy denied EGRESS 1 60",
    ]


def test_a_node_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no daemon of node node-9" in printed(capsys, "endpoint list --node node-9", 1)
