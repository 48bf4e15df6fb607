"""Whatever an update holds, it arrives whole; and a difference, once applied, is the snapshot it was made of."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies import delta
from weft.policies.delta import ClusterDelta, NodeDelta, Update
from weft.policies.labels import Label, Labels
from weft.policies.model import (
    L7,
    Action,
    CidrPeer,
    Direction,
    HeaderMatch,
    HttpRule,
    ObjectRef,
    Origin,
    PortSpec,
    Protocol,
    Tier,
)
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
    EndpointItem,
    IdentityItem,
    NamedPort,
    NodeItem,
    NodePart,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
    Snapshot,
)
from weft.policies.wire.convert import decode_cluster, encode_cluster, from_update, to_update
from weft.policies.wire.pb import control_pb2 as pb

text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
names = st.text("abcxyz-.0", min_size=1, max_size=6)
ports = st.integers(0, 65535)
numbers = st.integers(1, 2**32 - 1)
refs = st.builds(ObjectRef, names, st.just("") | names, names)
addresses = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str)


def tuples(of: st.SearchStrategy, most: int = 3) -> st.SearchStrategy:
    return st.lists(of, max_size=most).map(tuple)


def network(address: object, bits: int) -> IPv4Network | IPv6Network:
    return ip_network(f"{address}/{bits}", strict=False)


networks = st.builds(network, st.ip_addresses(v=4), st.integers(0, 32)) | st.builds(
    network, st.ip_addresses(v=6), st.integers(0, 128)
)
labels = st.builds(
    Labels, st.lists(st.builds(Label, st.sampled_from(["k8s", "reserved", "cidr"]), names, text), max_size=4)
)
named_ports = tuples(st.builds(NamedPort, names, st.sampled_from(Protocol), ports))
headers = st.builds(HeaderMatch, names, st.none() | text, text, st.none() | st.tuples(text, text.filter(bool)))
l7s = st.builds(L7, tuples(st.builds(HttpRule, text, text, text, tuples(headers), text)))
port_specs = st.builds(PortSpec, st.sampled_from(Protocol), ports, ports, text)
cidrs = st.builds(CidrPeer, networks, tuples(networks), st.booleans())
peers = st.builds(
    ResolvedPeers,
    st.booleans(),
    st.frozensets(numbers, max_size=5),
    tuples(cidrs),
    st.booleans(),
    st.booleans(),
)


@st.composite
def policies(draw: st.DrawFn) -> PolicyItem:
    ref = draw(refs)
    rules = st.builds(
        ResolvedRule,
        st.builds(Origin, st.just(ref), text),
        st.sampled_from(Direction),
        st.sampled_from(Action),
        peers,
        st.none() | tuples(port_specs),
        st.none() | l7s,
        st.sampled_from(Tier),
        st.integers(-(2**31), 2**31 - 1),
    )
    specs = st.builds(ResolvedSpec, st.frozensets(numbers), st.booleans(), st.booleans(), tuples(rules), text)
    return PolicyItem(ref, draw(st.integers(0, 2**64 - 1)), draw(tuples(text)), draw(tuples(specs)))


services = st.builds(
    ServiceItem,
    names,
    names,
    names,
    tuples(addresses),
    tuples(
        st.builds(
            ServicePortItem,
            text,
            st.sampled_from(Protocol),
            ports,
            ports,
            text,
            tuples(st.builds(BackendItem, addresses, ports, text, text)),
        )
    ),
    st.booleans(),
)
endpoints = st.builds(EndpointItem, names, names, tuples(addresses), numbers, named_ports, text, text)


def keyed(items: st.SearchStrategy, key: str) -> st.SearchStrategy:
    return st.lists(items, max_size=3).map(lambda found: {getattr(item, key): item for item in found})


cluster_parts = st.builds(
    ClusterPart,
    keyed(st.builds(IdentityItem, numbers, labels), "id"),
    keyed(st.builds(AddressItem, addresses, numbers, text, text, named_ports, text, text), "ip"),
    keyed(st.builds(NodeItem, names, tuples(addresses), tuples(networks.map(str))), "name"),
    keyed(services, "key"),
    keyed(policies(), "ref"),
)
snapshots = st.builds(
    Snapshot,
    st.integers(1, 2**63),
    st.just("n"),
    cluster_parts,
    st.builds(NodePart, keyed(endpoints, "key")),
)


@given(snapshots)
@settings(max_examples=60, deadline=None)
def test_a_full_update_arrives_as_it_was_sent(snapshot: Snapshot) -> None:
    update = delta.full_update(snapshot, "epoch")
    assert from_update(pb.Update.FromString(to_update(update).SerializeToString())) == update
    assert delta.apply(None, update, "n") == snapshot


@given(snapshots, snapshots)
@settings(max_examples=40, deadline=None)
def test_the_difference_between_two_snapshots_turns_one_into_the_other(one: Snapshot, two: Snapshot) -> None:
    cluster = delta.between(one.cluster, two.cluster)
    own = delta.between_nodes(one.own, two.own)
    sent = Update(one.revision + 1, "epoch", False, cluster, own)
    received = from_update(pb.Update.FromString(to_update(sent, encode_cluster(cluster)).SerializeToString()))
    assert received == sent
    after = delta.apply(one, received, "n")
    assert (after.cluster, after.own) == (two.cluster, two.own)
    assert delta.apply_cluster(after.cluster, cluster) == two.cluster, "applying twice changes nothing"


@given(cluster_parts)
@settings(max_examples=25, deadline=None)
def test_equal_clusters_are_equal_bytes(part: ClusterPart) -> None:
    whole = delta.between(ClusterPart(), part)
    assert encode_cluster(whole) == encode_cluster(decode_cluster(encode_cluster(whole)))


def test_a_difference_to_another_revision_is_refused() -> None:
    update = Update(7, "epoch", False, ClusterDelta(), NodeDelta())
    held = Snapshot(5, "n", ClusterPart(), NodePart())
    with pytest.raises(delta.OutOfOrder, match="difference to 6, not to 5"):
        delta.apply(held, update, "n")
    with pytest.raises(delta.OutOfOrder):
        delta.apply(None, update, "n")


def test_a_difference_that_says_nothing_shares_everything_with_what_was_held() -> None:
    held = Snapshot(5, "n", ClusterPart(nodes={"n": NodeItem("n", ())}), NodePart())
    after = delta.apply(held, Update(6, "epoch", False, ClusterDelta(), NodeDelta()), "n")
    assert after.revision == 6
    assert after.cluster is held.cluster and after.own is held.own


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x2a\x05\x0a", b"\x00" * 9])
def test_bytes_that_are_no_cluster_part_are_an_error(data: bytes) -> None:
    with pytest.raises((DecodeError, ValueError)):
        decode_cluster(data)


def test_a_rule_of_another_object_cannot_hide_inside_a_policy() -> None:
    ref, other = ObjectRef("P", "a", "b"), ObjectRef("P", "a", "c")
    rule = ResolvedRule(Origin(other, "spec"), Direction.INGRESS, Action.ALLOW, ResolvedPeers())
    item = PolicyItem(ref, 1, (), (ResolvedSpec(frozenset(), True, False, (rule,)),))
    with pytest.raises(ValueError, match="cannot travel"):
        encode_cluster(ClusterDelta(policies={ref: item}))
