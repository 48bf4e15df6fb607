"""One end's judgement of a flow, and the words for it: what the table says, by which rules, or what came closest.

The verdict is the compiled table's. The rules are read with the oracle where the table does not hold them: for the
L7 rules behind a redirect, and for the nearest miss behind a default deny.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.policies import l7, wording
from weft.policies.l4 import Packet, default_deny
from weft.policies.l4 import judge as read_rules
from weft.policies.lookup import lookup
from weft.policies.model import Direction, ObjectRef, Origin
from weft.policies.nearest import Miss, nearest_miss
from weft.policies.snapshot import EndpointItem
from weft.policies.table import MatchType, Value, Verdict
from weft.policies.world import World


@dataclass(frozen=True, slots=True)
class Side:
    """One end's judgement. `judged` False: that end is no workload, and lets everything pass. `enforced_by`: the
    policies that turn default deny on. `limits`: of HTTP, where `redirected`."""

    direction: Direction
    judged: bool
    allowed: bool
    reason: str
    redirected: bool = False
    match: MatchType = MatchType.NONE
    rules: tuple[Origin, ...] = ()
    enforced_by: tuple[ObjectRef, ...] = ()
    nearest: Miss | None = None
    limits: l7.HttpLimits | None = None


@dataclass(frozen=True, slots=True)
class Http:
    """The request's judgement. `judged` False: no rule looks at requests of this flow, so it passes."""

    judged: bool
    allowed: bool
    reason: str
    rules: tuple[tuple[Origin, str], ...] = ()  # the rule, and the path of its HTTP rule
    nearest: Miss | None = None


def judge_side(world: World, subject: EndpointItem, who: str, number: int, packet: Packet) -> Side:
    """`number`: the identity that the subject's node gives the peer, `who` its name."""
    table = world.table(subject)
    value = lookup(table, packet.direction, number, packet.protocol, packet.port)
    selecting = world.selecting(subject.identity)
    specs = [spec for _, spec in selecting]
    rules = table.rule_sets.get(value.cookie, ())
    refs = [item.ref for item, spec in selecting if default_deny(spec, packet.direction)]
    enforcing = tuple(dict.fromkeys(refs))
    by_default = value.verdict is Verdict.DENY and not rules
    nearest = nearest_miss(specs, packet, who, world) if by_default else None
    redirected = value.verdict is Verdict.REDIRECT
    return Side(
        packet.direction,
        True,
        value.verdict is not Verdict.DENY,
        _why(packet.direction, subject.key, value, rules, enforcing, nearest),
        redirected,
        value.match,
        rules,
        enforcing,
        nearest,
        l7.limits_of(specs, packet, read_rules(specs, packet)) if redirected else None,
    )


def judge_http(sides: Sequence[Side], request: l7.Request) -> Http:
    """Every end that sends the flow to the proxy must let the request pass."""
    if not all(side.allowed for side in sides):
        return Http(False, False, "the connection is denied, so the request is never sent")
    judged = [(side, side.limits) for side in sides if side.limits is not None]
    if not judged:
        return Http(False, True, "no rule looks at this flow's requests")
    passed: list[tuple[Origin, str]] = []
    lifted: list[str] = []
    for side, limits in judged:
        answer = l7.judge(limits, request)
        name = wording.direction(side.direction)
        if not answer.allowed:
            return _refused(name, request, answer)
        passed += [(origin, rule.spec_path) for origin, rule in answer.rules]
        if limits.lifted:
            passed += [(origin, "") for origin in limits.by]
            by = wording.origins(limits.by) if limits.by else "an exception of Weft's own"
            lifted.append(f"{name}: every request, by {by}")
        else:
            lifted.append(
                f"{name}: {wording.some([f'{o.ref} {path}' for o, path in passed[-len(answer.rules) :]])}"
            )
    return Http(True, True, "; ".join(lifted), tuple(passed))


def _refused(name: str, request: l7.Request, answer: l7.HttpAnswer) -> Http:
    asked = f"{request.method} {request.path}"
    if answer.nearest is None:
        return Http(True, False, f"{name}: no HTTP rule allows {asked}")
    origin, rule = answer.nearest
    path = rule.spec_path or origin.path
    detail = f"it allows {wording.http(rule)}; the request has {_given(answer.failed, request)}"
    reason = f"{name}: no HTTP rule allows {asked}; nearest is {origin.ref} {path}: {detail}"
    return Http(True, False, reason, (), Miss(Origin(origin.ref, path), answer.failed, detail))


def _given(field: str, request: l7.Request) -> str:
    """What the request has in the field that a rule failed on."""
    kind, _, header = field.partition(" ")
    if kind == "header":
        values = request.headers.get(header.lower())
        return f"header {header}: {','.join(values)}" if values is not None else f"no header {header}"
    value = {"method": request.method, "path": request.path, "host": request.host}[kind]
    return f"{kind} {value}" if value else f"no {kind}"


def _why(
    direction: Direction,
    subject: str,
    value: Value,
    rules: tuple[Origin, ...],
    enforcing: tuple[ObjectRef, ...],
    nearest: Miss | None,
) -> str:
    if rules:
        return f"{'denied' if value.verdict is Verdict.DENY else 'allowed'} by {wording.origins(rules)}"
    if value.verdict is Verdict.DENY:
        default = f"default deny by {wording.some([str(ref) for ref in enforcing])}"
        if nearest is None:
            return f"{default}: no rule allows any {wording.direction(direction)}"
        return f"{default}; nearest is {wording.origin(nearest.rule)}: {nearest.detail}"
    if enforcing:
        exception = "the node reaches its own workloads" if direction is Direction.INGRESS else "the node's DNS"
        return f"always allowed: {exception}"
    return f"no policy restricts {wording.direction(direction)} of {subject}"


def overall_reason(egress: Side, ingress: Side, http: Http | None) -> str:
    """The first denial, or what both ends say."""
    for side in (egress, ingress):
        if not side.allowed:
            return f"{wording.direction(side.direction)}: {side.reason}"
    if http is not None and not http.allowed:
        return f"http {http.reason}"
    judged = [side for side in (egress, ingress) if side.judged]
    return "; ".join(f"{wording.direction(s.direction)}: {s.reason}" for s in judged) or "neither end is a workload"
