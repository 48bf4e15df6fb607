"""`fault` of a rule: delays and aborts. Without a percentage nothing is delayed or aborted, which is warned of."""

from __future__ import annotations

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import UINT32, duration, optional_percentage
from weft.policies.mesh.model import Fault

_GRPC = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
#: RFC 9113, section 7, in the order of their numbers.
_H2 = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR"),
    *("ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)


def fault(rule: Field, findings: Findings) -> Fault | None:
    field = rule.get("fault")
    if field is None:
        return None
    field.record("delay", "abort")
    delay, abort = field.get("delay"), field.get("abort")
    if delay is None and abort is None:
        raise field.invalid("needs a delay, an abort, or both")
    seconds, delayed = _delay(delay, findings) if delay is not None else (0.0, 0.0)
    status, grpc, h2, aborted = _abort(abort, findings) if abort is not None else (0, None, None, 0.0)
    return Fault(seconds, delayed, status, grpc, h2, aborted)


def _delay(field: Field, findings: Findings) -> tuple[float, float]:
    field.record("fixedDelay", "percentage", "percent", "exponentialDelay")
    if (other := field.get("exponentialDelay")) is not None:
        raise other.invalid("exponentialDelay was never in effect in Istio: use fixedDelay")
    fixed = field.get("fixedDelay")
    percent = _percent(field, findings)
    if fixed is None:
        findings.warn(field, "has no fixedDelay, so nothing is delayed")
        return 0.0, 0.0
    return duration(fixed), percent


def _abort(field: Field, findings: Findings) -> tuple[int, int | None, int | None, float]:
    field.record("httpStatus", "grpcStatus", "http2Error", "percentage", "percent")
    given = [name for name in ("httpStatus", "grpcStatus", "http2Error") if field.get(name) is not None]
    if len(given) > 1:
        raise field.invalid(f"{' and '.join(given)} exclude each other")
    percent = _percent(field, findings)
    if not given:
        findings.warn(field, "says no status, so nothing is aborted")
        return 0, None, None, 0.0
    value = field.need(given[0])
    if given[0] == "httpStatus":
        return value.integer(200, 599), None, None, percent
    if given[0] == "grpcStatus":
        return 0, _number(value, _GRPC), None, percent
    return 0, None, _number(value, _H2), percent


def _number(field: Field, names: tuple[str, ...]) -> int:
    """The number of a name; a number in quotes is taken, too."""
    text = field.text()
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < len(names):
        return int(text)
    raise field.invalid(f"{shown(text)} is none of {', '.join(names)}")


def _percent(field: Field, findings: Findings) -> float:
    """`percent` is the old form, of whole ones."""
    found, old = optional_percentage(field, "percentage"), field.get("percent")
    if old is not None:
        whole = old.integer(0, min(100, UINT32))
        findings.warn(
            old, "percent is deprecated: use percentage" + (", which wins here" if found is not None else "")
        )
        return float(whole) if found is None else found
    if found is None:
        findings.warn(field, "has no percentage, which means 0: it happens to no request")
        return 0.0
    return found
