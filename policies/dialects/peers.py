"""The L3 part of one entry of a CiliumNetworkPolicy: whom it is about.

Missing and empty differ: no L3 member means any peer (S1), an empty list means nobody (S2). An entry has at most
one kind of member (S10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weft.policies.dialects import names
from weft.policies.dialects.cidrs import excepts, prefix
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.metadata import check_name
from weft.policies.dialects.selectors import cilium_key, label_selector, peer_selector
from weft.policies.model import CidrGroupPeer, CidrPeer, Direction, EndpointPeer, EntityPeer, Peer, ServicePeer

#: `cluster` and `all` are sets of the others; resolution knows which (C6).
ENTITIES = (
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "host",
    "init",
    "ingress",
    "unmanaged",
    "remote-node",
    "health",
    "none",
    "kube-apiserver",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule's selectors depend on: the policy's namespace ("" clusterwide), and whether it is about
    initialising endpoints."""

    namespace: str
    init: bool
    findings: Findings


def member_names(direction: Direction, *, deny: bool) -> tuple[str, ...]:
    """The L3 fields an entry may have. `fromRequires` is among them, so that it is refused by its own reason."""
    word = _WORD[direction]
    found = [word + suffix for suffix in (*_COMMON, "Requires")]
    if direction is Direction.EGRESS:
        found.append("toServices")
        if not deny:
            found.append("toFQDNs")
    return tuple(found)


def peers(entry: Field, direction: Direction, scope: Scope) -> tuple[Peer, ...] | None:
    """None: any peer. Empty: nobody."""
    word = _WORD[direction]
    _refuse_requires(entry, word)
    given = [
        (f, f.items(), read) for suffix, read in _READERS.items() if (f := entry.get(word + suffix)) is not None
    ]
    full = [(field, items, read) for field, items, read in given if items]
    if len(full) > 1:
        first, second = (field.path.rpartition(".")[2] for field, _, _ in full[:2])
        raise full[1][0].invalid(f"combining {first} and {second} in one entry is not supported: write two entries")
    found = tuple(dict.fromkeys(peer for _, items, read in full for item in items for peer in read(item, scope)))
    empty = [field for field, items, _ in given if not items]
    if empty:
        scope.findings.warn(empty[0], "is an empty list, so this entry is about nobody")
        return ()
    return found if given else None


def _refuse_requires(entry: Field, word: str) -> None:
    field = entry.get(word + "Requires")
    if field is not None:
        raise field.invalid(
            f"{word}Requires is gone from Cilium: say it in a selector's matchExpressions, or by a deny"
        )


def _endpoint(item: Field, scope: Scope) -> tuple[Peer, ...]:
    return (EndpointPeer(peer_selector(item, scope.namespace, init=scope.init)),)


def _cidr(item: Field, scope: Scope) -> tuple[Peer, ...]:
    return (CidrPeer(prefix(item, scope.findings, bare_address=True)),)


def _cidr_rule(item: Field, scope: Scope) -> tuple[Peer, ...]:
    """Exactly one of cidr, cidrGroupRef and cidrGroupSelector (C5), and what is taken out of it (C4)."""
    item.record("cidr", "cidrGroupRef", "cidrGroupSelector", "except")
    forms = [f for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if (f := item.get(name)) is not None]
    if len(forms) != 1:
        raise item.invalid("needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
    cidr, group, selector = item.get("cidr"), item.get("cidrGroupRef"), item.get("cidrGroupSelector")
    network = prefix(cidr, scope.findings) if cidr is not None else None
    taken = item.get("except")
    removed = excepts(taken, network, scope.findings) if taken is not None else ()
    if network is not None:
        return (CidrPeer(network, removed),)
    if group is not None:
        return (CidrGroupPeer(name=check_name(group), excepts=removed),)
    assert selector is not None
    return (CidrGroupPeer(selector=label_selector(selector, cilium_key), excepts=removed),)


def _entity(item: Field, scope: Scope) -> tuple[Peer, ...]:
    entity = item.string()
    if entity not in ENTITIES:
        raise item.invalid(f"unsupported entity {shown(entity)}, there are {', '.join(ENTITIES)}")
    return (EntityPeer(entity),)


def _service(item: Field, scope: Scope) -> tuple[Peer, ...]:
    """By name or by the Service's labels (C7). A namespace left out means every namespace, as in Cilium."""
    item.record("k8sService", "k8sServiceSelector")
    by_name, by_labels = item.get("k8sService"), item.get("k8sServiceSelector")
    if (by_name is None) == (by_labels is None):
        raise item.invalid("needs exactly one of k8sService and k8sServiceSelector")
    if by_name is not None:
        name = by_name.record("serviceName", "namespace").need("serviceName")
        return (ServicePeer(_namespace(by_name, scope), check_name(name, dns_label=True)),)
    assert by_labels is not None
    selector = by_labels.record("selector", "namespace").need("selector")
    return (ServicePeer(_namespace(by_labels, scope), selector=label_selector(selector, cilium_key)),)


def _namespace(service: Field, scope: Scope) -> str:
    field = service.get("namespace")
    if field is None or not field.string():
        scope.findings.warn(service, "names no namespace, so services of every namespace are meant")
        return ""
    return check_name(field, dns_label=True)


# What is read and checked, but not enforced


def _node(item: Field, scope: Scope) -> tuple[Peer, ...]:
    label_selector(item, cilium_key)
    scope.findings.not_enforced(item, "selecting nodes by label")
    return ()


def _group(item: Field, scope: Scope) -> tuple[Peer, ...]:
    aws = item.record("aws").need("aws").record("labels", "securityGroupsIds", "securityGroupsNames", "region")
    for name in ("securityGroupsIds", "securityGroupsNames"):
        ids = aws.get(name)
        for each in ids.items() if ids is not None else ():
            each.text()
    labels, region = aws.get("labels"), aws.get("region")
    if labels is not None:
        labels.strings()
    if region is not None:
        region.string()
    scope.findings.not_enforced(item, "groups of a cloud provider")
    return ()


def _fqdn(item: Field, scope: Scope) -> tuple[Peer, ...]:
    names.match(item)
    scope.findings.not_enforced(item, "toFQDNs")
    return ()


_WORD: Mapping[Direction, str] = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_COMMON = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Groups", "Nodes")
_READERS: Mapping[str, Callable[[Field, Scope], tuple[Peer, ...]]] = {
    "Endpoints": _endpoint,
    "CIDR": _cidr,
    "CIDRSet": _cidr_rule,
    "Entities": _entity,
    "Services": _service,
    "FQDNs": _fqdn,
    "Groups": _group,
    "Nodes": _node,
}
