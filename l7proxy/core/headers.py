"""Header changes, compiled: rules and destinations say what to remove, set and add (F22).

In this order: removed, set, added. Of a rule with one destination the destination's changes come last and win; of
a rule with several, Envoy runs the destination's first and then the rule's, so the rule wins. `host` among the
changes of a request is its authority.
"""

from __future__ import annotations

from collections.abc import Iterable

from weft.l7proxy.core.stream import Headers
from weft.policies.mesh.model import HeaderChanges

#: Said by a client of the mesh to its proxy, or by a proxy to its server: never passed on as the client wrote it.
HOP_HEADERS = frozenset(
    (
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-internal",
    )
)
#: Said by the first proxy on the way, and left alone by the next.
ORIGINALS = frozenset((b"x-envoy-original-path", b"x-envoy-original-host"))
ATTEMPT_COUNT = b"x-envoy-attempt-count"
SERVICE_TIME = b"x-envoy-upstream-service-time"
#: By milliseconds. Most take no longer, and a field that is the same object is found faster by who writes it.
_SERVICE_TIMES = [(SERVICE_TIME, b"%d" % taken) for taken in range(1000)]
DATE = b"date"


class Changes:
    """One HeaderChanges in bytes. `authority`: what `host` is set to, or None."""

    __slots__ = ("_add", "_gone", "_set", "authority")

    def __init__(self, changes: HeaderChanges) -> None:
        pairs = [(name.lower().encode(), value.encode()) for name, value in changes.set]
        self.authority = next((value for name, value in pairs if name in (b"host", b":authority")), None)
        self._set = [(name, value) for name, value in pairs if name not in (b"host", b":authority")]
        self._add = [(name.lower().encode(), value.encode()) for name, value in changes.add]
        self._gone = frozenset(name.lower().encode() for name in changes.remove) | {name for name, _ in self._set}

    def apply(self, headers: Headers) -> Headers:
        """A new list: the one given may belong to somebody else."""
        gone = self._gone
        kept = [pair for pair in headers if pair[0] not in gone] if gone else list(headers)
        kept += self._set
        kept += self._add
        return kept


def service_time(seconds: float) -> tuple[bytes, bytes]:
    taken = int(seconds * 1000)
    return _SERVICE_TIMES[taken] if 0 <= taken < 1000 else (SERVICE_TIME, b"%d" % taken)


def in_order(rule: HeaderChanges | None, destination: HeaderChanges | None, single: bool) -> tuple[Changes, ...]:
    """As they are to be applied; `single`: the rule has but one destination."""
    both = (rule, destination) if single else (destination, rule)
    return tuple(Changes(changes) for changes in both if changes is not None)


def without(headers: Headers, names: Iterable[bytes]) -> Headers:
    gone = frozenset(names)
    return [pair for pair in headers if pair[0] not in gone]


def replaced(headers: Headers, name: bytes, value: bytes) -> None:
    """In place: one header `name`, with this value."""
    headers[:] = [pair for pair in headers if pair[0] != name]
    headers.append((name, value))
