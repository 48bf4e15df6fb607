"""Pods, Services and the rest, reduced to what the mesh needs; and which kinds are read at all."""

from __future__ import annotations

import pytest

from declared import declared
from weft.policies.dialects.registry import KINDS, parse, ref_of
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef, Protocol
from weft.policies.objects import (
    CidrGroup,
    ContainerPort,
    EndpointSlice,
    Namespace,
    Node,
    Owner,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from weft.policies.yamldoc import Document

TCP, UDP = Protocol.TCP, Protocol.UDP

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: orders-5d9c4b7f8-x2x4z
  namespace: shop
  labels: {app: orders, pod-template-hash: 5d9c4b7f8}
  annotations: {weft.dev/note: hello}
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: orders-5d9c4b7f8, controller: true}
spec:
  nodeName: node-1
  serviceAccountName: orders
  containers:
  - name: app
    image: x
    ports: [{containerPort: 8080, name: http}, {containerPort: 53, protocol: UDP}]
  initContainers:
  - {name: setup, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 9090, name: metrics}]}
  unknownToWeft: {a: [1, 2]}
status:
  phase: Running
  podIP: 10.244.1.5
  podIPs: [{ip: 10.244.1.5}, {ip: "fd00:10:244:1:0::5"}]
  conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "False"}]
"""


def test_a_pod() -> None:
    assert declared(POD) == Pod(
        namespace="shop",
        name="orders-5d9c4b7f8-x2x4z",
        labels={"app": "orders", "pod-template-hash": "5d9c4b7f8"},
        annotations={"weft.dev/note": "hello"},
        service_account="orders",
        node="node-1",
        ips=("10.244.1.5", "fd00:10:244:1::5"),
        ports=(ContainerPort("http", 8080, TCP), ContainerPort("", 53, UDP), ContainerPort("metrics", 9090, TCP)),
        ready=False,
        owner=Owner("Deployment", "orders"),
    )


def test_a_pod_that_says_the_least() -> None:
    assert declared("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}") == Pod("default", "a")


def pod(more: str, name: str = "a", metadata: str = "") -> Pod:
    found = declared(f"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}{metadata}}}, {more}}}")
    assert isinstance(found, Pod)
    return found


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_has_no_address(phase: str) -> None:
    assert pod(f"spec: {{}}, status: {{phase: {phase}, podIPs: [{{ip: 10.0.0.1}}]}}").ips == ()


def test_a_pod_with_one_address_only() -> None:
    assert pod("spec: {}, status: {podIP: 10.0.0.1}").ips == ("10.0.0.1",)


def test_a_pod_on_the_hosts_network() -> None:
    assert pod("spec: {hostNetwork: true}").host_network


READY = {
    "no status": ("spec: {}", True),
    "no conditions": ("spec: {}, status: {}", True),
    "ready": ("spec: {}, status: {conditions: [{type: Ready, status: 'True'}]}", True),
    "not ready": ("spec: {}, status: {conditions: [{type: Ready, status: 'False'}]}", False),
    "unknown": ("spec: {}, status: {conditions: [{type: Ready, status: Unknown}]}", False),
    "another condition": ("spec: {}, status: {conditions: [{type: PodScheduled, status: 'False'}]}", True),
}


@pytest.mark.parametrize(("more", "ready"), READY.values(), ids=READY)
def test_readiness(more: str, ready: bool) -> None:
    assert pod(more).ready is ready


def owned(name: str, kind: str = "ReplicaSet") -> str:
    return f"ownerReferences: [{{kind: {kind}, name: {name}, controller: true}}]"


OWNERS = {
    "nobody": ("", None),
    "no controller among the owners": (", ownerReferences: [{kind: X, name: y}]", None),
    "a ReplicaSet with the template's hash is a Deployment's": (
        ", labels: {pod-template-hash: abc}, " + owned("web-abc"),
        Owner("Deployment", "web"),
    ),
    "a ReplicaSet with another hash is its own": (
        ", labels: {pod-template-hash: abc}, " + owned("web-xyz"),
        Owner("ReplicaSet", "web-xyz"),
    ),
    "a ReplicaSet with a hash in its name": (
        ", ownerReferences: [{kind: ReplicaSet, name: my-web-5d9c4b7f8, controller: true}]",
        Owner("Deployment", "my-web"),
    ),
    "a ReplicaSet of one's own": (
        ", ownerReferences: [{kind: ReplicaSet, name: my-web, controller: true}]",
        Owner("ReplicaSet", "my-web"),
    ),
    "a StatefulSet": (
        ", ownerReferences: [{kind: StatefulSet, name: db, controller: true}]",
        Owner("StatefulSet", "db"),
    ),
    "a Job": (", ownerReferences: [{kind: Job, name: load, controller: true}]", Owner("Job", "load")),
    "a Job of a CronJob": (
        ", ownerReferences: [{kind: Job, name: load-28391820, controller: true}]",
        Owner("CronJob", "load"),
    ),
}


@pytest.mark.parametrize(("metadata", "owner"), OWNERS.values(), ids=OWNERS)
def test_owner(metadata: str, owner: Owner | None) -> None:
    assert pod("spec: {}", metadata=metadata).owner == owner


def test_a_namespace() -> None:
    text = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}, annotations: {x: y z}}}"
    assert declared(text) == Namespace("shop", {"team": "a"}, {"x": "y z"})


def test_a_service() -> None:
    text = """
    apiVersion: v1
    kind: Service
    metadata: {name: orders, labels: {team: a}}
    spec:
      type: NodePort
      selector: {app: orders}
      clusterIP: 10.96.0.7
      clusterIPs: [10.96.0.7, "fd00:10:96::7"]
      externalIPs: [203.0.113.9]
      ports:
      - {name: http, port: 80, targetPort: http, nodePort: 30080, appProtocol: kubernetes.io/h2c}
      - {name: dns, port: 53, protocol: UDP}
      - {name: web, port: 81, targetPort: 8080}
    """
    assert declared(text) == Service(
        "default",
        "orders",
        labels={"team": "a"},
        selector={"app": "orders"},
        cluster_ips=("10.96.0.7", "fd00:10:96::7"),
        type="NodePort",
        ports=(
            ServicePort("http", TCP, 80, "http", 30080, "kubernetes.io/h2c"),
            ServicePort("dns", UDP, 53, 53),
            ServicePort("web", TCP, 81, 8080),
        ),
        external_ips=("203.0.113.9",),
    )


SERVICES = {
    "one address": ("{clusterIP: 10.96.0.7}", ("10.96.0.7",), False),
    "none assigned yet": ("{}", (), False),
    "none assigned yet, said so": ("{clusterIP: '', clusterIPs: []}", (), False),
    "headless": ("{clusterIP: None}", (), True),
    "headless in both fields": ("{clusterIP: None, clusterIPs: [None]}", (), True),
}


@pytest.mark.parametrize(("spec", "ips", "headless"), SERVICES.values(), ids=SERVICES)
def test_cluster_addresses(spec: str, ips: tuple[str, ...], headless: bool) -> None:
    found = declared(f"{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}")
    assert isinstance(found, Service)
    assert (found.cluster_ips, found.headless) == (ips, headless)


def test_an_endpoint_slice() -> None:
    text = """
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: orders-1, namespace: shop, labels: {kubernetes.io/service-name: orders}}
    addressType: IPv4
    endpoints:
    - addresses: [10.244.1.5]
      conditions: {ready: true, serving: true, terminating: false}
      nodeName: node-1
      targetRef: {kind: Pod, name: orders-0, namespace: shop}
      hostname: orders-0
    - {addresses: [10.244.1.6], conditions: {ready: false}, targetRef: {kind: Node, name: x}}
    - {addresses: [10.244.1.7], targetRef: {kind: Pod, name: orders-2}}
    ports: [{name: http, port: 8080, protocol: TCP}, {name: every}]
    """
    assert declared(text) == EndpointSlice(
        "shop",
        "orders-1",
        "orders",
        "IPv4",
        (
            SliceEndpoint(("10.244.1.5",), True, "node-1", ("shop", "orders-0"), "orders-0"),
            SliceEndpoint(("10.244.1.6",), False),
            SliceEndpoint(("10.244.1.7",), True, target_pod=("shop", "orders-2")),
        ),
        (SlicePort("http", TCP, 8080),),
    )


def test_a_node() -> None:
    text = """
    apiVersion: v1
    kind: Node
    metadata: {name: node-1, labels: {zone: a}}
    spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
    status:
      addresses:
      - {type: InternalIP, address: 172.30.0.1}
      - {type: Hostname, address: node-1}
      - {type: ExternalIP, address: 203.0.113.1}
    """
    assert declared(text) == Node(
        "node-1", ("172.30.0.1", "203.0.113.1"), {"zone": "a"}, ("10.244.1.0/24", "fd00:10:244:1::/64")
    )


@pytest.mark.parametrize("version", ["cilium.io/v2", "cilium.io/v2alpha1"])
def test_a_cidr_group(version: str) -> None:
    text = f"""
    apiVersion: {version}
    kind: CiliumCIDRGroup
    metadata: {{name: partners, labels: {{team: a}}}}
    spec: {{externalCIDRs: [192.0.2.0/24, "2001:db8::/32", 192.0.2.1/24]}}
    """
    assert declared(text) == CidrGroup("partners", {"team": "a"}, ("192.0.2.0/24", "2001:db8::/32"))


# What is refused


def obj(kind: str, more: str, version: str = "v1", name: str = "a") -> str:
    return f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}}}, {more}}}"


SLICE = "discovery.k8s.io/v1"
REFUSED = {
    "a pod without spec": ("{apiVersion: v1, kind: Pod, metadata: {name: a}}", "spec", "is missing"),
    "no metadata": ("{apiVersion: v1, kind: Pod, spec: {}}", "metadata", "is missing"),
    "no name": ("{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}", "metadata.name", "is missing"),
    "a name that is none": (obj("Pod", "spec: {}", name="../etc"), "metadata.name", "is no name"),
    "a name in upper case": (obj("Pod", "spec: {}", name="Web"), "metadata.name", "is no name"),
    "a name that is a number": (obj("Pod", "spec: {}", name="5"), "metadata.name", "put it in quotes"),
    "a name of 254 characters": (obj("Pod", "spec: {}", name="a" * 254), "metadata.name", "is no name"),
    "a service name with a dot": (obj("Service", "spec: {}", name="a.b"), "metadata.name", "is no name"),
    "a namespace that is none": (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: a/b}, spec: {}}",
        "metadata.namespace",
        "is no name",
    ),
    "a label value that is a number": (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {version: 1.10}}, spec: {}}",
        "metadata.labels.version",
        "must be a string, is a number (1.1): put it in quotes",
    ),
    "an annotation that is true": (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, annotations: {x/y: yes}}, spec: {}}",
        'metadata.annotations["x/y"]',
        "put it in quotes",
    ),
    "a pod address that is none": (
        obj("Pod", "spec: {}, status: {podIPs: [{ip: 10.0.0.256}]}"),
        "status.podIPs[0].ip",
        "no IPv4 or IPv6 address",
    ),
    "a container port above 65535": (
        obj("Pod", "spec: {containers: [{ports: [{containerPort: 70000}]}]}"),
        "spec.containers[0].ports[0].containerPort",
        "must be 1 to 65535",
    ),
    "a container port without number": (
        obj("Pod", "spec: {containers: [{ports: [{name: a}]}]}"),
        "spec.containers[0].ports[0].containerPort",
        "is missing",
    ),
    "a container port's name in upper case": (
        obj("Pod", "spec: {containers: [{ports: [{containerPort: 1, name: HTTP}]}]}"),
        "spec.containers[0].ports[0].name",
        "is no port name",
    ),
    "hostNetwork in quotes": (
        obj("Pod", "spec: {hostNetwork: 'true'}"),
        "spec.hostNetwork",
        "must be true or false",
    ),
    "an unknown type of service": (obj("Service", "spec: {type: External}"), "spec.type", "is not one of"),
    "a service port without number": (
        obj("Service", "spec: {ports: [{name: a}]}"),
        "spec.ports[0].port",
        "is missing",
    ),
    "a service port of ICMP": (
        obj("Service", "spec: {ports: [{port: 1, protocol: ICMP}]}"),
        "spec.ports[0].protocol",
        "is not one of",
    ),
    "a cluster address that is none": (
        obj("Service", "spec: {clusterIP: none}"),
        "spec.clusterIP",
        "no IPv4 or IPv6",
    ),
    "a selector that is none": (
        obj("Service", "spec: {selector: {matchLabels: {a: b}}}"),
        "spec.selector.matchLabels",
        "must be a string",
    ),
    "a slice without addressType": (obj("EndpointSlice", "endpoints: []", SLICE), "addressType", "is missing"),
    "a slice endpoint without addresses": (
        obj("EndpointSlice", "addressType: IPv4, endpoints: [{}]", SLICE),
        "endpoints[0].addresses",
        "is missing",
    ),
    "a slice address that is none": (
        obj("EndpointSlice", "addressType: IPv4, endpoints: [{addresses: [x]}]", SLICE),
        "endpoints[0].addresses[0]",
        "no IPv4 or IPv6",
    ),
    "a node address that is none": (
        obj("Node", "status: {addresses: [{type: InternalIP, address: x}]}"),
        "status.addresses[0].address",
        "no IPv4 or IPv6",
    ),
    "a group with a bare address": (
        obj("CiliumCIDRGroup", "spec: {externalCIDRs: [10.0.0.1]}", "cilium.io/v2"),
        "spec.externalCIDRs[0]",
        "is no prefix",
    ),
    "a group without CIDRs": (
        obj("CiliumCIDRGroup", "spec: {}", "cilium.io/v2"),
        "spec.externalCIDRs",
        "is missing",
    ),
}


@pytest.mark.parametrize(("text", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(text: str, path: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        declared(text)
    assert caught.value.where.path == path
    assert reason in caught.value.reason


# Which kinds are read

FOREIGN = {
    "a Secret": ("v1", "Secret"),
    "a Deployment": ("apps/v1", "Deployment"),
    "Calico's NetworkPolicy": ("crd.projectcalico.org/v1", "NetworkPolicy"),
    "Knative's Service": ("serving.knative.dev/v1", "Service"),
    "an Envoy configuration of Cilium": ("cilium.io/v2", "CiliumEnvoyConfig"),
}


@pytest.mark.parametrize(("version", "kind"), FOREIGN.values(), ids=FOREIGN)
def test_other_kinds_are_none_of_wefts_business(version: str, kind: str) -> None:
    assert parse(Document({"apiVersion": version, "kind": kind})) is None


LOOKALIKES = {
    "a CiliumNetworkPolicy of another version": ("cilium.io/v3", "CiliumNetworkPolicy", "is read as cilium.io/v2"),
    "a CiliumNetworkPolicy of another group": ("cilium/v2", "CiliumNetworkPolicy", "is read as cilium.io/v2"),
    "a NetworkPolicy of another version": (
        "networking.k8s.io/v1beta1",
        "NetworkPolicy",
        "is read as networking.k8s.io/v1",
    ),
    "a NetworkPolicy of the old group": (
        "extensions/v1beta1",
        "NetworkPolicy",
        "is read as networking.k8s.io/v1",
    ),
    "a Pod of another version": ("v2", "Pod", "is read as v1"),
    "a MeshNetworkPolicy of Cilium": ("cilium.io/v2", "MeshNetworkPolicy", "is read as weft.dev/v1alpha1"),
    "a kind of Weft's that does not exist": ("weft.dev/v1alpha1", "MeshNetworkPolcy", "has no kind"),
}


@pytest.mark.parametrize(("version", "kind", "reason"), LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_looks_like_weft_reads_it_is_refused_not_ignored(version: str, kind: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(Document({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}))
    assert reason in caught.value.reason
    assert caught.value.where.object == f"{kind} a"


@pytest.mark.parametrize("kind", ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"])
def test_policy_apis_that_are_not_enforced_are_refused_not_ignored(kind: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(Document({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind}))
    assert caught.value.not_enforced


@pytest.mark.parametrize(
    "value", [{}, {"kind": "Pod"}, {"kind": 5, "apiVersion": "v1"}, {"kind": "", "apiVersion": "v1"}]
)
def test_a_document_must_say_what_it_is(value: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        parse(Document(value))


def test_every_kind_has_a_name_of_its_scope() -> None:
    for name, kind in KINDS.items():
        document = Document({"apiVersion": kind.versions[0], "kind": name, "metadata": {"name": "a"}})
        assert ref_of(document, "shop") == ObjectRef(name, "shop" if kind.namespaced else "", "a")


def test_other_kinds_have_names_too() -> None:
    document = Document(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}}
    )
    assert ref_of(document) == ObjectRef("Deployment", "b", "a")
