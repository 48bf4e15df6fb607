"""Who speaks for a host: what is declared in, the host's routing out, whatever the order of the changes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.policies.cluster import Cluster, Numbers
from weft.policies.mesh.model import (
    Declared,
    Destination,
    DestinationPolicy,
    Dialect,
    EntryEndpoint,
    EntryPort,
    Fault,
    HostRouting,
    How,
    LeveledPolicy,
    Matcher,
    MeshSettings,
    Named,
    Origin,
    ReferenceGrant,
    RequestMatch,
    Resolution,
    Route,
    RouteGroup,
    Rule,
    ServiceEntry,
    Subset,
    WorkloadEntry,
)
from weft.policies.model import ObjectRef, Protocol
from weft.policies.objects import Node, Pod, Service, ServicePort

ORDERS = "orders.shop.svc.cluster.local"
KINDS = {Dialect.GATEWAY: "HTTPRoute", Dialect.ISTIO: "VirtualService", Dialect.SMI: "TrafficSplit"}


def service(name: str = "orders", namespace: str = "shop") -> Service:
    ports = (ServicePort("http", Protocol.TCP, 80, 8080),)
    return Service(namespace, name, selector={"app": name}, cluster_ips=("10.96.0.9",), ports=ports)


def rule(ref: ObjectRef, path: str = "", to: str = ORDERS, number: int = 0, **fields: object) -> Rule:
    matches = (RequestMatch(path=Matcher(How.SEGMENTS, path)),) if path else ()
    origin = Origin(ref.kind, ref.namespace, ref.name, f"spec.rules[{number}]")
    return Rule(origin, matches=matches, destinations=(Destination(to),), **fields)  # type: ignore[arg-type]


def route(name: str, dialect: Dialect = Dialect.ISTIO, namespace: str = "shop", **fields: object) -> Route:
    ref = ObjectRef(KINDS[dialect], namespace, name)
    values: dict = {"hosts": (ORDERS,), "http": (rule(ref),), **fields}
    return Route(ref, dialect, **values)


def policy(name: str, namespace: str = "shop", host: str = ORDERS, **fields: object) -> DestinationPolicy:
    return DestinationPolicy(ObjectRef("DestinationRule", namespace, name), host, **fields)  # type: ignore[arg-type]


def entry(name: str, *hosts: str, **fields: object) -> ServiceEntry:
    values: dict = {"ports": (EntryPort(80, "http", "HTTP"),), "resolution": Resolution.STATIC, **fields}
    return ServiceEntry(ObjectRef("ServiceEntry", "shop", name), hosts, **values)


def cluster(*things: Declared | Service | Pod | Node) -> Cluster:
    made = Cluster(Numbers())
    for thing in (service(), *things):
        made.put(thing)
    made.delta()
    return made


def routing(*things: Declared | Service) -> HostRouting:
    return cluster(*things).part.routing[ORDERS]


def names(found: HostRouting) -> list[str]:
    return [each.ref.name for each in found.routes]


# who speaks for a host


@pytest.mark.parametrize("first", list(Dialect))
@pytest.mark.parametrize("second", list(Dialect))
def test_gateway_api_speaks_before_istio_and_istio_before_smi(first: Dialect, second: Dialect) -> None:
    if first is second:
        return
    made = cluster(route("one", first), route("two", second))
    loser, winner = ("one", "two") if first > second else ("two", "one")
    assert names(made.part.routing[ORDERS]) == [winner]
    assert [ref.name for ref, why in made.problems().items() if "Conflicted" in why] == [loser]


def test_who_lost_speaks_when_the_winner_goes() -> None:
    made = cluster(route("one", Dialect.GATEWAY), route("two", Dialect.SMI))
    made.remove(ObjectRef("HTTPRoute", "shop", "one"))
    made.delta()
    assert names(made.part.routing[ORDERS]) == ["two"]
    assert made.problems() == {}


def test_the_older_virtual_service_speaks_and_the_younger_is_conflicted() -> None:
    old, young = route("z", created="2024-01-01T00:00:00Z"), route("a", created="2025-01-01T00:00:00Z")
    made = cluster(young, old)
    assert names(made.part.routing[ORDERS]) == ["z"]
    assert made.problems() == {young.ref: f"Conflicted: {old.ref} speaks for {ORDERS} already"}


def test_an_exact_host_speaks_before_a_wildcard_which_is_no_conflict() -> None:
    made = cluster(route("wide", hosts=("*.shop.svc.cluster.local",)), route("exact"))
    assert names(made.part.routing[ORDERS]) == ["exact"]
    assert made.problems() == {}


def test_a_wildcard_speaks_for_hosts_that_come_later() -> None:
    made = cluster(route("wide", hosts=("*.shop.svc.cluster.local",)))
    assert names(made.part.routing[ORDERS]) == ["wide"]
    made.put(service("carts"))
    made.delta()
    assert names(made.part.routing["carts.shop.svc.cluster.local"]) == ["wide"]


def test_consumers_have_their_own_route_before_the_producers() -> None:
    consumer = route("consumer", Dialect.GATEWAY, "web", clients=("web",))
    found = routing(route("producer", Dialect.GATEWAY), consumer)
    assert [(each.ref.name, each.clients) for each in found.routes] == [("consumer", ("web",)), ("producer", None)]


def test_a_virtual_service_still_speaks_to_clients_whom_no_consumer_route_is_for() -> None:
    made = cluster(route("consumer", Dialect.GATEWAY, "web", clients=("web",)), route("virtual"))
    assert names(made.part.routing[ORDERS]) == ["consumer", "virtual"]
    assert made.problems() == {}


def test_a_route_for_one_port_leaves_the_others_to_who_comes_next() -> None:
    found = routing(route("gamma", Dialect.GATEWAY, ports=(80,)), route("virtual"))
    assert [(each.ref.name, each.ports) for each in found.routes] == [("gamma", (80,)), ("virtual", ())]


# the order of Gateway API's rules


def gateway(name: str, *matches: RequestMatch, created: str = "") -> Route:
    ref = ObjectRef("HTTPRoute", "shop", name)
    rules = tuple(
        Rule(
            Origin("HTTPRoute", "shop", name, f"spec.rules[{i}]"),
            matches=(match,),
            destinations=(Destination(ORDERS),),
        )
        for i, match in enumerate(matches)
    )
    return Route(ref, Dialect.GATEWAY, (ORDERS,), rules, created=created)


EXACT = RequestMatch(path=Matcher(How.EXACT, "/a"))
LONG = RequestMatch(path=Matcher(How.SEGMENTS, "/a/b/c"))
SHORT = RequestMatch(path=Matcher(How.SEGMENTS, "/"))
METHOD = RequestMatch(path=Matcher(How.SEGMENTS, "/"), method=Matcher(How.EXACT, "GET"))
TWO_HEADERS = RequestMatch(
    path=Matcher(How.SEGMENTS, "/"),
    headers=(Named("a", Matcher(How.EXACT, "1")), Named("b", Matcher(How.EXACT, "1"))),
)
ONE_HEADER = msgspec.structs.replace(TWO_HEADERS, headers=TWO_HEADERS.headers[:1])
QUERY = RequestMatch(path=Matcher(How.SEGMENTS, "/"), query=(Named("q", Matcher(How.EXACT, "1")),))


def test_exact_paths_then_long_prefixes_then_methods_then_headers_then_queries() -> None:
    wanted = [EXACT, LONG, METHOD, TWO_HEADERS, ONE_HEADER, QUERY, SHORT]
    found = routing(gateway("r", *reversed(wanted)))
    assert [each.matches[0] for each in found.routes[0].http] == wanted


def test_equal_matches_go_by_age_then_by_name_then_by_place() -> None:
    old, new = (
        gateway("z", SHORT, created="2024-01-01T00:00:00Z"),
        gateway("y", SHORT, SHORT, created="2025-01-01T00:00:00Z"),
    )
    undated = gateway("a", SHORT)
    found = routing(undated, new, old)
    assert [(each.origin.name, each.origin.path) for each in found.routes[0].http] == [
        ("z", "spec.rules[0]"),
        ("y", "spec.rules[0]"),
        ("y", "spec.rules[1]"),
        ("a", "spec.rules[0]"),
    ]


def test_routes_of_different_ports_are_told_apart_inside_the_one_they_become() -> None:
    one = msgspec.structs.replace(gateway("one", SHORT), ports=(80,))
    two = msgspec.structs.replace(gateway("two", SHORT), ports=(81,))
    found = routing(one, two).routes[0]
    assert found.ports == (80, 81)
    assert {each.origin.name: each.matches[0].port for each in found.http} == {"one": 80, "two": 81}


# what rules name


def test_a_delegate_stands_in_its_parents_place_narrowed_to_what_the_parent_matched() -> None:
    ref = ObjectRef("VirtualService", "shop", "parent")
    prefix = RequestMatch(path=Matcher(How.PREFIX, "/api"))
    parent = route(
        "parent",
        http=(
            Rule(Origin("VirtualService", "shop", "parent"), matches=(prefix,), delegate="team/child", timeout=3.0),
        ),
    )
    child_ref = ObjectRef("VirtualService", "team", "child")
    within = RequestMatch(path=Matcher(How.PREFIX, "/api/v1"), headers=(Named("x", Matcher(How.EXACT, "1")),))
    beyond = RequestMatch(path=Matcher(How.PREFIX, "/other"))
    rules = tuple(
        Rule(Origin("VirtualService", "team", "child"), matches=(match,), destinations=(Destination(ORDERS),))
        for match in (within, beyond)
    )
    child = Route(child_ref, Dialect.ISTIO, (), rules)
    found = routing(parent, child).routes[0]
    assert found.ref == ref
    assert [(each.matches, each.timeout) for each in found.http] == [((within,), 3.0)]


def test_a_delegate_that_comes_later_is_taken_in() -> None:
    parent = route(
        "parent", http=(Rule(Origin("VirtualService", "shop", "parent", "spec.http[0]"), delegate="shop/child"),)
    )
    made = cluster(parent)
    assert made.part.routing[ORDERS].routes[0].http == ()
    assert made.problems()[parent.ref] == "spec.http[0]: delegates to shop/child, which is not there"
    child = Route(ObjectRef("VirtualService", "shop", "child"), Dialect.ISTIO, (), (rule(parent.ref),))
    made.put(child)
    made.delta()
    assert len(made.part.routing[ORDERS].routes[0].http) == 1
    assert made.problems() == {}


def test_a_traffic_split_matches_as_its_groups_say_and_nothing_while_they_are_missing() -> None:
    ref = ObjectRef("TrafficSplit", "shop", "split")
    split = route("split", Dialect.SMI, http=(rule(ref, groups=(("firefox", ""),)),))
    assert routing(split).routes[0].http[0].matches == (RequestMatch(port=-1),)
    group = RouteGroup(ObjectRef("HTTPRouteGroup", "shop", "firefox"), (METHOD,))
    assert routing(split, group).routes[0].http[0].matches == (METHOD,)


def test_a_service_of_another_namespace_needs_a_grant_from_there() -> None:
    elsewhere = "bank.vault.svc.cluster.local"
    ref = ObjectRef("HTTPRoute", "shop", "r")
    asking = route("r", Dialect.GATEWAY, http=(rule(ref, to=elsewhere),))
    assert "no ReferenceGrant in vault" in routing(asking).routes[0].http[0].destinations[0].refused
    grant = ReferenceGrant(ObjectRef("ReferenceGrant", "vault", "g"), (("HTTPRoute", "shop"),), (("Service", ""),))
    assert routing(asking, grant).routes[0].http[0].destinations[0].refused == ""
    other = msgspec.structs.replace(grant, targets=(("Service", "teller"),))
    assert routing(asking, other).routes[0].http[0].destinations[0].refused != ""


def test_a_destination_without_its_subset_is_said() -> None:
    asking = route(
        "r",
        http=(
            Rule(
                Origin("VirtualService", "shop", "r", "spec.http[0]"),
                destinations=(Destination(ORDERS, subset="v1"),),
            ),
        ),
    )
    made = cluster(asking)
    assert made.warnings() == {
        asking.ref: f"spec.http[0]: no DestinationRule gives {ORDERS} a subset v1: requests get 503"
    }
    made.put(policy("d", subsets=(Subset("v1"),)))
    made.delta()
    assert made.warnings() == {}


# policies


def test_the_clients_namespace_before_the_services_before_the_root() -> None:
    found = routing(policy("root", "istio-system"), policy("own"), policy("theirs", "web"))
    assert [(each.ref.name, each.clients) for each in found.policies] == [
        ("root", ("istio-system",)),
        ("theirs", ("web",)),
        ("own", None),
        ("root", None),
    ]


def test_the_root_namespace_is_what_the_mesh_says() -> None:
    found = routing(policy("root", "mesh-root"), MeshSettings(root_namespace="mesh-root"))
    assert found.policies[-1].clients is None


def test_rules_for_chosen_workloads_come_first_and_exact_hosts_before_wildcards() -> None:
    wide = policy("wide", host="*.shop.svc.cluster.local")
    chosen = policy("chosen", selector=(("app", "web"),))
    found = [each.ref.name for each in routing(wide, policy("plain"), chosen).policies if each.clients is None]
    assert found == ["chosen", "plain", "wide"]


def test_several_rules_of_one_namespace_for_one_host_are_one() -> None:
    leveled = LeveledPolicy()
    old = policy("b", subsets=(Subset("v1"),), created="2024-01-01T00:00:00Z", policy=leveled)
    young = policy("a", subsets=(Subset("v1", (("x", "y"),)), Subset("v2")), created="2025-01-01T00:00:00Z")
    (found,) = [each for each in routing(old, young).policies if each.clients is None]
    assert (found.ref.name, found.subsets) == ("b", (Subset("v1"), Subset("v2")))


def test_label_keys_of_subsets_are_part_of_identities() -> None:
    pod = Pod("shop", "p", labels={"app": "orders", "pod-template-hash": "abc"}, node="n", ips=("10.0.0.1",))
    made = cluster(pod, policy("d", subsets=(Subset("s", (("pod-template-hash", "abc"),)),)))
    identity = made.part.addresses["10.0.0.1"].identity
    assert "k8s:pod-template-hash=abc" in made.part.identities[identity].labels.strings()


# hosts that ServiceEntries declare


def test_a_host_of_an_entry_is_a_service_with_an_address_of_its_own() -> None:
    endpoint = EntryEndpoint("192.0.2.7", (("http", 8080),), (("version", "v1"),), 3, "eu/a")
    made = cluster(entry("e", "api.example.com", endpoints=(endpoint, EntryEndpoint("names.example.com"))))
    item = made.part.services["shop/api.example.com"]
    assert (item.type, item.host) == ("ServiceEntry", "api.example.com")
    assert [ip.startswith(("240.240.", "fd00:240:240::")) for ip in item.cluster_ips] == [True, True]
    (backend,) = item.ports[0].backends
    assert (backend.ip, backend.port, backend.labels, backend.weight, backend.locality) == (
        "192.0.2.7",
        8080,
        (("version", "v1"),),
        3,
        "eu/a",
    )
    assert made.part.routing["api.example.com"].service == "shop/api.example.com"


def test_the_same_entries_give_the_same_addresses_in_whatever_order() -> None:
    hosts = [f"h{i}.example.com" for i in range(400)]
    one = cluster(*(entry(host, host) for host in hosts))
    two = cluster(*(entry(host, host) for host in reversed(hosts)))
    assert one.part.services == two.part.services
    addresses = [item.cluster_ips for item in one.part.services.values() if item.type == "ServiceEntry"]
    assert len(set(addresses)) == 400


def test_an_entry_that_goes_takes_its_service_and_its_routing() -> None:
    made = cluster(entry("e", "api.example.com"), route("r", hosts=("api.example.com",)))
    made.remove(ObjectRef("ServiceEntry", "shop", "e"))
    step = made.delta()
    assert step is not None
    assert step.cluster.services_gone == {"shop/api.example.com"}
    assert step.cluster.routing_gone == {"api.example.com"}


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (entry("e", "*.example.com"), "wildcard"),
        (entry("e", "a.example.com", resolution=Resolution.NONE), "resolution NONE needs addresses"),
        (entry("e", "a.example.com", addresses=("192.0.2.0/24",)), "prefixes"),
    ],
    ids=["a wildcard host", "nothing to go by", "a prefix as address"],
)
def test_what_no_address_leads_to_is_said(declared: ServiceEntry, reason: str) -> None:
    made = cluster(declared)
    assert reason in made.problems()[declared.ref]
    assert all(item.type != "ServiceEntry" for item in made.part.services.values())


def test_pods_and_workload_entries_are_endpoints_by_label() -> None:
    pod = Pod("shop", "p", labels={"app": "vm"}, node="n", ips=("10.0.0.1",))
    workload = WorkloadEntry(
        ObjectRef("WorkloadEntry", "shop", "w"), EntryEndpoint("192.0.2.9", labels=(("app", "vm"),))
    )
    made = cluster(entry("e", "vm.example.com", selector=(("app", "vm"),)), pod)
    made.put(workload)
    made.delta()
    assert [b.ip for b in made.part.services["shop/vm.example.com"].ports[0].backends] == ["10.0.0.1", "192.0.2.9"]
    made.remove(ObjectRef("Pod", "shop", "p"))
    made.delta()
    assert [b.ip for b in made.part.services["shop/vm.example.com"].ports[0].backends] == ["192.0.2.9"]


def test_a_nodes_locality_is_its_topology() -> None:
    labels = {"topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "eu-1"}
    assert cluster(Node("n", ("192.0.2.1",), labels)).part.nodes["n"].locality == "eu/eu-1"


# whatever the order of changes

THINGS: list[Declared | Service] = [
    service("carts"),
    route("a"),
    route("b", created="2024-01-01T00:00:00Z"),
    route("wide", hosts=("*",)),
    route("split", Dialect.SMI, http=(rule(ObjectRef("TrafficSplit", "shop", "split"), groups=(("g", ""),)),)),
    route("gamma", Dialect.GATEWAY),
    route("gamma-web", Dialect.GATEWAY, "web", clients=("web",)),
    route("delegating", http=(Rule(Origin("VirtualService", "shop", "delegating"), delegate="shop/child"),)),
    Route(
        ObjectRef("VirtualService", "shop", "child"),
        Dialect.ISTIO,
        (),
        (rule(ORDERS and ObjectRef("V", "s", "c")),),
    ),
    route(
        "faulty", hosts=("api.example.com",), http=(rule(ObjectRef("V", "s", "f"), fault=Fault(abort_status=500)),)
    ),
    policy("d"),
    policy("wide", host="*.example.com"),
    entry("e", "api.example.com"),
    entry("f", "api.example.com", created="2020-01-01T00:00:00Z"),
    RouteGroup(ObjectRef("HTTPRouteGroup", "shop", "g"), (METHOD,)),
    MeshSettings(root_namespace="web"),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(THINGS) - 1), st.booleans(), st.booleans()), max_size=40))
def test_changes_end_where_a_fresh_start_would(changes: list[tuple[int, bool, bool]]) -> None:
    made, there = cluster(), {}
    for number, put, settle in changes:
        thing = THINGS[number]
        ref = ObjectRef("Service", thing.namespace, thing.name) if isinstance(thing, Service) else thing.ref
        if put:
            made.put(thing)
            there[number] = thing
        else:
            made.remove(ref)
            there.pop(number, None)
        if settle:
            made.delta()
    made.delta()
    fresh = cluster(*(there[number] for number in sorted(there)))
    assert made.part.routing == fresh.part.routing
    assert made.part.services == fresh.part.services
    assert made.part.settings == fresh.part.settings
    assert made.problems() == fresh.problems()
    assert made.warnings() == fresh.warnings()
