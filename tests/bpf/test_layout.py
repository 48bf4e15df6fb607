"""lib/layout.h, as the C compiler reads it, against its mirrors in Python: sizes, offsets, and every number.

Both ways: what the header has, Python has; what Python has, the header has. Needs a C compiler, no root.
"""

from __future__ import annotations

import ctypes
import enum
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from weft.bpf import abi, layout, policytables
from weft.policies.model import Direction
from weft.policies.table import Verdict

HEADER = Path(layout.__file__).resolve().parent / "lib" / "layout.h"
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

#: Python's enumeration -> what its members are called in the header.
NUMBERS: dict[type[enum.IntEnum] | type[enum.IntFlag], str] = {
    layout.Family: "WEFT_",
    Direction: "WEFT_",
    Verdict: "WEFT_",
    layout.EventType: "WEFT_EV_",
    layout.CtState: "WEFT_CT_",
    layout.SockEvent: "WEFT_SOCK_",
    layout.Reason: "WEFT_DROP_",
    layout.Stat: "WEFT_STAT_",
    layout.EndpointFlag: "WEFT_EP_",
    layout.PolicyFlag: "WEFT_POLICY_",
    layout.CtFlag: "WEFT_CT_F_",
    layout.ServiceFlag: "WEFT_SVC_",
    layout.ConfigFlag: "WEFT_CFG_",
    layout.EventFlag: "WEFT_EVF_",
}
SINGLE = {"WEFT_LAYOUT": layout.LAYOUT, "WEFT_STATS": layout.STATS, "WEFT_OK": layout.Reason.OK}


def structures() -> dict[str, type[ctypes.Structure]]:
    """Name in C -> mirror: weft_ct_key -> CtKey."""
    found = inspect.getmembers(layout, lambda item: inspect.isclass(item) and issubclass(item, ctypes.Structure))
    return {"weft" + re.sub(r"([A-Z])", r"_\1", name).lower(): kind for name, kind in found}


def numbers() -> dict[str, int]:
    """Name in C -> what Python says."""
    named = {prefix + item.name: item.value for kind, prefix in NUMBERS.items() for item in kind if item.name}
    named.pop("WEFT_DROP_OK")  # not a drop, so it has no such name
    return named | SINGLE


@pytest.fixture(scope="module")
def text() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """ "sizeof weft_x", "weft_x.field" (offset), "weft_x.field#" (size) and names of numbers, as compiled."""
    lines = [f'printf("sizeof {name} %zu\\n", sizeof(struct {name}));' for name in structures()]
    for name, kind in structures().items():
        for field, *_ in kind._fields_:
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
            lines.append(f'printf("{name}.{field}# %zu\\n", sizeof(((struct {name} *)0)->{field}));')
    lines += [f'printf("{name} %ld\\n", (long){name});' for name in numbers()]
    folder = tmp_path_factory.mktemp("layout")
    source = folder / "measure.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n"
        f'#include "{HEADER}"\nint main(void) {{ {" ".join(lines)} }}\n'
    )
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-Wpadded", "-o", folder / "measure", source], check=True, timeout=60
    )
    printed = subprocess.run([folder / "measure"], capture_output=True, text=True, check=True, timeout=10).stdout
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in printed.splitlines()}


@pytest.mark.parametrize("name", structures())
def test_a_struct_has_one_size_and_its_fields_one_place(name: str, measured: dict[str, int]) -> None:
    kind = structures()[name]
    assert ctypes.sizeof(kind) == measured[f"sizeof {name}"]
    for field, *_ in kind._fields_:
        mirrored = getattr(kind, field)
        assert (mirrored.offset, mirrored.size) == (measured[f"{name}.{field}"], measured[f"{name}.{field}#"]), (
            field
        )


@pytest.mark.parametrize("name", structures())
def test_a_struct_has_no_hole_without_a_name(name: str) -> None:
    """Keys are compared as bytes: what is not named is not zeroed."""
    kind = structures()[name]
    assert sum(getattr(kind, field).size for field, *_ in kind._fields_) == ctypes.sizeof(kind)


@pytest.mark.parametrize("name", numbers())
def test_a_number_is_the_same_in_both(name: str, measured: dict[str, int]) -> None:
    assert numbers()[name] == measured[name]


def test_every_struct_of_the_header_has_a_mirror(text: str) -> None:
    assert set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE)) == set(structures())


def test_every_number_of_the_header_has_a_mirror(text: str) -> None:
    members = [item.split("=")[0].strip() for body in re.findall(r"enum \w+ \{(.*?)\}", text, re.DOTALL) for item in
               body.split(",")]  # fmt: skip
    defined = re.findall(r"^#define (\w+)[ \t]+\S", text, re.MULTILINE)
    assert set(filter(None, [*members, *defined])) == set(numbers())


def test_policy_formats_are_those_of_the_structs() -> None:
    key = layout.PolicyKey(64, 1 << 25, 1, 6, 0x5000)
    value = layout.PolicyValue(2, 3, 1, 0, 99)
    assert policytables.KEY.pack(64, 1 << 25, 1, 6, 0x5000) == bytes(key)
    assert policytables.VALUE.pack(2, 3, 1, 0, 99) == bytes(value)


@pytest.mark.parametrize(
    "kind", [abi.Command, abi.MapKind, abi.ProgKind, abi.Attach], ids=lambda kind: kind.__name__
)
def test_numbers_of_the_kernel_are_those_of_its_header(kind: type[enum.IntEnum], tmp_path: Path) -> None:
    """Those that the installed header is too old for are left out."""
    prefix = {"Command": "BPF_", "MapKind": "BPF_MAP_TYPE_", "ProgKind": "BPF_PROG_TYPE_", "Attach": "BPF_"}
    header = Path("/usr/include/linux/bpf.h")
    known = [item for item in kind if re.search(rf"\b{prefix[kind.__name__]}{item.name}\b", header.read_text())]
    checks = "".join(f"_Static_assert({prefix[kind.__name__]}{i.name} == {i.value}, {i.name!r});" for i in known)
    source = tmp_path / "numbers.c"
    source.write_text(f"#include <linux/bpf.h>\n{checks}".replace("'", '"'))
    subprocess.run(["gcc", "-fsyntax-only", source], check=True, timeout=60)
    assert len(known) >= len(kind) - 2
