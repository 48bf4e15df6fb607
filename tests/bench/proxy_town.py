"""A large cluster as the proxy is told of it, and changes of it: 5,000 services of two pods each, the first 1,000
with routes and policies. No randomness: the same town each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.support.proxy_lab import NODE

from weft.policies import delta
from weft.policies.labels import NAMESPACE_KEY, SERVICE_ACCOUNT_KEY, Label, Labels
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    How,
    Matcher,
    Named,
    Origin,
    RequestMatch,
    Route,
    Rule,
    Subset,
)
from weft.policies.model import L7, Action, Direction, HttpRule, ObjectRef, PortSpec, Protocol
from weft.policies.model import Origin as PolicyOrigin
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    ClusterPart,
    IdentityItem,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
)

SERVICES, REPLICAS, ROUTES, POLICIES = 5000, 2, 1000, 1000
#: Of the large cluster's pods; the lab's own are in 127.1.0.0/16.
FIRST_IDENTITY = 10_000


def name(number: int) -> str:
    return f"service-{number}"


def host(number: int) -> str:
    return f"{name(number)}.shop.svc.cluster.local"


def pod_ip(number: int, replica: int) -> str:
    serial = number * REPLICAS + replica
    return f"10.244.{serial >> 8}.{serial & 255}"


def labels(number: int) -> Labels:
    own = {"app": name(number), "version": "v1", NAMESPACE_KEY: "shop", SERVICE_ACCOUNT_KEY: "default"}
    return Labels(Label("k8s", key, value) for key, value in own.items())


def service(number: int, replicas: int = REPLICAS) -> ServiceItem:
    ip = f"10.100.{number >> 8}.{number & 255}"
    backends = tuple(BackendItem(pod_ip(number, each), 8080, NODE, pod(number, each)) for each in range(replicas))
    return ServiceItem(
        "shop", name(number), "ClusterIP", (ip,), (ServicePortItem("http", Protocol.TCP, 80, 0, "", backends),)
    )


def pod(number: int, replica: int) -> str:
    return f"shop/{name(number)}-6c8f9d7b5-{replica}"


def address(number: int, replica: int) -> AddressItem:
    ip, identity = pod_ip(number, replica), FIRST_IDENTITY + number
    return AddressItem(ip, identity, NODE, pod(number, replica), (), "Deployment", name(number))


def routing(number: int, weight: int = 90) -> HostRouting:
    """A canary by a header, a prefix, the rest by weight."""
    own = host(number)
    v1, v2 = Destination(own, subset="v1", weight=weight), Destination(own, subset="v2", weight=100 - weight)
    canary = RequestMatch(headers=(Named("x-canary", Matcher(How.EXACT, "true")),))
    api = RequestMatch(path=Matcher(How.PREFIX, f"/api/{number}/"))

    def rule(at: int, matches: tuple[RequestMatch, ...], *destinations: Destination) -> Rule:
        origin = Origin("VirtualService", "shop", name(number), f"spec.http[{at}]")
        return Rule(origin, matches=matches, destinations=destinations)

    rules = rule(0, (canary,), v2), rule(1, (api,), v1), rule(2, (), v1, v2)
    route = Route(ObjectRef("VirtualService", "shop", name(number)), Dialect.ISTIO, (own,), rules)
    subsets = tuple(Subset(each, (("version", each),)) for each in ("v1", "v2"))
    policy = DestinationPolicy(ObjectRef("DestinationRule", "shop", name(number)), own, subsets=subsets)
    return HostRouting(own, f"shop/{name(number)}", (route,), (policy,))


def policy(number: int, path: str = "/api/.*") -> PolicyItem:
    """Two callers, by HTTP."""
    ref = ObjectRef("CiliumNetworkPolicy", "shop", f"policy-{number}")
    callers = frozenset(FIRST_IDENTITY + (number * 7 + each) % SERVICES for each in (1, 2))
    rule = ResolvedRule(
        PolicyOrigin(ref, "spec.ingress[0]"),
        Direction.INGRESS,
        Action.ALLOW,
        ResolvedPeers(identities=callers),
        (PortSpec(Protocol.TCP, 8080),),
        L7(http=(HttpRule(method="GET", path=path),)),
    )
    return PolicyItem(ref, 1, (), (ResolvedSpec(frozenset({FIRST_IDENTITY + number}), True, False, (rule,)),))


def large(base: ClusterPart) -> ClusterPart:
    """`base`, the lab's own few pods, and 5,000 services more."""
    numbers = range(SERVICES)
    items = [address(number, replica) for number in numbers for replica in range(REPLICAS)]
    identities = [IdentityItem(FIRST_IDENTITY + number, labels(number)) for number in numbers]
    services, routes = map(service, numbers), map(routing, range(ROUTES))
    return replace(
        base,
        identities={**base.identities, **{item.id: item for item in identities}},
        addresses={**base.addresses, **{item.ip: item for item in items}},
        services={**base.services, **{item.key: item for item in services}},
        policies={**base.policies, **{item.ref: item for item in map(policy, range(POLICIES))}},
        routing={**base.routing, **{item.host: item for item in routes}},
    )


# changes


def new_weights(turn: int) -> delta.ClusterDelta:
    item = routing(turn, weight=10 + turn)
    return delta.ClusterDelta(routing={item.host: item})


def busy_weights(turn: int) -> delta.ClusterDelta:
    """Of the host that requests are under way to."""
    own = "busy.default.svc.cluster.local"
    both = tuple(Destination(own, weight=weight) for weight in (10 + turn, 90 - turn))
    rule = Rule(Origin("VirtualService", "default", "busy", "spec.http[0]"), destinations=both)
    route = Route(ObjectRef("VirtualService", "default", "busy"), Dialect.ISTIO, (own,), (rule,))
    return delta.ClusterDelta(routing={own: HostRouting(own, "default/busy", (route,))})


def another_endpoint(turn: int) -> delta.ClusterDelta:
    """It goes and comes; its address with it."""
    number = ROUTES // 2 + turn // 2
    if turn % 2:
        back = address(number, 1)
        item = service(number)
        return delta.ClusterDelta(services={item.key: item}, addresses={back.ip: back})
    item = service(number, 1)
    return delta.ClusterDelta(services={item.key: item}, addresses_gone=frozenset({pod_ip(number, 1)}))


def another_policy(turn: int) -> delta.ClusterDelta:
    item = policy(turn, f"/api/v{turn}/.*")
    return delta.ClusterDelta(policies={item.ref: item})


KINDS: dict[str, Callable[[int], delta.ClusterDelta]] = {
    "a route's weights": new_weights,
    "the route under load": busy_weights,
    "an endpoint goes or comes": another_endpoint,
    "a policy": another_policy,
}
