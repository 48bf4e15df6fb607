"""Links: a program on a hook for as long as the link is pinned or open."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from weft.bpf.abi import Command, LinkKind
from weft.bpf.sys import syscall


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """`target`: interface index of a tcx link (0: the interface is gone), cgroup id of a cgroup link."""

    kind: int
    id: int
    prog_id: int
    target: int
    attach_type: int


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """`target`: interface index for tcx, descriptor of the directory for a cgroup."""
    attributes = bytearray(struct.pack("=4I32x", prog_fd, target, attach_type, flags))
    return syscall.done(
        syscall.call(Command.LINK_CREATE, attributes),
        f"link (attach type {attach_type}, target {target}) program",
        prog_fd,
    )


def link_update(link_fd: int, prog_fd: int) -> None:
    """The link runs the other program from the next packet on; there is no moment without one."""
    syscall.done(
        syscall.call(Command.LINK_UPDATE, bytearray(struct.pack("=4I", link_fd, prog_fd, 0, 0))),
        "update link",
        link_fd,
    )


def link_detach(link_fd: int) -> None:
    syscall.done(syscall.call(Command.LINK_DETACH, bytearray(struct.pack("=I", link_fd))), "detach link", link_fd)


def link_info(fd: int) -> LinkInfo:
    raw = syscall.info(fd, 64)
    kind, number, program = struct.unpack_from("=3I", raw)
    target, attach_type = struct.unpack_from("=II" if kind == LinkKind.TCX else "=QI", raw, 16)
    return LinkInfo(kind, number, program, target, attach_type)
