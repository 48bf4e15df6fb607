"""NetworkPolicy (networking.k8s.io/v1): documents to `model.Policy`.

Its words look like Cilium's and mean something else: here a missing or empty `from` is anybody, and `ingress: [{}]`
allows everything; `ipBlock` matches pods too. Null is the same as left out, as the API server reads it.
"""

from __future__ import annotations

import re

from weft.policies.dialects.cidrs import excepts, prefix
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.ports import is_service_name
from weft.policies.dialects.selectors import EXISTS_NAMESPACE, label_selector, plain_key
from weft.policies.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Selector, equals
from weft.policies.model import (
    Action,
    CidrPeer,
    Direction,
    EndpointPeer,
    ObjectRef,
    Origin,
    Peer,
    Policy,
    PortSpec,
    Protocol,
    Rule,
    Spec,
)

PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}

_POD_KEY = plain_key()
_NAMESPACE_KEY = plain_key(NAMESPACE_LABEL_PREFIX)
_SECTIONS = (("ingress", "from", Direction.INGRESS), ("egress", "to", Direction.EGRESS))
_TYPES = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
_LOWER = re.compile(r"[-a-z0-9]+\Z")


def parse_policy(root: Field, ref: ObjectRef) -> Policy:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    spec = root.need("spec").record("podSelector", "policyTypes", "ingress", "egress")
    findings = Findings()
    isolated = _isolated(spec)
    rules = []
    for section, word, direction in _SECTIONS:
        entries = spec.lax(section)
        if entries is None:
            continue
        read = [_rule(entry, word, direction, ref, findings) for entry in entries.items()]
        if direction in isolated:
            rules += read
        elif read:
            findings.warn(entries, f"has no effect: policyTypes does not list {section.capitalize()}")
    parsed = Spec(
        subject=_subject(spec, ref.namespace),
        default_deny_ingress=Direction.INGRESS in isolated,
        default_deny_egress=Direction.EGRESS in isolated,
        rules=tuple(rules),
    )
    return Policy(ref, (parsed,), _labels(root, ref), findings.warnings)


def _labels(root: Field, ref: ObjectRef) -> tuple[str, ...]:
    pairs = {"derived-from": ref.kind, "name": ref.name, "namespace": ref.namespace}
    uid = root.need("metadata").lax("uid")
    if uid is not None:
        pairs["uid"] = uid.string()
    return tuple(f"k8s:io.cilium.k8s.policy.{key}={value}" for key, value in pairs.items() if value)


def _subject(spec: Field, namespace: str) -> Selector:
    """Empty, or left out: every pod of the namespace."""
    field = spec.lax("podSelector")
    selector = label_selector(field, _POD_KEY, lax=True) if field is not None else Selector()
    return selector.and_(equals(NAMESPACE_KEY, namespace))


def _isolated(spec: Field) -> set[Direction]:
    """Without policyTypes: Ingress always, Egress if there are egress rules."""
    field = spec.lax("policyTypes")
    items = field.items(at_most=2) if field is not None else []
    if items:
        return {_TYPES[item.one_of(_TYPES)] for item in items}
    egress = spec.lax("egress")
    return {Direction.INGRESS, Direction.EGRESS} if egress is not None and egress.items() else {Direction.INGRESS}


def _rule(entry: Field, word: str, direction: Direction, ref: ObjectRef, findings: Findings) -> Rule:
    entry.record(word, "ports")
    peers, ports = entry.lax(word), entry.lax("ports")
    whom = [_peer(item, ref.namespace, findings) for item in peers.items()] if peers is not None else []
    where = [_port(item) for item in ports.items()] if ports is not None else []
    return Rule(
        origin=Origin(ref, entry.path),
        direction=direction,
        action=Action.ALLOW,
        peers=tuple(dict.fromkeys(whom)) if whom else None,
        ports=tuple(dict.fromkeys(where)) if where else None,
    )


def _peer(item: Field, namespace: str, findings: Findings) -> Peer:
    item.record("podSelector", "namespaceSelector", "ipBlock")
    pods, namespaces, block = item.lax("podSelector"), item.lax("namespaceSelector"), item.lax("ipBlock")
    if block is not None:
        if pods is not None or namespaces is not None:
            raise block.invalid("ipBlock excludes podSelector and namespaceSelector in one peer: write two peers")
        return _block(block, findings)
    if pods is None and namespaces is None:
        raise item.invalid("needs podSelector, namespaceSelector or ipBlock")
    selector = label_selector(pods, _POD_KEY, lax=True) if pods is not None else Selector()
    if namespaces is None:
        return EndpointPeer(selector.and_(equals(NAMESPACE_KEY, namespace)))
    within = label_selector(namespaces, _NAMESPACE_KEY, lax=True)
    # EXISTS: a negative selector must not match what is in no namespace (the host, the world)
    return EndpointPeer(selector.and_(*within.requirements, EXISTS_NAMESPACE))


def _block(block: Field, findings: Findings) -> CidrPeer:
    block.record("cidr", "except")
    cidr = prefix(block.need("cidr"), findings)
    taken = block.lax("except")
    removed = excepts(taken, cidr, findings, strict=True) if taken is not None else ()
    return CidrPeer(cidr, removed, includes_pods=True)


def _port(item: Field) -> PortSpec:
    """Without `port`: every port of the protocol, which is TCP unless it says otherwise."""
    item.record("protocol", "port", "endPort")
    named = item.lax("protocol")
    protocol = PROTOCOLS[named.one_of(PROTOCOLS)] if named is not None else Protocol.TCP
    port, end = item.lax("port"), item.lax("endPort")
    if port is None:
        if end is not None:
            raise end.invalid("needs a port beside it")
        return PortSpec(protocol)
    if isinstance(port.value, str):
        if end is not None:
            raise end.invalid(f"needs a port by number, not by name ({shown(port.value)})")
        return PortSpec(protocol, name=port_name(port))
    number = port.integer(1, 65535)
    last = end.integer(1, 65535) if end is not None else number
    if end is not None and last < number:
        raise end.invalid(f"{last} is below port {number}")
    return PortSpec(protocol, number, last)


def port_name(field: Field) -> str:
    text = field.string()
    if not (is_service_name(text) and _LOWER.match(text)):
        raise field.invalid(
            f"{shown(text)} is no port name: at most 15 of a-z, 0-9 and '-', one letter at least"
            " (a number goes without quotes)"
        )
    return text
