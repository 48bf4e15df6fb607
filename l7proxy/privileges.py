"""What the proxy may do, once it has what it needs: sockets with foreign addresses and marks, and nothing else.

CAP_NET_ADMIN (marks, transparent sockets) and CAP_NET_RAW (transparent sockets where the first is not given) are
kept; the rest goes for good, from the bounding set too. Capabilities belong to threads: call this before there
are others."""

from __future__ import annotations

import ctypes
import os
from typing import Final

NET_ADMIN, NET_RAW = 12, 13
KEPT: Final = (1 << NET_ADMIN) | (1 << NET_RAW)

_VERSION_3: Final = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def drop() -> None:
    """OSError: the kernel refused, and the process must not go on as it is. Without root nothing is dropped."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(libc.capget(ctypes.byref(header), data))
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    capability = 0
    while libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if not KEPT & (1 << capability):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    for at, word in enumerate(data):
        kept = KEPT if at == 0 else 0
        word.permitted &= kept
        word.effective = word.permitted
        word.inheritable = 0
    _check(libc.capset(ctypes.byref(header), data))
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities: {os.strerror(number)}")
