"""HTTP/2 (RFC 9113) and HPACK (RFC 7541), without I/O.

`Server(transport, handler, peer, limits, now)` is a ServerCodec, `Client(transport, limits, now)` a ClientCodec of
`core.stream`. In come bytes and requests; out go bytes, one write for each turn. No policy, no routes, no timers:
who drives a connection calls `tick` about once a second.
"""

from weft.l7proxy.core.http2.client import Client
from weft.l7proxy.core.http2.frames import PREFACE, settings_of_upgrade
from weft.l7proxy.core.http2.server import Server

__all__ = ["PREFACE", "Client", "Server", "settings_of_upgrade"]
