"""Objects in, numbers out: what each object becomes, and that changes end where a fresh start would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies import delta
from weft.policies.catalog import ref_of
from weft.policies.cluster import Cluster, Exhausted, Numbers
from weft.policies.delta import Step, Update
from weft.policies.errors import Invalid
from weft.policies.identity import REMOTE_NODE
from weft.policies.labels import ANY_SOURCE, Labels, Op, Requirement, Selector
from weft.policies.model import (
    Action,
    CidrPeer,
    Direction,
    EndpointPeer,
    EntityPeer,
    ObjectRef,
    Origin,
    Peer,
    Policy,
    Protocol,
    Rule,
    ServicePeer,
    Spec,
)
from weft.policies.objects import (
    ContainerPort,
    EndpointSlice,
    Namespace,
    Node,
    Object,
    Owner,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from weft.policies.snapshot import BackendItem, EndpointItem, NamedPort, NodeItem, PolicyItem, Snapshot

REF = ObjectRef("NetworkPolicy", "default", "p")
WEB_PORTS = (ContainerPort("HTTP", 8080, Protocol.TCP), ContainerPort("", 9090, Protocol.TCP))


def pod(name: str, ip: str = "", **fields: object) -> Pod:
    values: dict = {"labels": {"app": name}, "node": "node-1", "ips": (ip,) if ip else ()}
    return Pod("default", name, **{**values, **fields})


def select(key: str, *values: str) -> Selector:
    return Selector((Requirement(ANY_SOURCE, key, Op.IN if values else Op.EXISTS, values),))


def policy(*peers: Peer, subject: Selector | None = None, ref: ObjectRef = REF) -> Policy:
    rule = Rule(Origin(ref, "spec.ingress[0]"), Direction.INGRESS, Action.ALLOW, peers)
    return Policy(ref, (Spec(subject or select("app"), True, False, (rule,)),))


class Fixture(Cluster):
    def with_(self, *things: Policy | Object) -> Step | None:
        for thing in things:
            self.put(thing)
        return self.delta()

    def labels_at(self, ip: str) -> tuple[str, ...]:
        return self.part.identities[self.part.addresses[ip].identity].labels.strings()

    def policy_item(self, ref: ObjectRef = REF) -> PolicyItem:
        return self.part.policies[ref]


@pytest.fixture
def cluster() -> Fixture:
    return Fixture(Numbers())


# identities, addresses, endpoints


def test_a_pod_is_an_identity_its_addresses_and_an_endpoint_on_its_node(cluster: Fixture) -> None:
    step = cluster.with_(
        pod("web", ips=("10.0.0.1", "FD00::0001"), ports=WEB_PORTS, owner=Owner("Deployment", "web"))
    )
    ports = (NamedPort("http", Protocol.TCP, 8080),)
    assert step and step.revision == cluster.revision == 1
    assert set(cluster.part.addresses) == {"10.0.0.1", "fd00::1"}
    assert cluster.part.addresses["fd00::1"].pod == "default/web"
    assert cluster.part.addresses["fd00::1"].named_ports == ports
    assert cluster.snapshot("node-1").own.endpoints == {
        "default/web": EndpointItem("default", "web", ("10.0.0.1", "fd00::1"), 256, ports, "Deployment", "web")
    }
    assert not cluster.snapshot("node-2").own.endpoints


def test_the_labels_of_an_identity(cluster: Fixture) -> None:
    labels = {"app": "web", "pod-template-hash": "abc", "statefulset.kubernetes.io/pod-name": "web-0"}
    cluster.with_(
        Namespace("default", {"team": "a"}), pod("web", "10.0.0.1", labels=labels, service_account="robot")
    )
    assert cluster.labels_at("10.0.0.1") == (
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=robot",
        "k8s:io.kubernetes.pod.namespace=default",
    )


def test_replicas_share_an_identity_until_a_selector_tells_them_apart(cluster: Fixture) -> None:
    first, second = (pod(f"w-{i}", f"10.0.0.{i}", labels={"controller-uid": str(i)}) for i in (1, 2))
    cluster.with_(first, second)
    assert len(cluster.part.identities) == 1
    cluster.with_(policy(EndpointPeer(select("controller-uid", "2")), subject=select("controller-uid")))
    assert len(cluster.part.identities) == 2
    spec = cluster.policy_item().specs[0]
    assert spec.rules[0].peers.identities == {cluster.part.addresses["10.0.0.2"].identity}
    assert spec.subjects == set(cluster.part.identities)
    cluster.remove(REF)
    cluster.delta()
    assert len(cluster.part.identities) == 1


def test_an_identity_outlives_its_last_pod_only_until_the_next_delta(cluster: Fixture) -> None:
    cluster.with_(pod("web", "10.0.0.1"))
    cluster.remove(ObjectRef("Pod", "default", "web"))
    step = cluster.delta()
    assert step and step.cluster.identities_gone == {256} and step.cluster.addresses_gone == {"10.0.0.1"}
    assert step.nodes["node-1"].endpoints_gone == {"default/web"}
    assert cluster.snapshot("node-1").own.endpoints == {}


def test_a_pod_replaced_by_its_like_keeps_the_identity(cluster: Fixture) -> None:
    cluster.with_(pod("web", "10.0.0.1"))
    cluster.remove(ObjectRef("Pod", "default", "web"))
    step = cluster.with_(pod("web-2", "10.0.0.2", labels={"app": "web"}))
    assert step and not step.cluster.identities and not step.cluster.identities_gone
    assert cluster.part.addresses["10.0.0.2"].identity == 256


def test_a_label_of_the_namespace_is_a_label_of_its_pods(cluster: Fixture) -> None:
    cluster.with_(pod("web", "10.0.0.1"), pod("far", "10.0.0.2", labels={"app": "web"}))
    cluster.put(replace(pod("far", "10.0.0.2"), namespace="other"))
    wanted = select("io.cilium.k8s.namespace.labels.team", "a")
    cluster.with_(policy(EndpointPeer(wanted)))
    assert not cluster.policy_item().specs[0].rules[0].peers.identities
    cluster.with_(Namespace("default", {"team": "a"}))
    assert cluster.policy_item().specs[0].rules[0].peers.identities == {cluster.part.addresses["10.0.0.1"].identity}
    cluster.remove(ObjectRef("Namespace", "", "default"))
    cluster.delta()
    assert not cluster.policy_item().specs[0].rules[0].peers.identities


@pytest.mark.parametrize(
    "other",
    [
        pod("web"),
        pod("web", "10.0.0.1", host_network=True),
        pod("web", "10.0.0.1", annotations={"weft.dev/external-address": "203.0.113.9"}),
    ],
    ids=["without an address", "on the host network", "that plays the outside world"],
)
def test_no_identity_has_a_pod(cluster: Fixture, other: Pod) -> None:
    cluster.with_(pod("web", "10.0.0.1"))
    cluster.with_(other)
    assert not cluster.part.identities and not cluster.part.addresses
    assert not cluster.snapshot("node-1").own.endpoints


def test_a_pod_moves_to_another_node(cluster: Fixture) -> None:
    cluster.with_(pod("web", "10.0.0.1"))
    step = cluster.with_(pod("web", "10.0.0.1", node="node-2"))
    assert step and step.nodes["node-1"].endpoints_gone == {"default/web"}
    assert set(step.nodes["node-2"].endpoints) == {"default/web"}


def test_the_addresses_of_a_node_are_the_nodes(cluster: Fixture) -> None:
    cluster.with_(Node("node-1", ("172.30.0.1", "fd00:172:30::1"), pod_cidrs=("10.244.1.0/24",)))
    assert cluster.part.nodes == {
        "node-1": NodeItem("node-1", ("172.30.0.1", "fd00:172:30::1"), ("10.244.1.0/24",))
    }
    assert {a.identity for a in cluster.part.addresses.values()} == {REMOTE_NODE}
    cluster.remove(ObjectRef("Node", "", "node-1"))
    cluster.delta()
    assert not cluster.part.nodes and not cluster.part.addresses


def test_an_address_that_two_claim_belongs_to_the_ready_one_and_then_to_the_other(cluster: Fixture) -> None:
    cluster.with_(pod("old", "10.0.0.1", ready=False), pod("new", "10.0.0.1"))
    assert cluster.part.addresses["10.0.0.1"].pod == "default/new"
    assert set(cluster.snapshot("node-1").own.endpoints) == {"default/new"}
    assert cluster.problems() == {
        ObjectRef("Pod", "default", "old"): "its address 10.0.0.1 belongs to Pod default/new"
    }
    cluster.remove(ObjectRef("Pod", "default", "new"))
    cluster.delta()
    assert cluster.part.addresses["10.0.0.1"].pod == "default/old"
    assert not cluster.problems()


def test_a_pod_cannot_take_the_address_of_a_node(cluster: Fixture) -> None:
    cluster.with_(pod("thief", "172.30.0.1"), Node("node-1", ("172.30.0.1",)))
    assert cluster.part.addresses["172.30.0.1"].identity == REMOTE_NODE
    assert ObjectRef("Pod", "default", "thief") in cluster.problems()


@pytest.mark.parametrize(
    "thing", [pod("web", "10.0.0.300"), Node("n", ("x",)), Node("n", pod_cidrs=("10.0.0.0/99",))]
)
def test_an_address_that_is_none_is_refused_and_changes_nothing(cluster: Fixture, thing: Object) -> None:
    with pytest.raises(Invalid):
        cluster.put(thing)
    assert cluster.delta() is None


# Kubernetes ipBlock


def test_a_pod_inside_a_block_is_told_apart_from_one_outside_and_only_by_that_address(cluster: Fixture) -> None:
    inside = pod("in", ips=("10.1.0.1", "fd00::1"), labels={"app": "x"})
    outside = pod("out", ips=("10.2.0.1", "fd00::2"), labels={"app": "x"})
    cluster.with_(inside, outside)
    assert len(cluster.part.identities) == 1
    block = CidrPeer(ip_network("10.0.0.0/8"), (ip_network("10.2.0.0/16"),), includes_pods=True)
    cluster.with_(policy(block))
    addresses = cluster.part.addresses
    assert cluster.policy_item().specs[0].rules[0].peers.identities == {addresses["10.1.0.1"].identity}
    assert addresses["fd00::1"].identity == addresses["fd00::2"].identity != addresses["10.1.0.1"].identity
    assert "cidr:10.0.0.0/8" in cluster.labels_at("10.1.0.1")
    assert cluster.policy_item().specs[0].subjects == set(cluster.part.identities), "subjects by any address"
    cluster.remove(REF)
    cluster.delta()
    assert len(cluster.part.identities) == 1


def test_a_prefix_of_ipv6_is_a_label_without_colons(cluster: Fixture) -> None:
    cluster.with_(pod("web", "fd00::1"), policy(CidrPeer(ip_network("fd00::/8"), includes_pods=True)))
    assert "cidr:fd00--/8" in cluster.labels_at("fd00::1")
    assert len(cluster.policy_item().specs[0].rules[0].peers.identities) == 1


# numbers


class Few(Numbers):
    """An allocator with so many numbers and no more."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def allocate(self, labels: Labels) -> int:
        if labels not in self._by_labels:
            if not self.left:
                raise Exhausted
            self.left -= 1
        return super().allocate(labels)

    def release(self, number: int) -> None:
        super().release(number)
        self.left += 1


def test_a_pod_without_a_number_is_a_problem_and_gets_one_when_there_is_one() -> None:
    cluster = Fixture(Few(1))
    cluster.with_(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    assert set(cluster.part.addresses) == {"10.0.0.1"}
    assert "no identity number is left" in cluster.problems()[ObjectRef("Pod", "default", "b")]
    cluster.remove(ObjectRef("Pod", "default", "a"))
    cluster.delta()
    cluster.with_(Namespace("unrelated"))
    assert set(cluster.part.addresses) == {"10.0.0.2"} and not cluster.problems()


# services


def service(name: str = "web", **fields: object) -> Service:
    values: dict = {
        "selector": {"app": "web"},
        "cluster_ips": ("10.96.0.1",),
        "ports": (ServicePort("http", Protocol.TCP, 80, "http"),),
    }
    return Service("default", name, **{**values, **fields})


def backends(cluster: Fixture, key: str = "default/web") -> list[str]:
    return [f"{b.ip}:{b.port}" for b in cluster.part.services[key].ports[0].backends]


def test_a_service_without_slices_has_the_ready_pods_it_selects_each_with_its_own_port(cluster: Fixture) -> None:
    port = ContainerPort("http", 8000, Protocol.TCP)
    cluster.with_(
        service(),
        pod("a", "10.0.0.9", labels={"app": "web"}, ports=(port,)),
        pod("b", "10.0.0.10", labels={"app": "web", "v": "2"}, ports=(replace(port, port=8001),)),
        pod("c", "10.0.0.11", labels={"app": "web"}, ports=(port,), ready=False),
        pod("d", "10.0.0.12", labels={"app": "web"}),
        pod("e", "10.0.0.13", ports=(port,)),
        replace(pod("f", "10.0.0.14", labels={"app": "web"}, ports=(port,)), namespace="other"),
    )
    assert backends(cluster) == ["10.0.0.9:8000", "10.0.0.10:8001"]
    item = cluster.part.services["default/web"].ports[0].backends[0]
    assert item == BackendItem("10.0.0.9", 8000, "node-1", "default/a")


def test_backends_follow_readiness_labels_and_removal(cluster: Fixture) -> None:
    numbered = service(ports=(ServicePort("", Protocol.TCP, 80, 8080),))
    web = pod("a", "10.0.0.1", labels={"app": "web"})
    cluster.with_(numbered, web)
    assert backends(cluster) == ["10.0.0.1:8080"]
    cluster.with_(replace(web, ready=False))
    assert backends(cluster) == []
    cluster.with_(web)
    cluster.with_(replace(web, labels={"app": "other"}))
    assert backends(cluster) == []
    cluster.with_(web)
    cluster.remove(ref_of(web))
    cluster.delta()
    assert backends(cluster) == []


def test_slices_say_who_the_backends_are_if_there_are_any(cluster: Fixture) -> None:
    cluster.with_(service(), pod("a", "10.0.0.1", labels={"app": "web"}, ports=WEB_PORTS))
    piece = EndpointSlice(
        "default",
        "web-x",
        "web",
        endpoints=(
            SliceEndpoint(("10.0.0.7",), node="n", target_pod=("default", "w")),
            SliceEndpoint(("10.0.0.8",), ready=False),
        ),
        ports=(SlicePort("http", Protocol.TCP, 8080), SlicePort("other", Protocol.TCP, 1)),
    )
    cluster.with_(piece)
    assert cluster.part.services["default/web"].ports[0].backends == (
        BackendItem("10.0.0.7", 8080, "n", "default/w"),
    )
    cluster.with_(replace(piece, service="another"))
    assert backends(cluster) == []
    cluster.with_(replace(piece, endpoints=()))
    assert backends(cluster) == [], "an empty slice of the service is a word too"
    cluster.remove(ref_of(piece))
    cluster.delta()
    assert backends(cluster) == []


def test_a_service_that_goes_is_gone(cluster: Fixture) -> None:
    cluster.with_(service())
    cluster.remove(ObjectRef("Service", "default", "web"))
    step = cluster.delta()
    assert step and step.cluster.services_gone == {"default/web"}


# revisions


def test_what_changes_nothing_makes_no_revision(cluster: Fixture) -> None:
    things: list[Policy | Object] = [pod("web", "10.0.0.1"), service(), policy(EntityPeer("cluster"))]
    cluster.with_(*things)
    assert cluster.with_(*things[:2]) is None
    cluster.put(things[2], generation=1)  # type: ignore[arg-type]
    assert cluster.delta() is None
    cluster.remove(ObjectRef("Pod", "default", "nobody"))
    assert cluster.delta() is None and cluster.revision == 1


def test_a_policy_item_carries_its_generation(cluster: Fixture) -> None:
    cluster.with_(policy(EntityPeer("host")))
    assert cluster.policy_item().revision == 1
    cluster.with_(policy(EntityPeer("world")))
    assert cluster.policy_item().revision == 2
    cluster.put(policy(EntityPeer("host")), generation=40)
    cluster.delta()
    assert cluster.policy_item().revision == 40


def test_counting_goes_on_where_another_operator_stopped() -> None:
    assert Cluster(Numbers(), revision=1000).delta() is None
    cluster = Fixture(Numbers(), revision=1000)
    step = cluster.with_(pod("web", "10.0.0.1"))
    assert step and step.revision == 1001


# changes in any order end where a fresh start would

apps, namespaces = st.sampled_from("abc"), st.sampled_from(["default", "other"])
selectors = st.one_of(
    st.builds(select, st.just("app"), apps),
    st.just(select("controller-uid", "1")),
    st.just(select("io.cilium.k8s.namespace.labels.team", "x")),
    st.just(Selector((Requirement(ANY_SOURCE, "app", Op.NOT_IN, ("a",)),))),
)
blocks = st.sampled_from(["10.0.0.0/30", "10.0.0.4/30", "10.0.0.0/8", "fd00::/126"]).map(ip_network)
some_peers = st.one_of(
    st.builds(EndpointPeer, selectors),
    st.builds(EntityPeer, st.sampled_from(["cluster", "host", "world"])),
    st.builds(lambda block: CidrPeer(block, (), True), blocks),
    st.builds(ServicePeer, namespaces, st.sampled_from(["s", "t"])),
)
some_pods = st.builds(
    lambda ns, name, app, uid, ip, node, ready: Pod(
        ns,
        name,
        {"app": app, "controller-uid": uid},
        node=node,
        ips=(f"10.0.0.{ip}", f"fd00::{ip}"),
        ready=ready,
        ports=(ContainerPort("http", 80, Protocol.TCP),),
    ),
    namespaces,
    st.sampled_from(["p", "q", "r"]),
    apps,
    st.sampled_from("12"),
    st.integers(1, 4),
    st.sampled_from(["", "n1", "n2"]),
    st.booleans(),
)
some_services = st.builds(
    lambda ns, name, app, target: Service(
        ns,
        name,
        selector={"app": app} if app else {},
        ports=(ServicePort("http", Protocol.TCP, 80, target),),
    ),
    namespaces,
    st.sampled_from(["s", "t"]),
    st.just("") | apps,
    st.sampled_from(["http", 81]),
)
some_slices = st.builds(
    lambda ns, service, ip: EndpointSlice(
        ns,
        "slice",
        service,
        endpoints=(SliceEndpoint((f"192.0.2.{ip}",)),),
        ports=(SlicePort("http", Protocol.TCP, 8),),
    ),
    namespaces,
    st.sampled_from(["s", "t"]),
    st.integers(1, 3),
)
some_policies = st.builds(
    lambda name, subject, peers: policy(*peers, subject=subject, ref=ObjectRef("NetworkPolicy", "default", name)),
    st.sampled_from(["p", "q"]),
    selectors,
    st.lists(some_peers, max_size=2),
)
things = st.one_of(
    some_pods,
    some_services,
    some_slices,
    some_policies,
    st.builds(lambda n, team: Namespace(n, {"team": team}), namespaces, st.sampled_from("xy")),
    st.builds(lambda n, ip: Node(n, (f"10.0.0.{ip}",)), st.sampled_from(["n1", "n2"]), st.integers(3, 6)),
    some_pods,
    some_pods,
)
scripts = st.lists(
    st.tuples(st.sampled_from(["put", "put", "remove", "delta", "delta"]), things), min_size=8, max_size=60
)


def reference(thing: Policy | Object) -> ObjectRef:
    return thing.ref if isinstance(thing, Policy) else ref_of(thing)


def by_labels(snapshot: Snapshot) -> object:
    """A snapshot with labels for numbers: what two allocators must agree on."""
    part = snapshot.cluster
    name: Callable[[int], object] = lambda n: part.identities[n].labels if n in part.identities else n  # noqa: E731

    def rules(item: PolicyItem) -> object:
        return [
            (
                {name(n) for n in spec.subjects},
                [(r.origin, {name(n) for n in r.peers.identities}, r.peers.cidrs, r.peers.any) for r in spec.rules],
            )
            for spec in item.specs
        ]

    return (
        {i.labels for i in part.identities.values()},
        {ip: (replace(a, identity=0), name(a.identity)) for ip, a in part.addresses.items()},
        part.nodes,
        part.services,
        {ref: rules(item) for ref, item in part.policies.items()},
        {key: (replace(e, identity=0), name(e.identity)) for key, e in snapshot.own.endpoints.items()},
    )


@given(scripts)
@settings(max_examples=200, deadline=None)
def test_changes_in_any_order_end_where_a_fresh_start_would(script: list) -> None:
    cluster, held = Cluster(Numbers()), {}
    nodes = {name: Snapshot(0, name, cluster.part, cluster.snapshot(name).own) for name in ("n1", "n2")}
    for what, thing in [*script, ("delta", None)]:
        if what == "put":
            cluster.put(thing)
            held[reference(thing)] = thing
        elif what == "remove":
            cluster.remove(reference(thing))
            held.pop(reference(thing), None)
        elif step := cluster.delta():
            for name, snapshot in nodes.items():
                update = Update(step.revision, "e", False, step.cluster, step.nodes.get(name, delta.NodeDelta()))
                nodes[name] = delta.apply(snapshot, update, name)
    fresh = Cluster(Numbers())
    for thing in held.values():
        fresh.put(thing)
    fresh.delta()
    for name, followed in nodes.items():
        assert followed == cluster.snapshot(name), "the differences lead to the snapshot"
        assert by_labels(followed) == by_labels(fresh.snapshot(name))
