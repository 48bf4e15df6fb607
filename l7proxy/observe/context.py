"""Trace context in headers: read as W3C (traceparent), B3 in one header or in several; written as it was read.

Sources: W3C Trace Context 1.0, openzipkin/b3-propagation. What is there is believed, for the mesh is not the edge.
Of several the first that is well-formed counts, in this order: traceparent, b3, x-b3-*. What is ill-formed is
dropped and the trace begins here. A context that begins here is written as W3C and as x-b3-*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from weft.l7proxy.core.stream import Headers

TRACEPARENT, TRACESTATE, B3 = b"traceparent", b"tracestate", b"b3"
X_TRACE, X_SPAN, X_PARENT = b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid"
X_SAMPLED, X_FLAGS = b"x-b3-sampled", b"x-b3-flags"
REQUEST_ID = b"x-request-id"
NAMES = frozenset({TRACEPARENT, TRACESTATE, B3, X_TRACE, X_SPAN, X_PARENT, X_SAMPLED, X_FLAGS, REQUEST_ID})
#: What is written anew; tracestate and the request's id go on as they came.
_REPLACED = NAMES - {TRACESTATE, REQUEST_ID}

_W3C = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_B3 = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d]))?(?:-([0-9a-f]{16}))?\Z")
_ID = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{16}")
_ZERO = set(b"0")


class Context:
    """`sampled` None: nobody has decided yet. `span`: of whoever called us, "" at the start of a trace. `form`:
    w3c, b3, x-b3, or "" for a trace that begins here."""

    __slots__ = ("debug", "form", "sampled", "span", "trace")

    def __init__(self, trace: str, span: str, sampled: bool | None, form: str, debug: bool = False) -> None:
        self.trace, self.span, self.sampled = trace, span, sampled
        self.form, self.debug = form, debug


def found(headers: Headers) -> dict[bytes, bytes]:
    """What there is of `NAMES`; of several with one name the first."""
    names: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in NAMES and name not in names:
            names[name] = value
    return names


def read(names: Mapping[bytes, bytes]) -> Context | None:
    """None: no trace has begun, or none that can be read. A decision alone (`b3: 0`) is one without a trace."""
    if TRACEPARENT in names and (context := _read_w3c(names[TRACEPARENT])) is not None:
        return context
    if B3 in names and (context := _read_b3(names[B3])) is not None:
        return context
    return _read_x_b3(names) if X_TRACE in names or X_SAMPLED in names or X_FLAGS in names else None


def _read_w3c(value: bytes) -> Context | None:
    match = _W3C.match(value.strip())
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5]):
        return None
    if set(match[2]) <= _ZERO or set(match[3]) <= _ZERO:
        return None
    return Context(match[2].decode(), match[3].decode(), bool(int(match[4], 16) & 1), "w3c")


def _read_b3(value: bytes) -> Context | None:
    if value in (b"0", b"1", b"d"):
        return Context("", "", value != b"0", "b3", value == b"d")
    match = _B3.match(value)
    if match is None:
        return None
    state = match[3]
    sampled = None if state is None else state != b"0"
    return Context(match[1].decode(), match[2].decode(), sampled, "b3", state == b"d")


def _read_x_b3(names: Mapping[bytes, bytes]) -> Context | None:
    debug = names.get(X_FLAGS) == b"1"
    said = names.get(X_SAMPLED, b"").lower()
    sampled = True if debug or said in (b"1", b"true") else False if said in (b"0", b"false") else None
    trace, span = names.get(X_TRACE, b""), names.get(X_SPAN, b"")
    if not _ID.fullmatch(trace) or not _ID.fullmatch(span) or len(span) != 16:
        return Context("", "", sampled, "x-b3", debug) if sampled is not None else None
    return Context(trace.decode(), span.decode(), sampled, "x-b3", debug)


def write(headers: Headers, context: Context, span: str, parent: str) -> Headers:
    """The headers with the context of a span of ours in the place of what was there."""
    kept = [header for header in headers if header[0] not in _REPLACED]
    form, trace, flag = context.form, context.trace, b"1" if context.sampled else b"0"
    if form in ("w3c", ""):
        kept.append((TRACEPARENT, f"00-{trace:0>32}-{span}-0".encode() + flag))
    if form == "b3":
        state = b"d" if context.debug else flag
        kept.append((B3, b"-".join((trace.encode(), span.encode(), state, *([parent.encode()] if parent else [])))))
    if form in ("x-b3", ""):
        kept += [(X_TRACE, trace.encode()), (X_SPAN, span.encode())]
        if parent:
            kept.append((X_PARENT, parent.encode()))
        kept.append((X_FLAGS, b"1") if context.debug else (X_SAMPLED, flag))
    return kept
