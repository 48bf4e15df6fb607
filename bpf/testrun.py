"""One packet through one tc program, without a device: what the tests and the daemon's check of itself use.

The kernel builds an sk_buff from an Ethernet frame and a context, runs the program and hands both back. Of struct
__sk_buff a caller may set what `Context` has (and timestamps and segment counts); any other field that is not zero
fails with EINVAL. `ifindex` must be an interface of the caller's network namespace (1 is `lo` in every one), else
ENODEV; 0 is taken as 1. Frames are 14 to 3712 bytes long; one that says IPv4 in its Ethernet header is 34 at least,
and IPv6 54: shorter ones, which a program must fend off too, need a device to send them on. [6.18, x86]
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from weft.bpf import sys as bpf

#: struct __sk_buff, in 32-bit words up to data_end, then to its end.
_SIZE: Final = 192
_MARK, _PRIORITY, _INGRESS_IFINDEX, _IFINDEX, _CB = 8, 32, 36, 40, 48


@dataclass(frozen=True, slots=True)
class Context:
    ifindex: int = 1
    mark: int = 0
    priority: int = 0
    ingress_ifindex: int = 0
    cb: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)

    def pack(self) -> bytes:
        raw = bytearray(_SIZE)
        struct.pack_into("=I", raw, _MARK, self.mark)
        struct.pack_into("=III", raw, _PRIORITY, self.priority, self.ingress_ifindex, self.ifindex)
        struct.pack_into("=5I", raw, _CB, *self.cb)
        return bytes(raw)

    @classmethod
    def unpack(cls, raw: bytes) -> Context:
        (mark,) = struct.unpack_from("=I", raw, _MARK)
        priority, ingress_ifindex, ifindex = struct.unpack_from("=III", raw, _PRIORITY)
        a, b, c, d, e = struct.unpack_from("=5I", raw, _CB)
        return cls(ifindex, mark, priority, ingress_ifindex, (a, b, c, d, e))


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdict`: what the program returned (layout.TC_PASS, TC_DROP). `ns`: mean duration of a run."""

    verdict: int
    context: Context
    packet: bytes
    ns: int


def run(prog_fd: int, packet: bytes, context: Context | None = None, *, repeat: int = 1) -> Outcome:
    """`packet`: from the Ethernet header on, 14 bytes at least. Raises OSError: ENODEV for an unknown ifindex."""
    done = bpf.prog_test_run(prog_fd, packet, context=(context or Context()).pack(), repeat=repeat)
    return Outcome(done.verdict, Context.unpack(done.context), done.data, done.ns)
