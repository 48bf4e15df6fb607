"""Tables entry by entry for policies small enough to know the answer by heart, and the Compiler's bookkeeping."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from weft.policies import compile as compiler
from weft.policies.cidr import CidrIdentities
from weft.policies.compile import Changes, Compiler, TableOverflow
from weft.policies.cookies import Cookies
from weft.policies.identity import DNS, HOST, WORLD_IPV4, WORLD_IPV6
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
    Tier,
)
from weft.policies.snapshot import (
    AddressItem,
    ClusterPart,
    EndpointItem,
    NamedPort,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
)
from weft.policies.table import Key, MatchType, Table, Verdict

S, FOO, BAR = 300, 301, 302
ANYBODY = ResolvedPeers(any=True)
TEN, TEN_ONE = ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")
HTTP = L7((HttpRule(method="GET"),))
WEB = NamedPort("web", Protocol.TCP, 8080)


def only(*identities: int) -> ResolvedPeers:
    return ResolvedPeers(identities=frozenset(identities))


def tcp(port: int, end: int = 0) -> tuple[PortSpec, ...]:
    return (PortSpec(Protocol.TCP, port, end or port),)


def allow(peers: ResolvedPeers, ports: tuple[PortSpec, ...] | None = None, **more: object) -> ResolvedRule:
    rule = ResolvedRule(Origin(REF, "spec.ingress[0]"), Direction.INGRESS, Action.ALLOW, peers, ports)
    return replace(rule, **more)  # type: ignore[arg-type]


def deny(peers: ResolvedPeers, ports: tuple[PortSpec, ...] | None = None, **more: object) -> ResolvedRule:
    return allow(peers, ports, **{"action": Action.DENY, "origin": Origin(REF, "spec.ingressDeny[0]"), **more})


def egress(rule: ResolvedRule) -> ResolvedRule:
    return replace(rule, direction=Direction.EGRESS)


REF = ObjectRef("CiliumNetworkPolicy", "default", "p")


def policy(
    *rules: ResolvedRule, enforced: bool = True, subjects: tuple[int, ...] = (S,), ref: ObjectRef = REF
) -> PolicyItem:
    directions = {rule.direction for rule in rules} or {Direction.INGRESS}
    spec = ResolvedSpec(
        frozenset(subjects),
        enforced and Direction.INGRESS in directions,
        enforced and Direction.EGRESS in directions,
        tuple(replace(rule, origin=Origin(ref, rule.origin.path)) for rule in rules),
    )
    return PolicyItem(ref, 1, (), (spec,))


def endpoint(name: str, identity: int, *ports: NamedPort) -> EndpointItem:
    return EndpointItem("default", name, (), identity, ports)


ENDPOINT = endpoint("s", S)


class Node:
    """A node that is told about policies, and its tables."""

    def __init__(self, *endpoints: EndpointItem) -> None:
        self.endpoints = {one.key: one for one in endpoints or (ENDPOINT,)}
        self.cidrs = CidrIdentities()
        self.compiler = Compiler(self.cidrs, Cookies())
        self.part = ClusterPart()

    def put(self, *items: PolicyItem, gone: tuple[ObjectRef, ...] = ()) -> frozenset[str]:
        policies = {ref: item for ref, item in self.part.policies.items() if ref not in gone}
        policies.update({item.ref: item for item in items})
        self.part = replace(self.part, policies=policies)
        refs = frozenset({item.ref for item in items}.union(gone))
        return self.compiler.update(self.part, self.endpoints, Changes(policies=refs))

    def give(self, *addresses: AddressItem) -> frozenset[str]:
        known = {**self.part.addresses, **{item.ip: item for item in addresses}}
        self.part = replace(self.part, addresses=known)
        changes = Changes(addresses=frozenset(item.ip for item in addresses))
        return self.compiler.update(self.part, self.endpoints, changes)

    def table(self, name: str = "s") -> Table:
        return self.compiler.table(self.endpoints[f"default/{name}"])


def rows(table: Table) -> dict[tuple[int, ...], str]:
    """(identity, protocol, port, bits) -> verdict and match, of whichever direction there is."""
    return {
        (key.identity, key.protocol, key.port, key.port_bits): (
            f"{value.verdict.name} {value.match.name}{' BYPASS' if value.bypass else ''}"
        )
        for key, value in table.entries.items()
    }


def compiled(
    *rules: ResolvedRule, enforced: bool = True, ports: tuple[NamedPort, ...] = ()
) -> dict[tuple[int, ...], str]:
    node = Node(endpoint("s", S, *ports))
    node.put(policy(*rules, enforced=enforced))
    return rows(node.table())


HOST_ROW = {(HOST, 0, 0, 0): "ALLOW L3_ONLY"}
DNS_ROWS = {(DNS, 6, 53, 16): "ALLOW L3_L4", (DNS, 17, 53, 16): "ALLOW L3_L4"}

TABLES = [
    ("an empty rule leaves the node's own traffic alone", [], HOST_ROW),
    ("a peer on a port", [allow(only(FOO), tcp(80))], {(FOO, 6, 80, 16): "ALLOW L3_L4", **HOST_ROW}),
    ("a peer on everything", [allow(only(FOO))], {(FOO, 0, 0, 0): "ALLOW L3_ONLY", **HOST_ROW}),
    (
        "a port for everybody is one entry and the node's own is another's rule",
        [allow(ANYBODY, tcp(80))],
        {(0, 6, 80, 16): "ALLOW L4_ONLY", (HOST, 6, 80, 16): "ALLOW L4_ONLY", **HOST_ROW},
    ),
    ("nobody", [allow(only())], HOST_ROW),
    (
        "a protocol's every port",
        [allow(only(FOO), (PortSpec(Protocol.UDP),))],
        {(FOO, 17, 0, 0): "ALLOW L3_PROTO", **HOST_ROW},
    ),
    (
        "any protocol with a port is three",
        [allow(only(FOO), (PortSpec(Protocol.ANY, 53, 53),))],
        {
            (FOO, 6, 53, 16): "ALLOW L3_L4",
            (FOO, 17, 53, 16): "ALLOW L3_L4",
            (FOO, 132, 53, 16): "ALLOW L3_L4",
            **HOST_ROW,
        },
    ),
    (
        "a range is prefixes",
        [allow(only(FOO), tcp(80, 88))],
        {(FOO, 6, 80, 13): "ALLOW L3_L4", (FOO, 6, 88, 16): "ALLOW L3_L4", **HOST_ROW},
    ),
    (
        "a type of ICMP, zero too, is one entry",
        [allow(only(FOO), (PortSpec(Protocol.ICMP, 0, 0),))],
        {(FOO, 1, 0, 16): "ALLOW L3_L4", **HOST_ROW},
    ),
    (
        "a deny for all wins over a peer's allow and leaves its other ports",
        [allow(only(FOO)), deny(ANYBODY, tcp(80))],
        {
            (0, 6, 80, 16): "DENY L4_ONLY",
            (FOO, 0, 0, 0): "ALLOW L3_ONLY",
            (FOO, 6, 80, 16): "DENY L4_ONLY",
            **HOST_ROW,
            (HOST, 6, 80, 16): "DENY L4_ONLY",
        },
    ),
    (
        "a peer's deny swallows the port that everybody has",
        [allow(ANYBODY, tcp(80)), deny(only(FOO))],
        {
            (0, 6, 80, 16): "ALLOW L4_ONLY",
            (FOO, 0, 0, 0): "DENY L3_ONLY",
            **HOST_ROW,
            (HOST, 6, 80, 16): "ALLOW L4_ONLY",
        },
    ),
    (
        "an L7 rule goes to the proxy, the node passes without one",
        [allow(ANYBODY, tcp(80), l7=HTTP)],
        {(0, 6, 80, 16): "REDIRECT L4_ONLY", (HOST, 6, 80, 16): "REDIRECT L4_ONLY BYPASS", **HOST_ROW},
    ),
    (
        "an L7 rule beats a plain allow of the same port",
        [allow(only(FOO), tcp(80)), allow(only(FOO), tcp(80), l7=HTTP, origin=Origin(REF, "spec.ingress[1]"))],
        {(FOO, 6, 80, 16): "REDIRECT L3_L4", **HOST_ROW},
    ),
    (
        "a pass hands on to the next tier",
        [
            allow(only(FOO), action=Action.PASS, tier=Tier.ADMIN, priority=1),
            deny(ANYBODY, tier=Tier.ADMIN, priority=2),
            allow(only(FOO), tcp(80)),
        ],
        {
            (0, 0, 0, 0): "DENY ALL",
            (FOO, 0, 0, 0): "DENY NONE",
            (FOO, 6, 80, 16): "ALLOW L3_L4",
        },
    ),
    (
        "a higher tier's allow beats a lower one's deny",
        [allow(only(FOO), tier=Tier.ADMIN), deny(ANYBODY)],
        {(0, 0, 0, 0): "DENY ALL", (FOO, 0, 0, 0): "ALLOW L3_ONLY"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "wanted"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_table_holds_exactly(rules: list[ResolvedRule], wanted: dict[tuple[int, ...], str]) -> None:
    assert compiled(*rules) == wanted


def test_without_default_deny_only_denies_take_room() -> None:
    assert compiled(deny(only(FOO), tcp(80)), enforced=False) == {(FOO, 6, 80, 16): "DENY L3_L4"}


def test_egress_reaches_the_nodes_dns_unless_denied() -> None:
    assert compiled(egress(allow(only(FOO)))) == {(FOO, 0, 0, 0): "ALLOW L3_ONLY", **DNS_ROWS}
    assert compiled(egress(deny(ANYBODY))) == {(0, 0, 0, 0): "DENY ALL"}


def test_named_port_of_ingress_is_the_subjects() -> None:
    named = (PortSpec(Protocol.TCP, name="web"),)
    assert compiled(allow(only(FOO), named), ports=(WEB,)) == {(FOO, 6, 8080, 16): "ALLOW L3_L4", **HOST_ROW}
    assert compiled(allow(only(FOO), named)) == HOST_ROW, "undefined: nothing is allowed"
    udp = (PortSpec(Protocol.UDP, name="web"),)
    assert compiled(allow(only(FOO), udp), ports=(WEB,)) == HOST_ROW, "defined for another protocol"


def test_named_port_of_egress_is_each_peers() -> None:
    node = Node()
    node.give(
        AddressItem("10.9.0.1", FOO, "n", "default/foo", (WEB,)),
        AddressItem("10.9.0.2", BAR, "n", "default/bar", (replace(WEB, port=81),)),
    )
    node.put(policy(egress(allow(ANYBODY, (PortSpec(Protocol.TCP, name="web"),)))))
    assert rows(node.table()) == {
        (FOO, 6, 8080, 16): "ALLOW L4_ONLY",
        (BAR, 6, 81, 16): "ALLOW L4_ONLY",
        **DNS_ROWS,
    }


def test_cidr_with_an_exception_and_the_world() -> None:
    node = Node()
    node.put(
        policy(allow(ResolvedPeers(cidrs=(CidrPeer(TEN, (TEN_ONE,)),)))),
        policy(allow(ResolvedPeers(world_ipv4=True), tcp(80)), ref=replace(REF, name="w")),
    )
    ten, ten_one = node.cidrs.number(TEN), node.cidrs.number(TEN_ONE)
    assert rows(node.table()) == {
        (ten, 0, 0, 0): "ALLOW L3_ONLY",
        (ten, 6, 80, 16): "ALLOW L3_L4",
        (ten_one, 6, 80, 16): "ALLOW L3_L4",
        (WORLD_IPV4, 6, 80, 16): "ALLOW L3_L4",
        **HOST_ROW,
    }
    assert not any(key.identity == WORLD_IPV6 for key in node.table().entries)


def test_rules_that_decide_a_cell_are_all_named() -> None:
    node = Node()
    node.put(
        policy(allow(only(FOO), tcp(80))),
        policy(allow(ANYBODY, tcp(80)), ref=replace(REF, name="q")),
        policy(allow(only(FOO)), ref=replace(REF, name="r")),
    )
    table = node.table()
    value = table.entries[Key(Direction.INGRESS, FOO, 6, 80, 16)]
    assert [origin.ref.name for origin in table.rule_sets[value.cookie]] == ["p", "q", "r"]
    assert value.match is MatchType.L3_L4


def test_endpoints_with_equal_policy_share_the_table() -> None:
    node = Node(endpoint("s", S, WEB), endpoint("s2", S), endpoint("t", BAR), endpoint("u", FOO, WEB))
    node.put(policy(allow(only(FOO), tcp(80)), subjects=(S, BAR)))
    assert node.table("s") is node.table("s2") is node.table("t")
    assert not node.table("u").entries


def test_only_what_a_change_touches_is_compiled_anew() -> None:
    node = Node(endpoint("s", S), endpoint("t", BAR))
    node.put(policy(allow(only(FOO), tcp(80))))
    other = replace(REF, name="other")
    before = node.table("s")
    assert node.put(policy(allow(only(FOO), tcp(80)), subjects=(BAR,), ref=other)) == {"default/t"}
    assert node.table("s") is before
    assert node.put(gone=(other,)) == {"default/t"}
    assert not node.table("t").entries


def test_a_policy_saved_unchanged_touches_nothing() -> None:
    node = Node()
    node.put(policy(allow(only(FOO), tcp(80))))
    assert node.put(policy(allow(only(FOO), tcp(80)))) == frozenset()


def test_a_new_subject_gets_a_table_and_the_others_keep_theirs() -> None:
    node = Node(endpoint("s", S), endpoint("t", BAR))
    node.put(policy(allow(only(FOO), tcp(80))))
    before = node.table("s")
    assert node.put(policy(allow(only(FOO), tcp(80)), subjects=(S, BAR))) == {"default/t"}
    assert node.table("t") is before


def test_a_new_prefix_inside_a_policys_cidr_touches_that_policy() -> None:
    node = Node(endpoint("s", S), endpoint("t", BAR))
    node.put(policy(allow(ResolvedPeers(cidrs=(CidrPeer(TEN),)))))
    node.table("s")
    other = policy(
        allow(ResolvedPeers(cidrs=(CidrPeer(TEN_ONE),))), subjects=(BAR,), ref=replace(REF, name="other")
    )
    assert node.put(other) == {"default/s", "default/t"}
    assert (node.cidrs.number(TEN_ONE), 0, 0, 0) in rows(node.table("s"))


def test_a_new_prefix_elsewhere_does_not() -> None:
    node = Node(endpoint("s", S), endpoint("t", BAR))
    node.put(policy(allow(ResolvedPeers(cidrs=(CidrPeer(TEN),)))))
    far = CidrPeer(ip_network("192.0.2.0/24"))
    other = policy(allow(ResolvedPeers(cidrs=(far,))), subjects=(BAR,), ref=replace(REF, name="other"))
    assert node.put(other) == {"default/t"}


def test_a_peers_new_port_touches_those_who_ask_for_its_name() -> None:
    node = Node(endpoint("s", S), endpoint("t", BAR))
    node.put(
        policy(egress(allow(only(FOO), (PortSpec(Protocol.TCP, name="web"),)))),
        policy(egress(allow(only(FOO), tcp(80))), subjects=(BAR,), ref=replace(REF, name="other")),
    )
    node.table("s")
    assert node.give(AddressItem("10.9.0.1", FOO, "n", "default/foo", (WEB,))) == {"default/s"}
    assert (FOO, 6, 8080, 16) in rows(node.table("s"))
    assert node.give(AddressItem("10.9.0.1", FOO, "n", "default/foo")) == {"default/s"}
    assert (FOO, 6, 8080, 16) not in rows(node.table("s"))


def test_a_table_that_cannot_fit_is_refused() -> None:
    node = Node()
    node.put(policy(allow(only(*range(1000, 1000 + compiler.MAX_ENTRIES + 1)), tcp(80))))
    with pytest.raises(TableOverflow) as refused:
        node.table()
    assert refused.value.entries == compiler.MAX_ENTRIES + 2


def test_before_it_is_refused_it_stops_telling_rules_apart() -> None:
    """9,000 peers may do everything, all may do 80: to tell which rule allows 80 would take 18,000 entries."""
    many = only(*range(1000, 10_000))
    node = Node()
    node.put(policy(allow(many)), policy(allow(ANYBODY, tcp(80)), ref=replace(REF, name="q")))
    table = node.table()
    assert len(table.entries) == 9002
    assert all(value.verdict is Verdict.ALLOW for value in table.entries.values())
