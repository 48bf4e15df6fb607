"""Where does a request go. In: what is declared for one host, once. Out: for each request, the rule that decides.

The rule of this file: decide in the declared order, but look at as little of it as possible. Rules whose match is
an exact path stand in a dict; of the others only those before the dict's answer are tested. The same code answers
`policy verdict` and the proxy: it is pure, and what RE2 refuses takes its route out, nothing else: with a reason,
and 500 for who asks for it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from weft.policies.dialects.re2 import BadPattern
from weft.policies.errors import Invalid, Where
from weft.policies.mesh.matching import (
    Check,
    Client,
    RequestHead,
    View,
    bare,
    request_test,
    substitution,
    value_test,
)
from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    HostRouting,
    How,
    RequestMatch,
    Route,
    Rule,
)

ANY = RequestMatch()
#: Headers that a proxy adds before it asks, another value each time.
PER_REQUEST = frozenset(("x-request-id",))
REMEMBERED = 4096  # (namespace, port) pairs: a client chooses its port, so there must be an end


@dataclass(slots=True)
class Asked:
    """A request as one asks about it offline."""

    method: bytes = b"GET"
    path: bytes = b"/"
    authority: bytes = b""
    scheme: bytes = b"http"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Chosen:
    """`rule` None: the route is for this client, and none of its rules matches (404). `match`: the one that hit,
    for rewrites of the prefix; None: the rule takes everything. `plan`: the user's own, made from the rule once."""

    __slots__ = ("match", "plan", "route", "rule")

    def __init__(self, route: Route, rule: Rule | None, match: RequestMatch | None) -> None:
        self.route, self.rule, self.match = route, rule, match
        self.plan: Any = None


class Chooser:
    """`refused`: the routes of `routing` that are left out, and why. `steady`: the same head, client and port get
    the same rule each time; not so where a match asks for an id that proxies give to every request."""

    def __init__(self, routing: HostRouting) -> None:
        self.routing = routing
        self.steady = not any(
            named.name.lower() in PER_REQUEST
            for route in routing.routes
            for rule in route.http
            for match in rule.matches
            for named in match.headers
        )
        self.refused: list[Invalid] = []
        self._routes = [compiled for route in routing.routes if (compiled := self._compile(route))]
        self._for: dict[tuple[str, int], tuple[_Compiled, ...]] = {}

    def rule(self, request: RequestHead, client: Client, authority: bytes, port: int) -> Chosen | None:
        """None: no route of this host is for the client and port, so the host is as one without routes."""
        asked = self._for.get((client.namespace, port))
        if asked is None:
            asked = self._candidates(client.namespace, port)
        if not asked:
            return None
        route = asked[0]
        if len(asked) > 1:
            names = authority_names(authority, self.routing.host)
            route = next((one for one in asked if one.covers(names)), route)
        return route.choose(request, client, port)

    def policy(self, client: Client) -> DestinationPolicy | None:
        """The DestinationRule that holds for this client; it alone decides."""
        for policy in self.routing.policies:
            if policy.clients is not None and client.namespace not in policy.clients:
                continue
            if not policy.selector or dict(policy.selector).items() <= client.labels.items():
                return policy
        return None

    def _candidates(self, namespace: str, port: int) -> tuple[_Compiled, ...]:
        if len(self._for) >= REMEMBERED:
            self._for.clear()
        found = tuple(one for one in self._routes if one.concerns(namespace, port))
        self._for[namespace, port] = found
        return found

    def _compile(self, route: Route) -> _Compiled | None:
        if not route.http or not route.hosts:  # only for TCP, or only delegated to
            return None
        try:
            check(route)
            return _Compiled(route, self.routing.host)
        except Invalid as refusal:
            self.refused.append(refusal)
            return _Compiled(stand_in(route, refusal.reason), self.routing.host)


def stand_in(route: Route, reason: str) -> Route:
    """For a route that cannot be taken. Its host is not one without routes, to be reached past whatever the route
    keeps from it: 500, as where a destination is not permitted."""
    nowhere = (Destination(route.hosts[0] if route.hosts else "", refused=reason, missing=500),)
    rule = Rule(route.http[0].origin, "refused", destinations=nowhere)
    return msgspec.structs.replace(route, http=(rule,))


def check(route: Route) -> None:
    """Raises `Invalid` for the first pattern in it that RE2 refuses."""
    for rule in route.http:
        try:
            for match in rule.matches:
                request_test(match)
            if rule.rewrite and rule.rewrite.regex:
                substitution(rule.rewrite.regex, rule.rewrite.substitution)
            for origin in rule.cors.allow_origins if rule.cors else ():
                value_test(origin)
            for named in rule.retries.response_headers:
                value_test(named.matcher)
        except BadPattern as error:
            raise Invalid(_where(route, rule), str(error)) from None


def _where(route: Route, rule: Rule) -> Where:
    return Where(object=str(route.ref), path=rule.origin.path)


# --- one route ---------------------------------------------------------------------------------------------------


class _Compiled:
    """`_exact`: path -> its matches in order; `_others`: the rest. Each is (place in the order, test, answer)."""

    def __init__(self, route: Route, host: str) -> None:
        self.route = route
        self._clients = None if route.clients is None else frozenset(route.clients)
        self._ports = frozenset(route.ports)
        self._hosts = frozenset(name.encode() for name in route.hosts if not name.startswith("*"))
        self._suffixes = tuple(name[1:].encode() for name in route.hosts if name.startswith("*"))
        self._exact: dict[bytes, list[tuple[int, Check | None, Chosen]]] = {}
        self._others: list[tuple[int, Check | None, Chosen]] = []
        self._unmatched = Chosen(route, None, None)
        self._fill()
        alone = len(self._others) == 1 and not self._exact and self._others[0][1] is None
        self._only = self._others[0][2] if alone else None

    def concerns(self, namespace: str, port: int) -> bool:
        if self._clients is not None and namespace not in self._clients:
            return False
        return not self._ports or port in self._ports

    def covers(self, names: frozenset[bytes]) -> bool:
        if not self._hosts.isdisjoint(names):
            return True
        return any(name.endswith(self._suffixes) for name in names) if self._suffixes else False

    def choose(self, request: RequestHead, client: Client, port: int) -> Chosen:
        if self._only is not None:
            return self._only
        path = bare(request.path)
        view = View(request, path, client, port)
        best, bound = self._unmatched, 1 << 30
        for place, test, chosen in self._exact.get(path, ()):
            if test is None or test(view):
                best, bound = chosen, place
                break
        for place, test, chosen in self._others:
            if place > bound:
                break
            if test is None or test(view):
                return chosen
        return best

    def _fill(self) -> None:
        place = 0
        for rule in self.route.http:
            for match in rule.matches or (None,):
                place += 1
                if not self._place(place, rule, match):
                    return

    def _place(self, place: int, rule: Rule, match: RequestMatch | None) -> bool:
        """False: everything matches here, what follows is never asked."""
        chosen = Chosen(self.route, rule, match)
        path = match.path if match else None
        if match and path and path.how is How.EXACT and not path.ignore_case and not path.invert:
            row = (place, request_test(match, with_path=False), chosen)
            self._exact.setdefault(path.value.encode(), []).append(row)
            return True
        test = request_test(match) if match else None
        self._others.append((place, test, chosen))
        return test is not None


def authority_names(authority: bytes, host: str) -> frozenset[bytes]:
    """The names that an authority may mean: itself without its port, and `host` where it is a short form of it
    (the destination has selected the Service already, so `orders` can only be this one)."""
    name = authority.lower()
    if b":" in name and not name.endswith(b"]"):
        head, _, port = name.rpartition(b":")
        name = head if port.isdigit() or not port else name
    name = name.rstrip(b".")
    full = host.encode()
    if full == name or full.startswith(name + b"."):
        return frozenset((name, full))
    return frozenset((name,))


# --- one of several destinations ---------------------------------------------------------------------------------


class Weighted:
    """Shares of the sum of weights. One destination gets everything, whatever its weight."""

    __slots__ = ("_steps", "_total")

    def __init__(self, destinations: Sequence[Destination]) -> None:
        weights: Iterable[int] = [max(one.weight, 0) for one in destinations]
        self._steps = list(itertools.accumulate([1] if len(destinations) == 1 else weights))
        self._total = self._steps[-1] if self._steps else 0

    def at(self, draw: float) -> int:
        """The index of the destination for `draw` of [0, 1); -1: no destination has a weight."""
        if not self._total:
            return -1
        return bisect.bisect_right(self._steps, draw * self._total)
