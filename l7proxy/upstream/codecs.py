"""Which codec speaks which protocol to an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from weft.l7proxy.core import http1, http2
from weft.l7proxy.core.limits import Limits
from weft.l7proxy.core.stream import ClientCodec
from weft.l7proxy.upstream.connection import MakeCodec


def _http1(transport: asyncio.Transport, limits: Limits, now: Callable[[], float]) -> ClientCodec:
    client = http1.Client(transport, limits, now)
    name = transport.get_extra_info("sockname")
    client.local = (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
    return client


CODECS: Final[Mapping[str, MakeCodec]] = {"http1": _http1, "http2": http2.Client}
