"""HTTP rules: may this request pass, and by which rule.

A flow that goes to the proxy has a set of L7 rules, those of every policy that allow the same peer on the same
port (L7): a request passes if any rule matches, and a rule matches if all that it names does (L2). A plain
allow beside them, or an exception of Weft's own, lifts the limits (L8, L9, E11).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from weft.policies.dialects.re2 import compile_pattern
from weft.policies.l4 import default_deny
from weft.policies.model import HeaderMatch, HttpRule, Origin
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
class HttpAnswer:
    """`rules`: those that let it pass. Denied: `nearest` came closest, and `failed` is the field it failed."""

    allowed: bool
    rules: tuple[tuple[Origin, HttpRule], ...] = ()
    nearest: tuple[Origin, HttpRule] | None = None
    failed: str = ""


def limits(deciding: Iterable[tuple[ResolvedSpec, ResolvedRule]], *, bypass: bool = False) -> HttpLimits:
    """The limits of a redirected flow, from the rules that decided it and the specs they stand in. L7 rules of a
    spec that turns default deny off only make requests visible (E7)."""
    pairs = list(deciding)
    lifting = [rule.origin for spec, rule in pairs if rule.l7 is None or not default_deny(spec, rule.direction)]
    rules = tuple((rule.origin, http) for _, rule in pairs if rule.l7 for http in rule.l7.http)
    return HttpLimits(rules, bool(lifting) or bypass, tuple(dict.fromkeys(lifting)))


def judge(given: HttpLimits, request: Request, secrets: Secrets | None = None) -> HttpAnswer:
    if given.lifted:
        return HttpAnswer(True)
    failures = [(pair, failed_fields(pair[1], request, secrets or {})) for pair in given.rules]
    passing = tuple(pair for pair, failed in failures if not failed)
    if passing:
        return HttpAnswer(True, passing)
    if not failures:
        return HttpAnswer(False)
    nearest, failed = min(failures, key=lambda failure: len(failure[1]))
    return HttpAnswer(False, (), nearest, failed[0])


def failed_fields(rule: HttpRule, request: Request, secrets: Secrets) -> Sequence[str]:
    """The fields that the request fails, as one would name them; none: the rule lets it pass."""
    fields = (
        ("method", rule.method, request.method),
        ("path", rule.path, request.path),
        ("host", rule.host, request.host),
    )
    failed = [name for name, pattern, value in fields if pattern and not compiled(pattern).fullmatch(value)]
    return failed + [
        f"header {header.name}" for header in rule.headers if not header_passes(header, request, secrets)
    ]


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    return compile_pattern(pattern)


def header_passes(match: HeaderMatch, request: Request, secrets: Secrets) -> bool:
    """L4, L5. Several values of one name are compared as one list with commas, as they may arrive."""
    if match.mismatch:
        return True  # logs or rewrites, denies nothing
    given = request.headers.get(match.name.lower())
    if given is None:
        return False
    wanted = match.value
    if match.secret is not None:
        wanted = secrets.get(match.secret, match.value)
        if wanted is None:
            return False
    return wanted is None or ",".join(given) == wanted
