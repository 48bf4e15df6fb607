"""Who stands behind a name or an address, and as what each end sees the other."""

from __future__ import annotations

import pytest

from weft.policies import offline
from weft.policies.explain import explain
from weft.policies.model import Protocol
from weft.policies.verdict import Answer, Judge
from weft.policies.world import Kind, Party, Unknown
from weft.policies.yamldoc import documents

NODES = """
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 172.30.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
status: {addresses: [{type: InternalIP, address: 172.30.0.2}]}
---
"""
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: s, labels: {app: s}}
spec: {nodeName: node-1, containers: [{name: c, image: x}]}
status: {podIPs: [{ip: 10.244.1.5}, {ip: "fd00:10:244:1::5"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: four, labels: {app: four}}
spec: {nodeName: node-2, containers: [{name: c, image: x}]}
status: {podIPs: [{ip: 10.244.2.5}]}
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere-yet, labels: {app: new}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near}
spec: {nodeName: node-1, hostNetwork: true, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: world, annotations: {weft.dev/external-address: "203.0.113.10, 2001:db8::10"}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes-1, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443}]
endpoints: [{addresses: [198.51.100.9]}]
---
apiVersion: v1
kind: Service
metadata: {name: nameless}
spec: {clusterIP: None, selector: {app: four}, ports: [{port: 80, targetPort: 8080}]}
---
"""


def policy(spec: str, kind: str = "CiliumNetworkPolicy") -> str:
    version = "cilium.io/v2" if kind == "CiliumNetworkPolicy" else "networking.k8s.io/v1"
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n"


def judge(*texts: str) -> Judge:
    declared = offline.read(documents("".join(texts), "test.yaml"))
    assert not declared.refused
    return Judge(offline.build(declared, ("10.96.0.10",))[0])


def ask(of: Judge, source: str, to: str, port: int = 80) -> Answer:
    return of.judge(source, to, Protocol.TCP, port)


def from_entity(entity: str) -> str:
    return policy(f"{{endpointSelector: {{matchLabels: {{app: s}}}}, ingress: [{{fromEntities: [{entity}]}}]}}")


@pytest.mark.parametrize(
    ("source", "entity"),
    [
        ("172.30.0.2", "remote-node"),
        ("default/far", "remote-node"),
        ("198.51.100.9", "kube-apiserver"),
        ("198.51.100.10", "world"),
        ("default/world", "world"),
        ("2001:db8::10", "world-ipv6"),
        ("default/four", "cluster"),
    ],
)
def test_a_peer_is_seen_as(source: str, entity: str) -> None:
    assert ask(judge(NODES, PODS, from_entity(entity)), source, "default/s").allowed
    assert not ask(judge(NODES, PODS, from_entity("ingress")), source, "default/s").allowed


@pytest.mark.parametrize("source", ["172.30.0.1", "default/near"])
def test_the_own_node_always_reaches_its_workloads(source: str) -> None:
    answer = ask(judge(NODES, PODS, from_entity("none")), source, "default/s")
    assert answer.allowed
    assert answer.reason == "ingress: always allowed: the node reaches its own workloads"


def test_a_workload_that_is_not_placed_may_be_anywhere() -> None:
    deny = policy("{endpointSelector: {matchLabels: {app: new}}, ingress: [{}]}")
    assert not ask(judge(NODES, PODS, deny), "172.30.0.1", "default/nowhere-yet").allowed
    one_node = NODES.partition("---")[0] + "---\n"
    assert ask(judge(one_node, PODS, deny), "172.30.0.1", "default/nowhere-yet").allowed


def test_the_api_servers_service_leads_to_the_api_server() -> None:
    rule = policy("{endpointSelector: {matchLabels: {app: s}}, egress: [{toEntities: [kube-apiserver]}]}")
    of = judge(NODES, PODS, rule)
    assert ask(of, "default/s", "10.96.0.1", 443).allowed
    assert not ask(of, "default/s", "198.51.100.10", 443).allowed


def test_a_pods_address_is_the_pod() -> None:
    rule = policy(
        "{endpointSelector: {matchLabels: {app: s}}, ingress: [{fromEndpoints: [{matchLabels: {app: four}}]}]}"
    )
    of = judge(NODES, PODS, rule)
    assert ask(of, "10.244.2.5", "10.244.1.5").allowed
    assert ask(of, "default/four", "fd00:10:244:1::5").allowed
    assert not ask(of, "10.244.2.6", "default/s").allowed


IP_BLOCK = "{{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}"


def test_a_block_of_addresses_means_pods_that_have_one_in_it() -> None:
    of = judge(NODES, PODS, policy(IP_BLOCK.format(app="s", cidr="10.244.2.0/24"), "NetworkPolicy"))
    assert ask(of, "default/four", "default/s").allowed
    assert not ask(of, "default/nowhere-yet", "default/s").allowed


@pytest.mark.parametrize(
    ("block", "meant"),
    [
        ("0.0.0.0/0", True),
        ("0.0.0.0/0, except: [169.254.169.254/32]", True),
        ("0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]", False),
        ("10.244.0.0/16", False),
        ("192.168.0.0/16", False),
    ],
)
def test_of_a_pod_without_an_address_a_block_knows_only_that_it_is_somewhere(block: str, meant: bool) -> None:
    of = judge(NODES, PODS, policy(IP_BLOCK.format(app="four", cidr=block), "NetworkPolicy"))
    assert ask(of, "default/nowhere-yet", "default/four").allowed is meant


def test_nobody_is_found_by_a_made_up_address() -> None:
    of = judge(NODES, PODS)
    (made_up,) = of.world.around.made_up
    assert of.world.at(made_up) == Party(made_up, Kind.OUTSIDE, (made_up,))


def test_two_workloads_are_judged_over_a_family_they_share() -> None:
    """s has an identity for each of its addresses; four has no IPv6, so only the IPv4 one counts."""
    of = judge(NODES, PODS, policy(IP_BLOCK.format(app="four", cidr='"fd00:10:244::/48"'), "NetworkPolicy"))
    assert not ask(of, "default/s", "default/four").allowed


@pytest.mark.parametrize(("asked", "judged"), [(80, 8080), (8080, 8080), (81, 81)])
def test_a_headless_services_port_is_its_target_and_another_its_backends_as_asked(asked: int, judged: int) -> None:
    (backend,) = ask(judge(NODES, PODS), "default/s", "default/nameless", asked).backends
    assert (backend.to, backend.port) == ("default/four", judged)


@pytest.mark.parametrize("name", ["default/nobody", "svc/default/s", "pod/default/kubernetes", "a/b/c", "/", ""])
def test_nobody_has_that_name(name: str) -> None:
    with pytest.raises(Unknown):
        judge(NODES, PODS).world.find(name)


def test_explain_tells_a_prefix_without_what_is_taken_out() -> None:
    cidr = "{cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.2.0/24]}"
    of = judge(
        PODS, policy(f"{{endpointSelector: {{matchLabels: {{app: s}}}}, ingress: [{{fromCIDRSet: [{cidr}]}}]}}")
    )
    ingress = explain(of.world, of.world.endpoints["default/s"]).halves[0]
    assert [peer.who for peer in ingress.peers] == [("host",), ("10.0.0.0/8 without 10.1.0.0/16",)]
