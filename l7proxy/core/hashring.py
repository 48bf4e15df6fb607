"""Consistent hashing: from a key to an endpoint, so that few keys move when an endpoint comes or goes.

Both tables are made of all endpoints of a set; one that may not be had now (ejected, denied) is passed over to
the next in the table, so only its own keys move, and they come back to it. Hashes are the same in every worker
and process.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from weft.l7proxy.core.endpoints import Backend

#: What `ring_size` counts as at most (Envoy's bound is 8 million): a ring is made while requests wait, and this
#: one takes 30 ms. With ten endpoints their shares differ by 2 % then.
MAX_POINTS: Final = 1 << 15
_INDEX_BITS: Final = 20
_PER_DIGEST: Final = 8
_POINTS = struct.Struct("<8Q")


def hashed(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")


class Table(Protocol):
    def pick(self, key: int, fit: Callable[[Backend], bool]) -> Backend | None: ...


class Ring:
    """`size`: points at least. Each endpoint has points in proportion to its weight, at least one."""

    __slots__ = ("_endpoints", "_owners", "_points")

    def __init__(self, endpoints: Sequence[Backend], size: int) -> None:
        self._endpoints = endpoints
        # one number for point and owner: sorting pairs takes three times as long
        points = sorted(
            point << _INDEX_BITS | index
            for index, (endpoint, count) in enumerate(zip(endpoints, _shares(endpoints, size), strict=True))
            for point in _points(endpoint.address, count)
        )
        self._points = array("Q", (point >> _INDEX_BITS for point in points))
        self._owners = array("L", (point & (1 << _INDEX_BITS) - 1 for point in points))

    def __len__(self) -> int:
        return len(self._points)

    def pick(self, key: int, fit: Callable[[Backend], bool]) -> Backend | None:
        """The owner of the first point at or after the key, round the ring, that is fit."""
        return _first(self._owners, bisect_left(self._points, key), self._endpoints, fit)


def _first(
    owners: Sequence[int], start: int, endpoints: Sequence[Backend], fit: Callable[[Backend], bool]
) -> Backend | None:
    """The owner of the first place at or after `start`, round and round, that is fit; each is asked once."""
    size = len(owners)
    refused: set[int] = set()
    for step in range(size):
        owner = owners[(start + step) % size]
        if owner in refused:
            continue
        endpoint = endpoints[owner]
        if fit(endpoint):
            return endpoint
        refused.add(owner)
        if len(refused) == len(endpoints):
            break
    return None


def _shares(endpoints: Sequence[Backend], size: int) -> list[int]:
    """So many points each that all of them together are at least `size`: for the lightest a power of two, so that
    the others keep their points, and with them their keys, when one comes or goes."""
    if not endpoints:
        return []
    total, least = sum(endpoint.weight for endpoint in endpoints), min(endpoint.weight for endpoint in endpoints)
    needed = -(-min(max(size, 1), MAX_POINTS) * least // total)
    scale = 1 << (needed - 1).bit_length()
    return [max(1, round(endpoint.weight * scale / least)) for endpoint in endpoints]


def _points(address: str, count: int) -> list[int]:
    name = address.encode()
    points: list[int] = []
    for block in range(-(-count // _PER_DIGEST)):
        points += _POINTS.unpack(hashlib.blake2b(name + b"_%d" % block, digest_size=64).digest())
    return points[:count]


class Maglev:
    """Maglev (Eisenbud et al., NSDI 2016, 3.4): every endpoint fills places of the table in an order of its own, in
    turn, in proportion to its weight. `size` is a prime."""

    __slots__ = ("_endpoints", "_table")

    def __init__(self, endpoints: Sequence[Backend], size: int) -> None:
        self._endpoints = endpoints
        self._table = _filled(endpoints, size) if endpoints else array("H")

    def __len__(self) -> int:
        return len(self._table)

    def pick(self, key: int, fit: Callable[[Backend], bool]) -> Backend | None:
        return _first(self._table, key, self._endpoints, fit)


_EMPTY: Final = 0xFFFF


def _filled(endpoints: Sequence[Backend], size: int) -> array[int]:
    table = array("H", [_EMPTY]) * size
    names = [endpoint.address.encode() for endpoint in endpoints]
    places = [hashed(name + b"#offset") % size for name in names]
    skips = [hashed(name + b"#skip") % (size - 1) + 1 for name in names]
    most = max(endpoint.weight for endpoint in endpoints)
    shares, credit = [endpoint.weight / most for endpoint in endpoints], [0.0] * len(endpoints)
    left = size
    while True:
        for index, skip in enumerate(skips):
            credit[index] += shares[index]
            if credit[index] < 1.0:
                continue
            credit[index] -= 1.0
            place = places[index]
            while table[place] != _EMPTY:
                place = (place + skip) % size
            table[place], places[index] = index, (place + skip) % size
            left -= 1
            if not left:
                return table
