"""What each kind of peer means, and that the index never disagrees with asking every identity."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies import identity
from weft.policies.catalog import Catalog
from weft.policies.errors import Invalid
from weft.policies.labels import ANY_SOURCE, NAMESPACE_KEY, Label, Labels, Op, Requirement, Selector, equals
from weft.policies.model import (
    Action,
    CidrGroupPeer,
    CidrPeer,
    Direction,
    EndpointPeer,
    EntityPeer,
    ObjectRef,
    Origin,
    Peer,
    Policy,
    Rule,
    ServicePeer,
    Spec,
)
from weft.policies.objects import CidrGroup, EndpointSlice, Node, Service, SliceEndpoint
from weft.policies.peers import ENTITIES
from weft.policies.resolve import Resolver
from weft.policies.selection import Index
from weft.policies.snapshot import ResolvedPeers

REF = ObjectRef("CiliumNetworkPolicy", "default", "p")
CLUSTER = "io.cilium.k8s.policy.cluster=default"


EVERYBODY = Selector()


def policy(*peers: Peer, subject: Selector = EVERYBODY, ref: ObjectRef = REF) -> Policy:
    rule = Rule(Origin(ref, "spec.egress[0]"), Direction.EGRESS, Action.ALLOW, peers)
    return Policy(ref, (Spec(subject, False, True, (rule,)),))


class World:
    """A resolver with the reserved identities, and web (300) and db (301) of `default`, web (302) of `other`."""

    def __init__(self) -> None:
        self.index = Index()
        self.catalog = Catalog()
        self.resolver = Resolver(self.index, self.catalog)
        for number in identity.RESERVED:
            self.index.add(number, identity.reserved_identity(number).labels)
        for number, app, namespace in ((300, "web", "default"), (301, "db", "default"), (302, "web", "other")):
            self.add(number, f"k8s:app={app}", f"k8s:{NAMESPACE_KEY}={namespace}", f"k8s:{CLUSTER}")

    def add(self, number: int, *labels: str) -> None:
        self.resolver.selections_changed(self.index.add(number, Labels.parse(labels)))

    def remove(self, number: int) -> None:
        self.resolver.selections_changed(self.index.remove(number))

    def put(self, *peers: Peer) -> ResolvedPeers:
        self.resolver.put(policy(*peers), 1)
        return self.again()

    def again(self) -> ResolvedPeers:
        item = self.resolver.resolve()[REF]
        assert item is not None
        return item.specs[0].rules[0].peers


@pytest.fixture
def world() -> World:
    return World()


def app(value: str, *more: Requirement) -> Selector:
    return Selector((Requirement(ANY_SOURCE, "app", Op.IN, (value,)), *more))


IN_DEFAULT = equals(NAMESPACE_KEY, "default")
CLUSTER_RESERVED = {1, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize(
    ("entity", "identities", "ipv4", "ipv6"),
    [
        ("host", {1}, False, False),
        ("remote-node", {6, 7}, False, False),
        ("kube-apiserver", {7}, False, False),
        ("init", {5}, False, False),
        ("ingress", {8}, False, False),
        ("health", {4}, False, False),
        ("unmanaged", {3}, False, False),
        ("none", set(), False, False),
        ("world", {2}, True, True),
        ("world-ipv4", set(), True, False),
        ("world-ipv6", set(), False, True),
        ("cluster", CLUSTER_RESERVED | {300, 301, 302}, False, False),
    ],
)
def test_an_entity_means(world: World, entity: str, identities: set[int], ipv4: bool, ipv6: bool) -> None:
    assert world.put(EntityPeer(entity)) == ResolvedPeers(False, frozenset(identities), (), ipv4, ipv6)


def test_all_is_the_wildcard_and_swallows_the_rest(world: World) -> None:
    assert world.put(EntityPeer("all"), EndpointPeer(app("web"))) == ResolvedPeers(any=True)


def test_an_unknown_entity_is_refused_and_changes_nothing(world: World) -> None:
    with pytest.raises(Invalid, match="unsupported entity 'mars'"):
        world.put(EntityPeer("mars"))
    assert world.resolver.resolve() == {}
    assert world.index.mentioned == {}


def test_every_entity_of_the_language_has_a_meaning() -> None:
    language = "all world world-ipv4 world-ipv6 cluster host init ingress unmanaged remote-node health none"
    assert set(ENTITIES) == {*language.split(), "kube-apiserver"}


def test_missing_peers_are_anybody_and_empty_peers_are_nobody(world: World) -> None:
    rule = Rule(Origin(REF, "spec.ingress[0]"), Direction.INGRESS, Action.ALLOW, None)
    world.resolver.put(Policy(REF, (Spec(app("web"), True, False, (rule,)),)), 1)
    assert world.again() == ResolvedPeers(any=True)
    assert world.put() == ResolvedPeers()


def test_an_endpoint_selector_means_what_matches_now_and_later(world: World) -> None:
    assert world.put(EndpointPeer(app("web", IN_DEFAULT))).identities == {300}
    world.add(303, "k8s:app=web", "k8s:color=red", f"k8s:{NAMESPACE_KEY}=default")
    assert world.again().identities == {300, 303}
    world.remove(300)
    assert world.again().identities == {303}


def test_an_identity_that_no_selector_concerns_dirties_no_policy(world: World) -> None:
    world.put(EndpointPeer(app("web", IN_DEFAULT)))
    world.resolver.put(policy(EndpointPeer(app("db")), subject=app("db")), 1)
    world.resolver.resolve()
    world.add(303, "k8s:app=cache", f"k8s:{NAMESPACE_KEY}=default")
    assert world.resolver.resolve() == {}


def test_a_reserved_selector_means_the_reserved_identity(world: World) -> None:
    host = Selector((Requirement("reserved", "host", Op.EXISTS),))
    assert world.put(EndpointPeer(host)) == ResolvedPeers(identities=frozenset({1}))
    world_ = Selector((Requirement("reserved", "world", Op.EXISTS),))
    assert world.put(EndpointPeer(world_)) == ResolvedPeers(False, frozenset({2}), (), True, True)


def test_subjects_are_workloads_only(world: World) -> None:
    world.resolver.put(policy(subject=Selector()), 1)
    item = world.resolver.resolve()[REF]
    assert item is not None and item.specs[0].subjects == {300, 301, 302}


def test_peers_of_one_rule_are_united(world: World) -> None:
    cidr = CidrPeer(ip_network("192.0.2.0/24"))
    peers = world.put(EndpointPeer(app("db")), EntityPeer("host"), cidr, EntityPeer("world-ipv6"))
    assert peers == ResolvedPeers(False, frozenset({301, 1}), (cidr,), False, True)


def test_a_cidr_of_cilium_means_no_pod_and_an_ip_block_those_inside_and_not_excepted(world: World) -> None:
    block = (ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))
    world.add(303, "k8s:app=a", "cidr:10.0.0.0/8")
    world.add(304, "k8s:app=b", "cidr:10.0.0.0/8", "cidr:10.1.0.0/16")
    assert world.put(CidrPeer(*block)).identities == frozenset()
    with_pods = CidrPeer(*block, includes_pods=True)
    assert world.put(with_pods) == ResolvedPeers(identities=frozenset({303}), cidrs=(with_pods,))
    assert world.resolver.prefixes() == {block[0], *block[1]}


def test_a_cidr_group_means_what_it_holds_now(world: World) -> None:
    inside, outside = ip_network("192.0.2.128/25"), ip_network("2001:db8::/64")
    peer = CidrGroupPeer(name="partners", excepts=(inside, outside))
    assert world.put(peer) == ResolvedPeers(), "no such group: nobody"
    world.catalog.groups["partners"] = CidrGroup("partners", cidrs=("192.0.2.0/24", "198.51.100.7/32"))
    world.resolver.groups_changed()
    assert world.again().cidrs == (
        CidrPeer(ip_network("192.0.2.0/24"), (inside,)),
        CidrPeer(ip_network("198.51.100.7/32")),
    )


def test_cidr_groups_are_found_by_their_labels(world: World) -> None:
    for name, zone in (("a", "eu"), ("b", "us"), ("c", "eu")):
        world.catalog.groups[name] = CidrGroup(name, {"zone": zone}, (f"192.0.2.{ord(name)}/32",))
    chosen = world.put(CidrGroupPeer(selector=Selector((equals("zone", "eu"),))))
    assert [str(peer.cidr) for peer in chosen.cidrs] == ["192.0.2.97/32", "192.0.2.99/32"]


def put_service(world: World, service: Service) -> None:
    world.resolver.service_changed(world.catalog.put_service(service), service)


def test_a_service_with_a_selector_means_the_pods_it_selects_in_its_namespace(world: World) -> None:
    peer = ServicePeer("default", "web")
    assert world.put(peer) == ResolvedPeers(), "no such service: nobody"
    put_service(world, Service("default", "web", selector={"app": "web"}))
    assert world.again() == ResolvedPeers(identities=frozenset({300}))
    put_service(world, Service("default", "web", selector={"app": "db"}))
    assert world.again().identities == {301}
    world.resolver.service_changed(world.catalog.remove_service("default/web"), None)
    assert world.again() == ResolvedPeers()
    assert world.index.mentioned == {}, "the selectors of services that are gone are let go"


def test_a_service_without_a_selector_means_the_addresses_of_its_slices(world: World) -> None:
    put_service(world, Service("default", "legacy"))
    endpoints = (SliceEndpoint(("192.0.2.9",)), SliceEndpoint(("192.0.2.10",), ready=False))
    world.catalog.put_slice(EndpointSlice("default", "legacy-1", "legacy", endpoints=endpoints))
    peers = world.put(ServicePeer("default", "legacy"))
    assert [str(peer.cidr) for peer in peers.cidrs] == ["192.0.2.9/32", "192.0.2.10/32"]
    assert not peers.identities and not any(peer.includes_pods for peer in peers.cidrs)


def test_the_api_server_is_meant_by_its_service_too(world: World) -> None:
    put_service(world, Service("default", "kubernetes"))
    assert world.put(ServicePeer("default", "kubernetes")).identities == {identity.KUBE_APISERVER}


def test_the_entity_of_the_api_server_goes_with_its_endpoints(world: World) -> None:
    world.put(EntityPeer("kube-apiserver"))
    outside = EndpointSlice("default", "k", "kubernetes", endpoints=(SliceEndpoint(("198.51.100.7",)),))
    world.catalog.put_slice(outside)
    assert [str(peer.cidr) for peer in world.again().cidrs] == ["198.51.100.7/32"]
    world.catalog.nodes["n1"] = Node("n1", ("172.30.0.1",))
    world.catalog.put_slice(replace(outside, endpoints=(SliceEndpoint(("172.30.0.1",)),)))
    assert world.again().identities == {identity.KUBE_APISERVER, identity.HOST}, "every node serves it"
    world.catalog.nodes["n2"] = Node("n2", ("172.30.0.2",))
    assert world.again().identities == {identity.KUBE_APISERVER}
    world.catalog.remove_slice("default/k")
    assert world.again() == ResolvedPeers(identities=frozenset({identity.KUBE_APISERVER}))


def test_a_service_named_without_a_namespace_is_meant_in_every_namespace(world: World) -> None:
    for namespace in ("default", "other"):
        put_service(world, Service(namespace, "s", selector={"app": "web"}))
    assert world.put(ServicePeer("", "s")).identities == {300, 302}


def test_services_are_found_by_their_labels_in_one_namespace_or_in_all(world: World) -> None:
    for namespace in ("default", "other"):
        put_service(world, Service(namespace, "s", {"tier": "front"}, selector={"app": "web"}))
    front = Selector((Requirement(ANY_SOURCE, "tier", Op.IN, ("front",)),))
    assert world.put(ServicePeer("other", selector=front)).identities == {302}
    assert world.put(ServicePeer("", selector=front)).identities == {300, 302}
    put_service(world, Service("other", "s", {"tier": "back"}, selector={"app": "web"}))
    assert world.again().identities == {300}


def test_replacing_and_removing_policies_lets_go_of_what_they_named(world: World) -> None:
    world.put(EndpointPeer(app("web")), CidrPeer(ip_network("10.0.0.0/8"), includes_pods=True))
    world.put(EndpointPeer(app("db")))
    assert world.resolver.prefixes() == set()
    world.resolver.remove(REF)
    assert world.resolver.resolve() == {REF: None}
    assert world.index.mentioned == {}
    world.resolver.remove(REF)
    assert world.resolver.resolve() == {}


# the index against asking every identity

keys = st.sampled_from(["app", "env", "tier"])
values = st.sampled_from(["a", "b", "c"])
sources = st.sampled_from(["k8s", "any", "reserved"])
requirements = st.builds(Requirement, sources, keys, st.sampled_from([Op.EXISTS, Op.DOES_NOT_EXIST])) | st.builds(
    Requirement, sources, keys, st.sampled_from([Op.IN, Op.NOT_IN]), st.lists(values, max_size=2).map(tuple)
)
selectors = st.builds(Selector, st.lists(requirements, max_size=3).map(tuple))
some_labels = st.builds(
    Labels, st.lists(st.builds(Label, st.sampled_from(["k8s", "reserved"]), keys, values), max_size=4)
)
steps = st.one_of(
    st.tuples(st.just("add"), st.integers(300, 305), some_labels),
    st.tuples(st.just("remove"), st.integers(300, 305), st.none()),
    st.tuples(st.just("acquire"), st.integers(0, 0), selectors),
    st.tuples(st.just("release"), st.integers(0, 9), st.none()),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_selection_is_always_what_asking_every_identity_would_give(script: list) -> None:
    index, held, present = Index(), [], {}
    for what, number, thing in script:
        before = {id(s): set(s.ids) for s in held}
        changed: list = []
        if what == "add" and number not in present:
            present[number] = thing
            changed = index.add(number, thing)
        elif what == "remove" and number in present:
            del present[number]
            changed = index.remove(number)
        elif what == "acquire":
            held.append(index.acquire(thing))
        elif what == "release" and number < len(held):
            index.release(held.pop(number))
        for selection in held:
            expected = {n for n, labels in present.items() if selection.selector.matches(labels)}
            assert selection.ids == selection.frozen == expected
            if before.get(id(selection), expected) != expected:
                assert selection in changed, "a change that nobody is told of"
