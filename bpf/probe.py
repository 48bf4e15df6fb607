"""What this kernel lacks, asked of the kernel itself: by making the smallest map or program that needs the feature.

In: nothing. Out: one line per missing feature. Version numbers decide nothing: distributions carry features back,
and configurations leave them out. Needs what loading needs (CAP_BPF, CAP_NET_ADMIN); leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft.bpf import asm, links, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import F_NO_PREALLOC, Attach, MapKind, ProgKind

_NETNS_COOKIE: Final = 122  # helpers by number
_KTIME_COARSE: Final = 160


@dataclass(frozen=True, slots=True)
class Feature:
    """`since`: the mainline kernel that has it. `needed`: the data plane does not load or attach without; the rest
    costs something, or a later part of Weft wants it."""

    name: str
    since: str
    present: Callable[[], bool]
    needed: bool = True

    def __str__(self) -> str:
        return f"{self.name} (Linux {self.since})"


def missing(needed_only: bool = False) -> list[str]:
    """Empty: this kernel has all. Raises PermissionError when the caller may not ask."""
    return [str(item) for item in FEATURES if (item.needed or not needed_only) and not _present(item)]


def _present(feature: Feature) -> bool:
    try:
        return feature.present()
    except PermissionError:
        raise
    except OSError:
        return False


def _map(kind: MapKind, key: int, value: int, entries: int, flags: int = 0) -> Callable[[], bool]:
    def present() -> bool:
        os.close(bpf.map_create(kind, key, value, entries, flags=flags, name="probe"))
        return True

    return present


def _program(kind: ProgKind, code: bytes, attach: int = 0) -> Callable[[], bool]:
    def present() -> bool:
        os.close(bpf.prog_load(kind, code, name="probe", attach=attach))
        return True

    return present


def _hooks(*attach: Attach) -> Callable[[], bool]:
    """`return 1` is the one answer that every sock_addr hook takes."""
    probes = [_program(ProgKind.CGROUP_SOCK_ADDR, asm.returning(1), where) for where in attach]
    return lambda: all(probe() for probe in probes)


def _map_of_maps() -> bool:
    template = tables.create_inner(1)
    try:
        os.close(bpf.map_create(MapKind.HASH_OF_MAPS, 4, 4, 1, name="probe", inner=template))
    finally:
        os.close(template)
    return True


def _batches() -> bool:
    fd = bpf.map_create(MapKind.LPM_TRIE, 8, 4, 1, flags=F_NO_PREALLOC, name="probe")
    try:
        return not list(bpf.map_lookup_batch(fd, 8, 4, 1))
    finally:
        os.close(fd)


def _cgroup_links() -> bool:
    """No descriptor is a cgroup's: a kernel that knows the links says so (EBADF) before it says EINVAL."""
    fd = bpf.prog_load(ProgKind.SOCK_OPS, asm.returning(1), name="probe")
    try:
        os.close(bpf.link_create(fd, 0x7FFFFFFF, Attach.CGROUP_SOCK_OPS))
    except OSError as refused:
        return refused.errno == errno.EBADF
    finally:
        os.close(fd)
    return True


_CONNECT = (Attach.CGROUP_INET4_CONNECT, Attach.CGROUP_INET6_CONNECT)
_MESSAGE = (
    *(Attach.CGROUP_UDP4_SENDMSG, Attach.CGROUP_UDP6_SENDMSG),
    *(Attach.CGROUP_UDP4_RECVMSG, Attach.CGROUP_UDP6_RECVMSG),
)
_GETPEERNAME = (Attach.CGROUP_INET4_GETPEERNAME, Attach.CGROUP_INET6_GETPEERNAME)
_COOKIE_CALL = asm.call(_NETNS_COOKIE) + asm.returning(1)

FEATURES: Final = (
    Feature("longest-prefix maps", "4.11", _map(MapKind.LPM_TRIE, 8, 4, 1, F_NO_PREALLOC)),
    Feature("maps of maps", "4.12", _map_of_maps),
    Feature("per-CPU LRU maps", "4.10", _map(MapKind.LRU_PERCPU_HASH, 4, 8, 1)),
    Feature("ring buffers", "5.8", _map(MapKind.RINGBUF, 0, 0, 4096)),
    Feature("tc programs", "4.1", _program(ProgKind.SCHED_CLS, asm.returning(0))),
    Feature("coarse clock in programs", "5.11", _program(ProgKind.SCHED_CLS, asm.call(_KTIME_COARSE) + asm.EXIT)),
    Feature("connect hooks", "4.17", _hooks(*_CONNECT)),
    Feature("sendmsg and recvmsg hooks", "5.2", _hooks(*_MESSAGE)),
    Feature("getpeername hooks", "5.8", _hooks(*_GETPEERNAME)),
    Feature("sock_ops programs", "4.13", _program(ProgKind.SOCK_OPS, asm.returning(1))),
    Feature("links to cgroups", "5.7", _cgroup_links),
    Feature("tcx links; clsact filters are used", "6.6", links.tcx_supported, needed=False),
    Feature("map batches; entries are written one by one", "5.6", _batches, needed=False),
    Feature("sk_msg programs", "4.17", _program(ProgKind.SK_MSG, asm.returning(1)), needed=False),
    Feature("socket hash maps", "4.18", _map(MapKind.SOCKHASH, 4, 4, 1), needed=False),
    Feature("network namespace cookies in sk_msg", "5.15", _program(ProgKind.SK_MSG, _COOKIE_CALL), needed=False),
    Feature(
        "network namespace cookies in sock_ops", "5.15", _program(ProgKind.SOCK_OPS, _COOKIE_CALL), needed=False
    ),
    Feature("the kernel's own BTF", "5.4", Path("/sys/kernel/btf/vmlinux").exists, needed=False),
)
