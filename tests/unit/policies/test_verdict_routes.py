"""`policy verdict --to NS/SERVICE` follows routes: policy is judged on the backends that they lead to."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from weft.policies import offline
from weft.policies.asked import answer_json, question
from weft.policies.verdict import Judge
from weft.policies.yamldoc import documents

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
status: {podIPs: [{ip: 10.0.0.1}]}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v1, labels: {app: api, version: v1}}
status: {podIPs: [{ip: 10.0.0.2}]}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v2, labels: {app: api, version: v2}}
status: {podIPs: [{ip: 10.0.0.3}]}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api]
  http:
  - match: [{headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: api, subset: v2}}]
  - match: [{uri: {prefix: /nobody}}]
    route: [{destination: {host: api, subset: v3}}]
  - match: [{uri: {prefix: /undefined}}]
    route: [{destination: {host: api, subset: v9}}]
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - match: [{uri: {prefix: /v}}]
    route: [{destination: {host: api, subset: v1}, weight: 90}, {destination: {host: api, subset: v2}, weight: 10}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: closed}
spec:
  endpointSelector: {matchLabels: {version: v2}}
  ingress: [{}]
"""


@pytest.fixture(scope="module")
def judge() -> Judge:
    declared = offline.read(documents(textwrap.dedent(PODS), "m.yaml"))
    assert declared.refused == ()
    world, problems = offline.build(declared)
    assert problems == {}
    return Judge(world)


def ask(judge: Judge, http: dict[str, Any] | None) -> dict[str, Any]:
    asked = question({"from": "default/web", "to": "default/api", "port": 80, "http": http})
    return answer_json(judge.judge(asked.source, asked.to, asked.protocol, asked.port, asked.request))


def test_a_header_chooses_the_closed_version(judge: Judge) -> None:
    found = ask(judge, {"path": "/v", "headers": {"x-canary": "true"}})
    assert (found["verdict"], found["redirected"]) == ("DENIED", True)
    assert [each["to"] for each in found["backends"]] == ["default/v2"]
    assert found["route"]["path"] == "spec.http[0]"
    assert "routed by VirtualService default/api spec.http[0]" in found["reason"]


def test_a_split_is_allowed_only_if_all_of_it_is(judge: Judge) -> None:
    found = ask(judge, {"path": "/v"})
    assert found["verdict"] == "DENIED"
    assert {each["to"]: each["verdict"] for each in found["backends"]} == {
        "default/v1": "ALLOWED",
        "default/v2": "DENIED",
    }
    assert [(each["subset"], each["weight"]) for each in found["route"]["destinations"]] == [("v1", 90), ("v2", 10)]


@pytest.mark.parametrize(
    ("path", "verdict", "status", "words"),
    [
        ("/old", "ALLOWED", 301, "answers 301, redirected"),
        ("/else", "DENIED", 404, "no rule of it matches"),
    ],
    ids=["a redirect", "nothing matches"],
)
def test_what_the_proxy_answers_itself(judge: Judge, path: str, verdict: str, status: int, words: str) -> None:
    found = ask(judge, {"path": path})
    assert (found["verdict"], found["route"]["answer"]) == (verdict, status)
    assert words in found["reason"]
    assert found["backends"] == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nobody", "503, nobody is in subset v3"),
        ("/undefined", "503, api.default.svc.cluster.local has no subset v9"),
    ],
)
def test_a_route_that_leads_nowhere(judge: Judge, path: str, words: str) -> None:
    found = ask(judge, {"path": path})
    assert found["verdict"] == "DENIED"
    assert words in found["reason"]


def test_without_a_request_every_rule_counts(judge: Judge) -> None:
    found = ask(judge, None)
    assert (found["verdict"], found["redirected"]) == ("DENIED", True)
    assert {each["to"] for each in found["backends"]} == {"default/v1", "default/v2"}
