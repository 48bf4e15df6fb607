"""The request as servers see it: what rule and destination change, what a proxy adds, what stays between client and
proxy. Pure: the request that came is left as it was, for policy and for the record.
"""

from __future__ import annotations

from weft.l7proxy.core.headers import ATTEMPT_COUNT, HOP_HEADERS, without
from weft.l7proxy.core.parties import Cluster
from weft.l7proxy.core.plan import INBOUND, Plan, Target
from weft.l7proxy.core.stream import Request

Head = dict[bytes, bytes]
_REPLACED = HOP_HEADERS | {ATTEMPT_COUNT}
_FIRST_TRY = (ATTEMPT_COUNT, b"1")
_FORWARDED_PROTO = b"x-forwarded-proto"


def outgoing(request: Request, plan: Plan, target: Target, head: Head) -> Request:
    """`head`: the request's headers as a dict. Rewrites come last, so they win over a `host` that is set."""
    names = HOP_HEADERS if plan is INBOUND else _REPLACED
    headers = list(request.headers) if names.isdisjoint(head) else without(request.headers, names)
    if _FORWARDED_PROTO not in head:
        headers.append((_FORWARDED_PROTO, request.scheme))
    if plan is not INBOUND:
        headers.append(_FIRST_TRY)
    authority, path = request.authority, request.path
    for changes in target.request:
        headers = changes.apply(headers)
        authority = changes.authority or authority
    if plan.path_change is not None:
        path = plan.path_change(path)
        if path != request.path:
            headers.append((b"x-envoy-original-path", request.path))
    return Request(
        request.method,
        path,
        plan.authority or authority,
        headers,
        scheme=request.scheme,
        version=request.version,
        length=request.length,
        upgrade=request.upgrade,
        expect=request.expect,
    )


def protocol_of(cluster: Cluster, request: Request) -> str:
    """What to speak to the server. An upgrade is HTTP/1.1's, whatever the port says."""
    if request.upgrade:
        return "http1"
    declared, pool = cluster.protocol, cluster.policy.connection_pool
    asked = "http2" if request.version == "2" else "http1"
    if pool is not None and pool.use_client_protocol:
        return asked
    if declared not in ("http1", "http2"):
        declared = asked
    return "http2" if pool is not None and pool.upgrade_h2 else declared
