"""Facts from rtnetlink's messages; the messages are what pyroute2 makes of the kernel's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from weft.daemon.datapath.rows import packed
from weft.daemon.netlink import Facts

V4, V6 = socket.AF_INET, socket.AF_INET6


def route(event: str = "NEW", **fields: Any) -> dict[str, Any]:
    plain = {"family": V4, "dst_len": 32, "dst": "10.244.1.1", "oif": 7, "table": 254, "type": 1}
    return {"event": f"RTM_{event}ROUTE", **plain, **fields}


def link(event: str = "NEW", index: int = 7, name: str = "veth7", family: int = 0) -> dict[str, Any]:
    return {"event": f"RTM_{event}LINK", "index": index, "ifname": name, "family": family}


def addr(address: str, event: str = "NEW", **fields: Any) -> dict[str, Any]:
    return {"event": f"RTM_{event}ADDR", "index": 1, "address": address, **fields}


@pytest.mark.parametrize(
    ("message", "address"),
    [
        (route(), "10.244.1.1"),
        (route(family=V6, dst_len=128, dst="fd00::1"), "fd00::1"),
        (route(dst_len=24), None),
        (route(table=255), None),
        (route(type=2), None),
        (route(oif=None), None),
        (route(dst=None, dst_len=0), None),
    ],
    ids=["a host route", "of IPv6", "to a network", "of another table", "local", "of no interface", "default"],
)
def test_only_a_host_route_leads_to_a_workload(message: dict[str, Any], address: str | None) -> None:
    facts = Facts()
    assert facts.take(message) is (address is not None)
    assert facts.routes == ({packed(address): 7} if address else {})


def test_a_route_that_moved_is_not_deleted_by_the_old_ones_end() -> None:
    facts = Facts()
    facts.take(route())
    facts.take(route(oif=8))
    assert not facts.take(route("DEL"))
    assert facts.routes == {packed("10.244.1.1"): 8}


def test_routes_go_with_their_link_though_the_kernel_does_not_say_so() -> None:
    facts = Facts()
    facts.take(link())
    facts.take(route())
    assert facts.take(link("DEL")) and not facts.routes and not facts.links


def test_leaving_a_bridge_is_not_going() -> None:
    facts = Facts()
    facts.take(link())
    assert not facts.take(link("DEL", family=socket.AF_BRIDGE)) and facts.links


def test_what_is_known_already_is_no_change() -> None:
    facts = Facts()
    for message in (link(), route(), addr("172.30.0.1")):
        assert facts.take(message) and not facts.take(message)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1"])
def test_addresses_that_many_nodes_have_are_nobodys(address: str) -> None:
    assert not Facts().take(addr(address))


def test_an_address_of_two_links_goes_with_the_second() -> None:
    facts = Facts()
    facts.take(addr("169.254.1.1", index=3))
    facts.take(addr("169.254.1.1", index=4))
    facts.take(addr("169.254.1.1", "DEL", index=3))
    assert {address for _, address in facts.addresses} == {"169.254.1.1"}


def test_messages_of_other_kinds_are_passed_over() -> None:
    assert not Facts().take({"event": "RTM_NEWNEIGH"}) and not Facts().take({})


def test_an_interface_that_went_is_told_though_another_has_its_number_already() -> None:
    """The kernel let go of the programs with the old one: the new one has none."""
    facts = Facts()
    for message in (link(), link("DEL"), link()):
        facts.take(message)
    assert facts.links == {7: "veth7"} and facts.gone == {7}
