"""A kernel source tree small enough to write by hand.

bcc compiles against the headers of the running kernel, which a node rarely has. Weft's programs use the stable UAPI
only, so its headers (apt: linux-libc-dev) and the few files below are enough: bcc's own helpers.h asks for them.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

UAPI: Final = Path("/usr/include")

_TYPES: Final = """\
#ifndef WEFT_SHIM_TYPES_H
#define WEFT_SHIM_TYPES_H
#include "{uapi}/linux/types.h"
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef _Bool bool; typedef unsigned long size_t; typedef unsigned long uintptr_t;
enum { false = 0, true = 1 };
#endif
"""
_STUBS: Final = {
    "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n",
    "linux/log2.h": "",
    "linux/types.h": _TYPES.replace("{uapi}", str(UAPI)),
    "generated/autoconf.h": "",
    "asm/page.h": "",
    "uapi/linux/bpf.h": "",  # bcc brings its own, newer than the distribution's
}
#: Asked for under names that only a kernel tree has.
_LINKS: Final = {"linux/version.h": "linux/version.h", "uapi/linux/if_packet.h": "linux/if_packet.h"}


class MissingHeaders(Exception):
    """No UAPI headers on this machine."""

    def __init__(self) -> None:
        super().__init__(f"no {UAPI}/linux/if_packet.h: apt install linux-libc-dev")


def write(root: Path) -> None:
    """Makes `root` what BCC_KERNEL_SOURCE may point at. Raises MissingHeaders, OSError."""
    if not (UAPI / "linux/if_packet.h").exists():
        raise MissingHeaders
    for name, text in _STUBS.items():
        path = root / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, target in _LINKS.items():
        (root / "include" / name).symlink_to(UAPI / target)


def stubs() -> list[str]:
    """What `write` writes, for those who must notice a change of it."""
    return [f"{name}\0{text}" for name, text in _STUBS.items()]


def flags() -> list[str]:
    """What the compiler needs to find the rest: looked at last, so that the shim and bcc come first."""
    return ["-idirafter", str(UAPI), "-idirafter", str(UAPI / f"{platform.machine()}-linux-gnu")]
