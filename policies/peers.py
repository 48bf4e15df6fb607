"""What a peer of a rule means: numbers that are fixed, and selectors whose numbers change with the identities.

1. endpoint selector: every identity that it matches, reserved ones included (S7);
2. entity: ENTITIES below; the API server (`kube-apiserver`, and so `cluster`) is also whoever outside has an
   address of it, and the host where every node serves it;
3. CIDR: itself, and where pods count (`includes_pods`, Kubernetes ipBlock) the pod identities inside it, which
   carry the prefix as a label (`identify.prefix_label`);
4. CIDR group: the CIDRs that the group holds now; no such group: nobody (C5);
5. service: the pods that its selector means, or the addresses of its slices if it has none (C7).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from weft.policies import identity
from weft.policies.catalog import API_SERVICE, Catalog
from weft.policies.errors import Invalid, Where
from weft.policies.identify import prefix_label
from weft.policies.labels import CLUSTER_KEY, NAMESPACE_KEY, Labels, Op, Requirement, Selector, equals
from weft.policies.model import (
    CidrGroupPeer,
    CidrPeer,
    EndpointPeer,
    EntityPeer,
    Network,
    Peer,
    Policy,
    ServicePeer,
)
from weft.policies.objects import CidrGroup, Service
from weft.policies.population import CLUSTER_NAME
from weft.policies.snapshot import ResolvedPeers

IN_CLUSTER: Final = Selector((equals(CLUSTER_KEY, CLUSTER_NAME),))


def _just(*numbers: int) -> ResolvedPeers:
    return ResolvedPeers(identities=frozenset(numbers))


#: "cluster" has every identity of IN_CLUSTER besides.
ENTITIES: Final[dict[str, ResolvedPeers]] = {
    "all": ResolvedPeers(any=True),
    "none": _just(),
    "world": ResolvedPeers(identities=frozenset({identity.WORLD}), world_ipv4=True, world_ipv6=True),
    "world-ipv4": ResolvedPeers(world_ipv4=True),
    "world-ipv6": ResolvedPeers(world_ipv6=True),
    "host": _just(identity.HOST),
    "remote-node": _just(identity.REMOTE_NODE, identity.KUBE_APISERVER),  # 7 is a node that serves the API
    "init": _just(identity.INIT),
    "ingress": _just(identity.INGRESS),
    "unmanaged": _just(identity.UNMANAGED),
    "health": _just(identity.HEALTH),
    "kube-apiserver": _just(identity.KUBE_APISERVER),
    "cluster": _just(
        identity.HOST,
        identity.REMOTE_NODE,
        identity.INIT,
        identity.INGRESS,
        identity.HEALTH,
        identity.UNMANAGED,
        identity.KUBE_APISERVER,
    ),
}

ANYBODY: Final = ResolvedPeers(any=True)
NOBODY: Final = ResolvedPeers()


def meaning_of(peer: Peer, catalog: Catalog) -> tuple[ResolvedPeers, list[Selector]]:
    """As the catalog stands; services, CIDR groups and the API server change their meaning with it."""
    match peer:
        case EndpointPeer(selector):
            return NOBODY, [selector]
        case EntityPeer(entity):
            meant = ENTITIES[entity]
            if identity.KUBE_APISERVER in meant.identities and entity != "remote-node":
                meant = together([meant, _api_servers(catalog)])
            return meant, [IN_CLUSTER] if entity == "cluster" else []
        case CidrPeer():
            return ResolvedPeers(cidrs=(peer,)), [_inside(peer)] if peer.includes_pods else []
        case CidrGroupPeer():
            return ResolvedPeers(cidrs=_group_cidrs(peer, catalog.groups_meant(peer))), []
        case ServicePeer():
            return _services(catalog, catalog.services_meant(peer))


def valued(fixed: ResolvedPeers, selected: Sequence[frozenset[int]]) -> ResolvedPeers:
    """The sets of the selectors put to what is fixed. One set alone is shared, not copied."""
    if not selected:
        return fixed
    numbers = selected[0] if len(selected) == 1 else frozenset().union(*selected)
    if fixed.identities:
        numbers |= fixed.identities
    world = identity.WORLD in numbers
    return ResolvedPeers(
        identities=numbers,
        cidrs=fixed.cidrs,
        world_ipv4=world or identity.WORLD_IPV4 in numbers,
        world_ipv6=world or identity.WORLD_IPV6 in numbers,
    )


def together(values: list[ResolvedPeers]) -> ResolvedPeers:
    """The peers of one rule."""
    if len(values) == 1:
        return values[0]
    if any(value.any for value in values):
        return ANYBODY
    return ResolvedPeers(
        identities=frozenset().union(*(value.identities for value in values)),
        cidrs=tuple(dict.fromkeys(cidr for value in values for cidr in value.cidrs)),
        world_ipv4=any(value.world_ipv4 for value in values),
        world_ipv6=any(value.world_ipv6 for value in values),
    )


def check_entities(policy: Policy) -> None:
    """Raises Invalid (C6)."""
    for spec in policy.specs:
        for rule in spec.rules:
            for peer in rule.peers or ():
                if isinstance(peer, EntityPeer) and peer.entity not in ENTITIES:
                    where = Where(object=str(policy.ref), path=rule.origin.path)
                    raise Invalid(where, f"unsupported entity {peer.entity!r}")


def _api_servers(catalog: Catalog) -> ResolvedPeers:
    """Beside identity 7. A CIDR means nobody in the cluster (C1), so naming every address means those outside."""
    cidrs = tuple(CidrPeer(ip_network(ip)) for ip in sorted(catalog.api_servers()))
    host = {identity.HOST} if catalog.every_node_serves_api() else set()
    return ResolvedPeers(identities=frozenset(host), cidrs=cidrs)


def _services(catalog: Catalog, services: list[Service]) -> tuple[ResolvedPeers, list[Selector]]:
    selectors = dict.fromkeys(_service_selector(service) for service in services if service.selector)
    numbers: set[int] = set()
    cidrs: list[CidrPeer] = []
    for service in services:
        if not service.selector:
            cidrs += _slice_cidrs(catalog, service)
            if f"{service.namespace}/{service.name}" == API_SERVICE:
                numbers.add(identity.KUBE_APISERVER)  # what nodes among those addresses are
    return ResolvedPeers(identities=frozenset(numbers), cidrs=tuple(dict.fromkeys(cidrs))), list(selectors)


def _slice_cidrs(catalog: Catalog, service: Service) -> list[CidrPeer]:
    slices = catalog.slices_of(f"{service.namespace}/{service.name}")
    return [CidrPeer(ip_network(a)) for piece in slices for e in piece.endpoints for a in e.addresses]


def _inside(block: CidrPeer) -> Selector:
    """The pods of an ipBlock: those that carry its prefix and none of its exceptions."""
    wanted = prefix_label(block.cidr)
    unwanted = [prefix_label(network) for network in block.excepts]
    return Selector(
        (
            Requirement(wanted.source, wanted.key, Op.EXISTS),
            *(Requirement(label.source, label.key, Op.DOES_NOT_EXIST) for label in unwanted),
        )
    )


def _group_cidrs(peer: CidrGroupPeer, groups: list[CidrGroup]) -> tuple[CidrPeer, ...]:
    networks = dict.fromkeys(ip_network(text) for group in groups for text in group.cidrs)
    return tuple(CidrPeer(network, _exceptions(network, peer.excepts)) for network in networks)


def _exceptions(network: Network, excepts: tuple[Network, ...]) -> tuple[Network, ...]:
    return tuple(e for e in excepts if e.version == network.version and e.subnet_of(network))  # type: ignore[arg-type]


def _service_selector(service: Service) -> Selector:
    wanted = Labels.k8s({**service.selector, NAMESPACE_KEY: service.namespace})
    return Selector(tuple(equals(label.key, label.value, label.source) for label in wanted))
