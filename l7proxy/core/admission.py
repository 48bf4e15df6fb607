"""Network policy's word on one request: the limits of both sides, and what their headerMatches change.

Egress is judged on the request as the client sent it: its policy speaks of what the workload does, and a rewrite
is none of its doing. Ingress is judged on the request as the server will see it: its policy guards the server, and
a path that a rewrite hides from it would be a hole.
"""

from __future__ import annotations

from weft.l7proxy.core.headers import replaced
from weft.l7proxy.core.parties import Permit, World
from weft.l7proxy.core.record import Entry
from weft.l7proxy.core.stream import Headers, Request
from weft.policies.l7 import HeaderChange, HttpLimits
from weft.policies.l7 import Request as PolicyRequest


def admit(world: World, permit: Permit, asked: Request, sent: Request, entry: Entry) -> bool:
    """Whether both sides let the request pass; `sent` gets what their rules change. Fills the entry's policies."""
    entry.allowed_by = permit.allowed_by
    for limits, request in ((permit.egress, asked), (permit.ingress, sent)):
        if limits is None:
            continue
        answer = world.judge(limits, policy_request(request))
        if not answer.allowed:
            entry.allowed_by, entry.denied_by = (), _objects(limits)
            return False
        passed = (str(origin.ref) for origin, _ in answer.rules)
        entry.allowed_by = tuple(dict.fromkeys((*entry.allowed_by, *passed)))
        for change in answer.changes:
            if change.name != "host":
                apply(sent.headers, change)
            elif change.action == "REPLACE":  # a request has one host: none is added, none taken away
                sent.authority = change.value.encode("latin-1", "replace")
    return True


def policy_request(request: Request) -> PolicyRequest:
    """The Host header is the authority, whatever the version."""
    authority = request.authority.decode("latin-1")
    headers: dict[str, tuple[str, ...]] = {"host": (authority,)} if authority else {}
    for name, value in request.headers:
        key = name.decode("latin-1")
        headers[key] = (*headers.get(key, ()), value.decode("latin-1"))
    return PolicyRequest(request.method.decode("latin-1"), request.path.decode("latin-1"), authority, headers)


def apply(headers: Headers, change: HeaderChange) -> None:
    """In place. LOG changes nothing: it only tells, and there is no field of the record for it."""
    name, value = change.name.encode("latin-1"), change.value.encode("latin-1", "replace")
    if change.action == "ADD":
        headers.append((name, value))
    elif change.action == "REPLACE":
        replaced(headers, name, value)
    elif change.action == "DELETE":
        headers[:] = [pair for pair in headers if pair[0] != name or (value and pair[1] == value)]


def _objects(limits: HttpLimits) -> tuple[str, ...]:
    """The objects whose rules together did not let it pass."""
    return tuple(dict.fromkeys(str(origin.ref) for origin, _ in limits.rules))
