"""In which order Gateway API's rules are asked when several routes speak for one host (HTTPRouteRule, precedence).

1. an exact path, 2. the longest path prefix, 3. a method, 4. the most headers, 5. the most query parameters; then
6. the older route, 7. the first by namespace/name, 8. the earlier rule. It is a match that has a place in this
order, not a rule: a rule with several matches stands in several places.
"""

from __future__ import annotations

import msgspec

from weft.policies.mesh.model import How, RequestMatch, Route, Rule

_NO_DATE = "9999"

_EVERYTHING = RequestMatch()


def merged(routes: list[Route]) -> tuple[Rule, ...]:
    """The rules of all `routes`, one for each match, in the order in which they are to be asked."""
    places = []
    for route in routes:
        age = (route.created or _NO_DATE, route.ref.namespace, route.ref.name)
        for number, rule in enumerate(route.http):
            for match in rule.matches or (_EVERYTHING,):
                for placed in _on_ports(match, route.ports):
                    single = msgspec.structs.replace(rule, matches=(placed,))
                    places.append((*_specificity(placed), *age, number, single))
    places.sort(key=lambda place: place[:-1])
    return tuple(place[-1] for place in places)


def _on_ports(match: RequestMatch, ports: tuple[int, ...]) -> list[RequestMatch]:
    if not ports or match.port:
        return [match]
    return [msgspec.structs.replace(match, port=port) for port in ports]


def _specificity(match: RequestMatch) -> tuple[int, int, int, int, int]:
    """Less comes first."""
    path = match.path
    exact = path is not None and path.how is How.EXACT
    length = len(path.value) if path is not None else 0
    return (not exact, -length, match.method is None, -len(match.headers), -len(match.query))
