"""C to instructions, by bcc. In: one source file. Out: the instructions of each of its programs, as bytes.

Maps are not known here: a program names one by a descriptor (lib/maps.h), for which the compiler gets a stand-in
number. So the result depends on the source alone, is kept (`cache`), and `link` puts the real descriptors in.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from weft.bpf import layout
from weft.bpf.loader import headers

APT_LINE: Final = 'bcc is missing: apt install python3-bpfcc (PyPI\'s "bcc" is an unrelated library)'

#: Far above any descriptor, and recognisable in a dump: 0x57eff000 + place of the map in layout.MAPS.
_STAND_IN: Final = 0x57EFF000
_LD_IMM64: Final = 0x18
_PSEUDO_MAP_FD: Final = 1


class CompileError(Exception):
    """A source does not compile; the text is the compiler's."""


def map_flags() -> list[str]:
    return [f"-DWEFT_FD_{spec.name}={_STAND_IN + place}" for place, spec in enumerate(layout.MAPS)]


def compile_file(source: Path, defines: Mapping[str, str]) -> dict[str, bytes]:
    """Program name -> instructions. Raises CompileError, ImportError with the apt line when bcc is not there."""
    with tempfile.TemporaryDirectory(prefix="weft-headers-") as shim:
        headers.write(Path(shim))
        # before the import: bcc reads it whenever it compiles, and a missing tree is an error of its own
        os.environ["BCC_KERNEL_SOURCE"] = shim
        with _stderr_captured() as said:
            module = _bcc_module(source, [*_flags(source.parent), *(f"-D{k}={v}" for k, v in defines.items())])
        if module is None:
            raise CompileError(f"{source.name} does not compile\n{said[0]}")
        print(said[0], end="\n" if said[0] else "", file=sys.stderr)
        return _functions(module)


def _flags(include: Path) -> Sequence[str]:
    # an undeclared function would compile, and then fail to load with a message about something else
    strict = ["-Werror=implicit-function-declaration"]
    return [f"-I{include}", *headers.flags(), *strict, *map_flags()]


def _bcc_module(source: Path, cflags: Sequence[str]) -> Any:
    try:
        from bcc import BPF
    except ImportError as missing:
        raise ImportError(APT_LINE) from missing
    try:
        return BPF(src_file=str(source).encode(), cflags=list(cflags))
    except Exception as failed:  # bcc raises plain Exception for everything
        if "Failed to compile" in str(failed):
            return None
        raise CompileError(f"{source.name}: {failed}") from failed


def _functions(module: Any) -> dict[str, bytes]:
    from bcc.libbcc import lib

    names = [lib.bpf_function_name(module.module, at) for at in range(lib.bpf_num_functions(module.module))]
    return {name.decode(): module.dump_func(name) for name in names}


def link(instructions: bytes, descriptors: Mapping[str, int]) -> bytes:
    """The instructions with descriptors of maps in place of the stand-ins. Raises CompileError for a map that is
    not in `descriptors`."""
    linked = bytearray(instructions)
    at = 0
    while at < len(linked):
        code, registers, _, immediate = struct.unpack_from("=BBhI", linked, at)
        if code == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            struct.pack_into("=I", linked, at + 4, descriptors[_map_of(immediate)])
        at += 16 if code == _LD_IMM64 else 8
    return bytes(linked)


def _map_of(stand_in: int) -> str:
    place = stand_in - _STAND_IN
    if not 0 <= place < len(layout.MAPS):
        raise CompileError(f"a program uses a map that is not in layout.MAPS ({stand_in:#x}: a table of bcc's?)")
    return layout.MAPS[place].name


@contextmanager
def _stderr_captured() -> Iterator[list[str]]:
    """bcc's compiler writes to descriptor 2 itself: the text goes into the list, for the error message."""
    said: list[str] = []
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield said
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            said.append(sink.read().decode(errors="replace").strip())
