"""What happens before memory is at its end: the client that has most under way loses it, the others notice nothing.

In: a look at the process once a second. Each thing that a client can make us hold is bounded (`core/limits`), but
thousands of them together are not, and one proxy serves all pods of the node. Rule: nobody is cut who has no more
than an ordinary share, whatever memory is needed for.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from weft.l7proxy.shell import Shell

log = logging.getLogger(__name__)

#: Bytes resident: eight times what a worker needs with thousands of pods, policies and connections.
MOST_MEMORY: Final = 512 << 20
#: Connections and requests under way that anybody may have.
ORDINARY: Final = 256
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


class Overload:
    """`clients`: addresses of those that have requests under way, one for each."""

    def __init__(
        self, shell: Shell, clients: Callable[[], Iterable[str]], memory: Callable[[], int] = resident
    ) -> None:
        self._shell, self._clients, self._memory = shell, clients, memory

    def tick(self) -> None:
        if (memory := self._memory()) < MOST_MEMORY:
            return
        shares = Counter(self._clients())
        shares.update(one.peer.source[0] for one in self._shell.open)
        heaviest = shares.most_common(1)
        if not heaviest or heaviest[0][1] <= ORDINARY:
            return
        client, share = heaviest[0]
        log.warning("%d MB in use: %s has %d connections and requests, they are cut", memory >> 20, client, share)
        for connection in [one for one in self._shell.open if one.peer.source[0] == client]:
            connection.reset()
            self._shell.counted["overload_cut"] += 1
        self._shell.loop.call_later(0.1, _give_back)


def _give_back() -> None:
    """To the kernel what was freed: else it would still count."""
    with contextlib.suppress(AttributeError):  # glibc's
        ctypes.CDLL(None).malloc_trim(0)
