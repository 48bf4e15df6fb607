"""EndpointSlices and cluster addresses: who stands behind a Service, and where it is reached."""

from __future__ import annotations

from typing import Any

import pytest

from weft.daemon.dns import ADDRESSES as DNS
from weft.daemon.local import addresses, endpoints
from weft.daemon.local.endpoints import Backend, ServiceAddresses, slices


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "targetPort": "web"}
    spec = {"selector": {"app": "web"}, "ports": [port], **spec}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def pod(
    number: int, *, ready: bool = True, port: int = 8080, app: str = "web", namespace: str = "default"
) -> Backend:
    ips = (f"10.244.1.{number}", f"fd00:10:244:1::{number:x}")
    return Backend(namespace, f"web-{number}", {"app": app, "x": "y"}, ips, "node-1", ready, {("web", "TCP"): port})


def addresses_of(found: list[dict[str, Any]], *, ready: bool) -> set[str]:
    return {
        ip
        for each in found
        for endpoint in each["endpoints"]
        if endpoint["conditions"]["ready"] == ready
        for ip in endpoint["addresses"]
    }


def test_a_slice_for_each_family_with_ready_and_unready_pods() -> None:
    found = slices(service(), [pod(2), pod(3, ready=False), pod(4, app="other"), pod(5, namespace="else")])
    assert [each["addressType"] for each in found] == ["IPv4", "IPv6"]
    assert addresses_of(found, ready=True) == {"10.244.1.2", "fd00:10:244:1::2"}
    assert addresses_of(found, ready=False) == {"10.244.1.3", "fd00:10:244:1::3"}
    assert all(endpoints.is_ours(each) for each in found)
    assert found[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_a_named_port_that_differs_between_pods_makes_a_slice_each() -> None:
    found = slices(service(), [pod(2, port=8080), pod(3, port=9090)])
    assert {(each["ports"][0]["port"], each["addressType"]) for each in found} == {
        (port, family) for port in (8080, 9090) for family in ("IPv4", "IPv6")
    }
    assert len({each["metadata"]["name"] for each in found}) == 4


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"selector": None}, id="no selector: somebody else writes the slices"),
        pytest.param({"type": "ExternalName", "externalName": "x.org"}, id="a name elsewhere"),
    ],
)
def test_no_slices_are_made(spec: dict[str, Any]) -> None:
    assert slices(service(**spec), [pod(2)]) == []


def test_the_number_of_the_port_is_the_target_where_none_is_named() -> None:
    (four, _) = slices(service(ports=[{"port": 9000}]), [pod(2)])
    assert four["ports"] == [{"name": "", "port": 9000, "protocol": "TCP"}]


def test_unready_pods_are_published_where_the_service_wants_it() -> None:
    found = slices(service(publishNotReadyAddresses=True), [pod(2, ready=False)])
    assert addresses_of(found, ready=True) == {"10.244.1.2", "fd00:10:244:1::2"}


def test_the_order_of_pods_does_not_matter() -> None:
    assert slices(service(), [pod(2), pod(3)]) == slices(service(), [pod(3), pod(2)])


def completed(spec: dict[str, Any], given: ServiceAddresses | None = None) -> dict[str, Any]:
    found = (given or ServiceAddresses()).complete(service(**spec))
    assert found is not None
    return dict(found["spec"])


def test_a_service_gets_an_address_of_each_family_and_keeps_it() -> None:
    given = ServiceAddresses()
    first = completed({}, given)
    assert len(first["clusterIPs"]) == 2 and first["clusterIP"] == first["clusterIPs"][0]
    assert all(addresses.is_service_address(ip) for ip in first["clusterIPs"])
    assert completed({}, given) == first, "declared again, as a saved file does"
    assert given.complete({**service(), "spec": first}) is None, "complete already"
    assert completed({}) == first, "another start of the same cluster"


@pytest.mark.parametrize(
    "spec, families",
    [
        ({"ipFamilyPolicy": "SingleStack"}, ["IPv4"]),
        ({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}, ["IPv6"]),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"]),
    ],
)
def test_families_as_the_service_asks(spec: dict[str, Any], families: list[str]) -> None:
    assert [endpoints.family(ip) for ip in completed(spec)["clusterIPs"]] == families


def test_a_headless_service_and_a_name_elsewhere_need_nothing() -> None:
    assert ServiceAddresses().complete(service(clusterIP="None")) is None
    assert ServiceAddresses().complete(service(type="ExternalName")) is None


def test_an_address_is_honoured_unless_it_is_foreign_or_taken() -> None:
    given = ServiceAddresses()
    assert completed({"clusterIP": "10.96.77.77"}, given)["clusterIPs"] == ["10.96.77.77"]
    for wrong in ("10.96.77.77", "10.0.0.1", DNS[0]):
        with pytest.raises(ValueError, match=wrong.replace(".", r"\.")):
            given.complete(service("second", clusterIP=wrong))
    given.forget("default/web")
    assert given.complete(service("second", clusterIP="10.96.77.77")) is not None


def test_a_node_port_is_given_kept_and_honoured() -> None:
    given = ServiceAddresses()
    (port,) = completed({"type": "NodePort"}, given)["ports"]
    assert port["nodePort"] in addresses.NODE_PORTS
    assert completed({"type": "NodePort"}, given)["ports"] == [port]
    asked = [{"port": 80, "nodePort": 30001}]
    assert completed({"type": "NodePort", "ports": asked})["ports"][0]["nodePort"] == 30001


def test_a_thousand_services_have_a_thousand_addresses() -> None:
    given = ServiceAddresses()
    found = [given.complete(service(f"s{i}")) for i in range(1000)]
    assert len({ip for each in found if each for ip in each["spec"]["clusterIPs"]}) == 2000


def test_pod_numbers_run_out_and_come_back_last() -> None:
    numbers = addresses.PodNumbers()
    first = numbers.take()
    numbers.give_back(first)
    assert [numbers.take() for _ in range(253)][-1] == first
    with pytest.raises(addresses.Exhausted, match="253"):
        numbers.take()
