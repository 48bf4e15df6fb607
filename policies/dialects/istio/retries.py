"""`retries` of a rule. No `retries` at all is Istio's default; a block without attempts is none (section 1.3).

Read as leniently as Istio's own conversion does: a token that is not known is skipped, with a warning.
"""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import INT32, duration, flag
from weft.policies.mesh.model import DEFAULT_RETRIES, Retries

TOKENS = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream"),
        *("retriable-4xx", "retriable-status-codes", "retriable-headers", "envoy-ratelimited"),
        *("http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"),
        "unavailable",
    }
)
NONE = Retries(attempts=0, on=())
STATUS_CODES = "retriable-status-codes"
#: The back-off's bound is this many times its base.
_MAXIMUM = 10
_FIELDS = (
    *("attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff"),
)


def retries(rule: Field, findings: Findings) -> Retries:
    field = rule.get("retries")
    if field is None:
        return DEFAULT_RETRIES
    field.record(*_FIELDS)
    given, timeout, backoff = field.get("attempts"), field.get("perTryTimeout"), field.get("backoff")
    attempts = given.integer(-INT32, INT32) if given is not None else 0
    on, statuses = _conditions(field.get("retryOn"), findings)
    base = duration(backoff) if backoff is not None else DEFAULT_RETRIES.base
    found = Retries(
        attempts=attempts,
        on=on,
        statuses=statuses,
        per_try_timeout=duration(timeout, zero=True) if timeout is not None else 0.0,
        base=base,
        maximum=base * _MAXIMUM,
        avoid_previous=flag(field, "retryIgnorePreviousHosts", default=True),
        remote_localities=flag(field, "retryRemoteLocalities"),
    )
    if attempts > 0:
        return found
    if len(field.mapping()) > (given is not None):
        findings.warn(field, "without attempts above 0 there are no retries, and the rest has no effect")
    return NONE


def _conditions(field: Field | None, findings: Findings) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(tokens, statuses). Nothing said: the default's."""
    text = field.string() if field is not None else ""
    if field is None or not text.strip():
        return DEFAULT_RETRIES.on, ()
    tokens: dict[str, None] = {}
    statuses: dict[int, None] = {}
    for part in map(str.strip, text.split(",")):
        if part in TOKENS:
            tokens[part] = None
        elif part.isascii() and part.isdigit() and len(part) == 3 and 100 <= int(part) <= 599:
            statuses[int(part)] = None
            tokens[STATUS_CODES] = None
        elif part:
            findings.warn(field, f"{shown(part)} is no condition for a retry and is skipped")
    return tuple(tokens), tuple(statuses)
