"""Turns bpf/*.c into pinned programs and maps, in a process of its own: `python -m weft.bpf.loader --pin-dir DIR`.

In: the C sources, `layout.MAPS` and `layout.PROGRAMS`. Out: pins `prog_<name>` and `<map>_v<layout>` below the pin
directory, and one JSON object on standard output. Nothing is attached here. This is the only room that imports bcc:
compiling keeps 120 MB resident, which is gone when the process is. One source takes 1 to 3 s to compile; what was
compiled is kept (`cache`), and then all of it takes 0.2 s and needs no compiler.

Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (without it the verifier refuses arithmetic on pointers that differ by
path), and CAP_SYS_ADMIN only to mount the bpf file system where nobody has.

Rule of the room: a pin is whole or not there. All programs are loaded before the first pin changes; each is
pinned under a temporary name and renamed over the old one. A pinned map of the same layout is used again, with its
content; one of another shape is an error that names it, for replacing it would lose state.
"""
