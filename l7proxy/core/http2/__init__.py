"""HTTP/2 (RFC 9113) and HPACK (RFC 7541), without I/O.

`Server(transport, handler, peer, limits, now)` is a ServerCodec, `Client(transport, limits, now)` a ClientCodec of
`core.stream`. In come bytes and requests; out go bytes, one write for each turn or, where a loop lends its hand
(`share_writes`), for a few. No policy, no routes, no timers: who drives a connection calls `tick` about once a
second.

What one connection can make us hold, with the default limits: 60 KiB of a head that is not whole, 16 KiB of a
frame, two tables of 4 KiB, and for each of 100 streams one window of 64 KiB on its way to a reader that has paused,
or one and a half of them waiting for a peer that gives no window.

Not here: server push (refused), priorities (checked and ignored), CONNECT and extended CONNECT (501, not offered).
h2spec 2.2.1, strict, against `tests/support/h2spec_server.py`: all of its 146 cases pass.
"""

from weft.l7proxy.core.http2.client import Client
from weft.l7proxy.core.http2.frames import PREFACE, settings_of_upgrade
from weft.l7proxy.core.http2.server import Server
from weft.l7proxy.core.http2.turn import share_writes

__all__ = ["PREFACE", "Client", "Server", "settings_of_upgrade", "share_writes"]
