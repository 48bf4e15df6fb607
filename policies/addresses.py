"""Who an address belongs to. Two claim one: a node goes before pods, a ready pod before one that is not (it ended,
and its address was given away), then the name decides, so that every operator decides alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from weft.policies.model import ObjectRef


class Claim(NamedTuple):
    """Sorts as the rule above says."""

    is_pod: bool
    unready: bool
    ref: ObjectRef


class Addresses:
    def __init__(self) -> None:
        self._claims: dict[str, list[Claim]] = {}  # best first
        self._ips: dict[ObjectRef, tuple[Claim, tuple[str, ...]]] = {}

    def claim(self, claim: Claim, ips: tuple[str, ...]) -> set[str]:
        """Replaces what `claim.ref` claimed before. Returns the addresses concerned."""
        touched = self.release(claim.ref)
        if ips:
            self._ips[claim.ref] = claim, ips
        for ip in ips:
            claims = self._claims.setdefault(ip, [])
            claims.append(claim)
            claims.sort()
        return touched.union(ips)

    def release(self, ref: ObjectRef) -> set[str]:
        claim, ips = self._ips.pop(ref, (None, ()))
        for ip in ips:
            claims = self._claims[ip]
            if claim:
                claims.remove(claim)
            if not claims:
                del self._claims[ip]
        return set(ips)

    def owner(self, ip: str) -> ObjectRef | None:
        claims = self._claims.get(ip)
        return claims[0].ref if claims else None

    def claimants(self, ip: str) -> list[ObjectRef]:
        """The owner first."""
        return [claim.ref for claim in self._claims.get(ip, ())]

    def contested(self) -> Iterator[tuple[str, ObjectRef, ObjectRef]]:
        """(address, owner, loser) of every claim that lost."""
        for ip, claims in self._claims.items():
            for loser in claims[1:]:
                yield ip, claims[0].ref, loser.ref
