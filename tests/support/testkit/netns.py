"""A network namespace without a name: a thread lives in it, and it is gone when the thread is."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


class Namespace:
    """`call` runs a function in it; what the function starts (sockets, processes) is in it too."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "netns", initializer=_leave)
        self.call(lambda: None)  # so that a failure to make it shows here

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.submit(function, *args, **kwargs).result()

    def ip(self, *words: str) -> str:
        """`ip link add ...`"""
        done = self.call(subprocess.run, ["ip", *words], capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
        return str(done.stdout)

    def veths(self, pairs: int) -> list[int]:
        """Interface indexes of both ends of so many new pairs."""
        for at in range(pairs):
            self.ip("link", "add", f"a{at}", "type", "veth", "peer", "name", f"b{at}")
        return [self.index(f"{side}{at}") for at in range(pairs) for side in "ab"]

    def index(self, name: str) -> int:
        return int(self.ip("-o", "link", "show", "dev", name).split(":", 1)[0])

    def close(self) -> None:
        self._thread.shutdown()


def _leave() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare the network namespace")
