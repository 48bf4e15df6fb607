"""Invariant: however policies and addresses come and go, the incremental Compiler gives every endpoint the table
that compiling from scratch gives, and names every endpoint whose table changed.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import policy_strategies as strategies
from weft.policies.cidr import CidrIdentities
from weft.policies.compile import Changes, Compiler, compile_table
from weft.policies.cookies import Cookies
from weft.policies.model import Action, Direction, ObjectRef, Origin, PortSpec, Protocol
from weft.policies.prepare import Peers
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
from weft.policies.table import Table

WEB = NamedPort("http", Protocol.TCP, 8080)
OWN = {
    f"default/{name}": EndpointItem("default", name, (), identity, ports)
    for name, identity, ports in (
        ("a", strategies.SUBJECT, (WEB,)),
        ("b", strategies.SUBJECT, ()),
        ("c", strategies.OTHER, (WEB,)),
        ("d", 999, ()),
    )
}
#: There from the start: whoever has a port named http may be asked on it.
REF = ObjectRef("CiliumNetworkPolicy", "default", "asking")
RULE = ResolvedRule(
    Origin(REF, "spec.egress[0]"),
    Direction.EGRESS,
    Action.ALLOW,
    ResolvedPeers(any=True),
    (PortSpec(Protocol.TCP, name="http"),),
)
ASKING = PolicyItem(REF, 1, (), (ResolvedSpec(frozenset({strategies.SUBJECT}), False, True, (RULE,)),))
ADDRESSES = {f"10.244.{node}.{number % 256}": number for node in (1, 2) for number in strategies.WORKLOADS[:2]}


class CompilerKeepsUp(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.compiler = Compiler(CidrIdentities(), Cookies())
        self.endpoints = dict(OWN)
        self.tables: dict[str, Table] = {}
        self.part = ClusterPart(policies={ASKING.ref: ASKING})
        self.update(Changes(everything=True))

    def update(self, changes: Changes) -> None:
        changed = self.compiler.update(self.part, self.endpoints, changes)
        tables = {key: self.compiler.table(endpoint) for key, endpoint in self.endpoints.items()}
        for key, table in tables.items():
            if key not in changed and key in self.tables:
                assert table is self.tables[key], f"{key} changed, and nobody said so"
        self.tables = tables

    @rule(number=st.integers(0, 3), data=st.data())
    def put_policy(self, number: int, data: st.DataObject) -> None:
        item = data.draw(strategies.policies(number))
        self.part = replace(self.part, policies={**self.part.policies, item.ref: item})
        self.update(Changes(policies=frozenset({item.ref})))

    @rule(data=st.data())
    def remove_policy(self, data: st.DataObject) -> None:
        if not self.part.policies:
            return
        gone = data.draw(st.sampled_from(sorted(self.part.policies)))
        left = {ref: item for ref, item in self.part.policies.items() if ref != gone}
        self.part = replace(self.part, policies=left)
        self.update(Changes(policies=frozenset({gone})))

    @rule(ip=st.sampled_from(sorted(ADDRESSES)), ports=st.one_of(st.none(), strategies.named_ports))
    def put_address(self, ip: str, ports: tuple[NamedPort, ...] | None) -> None:
        addresses = {key: item for key, item in self.part.addresses.items() if key != ip}
        if ports is not None:
            addresses[ip] = AddressItem(ip, ADDRESSES[ip], "node-1", "default/x", ports)
        self.part = replace(self.part, addresses=addresses)
        self.update(Changes(addresses=frozenset({ip})))

    @rule(key=st.sampled_from(sorted(OWN)), identity=st.sampled_from((0, 999, *strategies.WORKLOADS)))
    def move_endpoint(self, key: str, identity: int) -> None:
        """0: the endpoint leaves the node."""
        self.endpoints = {k: e for k, e in self.endpoints.items() if k != key}
        if identity:
            self.endpoints[key] = replace(OWN[key], identity=identity)
        self.update(Changes(endpoints=frozenset({key})))

    @rule()
    def start_over(self) -> None:
        self.update(Changes(everything=True))

    @invariant()
    def tables_are_those_from_scratch(self) -> None:
        named: dict[str, dict[int, frozenset[NamedPort]]] = {}
        for item in self.part.addresses.values():
            for port in item.named_ports:
                of_name = named.setdefault(port.name, {})
                of_name[item.identity] = of_name.get(item.identity, frozenset()) | {port}
        peers = Peers(self.compiler.cidrs, named)
        specs = [(item, spec) for item in self.part.policies.values() for spec in item.specs]
        for key, table in self.tables.items():
            endpoint = self.endpoints[key]
            assert table == compile_table(endpoint.identity, endpoint.named_ports, specs, peers, Cookies())


CompilerKeepsUp.TestCase.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
TestCompilerKeepsUp = CompilerKeepsUp.TestCase
