"""Who an address was, and who it becomes."""

from __future__ import annotations

import random
from ipaddress import ip_network

from weft.daemon.datapath import codec
from weft.daemon.datapath.moves import Finder, arrivals, moves
from weft.daemon.datapath.rows import Prefix, former, moving, settled

WORLD = 9


def prefix(text: str) -> Prefix:
    network = ip_network(text)
    return Prefix(network.network_address.packed, network.prefixlen)


def rows(**named: int) -> dict[Prefix, int]:
    return {prefix(text): number for text, number in named.items()}


def test_nothing_moves_where_nothing_changes() -> None:
    held = rows(**{"10.0.0.1/32": 300})
    assert moves(held, held) == {} and moves(held, dict(held)) == {}


def test_an_address_that_becomes_another_is_both_for_a_while() -> None:
    told = moves(rows(**{"10.0.0.1/32": 300}), rows(**{"10.0.0.1/32": 310}))
    (row,) = told.values()
    assert (settled(row), former(row)) == (310, 300)
    assert list(arrivals(told).values()) == [310]


def test_a_new_prefix_was_what_held_it_before() -> None:
    have = rows(**{"0.0.0.0/0": WORLD, "10.0.0.0/8": 1 << 24})
    told = moves(have, {**have, **rows(**{"10.1.0.0/16": 301, "192.0.2.1/32": 302})})
    assert told == rows(**{"10.1.0.0/16": moving(301, 1 << 24), "192.0.2.1/32": moving(302, WORLD)})


def test_a_prefix_that_goes_becomes_what_holds_it_then() -> None:
    have = rows(**{"0.0.0.0/0": WORLD, "10.0.0.0/8": 7, "2001:db8::/32": 8})
    told = moves(have, rows(**{"0.0.0.0/0": WORLD, "10.0.0.0/7": 5}))
    assert told == rows(
        **{"10.0.0.0/7": moving(5, WORLD), "10.0.0.0/8": moving(5, 7), "2001:db8::/32": moving(10, 8)}
    )


def test_who_was_left_in_the_middle_goes_on_from_there() -> None:
    have = rows(**{"10.0.0.1/32": moving(310, 300)})
    assert moves(have, rows(**{"10.0.0.1/32": 310})) == have
    assert moves(have, rows(**{"10.0.0.1/32": 320})) == rows(**{"10.0.0.1/32": moving(320, 300)})


def test_a_moving_row_survives_the_map() -> None:
    for row in (300, 1 << 24, moving(300, 1 << 24), moving(9, 0xFFFFFFFF)):
        assert codec.identity_of(codec.identity(row)) == row


def test_every_address_is_found_as_before_and_as_after() -> None:
    """With the moving rows in place, and with them settled, on random sets of prefixes."""
    lots = random.Random(3)
    for _ in range(200):
        texts = [
            f"10.{lots.randrange(4)}.{lots.randrange(4)}.0/{lots.choice((0, 8, 14, 15, 16, 23, 24))}"
            for _ in range(12)
        ]
        some = [prefix(str(ip_network(text, strict=False))) for text in texts]
        have = {each: lots.randrange(300, 330) for each in some[:8]}
        want = {each: lots.randrange(300, 330) for each in some[4:]}
        told = moves(have, want)
        between = {**have, **told}
        done = {each: row for each, row in {**between, **arrivals(told)}.items() if each in want}
        assert done == want
        for text in texts:
            address = prefix(f"{text.split('/')[0]}/32")
            row = longest(between, address)
            assert settled(row) == Finder(want).find(address)
            assert (former(row) or settled(row)) == Finder(have).find(address)


def longest(held: dict[Prefix, int], address: Prefix) -> int:
    """By looking at all of them."""
    whole = int.from_bytes(address.address, "big")
    inside = [
        (each.bits, row)
        for each, row in held.items()
        if whole >> (32 - each.bits) == int.from_bytes(each.address, "big") >> (32 - each.bits)
    ]
    return max(inside)[1] if inside else WORLD
