"""What of a new snapshot this proxy cannot take: refused by itself, with the reason; its last good version stays.

A route goes back to the one of the same name that was in force for the host; if there is none, it stands and
answers 500, for a host that was to be routed is not reached without its route. A policy goes back to the one
before, and if there is none it stands with a rule that lets nothing pass (nothing fails open).
"""

from __future__ import annotations

import msgspec

from weft.policies import l7
from weft.policies.errors import Invalid
from weft.policies.mesh.choose import check, stand_in
from weft.policies.mesh.model import HostRouting, Route
from weft.policies.snapshot import PolicyItem


class Refusals:
    def __init__(self) -> None:
        self._by_key: dict[object, dict[str, str]] = {}  # host or ref of the policy -> resource -> reason

    def all(self) -> dict[str, str]:
        """Resource -> reason, of all that is refused now."""
        return {resource: reason for found in self._by_key.values() for resource, reason in found.items()}

    def forget(self, key: object) -> None:
        self._by_key.pop(key, None)

    def routing(self, new: HostRouting, held: HostRouting | None) -> HostRouting:
        """`new`, with the last good version of every route that cannot be taken."""
        bad = {str(route.ref): reason for route in new.routes if (reason := _bad_route(route))}
        self._note(new.host, bad)
        if not bad:
            return new
        good = {route.ref: route for route in (held.routes if held else ())}
        routes = (
            good.get(route.ref) or stand_in(route, bad[str(route.ref)]) if str(route.ref) in bad else route
            for route in new.routes
        )
        return msgspec.structs.replace(new, routes=tuple(routes))

    def policy(self, new: PolicyItem, held: PolicyItem | None) -> PolicyItem:
        rules = (http for spec in new.specs for rule in spec.rules if rule.l7 for http in rule.l7.http)
        reason = next((why for http in rules if (why := l7.bad_pattern(http))), "")
        self._note(new.ref, {f"policy {new.ref}": reason} if reason else {})
        return held if reason and held is not None else new

    def _note(self, key: object, found: dict[str, str]) -> None:
        if found:
            self._by_key[key] = found
        else:
            self._by_key.pop(key, None)


def _bad_route(route: Route) -> str:
    """ "": it can be taken."""
    try:
        check(route)
    except Invalid as error:
        return f"{error.where.path}: {error.reason}" if error.where.path else error.reason
    return ""
