"""Programs: load, run on a packet, attach without links."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from weft.bpf.abi import NAME_LENGTH, Command, ProgKind
from weft.bpf.sys import syscall

_INFO_SIZE = 232


@dataclass(frozen=True, slots=True)
class ProgInfo:
    """`tag`: hash of the instructions, hex. `verified`: instructions that the verifier walked. `maps`: ids."""

    kind: int
    id: int
    tag: str
    name: str
    verified: int
    run_count: int
    run_ns: int
    maps: tuple[int, ...]


class VerifierError(OSError):
    """The kernel refused a program. `log`: what the verifier said, last lines last."""

    def __init__(self, number: int, name: str, log: str) -> None:
        tail = "\n".join(line[:200] for line in log.strip().splitlines()[-12:])
        super().__init__(number, f"bpf: load program {name}: {os.strerror(number)}\n{tail}".rstrip())
        self.log = log


def prog_load(
    kind: ProgKind, instructions: bytes, *, name: str = "", attach: int = 0, license: str = "Dual BSD/GPL"
) -> int:
    """A loaded program's descriptor. Raises VerifierError; the log is only made when the kernel refused."""
    terms = license.encode() + b"\0"
    result, _ = _load(kind, instructions, terms, name, attach, log_size=0)
    if result >= 0:
        return result
    again, log = _load(kind, instructions, terms, name, attach, log_size=1 << 24)
    if again >= 0:  # refused for a reason that has passed, such as memory
        return again
    raise VerifierError(-result, name, log)


def _load(
    kind: ProgKind, instructions: bytes, terms: bytes, name: str, attach: int, log_size: int
) -> tuple[int, str]:
    log = bytearray(log_size)
    attributes = bytearray(
        struct.pack(
            "=IIQQIIQII16sII",
            *(kind, len(instructions) // 8, syscall.address(instructions), syscall.address(terms)),
            *(1 if log_size else 0, log_size, syscall.address(log), 0, 0),
            *(name[:NAME_LENGTH].encode(), 0, attach),
        )
    )
    return syscall.call(Command.PROG_LOAD, attributes), bytes(log).split(b"\0", 1)[0].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class TestRun:
    """`verdict`: what the program returned. `ns`: mean duration of one run."""

    __test__ = False  # not a test, whatever pytest makes of the name
    verdict: int
    data: bytes
    context: bytes
    ns: int


def prog_test_run(fd: int, data: bytes, *, context: bytes = b"", repeat: int = 1, room: int = 256) -> TestRun:
    """Runs the program on a packet, in the caller's network namespace. `room`: by how much the packet may grow."""
    out, context_out = bytearray(len(data) + room), bytearray(len(context))
    attributes = bytearray(
        struct.pack(
            "=4IQQ4IQQ3I4x",
            *(fd, 0, len(data), len(out), syscall.address(data), syscall.address(out), repeat, 0),
            *(len(context), len(context_out), syscall.address(context), syscall.address(context_out), 0, 0, 0),
        )
    )
    syscall.done(syscall.call(Command.PROG_TEST_RUN, attributes), "test run of program", fd)
    _, verdict, _, size, _, _, _, ns = struct.unpack_from("=4IQQ2I", attributes)
    return TestRun(verdict, bytes(out[:size]), bytes(context_out), ns)


def prog_attach(prog_fd: int, target_fd: int, attach_type: int, flags: int = 0) -> None:
    """The way without links: what is attached so outlives every process, until it is detached."""
    syscall.done(
        syscall.call(Command.PROG_ATTACH, _attach(target_fd, prog_fd, attach_type, flags)),
        "attach program",
        prog_fd,
    )


def prog_detach(prog_fd: int, target_fd: int, attach_type: int) -> None:
    syscall.done(
        syscall.call(Command.PROG_DETACH, _attach(target_fd, prog_fd, attach_type, 0)), "detach program", prog_fd
    )


def prog_info(fd: int) -> ProgInfo:
    raw = syscall.info(fd, _INFO_SIZE)
    kind, number, tag = struct.unpack_from("=II8s", raw)
    (maps,) = struct.unpack_from("=I", raw, 52)
    ids = bytearray(4 * maps)
    if maps:
        request = bytearray(_INFO_SIZE)
        struct.pack_into("=IQ", request, 52, maps, syscall.address(ids))
        syscall.info(fd, _INFO_SIZE, request)
    run_ns, runs, _, verified = struct.unpack_from("=QQQI", raw, 192)
    name = syscall.text(raw[64:80])
    return ProgInfo(kind, number, tag.hex(), name, verified, runs, run_ns, struct.unpack(f"={maps}I", ids))


def _attach(target_fd: int, prog_fd: int, attach_type: int, flags: int) -> bytearray:
    return bytearray(struct.pack("=5I", target_fd, prog_fd, attach_type, flags, 0))
