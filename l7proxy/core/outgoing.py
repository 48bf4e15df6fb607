"""The request as servers see it: what rule and destination change, what a proxy adds, what stays between client and
proxy. Pure: the request that came is left as it was, for policy and for the record.
"""

from __future__ import annotations

from weft.l7proxy.core.headers import ATTEMPT_COUNT, HOP_HEADERS, without
from weft.l7proxy.core.named import PRIVATE
from weft.l7proxy.core.parties import Cluster
from weft.l7proxy.core.plan import INBOUND, Plan, Target
from weft.l7proxy.core.stream import Peer, Request

_FIRST_TRY = (ATTEMPT_COUNT, b"1")
_FORWARDED_PROTO = b"x-forwarded-proto"
_FORWARDED_HTTP = (_FORWARDED_PROTO, b"http")


def outgoing(request: Request, plan: Plan, target: Target) -> Request:
    """Rewrites come last, so they win over a `host` that is set."""
    named, inbound = request.named, plan is INBOUND
    if named is None or named.private:
        headers = without(request.headers, HOP_HEADERS if inbound else PRIVATE)
    else:
        headers = request.headers.copy()
    if named is None or _FORWARDED_PROTO not in named:
        scheme = request.scheme
        headers.append(_FORWARDED_HTTP if scheme == b"http" else (_FORWARDED_PROTO, scheme))
    if not inbound:
        headers.append(_FIRST_TRY)
    authority, path = request.authority, request.path
    if target.request:
        for changes in target.request:
            headers = changes.apply(headers)
            authority = changes.authority or authority
    if plan.path_change is not None:
        path = plan.path_change(path)
        if path != request.path:
            headers.append((b"x-envoy-original-path", request.path))
    if plan.authority and plan.authority != request.authority:
        headers.append((b"x-envoy-original-host", request.authority))
    sent = Request(request.method, path, plan.authority or authority, headers)
    sent.scheme, sent.version, sent.length = request.scheme, request.version, request.length
    sent.upgrade, sent.expect = request.upgrade, request.expect
    return sent


def protocol_of(cluster: Cluster, request: Request, peer: Peer) -> str:
    """What to speak to the server. An upgrade is HTTP/1.1's, whatever the port says; a client that came by h2c's
    upgrade did not know more of the server than one that speaks HTTP/1.1."""
    if request.upgrade:
        return "http1"
    declared, pool = cluster.protocol, cluster.policy.connection_pool
    asked = "http2" if request.version == "2" and not peer.upgraded else "http1"
    if pool is not None and pool.use_client_protocol:
        return asked
    if declared not in ("http1", "http2"):
        declared = asked
    return "http2" if pool is not None and pool.upgrade_h2 else declared
