"""Programs onto hooks, by links that are pinned: what is attached outlives the process that did it.

In: a program's descriptor, a target, the path of the link's pin. Rule: attaching is idempotent, and the target is
never without a program in between. A link that is there is made to run the new program in place; one whose
target is gone (the kernel let go of it), or that leads elsewhere, is unpinned and made anew.

Needs CAP_BPF and CAP_NET_ADMIN. Kernels before 6.6 have no tcx: `tcx_supported` tells, and attaching there raises
OSError with EINVAL; a clsact filter, which netlink makes, then does the same without a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from weft.bpf import sys as bpf
from weft.bpf.abi import Attach, LinkKind, ProgKind

#: mov r0, 0; exit
_RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")


def tcx_supported() -> bool:
    """Asks for interface 0, which nothing is: a kernel that knows tcx looks for it first. Raises OSError."""
    fd = bpf.prog_load(ProgKind.SCHED_CLS, _RETURN_0, name="probe")
    try:
        os.close(bpf.link_create(fd, 0, Attach.TCX_INGRESS))
    except OSError as refused:
        return refused.errno == errno.ENODEV
    finally:
        os.close(fd)
    return True


def attach_tcx(prog_fd: int, ifindex: int, ingress: bool, pin: Path) -> None:
    """At the interface of the caller's network namespace, behind programs that others attached before. Raises
    OSError: ENODEV without the interface, EINVAL without tcx."""
    where = Attach.TCX_INGRESS if ingress else Attach.TCX_EGRESS
    _attach(prog_fd, ifindex, ifindex, LinkKind.TCX, where, pin)


def attach_cgroup(prog_fd: int, cgroup: int | Path, attach_type: Attach, pin: Path) -> None:
    """For the directory (version 2; a descriptor or a path) and everything below it. Raises OSError."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY) if isinstance(cgroup, Path) else cgroup
    try:
        # a cgroup's id is the number of its directory's inode
        _attach(prog_fd, fd, os.fstat(fd).st_ino, LinkKind.CGROUP, attach_type, pin)
    finally:
        if isinstance(cgroup, Path):
            os.close(fd)


def detach(pin: Path) -> bool:
    """From now on nothing runs there. False: there was no such link; that the target is gone is no error."""
    try:
        fd = bpf.obj_get(pin)
    except FileNotFoundError:
        return False
    try:
        # unpinning alone would do it later, when the last descriptor of the link is closed somewhere
        with contextlib.suppress(OSError):
            bpf.link_detach(fd)
    finally:
        os.close(fd)
    pin.unlink(missing_ok=True)
    return True


def attached(pin: Path) -> bpf.LinkInfo | None:
    """What the pinned link is and leads to; None: no such pin, or its target is gone."""
    try:
        fd = bpf.obj_get(pin)
    except FileNotFoundError:
        return None
    try:
        info = bpf.link_info(fd)
    finally:
        os.close(fd)
    return info if info.target else None


def _attach(prog_fd: int, target: int, target_id: int, kind: LinkKind, where: Attach, pin: Path) -> None:
    if _updated(prog_fd, target_id, kind, where, pin):
        return
    pin.unlink(missing_ok=True)
    fd = bpf.link_create(prog_fd, target, where)
    try:
        bpf.obj_pin(fd, pin)
    finally:
        os.close(fd)  # where pinning failed, this detaches


def _updated(prog_fd: int, target_id: int, kind: LinkKind, where: Attach, pin: Path) -> bool:
    """True: the pinned link leads to the target, and runs the program."""
    try:
        fd = bpf.obj_get(pin)
    except FileNotFoundError:
        return False
    try:
        have = bpf.link_info(fd)
        if (have.kind, have.attach_type, have.target) != (kind, where, target_id):
            return False
        if have.prog_id != bpf.prog_info(prog_fd).id:
            bpf.link_update(fd, prog_fd)
        return True
    except OSError as failed:
        if failed.errno != errno.ENOLINK:  # the target went between the two calls
            raise
        return False
    finally:
        os.close(fd)
