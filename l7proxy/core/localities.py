"""Near endpoints first: endpoints in levels of priority, and in shares by locality.

Rules, as Istio's (one of the first three holds):
1. `distribute`: the entry whose `from` fits the client's locality gives each locality a share; a locality that it
   does not name gets nothing. Nothing fits the client: everybody alike.
2. `failoverPriority`, or else region, zone and sub-zone: endpoints in levels by how near they are. Only with
   outlier detection, for without it nobody would ever be found ill and a lower level never be used.
3. The Service's trafficDistribution: levels likewise, needing no outlier detection.
4. Otherwise one level, everybody alike.

A level gets the requests that those above it cannot carry: a level carries 1.4 times the healthy part of its
endpoints (Envoy's overprovisioning), so a third may be gone before the next level sees any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from weft.l7proxy.core.endpoints import Backend
from weft.l7proxy.core.parties import Workload
from weft.policies.mesh.model import LoadBalancer, Locality

OVERPROVISIONING: Final = 1.4

_REGION: Final = "topology.kubernetes.io/region"
_ZONE: Final = "topology.kubernetes.io/zone"
_SUBZONE: Final = "topology.istio.io/subzone"
_HOSTNAME: Final = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client or an endpoint is, as far as balancing asks: what is not asked is left empty, so that clients
    that are alike share what is made for them."""

    region: str = ""
    zone: str = ""
    subzone: str = ""
    node: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, locality: str, node: str = "", labels: Mapping[str, str] | None = None) -> Place:
        region, _, rest = locality.partition("/")
        zone, _, subzone = rest.partition("/")
        return cls(region, zone, subzone, node, tuple(sorted((labels or {}).items())))

    def label(self, key: str) -> str | None:
        """Topology is a label, wherever it is known from."""
        known = {_REGION: self.region, _ZONE: self.zone, _SUBZONE: self.subzone, _HOSTNAME: self.node}
        return known.get(key) or dict(self.labels).get(key)


@dataclass(slots=True)
class Share:
    """Endpoints of one level that get `weight` of its requests."""

    endpoints: list[Backend] = field(default_factory=list)
    weight: float = 1.0


Levels = list[list[Share]]


def asked(setting: LoadBalancer, prefer: str, outlier: bool) -> tuple[Locality | None, str]:
    """What applies: a setting of the balancer, or the Service's preference; (None, ""): neither."""
    locality = setting.locality
    if locality is not None and locality.enabled is False:
        return None, ""
    if locality is not None and (locality.distribute or outlier):
        return locality, ""
    if locality is None and (setting.prefer or prefer):
        return None, setting.prefer or prefer
    return (locality or Locality(), "") if outlier else (None, "")


def place_of(client: Workload, setting: LoadBalancer, prefer: str, outlier: bool) -> Place:
    locality, prefer = asked(setting, prefer, outlier)
    if locality is None and not prefer:
        return Place()
    node = client.node if prefer == "node" or (locality and locality.priority) else ""
    labels = _chosen(client.labels, locality.priority) if locality is not None else {}
    return Place.of(client.locality, node, labels)


def levels(
    endpoints: Sequence[Backend], client: Place, setting: LoadBalancer, prefer: str, outlier: bool
) -> Levels:
    """Without empty levels, so one at least unless there are no endpoints."""
    locality, prefer = asked(setting, prefer, outlier)
    if locality is not None and locality.distribute:
        return _distributed(endpoints, client, locality)
    if locality is not None and locality.priority:
        return _ranked(endpoints, [_by_labels(client, one, locality.priority) for one in endpoints])
    if locality is not None:
        return _ranked(endpoints, [_by_distance(client, one, locality) for one in endpoints])
    if prefer:
        return _ranked(endpoints, [_by_preference(client, one, prefer) for one in endpoints])
    return _ranked(endpoints, [0] * len(endpoints))


def loads(levels: Sequence[tuple[int, int]]) -> list[float]:
    """Shares of the levels, from (available, all) of each. All 0: nobody is available."""
    health = [min(1.0, OVERPROVISIONING * available / every) if every else 0.0 for available, every in levels]
    total = min(1.0, sum(health))
    if not total:
        return [0.0] * len(health)
    left, shares = 1.0, []
    for level in health:
        share = min(left, level / total)
        shares.append(share)
        left -= share
    return shares


def _ranked(endpoints: Sequence[Backend], ranks: Sequence[int]) -> Levels:
    by_rank: dict[int, Share] = {}
    for endpoint, rank in zip(endpoints, ranks, strict=True):
        by_rank.setdefault(rank, Share()).endpoints.append(endpoint)
    return [[by_rank[rank]] for rank in sorted(by_rank)]


def _by_distance(client: Place, endpoint: Backend, locality: Locality) -> int:
    there = Place.of(endpoint.locality)
    if there.region != client.region:
        wanted = next((to for source, to in locality.failover if source == client.region), None)
        return 3 if wanted is None or wanted == there.region else 4
    if there.zone != client.zone:
        return 2
    return 0 if there.subzone == client.subzone else 1


def _by_labels(client: Place, endpoint: Backend, keys: Iterable[str]) -> int:
    """The more of the first keys are alike the better. `key=value` asks for that value instead of the client's."""
    wanted = [_wanted(client, key) for key in keys]
    there = Place.of(endpoint.locality, endpoint.node, endpoint.labels)
    alike = 0
    for key, value in wanted:
        if value is None or there.label(key) != value:
            break
        alike += 1
    return len(wanted) - alike


def _wanted(client: Place, key: str) -> tuple[str, str | None]:
    name, said, value = key.partition("=")
    return name, value if said else client.label(name)


def _by_preference(client: Place, endpoint: Backend, prefer: str) -> int:
    """Same node (where that is asked), zone, region, anywhere."""
    if prefer == "node" and client.node and endpoint.node == client.node:
        return 0
    there = Place.of(endpoint.locality)
    if not client.region or there.region != client.region:
        return 3
    return 1 if there.zone == client.zone else 2


def _distributed(endpoints: Sequence[Backend], client: Place, locality: Locality) -> Levels:
    shares = next((shares for source, shares in locality.distribute if _fits(source, client)), None)
    if shares is None:
        return _ranked(endpoints, [0] * len(endpoints))
    left, level = list(endpoints), []
    for pattern, weight in sorted(shares, key=lambda share: (share[0].count("*"), -len(share[0]))):
        found = [one for one in left if _fits(pattern, Place.of(one.locality))]
        taken = set(found)
        left = [one for one in left if one not in taken]
        if found and weight > 0:
            level.append(Share(found, weight))
    return [level] if level else []


def _fits(pattern: str, place: Place) -> bool:
    """`region/zone/sub-zone`; what is left out or is `*` fits everything."""
    for wanted, have in zip(pattern.split("/"), (place.region, place.zone, place.subzone), strict=False):
        if wanted == "*":
            return True
        if wanted != have:
            return False
    return True


def _chosen(labels: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    names = {key.partition("=")[0] for key in keys}
    return {name: value for name, value in labels.items() if name in names}
