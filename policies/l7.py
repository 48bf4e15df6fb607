"""HTTP rules: may this request pass, and by which rule.

A flow that goes to the proxy has a set of L7 rules, those of every policy that allow the same peer on the same
port (L7): a request passes if any rule matches, and a rule matches if all that it names does (L2); a path in every
way that a server may read it (`paths`). A plain allow beside them, or an exception of Weft's own, lifts the limits
(L8, L9, E11).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from weft.policies.l4 import Judgement, Packet, default_deny
from weft.policies.model import HeaderMatch, HttpRule, Origin
from weft.policies.paths import readings
from weft.policies.regex import BadPattern, Pattern, compile_linear
from weft.policies.snapshot import ResolvedRule, ResolvedSpec

Secrets = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` with its query string. `headers`: lower-case name -> values in order; `host` is the authority."""

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one side of a flow lets through. `lifted`: everything, `by` says which rules lift it (none: one of
    Weft's own exceptions). Else one of `rules`; no rules: nothing."""

    rules: tuple[tuple[Origin, HttpRule], ...]
    lifted: bool = False
    by: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """What a rule that lets the request pass does about a header that is not as it wants (L5). LOG: only tell of
    it; ADD: append the value; DELETE: remove the values that differ (`value` "": all of them); REPLACE: the value
    alone. `name` is lower case."""

    action: str
    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`rules`: those that let it pass, `changes`: what they want done to its headers, in order. Denied: `nearest`
    came closest, and `failed` is the field it failed."""

    allowed: bool
    rules: tuple[tuple[Origin, HttpRule], ...] = ()
    nearest: tuple[Origin, HttpRule] | None = None
    failed: str = ""
    changes: tuple[HeaderChange, ...] = ()


def limits(deciding: Iterable[tuple[ResolvedSpec, ResolvedRule]], *, bypass: bool = False) -> HttpLimits:
    """The limits of a redirected flow, from the rules that decided it and the specs they stand in. L7 rules of a
    spec that turns default deny off only make requests visible (E7)."""
    pairs = list(deciding)
    lifting = [rule.origin for spec, rule in pairs if rule.l7 is None or not default_deny(spec, rule.direction)]
    rules = tuple((rule.origin, http) for _, rule in pairs if rule.l7 for http in rule.l7.http)
    return HttpLimits(rules, bool(lifting) or bypass, tuple(dict.fromkeys(lifting)))


def limits_of(specs: Sequence[ResolvedSpec], packet: Packet, judgement: Judgement) -> HttpLimits:
    """The limits of a packet's flow, given what `l4.judge` said of it: REDIRECT."""
    deciding = judgement.rules
    pairs = [
        (spec, rule) for spec in specs if packet.subject in spec.subjects for rule in spec.rules if rule in deciding
    ]
    return limits(pairs, bypass=judgement.bypass)


PASSED = HttpAnswer(True)


def judge(given: HttpLimits, request: Request, secrets: Secrets | None = None) -> HttpAnswer:
    if given.lifted:
        return PASSED
    secrets = secrets or {}
    failures = [(pair, failed_fields(pair[1], request, secrets)) for pair in given.rules]
    passing = tuple(pair for pair, failed in failures if not failed)
    if passing:
        return HttpAnswer(True, passing, changes=_changes(passing, request, secrets))
    if not failures:
        return HttpAnswer(False)
    nearest, failed = min(failures, key=lambda failure: len(failure[1]))
    return HttpAnswer(False, (), nearest, failed[0])


def failed_fields(rule: HttpRule, request: Request, secrets: Secrets) -> Sequence[str]:
    """The fields that the request fails, as one would name them; none: the rule lets it pass."""
    fields = (
        ("method", rule.method, (request.method,)),
        ("path", rule.path, readings(request.path) if rule.path else ()),
        ("host", rule.host, (request.host,)),
    )
    failed = [
        name for name, pattern, values in fields if pattern and not all(map(compiled(pattern).fullmatch, values))
    ]
    return failed + [
        f"header {header.name}" for header in rule.headers if not header_passes(header, request, secrets)
    ]


class _Nothing:
    """In place of a pattern that is none: its rule lets nothing pass."""

    def fullmatch(self, text: str) -> object | None:
        return None


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> Pattern:
    try:
        return compile_linear(pattern)
    except BadPattern:
        return _Nothing()


def bad_pattern(rule: HttpRule) -> str:
    """Why one of the rule's patterns cannot be used; "": they all can."""
    for name, pattern in (("path", rule.path), ("method", rule.method), ("host", rule.host)):
        try:
            compile_linear(pattern)
        except BadPattern as error:
            return f"{rule.spec_path}.{name}: {error}"
    return ""


def header_passes(match: HeaderMatch, request: Request, secrets: Secrets) -> bool:
    """L4, L5."""
    return bool(match.mismatch) or _header_is(match, request, secrets)  # mismatch: logs or rewrites, denies nothing


def _header_is(match: HeaderMatch, request: Request, secrets: Secrets) -> bool:
    """Several values of one name are compared as one list with commas, as they may arrive."""
    given = request.headers.get(match.name.lower())
    if given is None:
        return False
    wanted = match.value
    if match.secret is not None:
        wanted = secrets.get(match.secret, match.value)
        if wanted is None:
            return False
    return wanted is None or ",".join(given) == wanted


def _changes(
    passing: Iterable[tuple[Origin, HttpRule]], request: Request, secrets: Secrets
) -> tuple[HeaderChange, ...]:
    return tuple(
        HeaderChange(match.mismatch, match.name.lower(), _wanted(match, secrets))
        for _, rule in passing
        for match in rule.headers
        if match.mismatch and not _header_is(match, request, secrets)
    )


def _wanted(match: HeaderMatch, secrets: Secrets) -> str:
    return (secrets.get(match.secret, match.value) if match.secret else match.value) or ""
