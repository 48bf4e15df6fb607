"""The numbers of linux/bpf.h that Weft uses. UAPI: once given, a number never changes."""

from __future__ import annotations

import enum
from typing import Final


class Command(enum.IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_BATCH = 24
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    LINK_DETACH = 34


class MapKind(enum.IntEnum):
    """Names in lower case are those of MapSpec.kind and of bpftool."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    HASH_OF_MAPS = 13
    SOCKHASH = 18
    RINGBUF = 27

    @classmethod
    def named(cls, kind: str) -> MapKind:
        """Raises KeyError for a kind that Weft does not use."""
        return cls[kind.upper()]

    @property
    def per_cpu(self) -> bool:
        return self in (MapKind.PERCPU_HASH, MapKind.PERCPU_ARRAY, MapKind.LRU_PERCPU_HASH)


class ProgKind(enum.IntEnum):
    SOCKET_FILTER = 1
    SCHED_CLS = 3
    SOCK_OPS = 13
    SK_MSG = 16
    CGROUP_SOCK_ADDR = 18


class Attach(enum.IntEnum):
    CGROUP_SOCK_OPS = 3
    SK_MSG_VERDICT = 7
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class LinkKind(enum.IntEnum):
    CGROUP = 3
    TCX = 11


ANY: Final = 0  # create or replace
NOEXIST: Final = 1  # create only
EXIST: Final = 2  # replace only

F_NO_PREALLOC: Final = 1
F_ALLOW_MULTI: Final = 2  # of PROG_ATTACH: beside programs that are there already

#: The kernel keeps 15 characters of a name, and a NUL.
NAME_LENGTH: Final = 15

#: The kernel's own "not supported", which the C library has no name for.
ENOTSUPP: Final = 524
