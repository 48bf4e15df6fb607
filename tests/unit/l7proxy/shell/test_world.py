"""The world: whom an address means, which host, and that permits say what `weft policy verdict` says."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from weft.l7proxy.world import SnapshotWorld
from weft.policies import delta, identity
from weft.policies.labels import Label, Labels
from weft.policies.mesh.model import Dialect, HostRouting, Route
from weft.policies.model import (
    L7,
    Action,
    CidrPeer,
    Direction,
    HttpRule,
    ObjectRef,
    Origin,
    PortSpec,
    Protocol,
)
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
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
from weft.policies.verdict import Judge
from weft.policies.world import World

PODS = {"web": (300, "node-1"), "api": (301, "node-1"), "far": (302, "node-2"), "db": (303, "node-2")}
IPS = {name: f"10.0.0.{index}" for index, name in enumerate(PODS, 1)}
OUTSIDE = ("198.51.100.7", "203.0.113.9", "2001:db8::1")


def labels(name: str) -> Labels:
    return Labels([Label("k8s", "app", name), Label("k8s", "io.cilium.k8s.policy.serviceaccount", f"{name}-sa")])


def rule(
    name: str,
    direction: Direction,
    peers: ResolvedPeers,
    *ports: PortSpec,
    action: Action = Action.ALLOW,
    l7: L7 | None = None,
) -> ResolvedRule:
    origin = Origin(ObjectRef("CiliumNetworkPolicy", "default", name), f"spec.{direction.name.lower()}[0]")
    return ResolvedRule(origin, direction, action, peers, ports or None, l7)


def policy(name: str, subject: int, *rules: ResolvedRule) -> PolicyItem:
    directions = {each.direction for each in rules}
    spec = ResolvedSpec(
        frozenset({subject}), Direction.INGRESS in directions, Direction.EGRESS in directions, tuple(rules)
    )
    return PolicyItem(ObjectRef("CiliumNetworkPolicy", "default", name), 1, (), (spec,))


def only(*numbers: int) -> ResolvedPeers:
    return ResolvedPeers(identities=frozenset(numbers))


TCP80 = PortSpec(Protocol.TCP, 80, 80)
HTTP = L7((HttpRule("/api/.*"),))
BLOCK = ResolvedPeers(cidrs=(CidrPeer(ip_network("198.51.100.0/24"), (ip_network("198.51.100.128/25"),)),))

POLICIES = [
    policy("api", 301, rule("api", Direction.INGRESS, only(300), TCP80, l7=HTTP)),
    policy("far", 302, rule("far", Direction.INGRESS, only(300), TCP80, l7=HTTP)),
    policy(
        "db",
        303,
        rule("db", Direction.INGRESS, only(301, identity.REMOTE_NODE), PortSpec(Protocol.TCP, name="sql")),
    ),
    policy("web", 300, rule("web", Direction.EGRESS, only(301, 302)), rule("web", Direction.EGRESS, BLOCK, TCP80)),
    policy("no", 301, rule("no", Direction.INGRESS, only(302), action=Action.DENY)),
]


def cluster(*policies: PolicyItem) -> ClusterPart:
    sql = (NamedPort("sql", Protocol.TCP, 5432),)
    addresses = {
        ip: AddressItem(ip, PODS[n][0], PODS[n][1], f"default/{n}", sql if n == "db" else (), "Deployment", n)
        for n, ip in IPS.items()
    }
    for node, ip in (("node-1", "172.30.0.1"), ("node-2", "172.30.0.2")):
        addresses[ip] = AddressItem(ip, identity.REMOTE_NODE, node)
    nodes = {n: NodeItem(n, (f"172.30.0.{n[-1]}",), (), f"r/{n}/") for n in ("node-1", "node-2")}
    identities = {number: IdentityItem(number, labels(name)) for name, (number, _) in PODS.items()}
    return ClusterPart(identities, addresses, nodes, {}, {item.ref: item for item in policies})


class Fed:
    """A world that is told parts one after the other, as differences."""

    def __init__(self, part: ClusterPart) -> None:
        self.world = SnapshotWorld()
        self.world.place("node-1", ["172.30.0.1"])
        self.part = part
        self.world.update(delta.full_update(Snapshot(1, "node-1", part, NodePart()), "e"))

    def becomes(self, part: ClusterPart) -> frozenset[str]:
        change = delta.between(self.part, part)
        self.part = part
        update = delta.Update(self.world.revision + 1, "e", False, change, delta.NodeDelta())
        return self.world.update(update).hosts


def agrees(world: SnapshotWorld, part: ClusterPart) -> None:
    """For every pair that this proxy can meet, and both ports."""
    judge = Judge(World(part))
    for source in (*IPS.values(), *OUTSIDE):
        for to in (*IPS.values(), *OUTSIDE):
            client, server = world.workload(source), world.workload(to)
            met = (client.namespace and client.local) or (server.namespace and server.local)
            if (":" in source) != (":" in to) or not met or client.identity == identity.HOST:
                continue
            for port in (80, 5432):
                wanted = judge.judge(source, to, Protocol.TCP, port)
                egress = wanted.egress if client.local else None
                sides = [side for side in (egress, wanted.ingress) if side is not None]
                permit = world.permit(client, server, port)
                assert permit.allowed == all(side.allowed for side in sides), (source, to, port)
                assert permit.egress == (egress.limits if egress else None)
                assert permit.ingress == (wanted.ingress.limits if wanted.ingress and server.local else None)


def test_permits_say_what_policy_verdict_says_also_after_changes() -> None:
    fed = Fed(cluster())
    for count in range(len(POLICIES) + 1):
        fed.becomes(cluster(*POLICIES[:count]))
        agrees(fed.world, fed.part)
    for first in range(1, len(POLICIES) + 1):
        fed.becomes(cluster(*POLICIES[first:]))
        agrees(fed.world, fed.part)


def test_a_permit_says_who_decided_and_which_proxy_judges_requests() -> None:
    world = Fed(cluster(*POLICIES)).world
    web, api, far, db = (world.workload(IPS[name]) for name in PODS)
    here = world.permit(web, api, 80)
    assert here.allowed and here.ingress is not None and here.reports_destination
    assert here.allowed_by == ("CiliumNetworkPolicy default/web", "CiliumNetworkPolicy default/api")
    there = world.permit(web, far, 80)
    assert there.allowed and there.ingress is None, "the other node's proxy judges it"
    assert not there.reports_destination
    assert world.permit(far, api, 80).denied_by == ("CiliumNetworkPolicy default/no",)
    assert "default deny by CiliumNetworkPolicy default/db" in world.permit(api, db, 80).reason
    assert world.permit(api, db, 5432).allowed, "a port by name"


def test_who_has_an_address() -> None:
    world = Fed(cluster(*POLICIES)).world
    web = world.workload(IPS["web"])
    assert (web.namespace, web.pod, web.name, web.kind) == ("default", "web", "web", "Deployment")
    assert (dict(web.labels), web.service_account) == ({"app": "web"}, "web-sa")
    assert (web.local, web.locality) == (True, "r/node-1/")
    assert not world.workload(IPS["far"]).local
    assert world.workload("172.30.0.1").identity == identity.HOST
    assert world.workload("172.30.0.2").identity == identity.REMOTE_NODE
    assert identity.is_local(world.workload("198.51.100.7").identity)
    assert world.workload("203.0.113.9").identity == identity.WORLD_IPV4
    assert world.workload(IPS["web"]) is web, "the same object until something changes"


def test_an_address_that_gets_another_workload_is_that_from_then_on() -> None:
    fed = Fed(cluster())
    assert fed.world.workload("10.0.0.9").identity == identity.WORLD_IPV4
    part = cluster()
    item = AddressItem("10.0.0.9", 301, "node-2", "default/api-2")
    fed.becomes(replace(part, addresses={**part.addresses, "10.0.0.9": item}))
    assert fed.world.workload("10.0.0.9").pod == "api-2"


# hosts


def service(name: str, ip: str, *backends: str, ports: tuple[int, ...] = (80,)) -> ServiceItem:
    items = tuple(BackendItem(each, 8080) for each in backends)
    made = tuple(ServicePortItem(f"p{port}", Protocol.TCP, port, 0, "", items) for port in ports)
    return ServiceItem("default", name, "ClusterIP", (ip,), made)


def routed(name: str) -> HostRouting:
    host = f"{name}.default.svc.cluster.local"
    return HostRouting(
        host, f"default/{name}", (Route(ObjectRef("HTTPRoute", "default", name), Dialect.GATEWAY, (host,)),)
    )


def with_services(*services: ServiceItem, routes: tuple[str, ...] = ()) -> ClusterPart:
    routing = {item.host: item for item in map(routed, routes)}
    return replace(cluster(), services={item.key: item for item in services}, routing=routing)


@pytest.mark.parametrize(
    ("destination", "authority", "wanted"),
    [
        (("10.96.0.1", 80), b"", ("a", 80)),
        (("10.96.0.1", 81), b"", ("", 0)),
        (("10.96.0.9", 80), b"", ("", 0)),
        ((IPS["web"], 8080), b"", ("a", 80)),
        ((IPS["web"], 8080), b"b", ("b", 80)),
        ((IPS["web"], 8080), b"B.default:90", ("b", 90)),
        ((IPS["web"], 8080), b"elsewhere.example", ("a", 80)),
        ((IPS["api"], 8080), b"c", ("", 0)),
        ((IPS["web"], 8080), b"plain", ("", 0)),
        ((IPS["web"], 8080), b"web-0.plain.default.svc.cluster.local:8080", ("", 0)),
        ((IPS["web"], 8080), b"web-0.plain", ("", 0)),
        ((IPS["web"], 8080), b"plain.default", ("", 0)),
        ((IPS["web"], 8080), b"plain.other", ("a", 80)),
        ((IPS["web"], 8080), b"c", ("a", 80)),
        (("10.96.0.1", 80), b"plain", ("a", 80)),
        (("10.96.0.4", 80), b"a", ("plain", 80)),
    ],
    ids=str,
)
def test_which_host_an_address_means(
    destination: tuple[str, int], authority: bytes, wanted: tuple[str, int]
) -> None:
    services = (
        service("a", "10.96.0.1", IPS["web"]),
        service("b", "10.96.0.2", IPS["web"], ports=(80, 90)),
        service("c", "10.96.0.3", IPS["api"]),
        service("plain", "10.96.0.4", IPS["web"]),
    )
    world = Fed(with_services(*services, routes=("a", "b"))).world
    host, port = world.addressed(destination, authority)
    assert (host.partition(".")[0], port) == wanted


def test_a_change_names_the_hosts_that_it_touches_and_no_other() -> None:
    a, b = service("a", "10.96.0.1", IPS["web"]), service("b", "10.96.0.2", IPS["api"])
    fed = Fed(with_services(a, b))
    assert fed.becomes(with_services(a, service("b", "10.96.0.3", IPS["api"]))) == {b.host}
    assert fed.world.addressed(("10.96.0.2", 80)) == ("", 0)
    assert fed.becomes(with_services(a, b, routes=("a",))) == {a.host, b.host}
    part = with_services(a, b, routes=("a",))
    moved = replace(part.addresses[IPS["web"]], identity=301)
    assert fed.becomes(replace(part, addresses={**part.addresses, IPS["web"]: moved})) == {a.host}
    assert fed.becomes(with_services(b)) == {a.host}


def test_a_policy_with_a_pattern_that_nobody_can_match_leaves_the_last_good() -> None:
    bad = policy("api", 301, rule("api", Direction.INGRESS, only(300), TCP80, l7=L7((HttpRule("("),))))
    fed = Fed(cluster(POLICIES[0]))
    fed.becomes(cluster(bad))
    assert "policy CiliumNetworkPolicy default/api" in fed.world.refusals.all()
    web, api = fed.world.workload(IPS["web"]), fed.world.workload(IPS["api"])
    held = fed.world.permit(web, api, 80).ingress
    assert held is not None and held.rules[0][1].path == "/api/.*"
    fed.becomes(cluster())
    assert not fed.world.refusals.all()
    assert fed.world.permit(web, api, 80).allowed
