"""Whoever the proxy cannot place: addresses that are ahead of the snapshot, and the node's own."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from weft.l7proxy.world import SnapshotWorld
from weft.policies import delta, identity
from weft.policies.model import L7, Action, CidrPeer, Direction, HttpRule, ObjectRef, Origin
from weft.policies.snapshot import (
    AddressItem,
    ClusterPart,
    NodePart,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    Snapshot,
)

OURS, WEB, FAR = "172.30.0.1", "10.0.0.1", "10.0.1.1"
REF = ObjectRef("CiliumNetworkPolicy", "default", "p")


def allowed(*methods: str, peers: ResolvedPeers) -> PolicyItem:
    """Ingress of WEB: these methods from these peers."""
    rules = tuple(HttpRule(method=method) for method in methods)
    rule = ResolvedRule(Origin(REF, "spec"), Direction.INGRESS, Action.ALLOW, peers, None, L7(http=rules))
    return PolicyItem(REF, 1, (), (ResolvedSpec(frozenset((300,)), True, False, (rule,)),))


def world(*policies: PolicyItem) -> SnapshotWorld:
    made = SnapshotWorld()
    made.place("node-1", [OURS])
    addresses = {
        WEB: AddressItem(WEB, 300, "node-1", "default/web"),
        FAR: AddressItem(FAR, 301, "node-2", "default/far"),
        OURS: AddressItem(OURS, identity.REMOTE_NODE, "node-1"),
    }
    part = ClusterPart({}, addresses, {}, {}, {item.ref: item for item in policies})
    made.update(delta.full_update(Snapshot(1, "node-1", part, NodePart()), "e"))
    return made


@pytest.mark.parametrize("client", ["10.0.0.99", "203.0.113.9", OURS, FAR])
@pytest.mark.parametrize("server", ["10.96.0.1", "203.0.113.10", FAR + "0", OURS])
def test_where_neither_end_is_a_workload_here_nobody_is_let_through(client: str, server: str) -> None:
    """A pod whose packets are ahead of its address would get anywhere, for no policy selects an unknown one."""
    if client != server:
        found = world()
        assert not found.permit(found.workload(client), found.workload(server), 80).allowed


def test_a_stranger_does_not_get_to_another_nodes_workload() -> None:
    """Its own egress is unknown here, and the other node would take us for it."""
    found = world()
    assert not found.permit(found.workload("10.0.0.99"), found.workload(FAR), 80).allowed
    assert found.permit(found.workload(WEB), found.workload(FAR), 80).allowed
    assert found.permit(found.workload("203.0.113.9"), found.workload(WEB), 80).allowed


def test_a_client_with_the_nodes_own_address_is_the_world_and_not_the_node() -> None:
    """What the node itself says never comes here; what has its address was masqueraded."""
    assert not world().workload(OURS).local, "what comes from outside goes where it was addressed"
    nobody = world(allowed("GET", peers=ResolvedPeers(identities=frozenset((301,)))))
    assert not nobody.permit(nobody.workload(OURS), nobody.workload(WEB), 80).allowed
    outside = world(allowed("GET", peers=ResolvedPeers(world_ipv4=True)))
    permit = outside.permit(outside.workload(OURS), outside.workload(WEB), 80)
    assert permit.allowed and permit.ingress is not None
    assert not permit.ingress.lifted, "limits hold for it as for anybody from outside"
    node = CidrPeer(ip_network("172.30.0.0/24"))
    named = world(allowed("GET", peers=ResolvedPeers(cidrs=(node,))))
    assert named.permit(named.workload(OURS), named.workload(WEB), 80).allowed
