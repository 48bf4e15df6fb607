"""Turns bpf/*.c into pinned programs and maps, in a process of its own: `python -m weft.bpf.loader --pin-dir DIR`.

In: the C sources, `layout.MAPS` and `layout.PROGRAMS`. Out: pins `prog_<name>` and `<map>_v<layout>` below the pin
directory, and one JSON object on standard output. Nothing is attached here. This is the only room that imports bcc:
compiling keeps 120 MB resident, which is gone when the process is.

Rule of the room: a pin is whole or not there. All programs are loaded before the first pin changes; each is
pinned under a temporary name and renamed over the old one. A pinned map of the same layout is used again, with its
content; one of another shape is an error that names it, for replacing it would lose state.
"""
