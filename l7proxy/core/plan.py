"""A rule, compiled for the exchange: everything that does not depend on the request is made here, once."""

from __future__ import annotations

from weft.l7proxy.core.cors import CorsPolicy
from weft.l7proxy.core.headers import Changes, in_order
from weft.l7proxy.core.retry import RetryPolicy
from weft.l7proxy.core.rewrite import path_change
from weft.policies.mesh.choose import Chosen, Weighted
from weft.policies.mesh.model import DEFAULT_RETRIES, Destination, RequestMatch, Retries, Rule


class Target:
    """One destination of a rule, with the header changes of both in their order. `destination` None: the host
    that was addressed itself."""

    __slots__ = ("destination", "request", "response")

    def __init__(self, rule: Rule | None, destination: Destination | None, single: bool) -> None:
        self.destination = destination
        of_rule = (rule.request_headers, rule.response_headers) if rule else (None, None)
        of_destination = (
            (destination.request_headers, destination.response_headers) if destination else (None, None)
        )
        self.request = in_order(of_rule[0], of_destination[0], single)
        self.response = in_order(of_rule[1], of_destination[1], single)


class Plan:
    """`name`: for the record. `plain`: nothing but a destination, a timeout and retries."""

    __slots__ = (
        "authority",
        "cors",
        "match",
        "name",
        "path_change",
        "picky",
        "plain",
        "response",
        "retry",
        "rule",
        "targets",
        "timeout",
        "weights",
    )

    def __init__(
        self, rule: Rule | None, match: RequestMatch | None, retries: Retries, name: str = "default"
    ) -> None:
        self.rule, self.match, self.name = rule, match, name
        destinations = rule.destinations if rule else ()
        single = len(destinations) <= 1
        self.targets = [Target(rule, one, single) for one in destinations] or [Target(rule, None, True)]
        self.weights = Weighted(destinations) if rule else None
        self.timeout = rule.timeout if rule else 0.0
        self.retry = RetryPolicy(retries)
        self.picky = self.retry.picky
        rewrite = rule.rewrite if rule else None
        self.path_change = path_change(rewrite, match) if rewrite else None
        self.authority = rewrite.authority.encode() if rewrite and rewrite.authority else None
        self.cors = CorsPolicy(rule.cors) if rule and rule.cors else None
        self.response = Changes(rule.response_headers) if rule and rule.response_headers else None
        self.plain = rule is None or not (rule.cors or rule.fault or rule.redirect or rule.direct or rule.mirrors)


def plan_of(chosen: Chosen) -> Plan:
    """The plan of a choice that has a rule; made when it is first chosen, kept with it."""
    plan: Plan | None = chosen.plan
    if plan is None:
        rule = chosen.rule
        assert rule is not None
        name = rule.name or f"{rule.origin.namespace}/{rule.origin.name}"
        plan = chosen.plan = Plan(rule, chosen.match, rule.retries, name)
    return plan


#: A host that nobody routes: its own cluster, Istio's default retries.
ROUTELESS = Plan(None, None, DEFAULT_RETRIES)
#: On the server's side of another proxy: what was decided there stands (Istio's inbound retries).
INBOUND = Plan(None, None, Retries(attempts=2, on=("reset-before-request",)), "inbound")
PASSTHROUGH = Plan(None, None, DEFAULT_RETRIES, "allow_any")
