"""Verdicts, explanations and policies as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weft.daemon.cli.table import columns
from weft.policies import wording
from weft.policies.asked import origin_json, ref_json
from weft.policies.explain import Explanation, Half, Line
from weft.policies.model import Direction
from weft.policies.sides import Side
from weft.policies.snapshot import PolicyItem, ResolvedRule
from weft.policies.table import Verdict
from weft.policies.verdict import Answer
from weft.policies.world import World

VERDICTS = {Verdict.DENY: "denied", Verdict.ALLOW: "allowed", Verdict.REDIRECT: "to the proxy"}


def answer(found: Answer) -> list[str]:
    """The verdict and the flow on one line, then a line for each end that judged."""
    word = "ALLOWED" if found.allowed else "DENIED"
    proxied = " through the proxy" if found.redirected and found.allowed else ""
    out = [f"{word}{proxied}: {found.source} -> {found.to} {wording.l4(found.protocol, found.port)}"]
    if found.route is not None:
        out.append(f"  routed    {found.route}")
    sides = [side for side in (found.egress, found.ingress) if side is not None and side.judged]
    for side in sides:
        out += _side(side)
    if found.http is not None:
        out.append(f"  http      {'allowed' if found.http.allowed else 'denied '}   {found.http.reason}")
    if not sides or found.service:
        out.append(f"  {found.reason}" if not sides else f"  backends  {_backends(found)}")
    return out


def _side(side: Side) -> list[str]:
    name = wording.direction(side.direction).ljust(8)
    word = "to proxy" if side.redirected else "allowed" if side.allowed else "denied"
    return [f"  {name}  {word.ljust(8)}  {side.reason.removeprefix(f'{word} ')}"]


def _backends(found: Answer) -> str:
    return ", ".join(f"{one.to}:{one.port} {'allowed' if one.allowed else 'DENIED'}" for one in found.backends)


# explain


def explanation(found: Explanation) -> list[str]:
    labels = ", ".join(label for label in found.labels if not _implied(label))
    out = [f"{found.name}   identity {found.identity}   {labels}"]
    selected = ", ".join(str(ref) for ref in found.selected_by)
    out.append(f"selected by {selected}" if selected else "no policy selects it")
    for half in found.halves:
        out += ["", *_half(half)]
    return out


def _implied(label: str) -> bool:
    return "io.cilium.k8s." in label


def _half(half: Half) -> list[str]:
    """What is not listed has the last line's answer."""
    reach = "may reach it" if half.direction is Direction.INGRESS else "it may reach"
    name = wording.direction(half.direction)
    if half.enforced:
        head = f"{name}: default deny, by {wording.some([str(ref) for ref in half.enforced_by])}"
        rest = "whatever is not listed is denied"
    else:
        head, rest = f"{name}: not restricted", "whatever is not listed is allowed"
    out = [head]
    for peer in half.peers:
        out.append(f"  {reach}: {wording.some(peer.who)}")
        for line in peer.lines:
            out += _line(line)
    return [*out, f"  {rest}"]


def _line(line: Line) -> list[str]:
    by = wording.origins(line.rules) if line.rules else "Weft's own exception or default"
    out = [f"    {', '.join(line.ports)}   {VERDICTS[line.verdict]}   {by}"]
    return out + [f"      {request}" for request in line.http]


def explanation_json(found: Explanation) -> dict[str, Any]:
    out: dict[str, Any] = {
        "workload": found.name,
        "identity": found.identity,
        "labels": list(found.labels),
        "selected_by": [ref_json(ref) for ref in found.selected_by],
    }
    for half in found.halves:
        out[wording.direction(half.direction)] = {
            "enforced": half.enforced,
            "enforced_by": [ref_json(ref) for ref in half.enforced_by],
            "peers": [
                {
                    "who": list(peer.who),
                    "identities": list(peer.identities),
                    "lines": [_line_json(line) for line in peer.lines],
                }
                for peer in half.peers
            ],
        }
    return out


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "ports": list(line.ports),
        "verdict": "DENIED" if line.verdict is Verdict.DENY else "ALLOWED",
        "redirected": line.verdict is Verdict.REDIRECT,
        "rules": [origin_json(rule) for rule in line.rules],
        "http": list(line.http),
    }


# list, get


def policies_table(items: Iterable[PolicyItem], world: World) -> str:
    rows = []
    for item in items:
        subjects = _subjects(item, world)
        rules = [rule for spec in item.specs for rule in spec.rules]
        counts = [sum(rule.direction is direction for rule in rules) for direction in Direction]
        rows.append((item.ref.kind, item.ref.namespace or "-", item.ref.name, len(subjects), *counts))
    return columns(("KIND", "NAMESPACE", "NAME", "WORKLOADS", "INGRESS RULES", "EGRESS RULES"), rows)


def _subjects(item: PolicyItem, world: World) -> list[str]:
    numbers = {number for spec in item.specs for number in spec.subjects}
    return sorted({pod for number in numbers for pod in world.pods_of(number)})


def policy(item: PolicyItem, world: World) -> list[str]:
    out = [str(item.ref)]
    for spec in item.specs:
        pods = sorted({pod for number in spec.subjects for pod in world.pods_of(number)})
        out.append(f"  selects {wording.some(pods) if pods else 'nothing'}")
        denies = (spec.default_deny_ingress, spec.default_deny_egress)
        turned = [wording.direction(d) for d in Direction if denies[d]]
        out.append(f"  default deny: {' and '.join(turned) or 'none'}")
        for rule in spec.rules:
            out += _rule(rule, world)
    return out


def _rule(rule: ResolvedRule, world: World) -> list[str]:
    word = "from" if rule.direction is Direction.INGRESS else "to"
    what = f"{rule.action.value} {word} {wording.peers(rule.peers, world)}: {wording.ports(rule.ports)}"
    out = [f"  {rule.origin.path}", f"    {what}"]
    return out + [f"      {wording.http(one)}" for one in (rule.l7.http if rule.l7 else ())]


def policy_json(item: PolicyItem, world: World) -> dict[str, Any]:
    return {
        **ref_json(item.ref),
        "revision": item.revision,
        "workloads": _subjects(item, world),
        "specs": [
            {
                "subjects": sorted(spec.subjects),
                "default_deny": {"ingress": spec.default_deny_ingress, "egress": spec.default_deny_egress},
                "rules": [_rule_json(rule, world) for rule in spec.rules],
            }
            for spec in item.specs
        ],
    }


def _rule_json(rule: ResolvedRule, world: World) -> dict[str, Any]:
    http: Sequence[Any] = rule.l7.http if rule.l7 else ()
    return {
        "path": rule.origin.path,
        "direction": wording.direction(rule.direction),
        "action": rule.action.value,
        "peers": wording.peers(rule.peers, world),
        "identities": sorted(rule.peers.identities),
        "cidrs": [{"cidr": str(c.cidr), "except": [str(e) for e in c.excepts]} for c in rule.peers.cidrs],
        "ports": None if rule.ports is None else [wording.port(port) for port in rule.ports],
        "http": [wording.http(one) for one in http],
    }
