"""HTTP/1.0 and 1.1 (RFC 9110, 9112), without I/O: bytes come in by calls, bytes go out through a transport.

`Server` is the accepted side, `Client` the upstream side of core/stream.py. Heads are validated by llhttp, each
by a parser of its own, so nothing is carried over from one message to the next; bodies are framed here
(body.py). Whatever could be read in two ways is refused: the next one on the way may read it in the other way.
"""

from weft.l7proxy.core.http1.client import Client
from weft.l7proxy.core.http1.server import Server

__all__ = ["Client", "Server"]
