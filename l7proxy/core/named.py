"""Headers by name, with what a proxy asks of every head it sees. A codec that knows a head by heart makes it once.

Rule: it is shared by all requests with the same head, so nobody changes it; and since the same head always brings
the same object, what was decided of one may be remembered by it.
"""

from __future__ import annotations

from weft.l7proxy.core.grpc import is_grpc
from weft.l7proxy.core.headers import ATTEMPT_COUNT, HOP_HEADERS, ORIGINALS
from weft.l7proxy.core.retry import RETRY_GRPC_ON, RETRY_ON, TIMEOUT, TRY_TIMEOUT
from weft.l7proxy.core.stream import Headers

_ASKING = frozenset((RETRY_ON, RETRY_GRPC_ON, TRY_TIMEOUT, TIMEOUT))
#: Taken out of what goes on, unless the request was routed before it came here.
PRIVATE = HOP_HEADERS | ORIGINALS | {ATTEMPT_COUNT}


class Named(dict[bytes, bytes]):
    """Of several with one name the last. `asking`: it says how it wants to be retried, or for how long; `private`:
    something in it is between client and proxy; `steady`: the codec keeps it, and the next such head brings it
    again."""

    __slots__ = ("asking", "grpc", "private", "steady")

    def __init__(self, headers: Headers) -> None:
        dict.__init__(self, headers)
        content_type = self.get(b"content-type")
        self.grpc = content_type is not None and is_grpc(content_type)
        self.asking = not _ASKING.isdisjoint(self)
        self.private = not PRIVATE.isdisjoint(self)
        self.steady = False

    __hash__ = object.__hash__  # type: ignore[assignment]
