"""Which traffic policy holds for one client, port and subset: levels put together, defaults filled in.

1. Of several DestinationRules for a host, the first that is for the client decides alone.
2. `portLevelSettings` of the port stand in place of the whole level that they belong to: what they leave out is a
   default, not the level's (F37).
3. A subset's policy stands over its destination's field by field (F30).
4. What nobody says: least request, Istio's pool limits, no outlier detection, TLS as identity has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from weft.l7proxy.core.parties import Workload
from weft.policies.mesh.model import (
    ConnectionPool,
    DestinationPolicy,
    HostRouting,
    LeveledPolicy,
    LoadBalancer,
    Subset,
    TrafficPolicy,
)

DEFAULT: Final = TrafficPolicy(LoadBalancer(), ConnectionPool())


def in_force(routing: HostRouting | None, client: Workload) -> DestinationPolicy | None:
    return next((policy for policy in routing.policies if is_for(policy, client)), None) if routing else None


def is_for(policy: DestinationPolicy, client: Workload) -> bool:
    if policy.clients is not None and client.namespace not in policy.clients:
        return False
    return bears(client.labels, policy.selector)


def bears(labels: Mapping[str, str], wanted: tuple[tuple[str, str], ...]) -> bool:
    """No wanted labels: yes."""
    return all(labels.get(key) == value for key, value in wanted)


def subset_named(policy: DestinationPolicy | None, name: str) -> Subset | None:
    subsets = policy.subsets if policy is not None else ()
    return next((subset for subset in subsets if subset.name == name), None)


def effective(policy: DestinationPolicy | None, subset: Subset | None, port: int) -> TrafficPolicy:
    """`port`: the service's. `load_balancer` and `connection_pool` are never None in what comes out."""
    levels = [policy.policy] if policy is not None else []
    if subset is not None and subset.policy is not None:
        levels.append(subset.policy)
    chosen = DEFAULT
    for level in levels:
        chosen = _over(_at(level, port), chosen)
    return chosen


def _at(level: LeveledPolicy, port: int) -> TrafficPolicy | _Whole:
    own = next((own.policy for own in level.ports if own.port == port), None)
    return level.policy if own is None else _Whole(own)


class _Whole:
    """A port's settings: they hide what lies below, too."""

    __slots__ = ("policy",)

    def __init__(self, policy: TrafficPolicy) -> None:
        self.policy = policy


def _over(upper: TrafficPolicy | _Whole, lower: TrafficPolicy) -> TrafficPolicy:
    if isinstance(upper, _Whole):
        upper, lower = upper.policy, DEFAULT
    return TrafficPolicy(
        upper.load_balancer or lower.load_balancer,
        upper.connection_pool or lower.connection_pool,
        upper.outlier or lower.outlier,
        upper.tls or lower.tls,
    )
