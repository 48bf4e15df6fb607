"""Prefixes as identities: stable numbers, never used twice, and what a CidrPeer means among them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from weft.policies.cidr import CidrIdentities
from weft.policies.identity import LOCAL_MIN, WORLD_IPV4, WORLD_IPV6
from weft.policies.model import CidrPeer

TEN, TEN_ONE, TEN_ONE_TWO = (ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"))
DOC6 = ip_network("2001:db8::/32")


@pytest.fixture
def cidrs() -> CidrIdentities:
    made = CidrIdentities()
    made.hold("policy a", [TEN, TEN_ONE_TWO, DOC6])
    made.hold("policy b", [TEN_ONE])
    return made


def number(cidrs: CidrIdentities, text: str) -> int:
    found = cidrs.number(ip_network(text))
    assert found is not None
    return found


def test_the_whole_families_are_the_world_and_always_there() -> None:
    assert dict(CidrIdentities().prefixes()) == {
        ip_network("0.0.0.0/0"): WORLD_IPV4,
        ip_network("::/0"): WORLD_IPV6,
    }


def test_naming_a_whole_family_makes_no_new_number() -> None:
    cidrs = CidrIdentities()
    assert not cidrs.hold("policy", [ip_network("0.0.0.0/0")])
    assert len(cidrs.prefixes()) == 2
    assert not cidrs.hold("policy", [])


def test_numbers_start_where_the_cluster_wide_ones_cannot_reach(cidrs: CidrIdentities) -> None:
    local = set(cidrs.prefixes().values()) - {WORLD_IPV4, WORLD_IPV6}
    assert local == set(range(LOCAL_MIN, LOCAL_MIN + 4))


def test_a_prefix_stays_while_one_holder_names_it(cidrs: CidrIdentities) -> None:
    assert not cidrs.hold("policy b", [TEN_ONE, TEN])
    assert not cidrs.hold("policy a", [TEN_ONE_TWO, DOC6])
    assert cidrs.number(TEN) is not None
    assert cidrs.hold("policy b", [TEN_ONE])
    assert cidrs.number(TEN) is None


def test_a_number_is_never_given_to_another_prefix(cidrs: CidrIdentities) -> None:
    before = number(cidrs, "10.0.0.0/8")
    cidrs.hold("policy a", [])
    cidrs.hold("policy c", [ip_network("172.16.0.0/12")])
    assert number(cidrs, "172.16.0.0/12") != before
    assert number(cidrs, "172.16.0.0/12") > before


def test_a_prefix_that_comes_back_gets_its_number_back(cidrs: CidrIdentities) -> None:
    before = number(cidrs, "10.0.0.0/8")
    cidrs.hold("policy a", [])
    assert cidrs.hold("policy d", [TEN])
    assert number(cidrs, "10.0.0.0/8") == before


def test_numbers_of_a_run_before_are_kept_and_not_given_to_others() -> None:
    known = {TEN: LOCAL_MIN + 7, ip_network("0.0.0.0/0"): WORLD_IPV4, TEN_ONE: 300}
    cidrs = CidrIdentities(known)
    assert cidrs.number(TEN) is None, "in force only once a policy names it"
    cidrs.hold("policy", [TEN, DOC6])
    assert (number(cidrs, "10.0.0.0/8"), number(cidrs, "2001:db8::/32")) == (LOCAL_MIN + 7, LOCAL_MIN + 8)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("10.1.3.3", "10.1.0.0/16"),
        ("10.200.0.1", "10.0.0.0/8"),
        ("11.0.0.1", "0.0.0.0/0"),
        ("2001:db8:1::1", "2001:db8::/32"),
        ("2a00::1", "::/0"),
    ],
)
def test_an_address_has_the_number_of_its_longest_prefix(cidrs: CidrIdentities, address: str, prefix: str) -> None:
    assert cidrs.lookup(address) == number(cidrs, prefix)


@pytest.mark.parametrize(
    ("peer", "meant"),
    [
        (CidrPeer(TEN), {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"}),
        (CidrPeer(TEN, (TEN_ONE,)), {"10.0.0.0/8"}),
        (CidrPeer(TEN, (TEN_ONE_TWO,)), {"10.0.0.0/8", "10.1.0.0/16"}),
        (CidrPeer(TEN_ONE), {"10.1.0.0/16", "10.1.2.0/24"}),
        (CidrPeer(ip_network("10.1.0.0/17")), {"10.1.2.0/24"}),
        (CidrPeer(ip_network("0.0.0.0/0")), {"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"}),
        (CidrPeer(ip_network("0.0.0.0/0"), (TEN,)), {"0.0.0.0/0"}),
        (CidrPeer(DOC6), {"2001:db8::/32"}),
        (CidrPeer(ip_network("::/0"), (DOC6,)), {"::/0"}),
    ],
    ids=str,
)
def test_a_peer_means_the_prefixes_inside_it_and_outside_its_exceptions(
    cidrs: CidrIdentities, peer: CidrPeer, meant: set[str]
) -> None:
    assert cidrs.matching(peer) == {number(cidrs, text) for text in meant}


def test_the_world_is_every_number_of_the_family(cidrs: CidrIdentities) -> None:
    assert cidrs.family(6) == {WORLD_IPV6, number(cidrs, "2001:db8::/32")}
    assert len(cidrs.family(4)) == 4
