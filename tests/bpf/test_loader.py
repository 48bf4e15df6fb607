"""The loader against a real kernel: pins appear whole, maps outlive programs, and refusals say why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.bpf import Datapath, private_pins
from testkit.netns import Namespace
from weft.bpf import layout, links, tables
from weft.bpf import sys as bpf
from weft.bpf.abi import MapKind
from weft.bpf.loader import cache, compiler, headers, load, pins
from weft.bpf.maps import Map

pytestmark = pytest.mark.root

ONE = "weft_recvmsg4"
HEAD = '#include <linux/bpf.h>\n#include "lib/maps.h"\n'

#: Uses a map, and does nothing.
QUIET = HEAD + (
    "int weft_recvmsg4(struct bpf_sock_addr *ctx) { __u32 k = 0; weft_lookup(config, &k); return 1; }\n"
)


@pytest.fixture
def pin_dir() -> Iterator[Path]:
    with private_pins("loader") as path:
        yield path


def sources(folder: Path, text: str) -> Path:
    """A folder of sources with one file of our own, and the project's headers."""
    folder.mkdir(exist_ok=True)
    if not (folder / "lib").exists():
        (folder / "lib").symlink_to(load.SOURCES / "lib")
    (folder / "one.c").write_text(text)
    return folder


def program_id(pin: Path) -> int:
    fd = bpf.obj_get(pin)
    try:
        return bpf.prog_info(fd).id
    finally:
        os.close(fd)


def test_the_command_prints_one_json_object_and_leaves_all_pins(pin_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft.bpf.loader", "--pin-dir", str(pin_dir)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["programs"]) == set(layout.PROGRAMS)
    assert all(0 < facts["verified"] < 1_000_000 for facts in report["programs"].values())
    names = {path.name for path in pin_dir.iterdir()}
    assert names == {f"prog_{name}" for name in layout.PROGRAMS} | {spec.pin for spec in layout.MAPS}


def test_a_complete_data_plane_is_left_as_it_is(pin_dir: Path, tmp_path: Path) -> None:
    first = load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, QUIET))
    again = load.run(pin_dir, only=[ONE], kept=None, sources=tmp_path / "there is nothing to compile")
    assert first.changed
    assert not again.changed
    assert again.programs[ONE]["id"] == first.programs[ONE]["id"]


def test_an_upgrade_replaces_programs_and_keeps_maps_with_their_content(pin_dir: Path, tmp_path: Path) -> None:
    load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, QUIET))
    endpoints: Map[int, layout.Endpoint] = Map.open(layout.ENDPOINTS, pin_dir)
    endpoints.put(7, layout.Endpoint(ep_id=41))
    before = program_id(pin_dir / f"prog_{ONE}")

    report = load.run(pin_dir, upgrade=True, only=[ONE], kept=None, sources=tmp_path)

    assert program_id(pin_dir / f"prog_{ONE}") == report.programs[ONE]["id"] != before
    assert all(facts["reused"] for facts in report.maps.values())
    reopened: Map[int, layout.Endpoint] = Map.open(layout.ENDPOINTS, pin_dir)
    kept = reopened.get(7)
    assert kept is not None
    assert kept.ep_id == 41
    endpoints.close()
    reopened.close()


def test_another_layout_number_gives_maps_of_its_own_beside_the_old(
    pin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, QUIET))
    monkeypatch.setattr(layout, "LAYOUT", layout.LAYOUT + 1)
    report = load.run(pin_dir, only=[ONE], kept=None, sources=tmp_path)
    assert not any(facts["reused"] for facts in report.maps.values())
    assert (pin_dir / f"config_v{layout.LAYOUT}").exists()
    assert (pin_dir / f"config_v{layout.LAYOUT - 1}").exists()


def test_a_pinned_map_of_another_shape_is_refused_by_name(pin_dir: Path, tmp_path: Path) -> None:
    pin_dir.mkdir(parents=True)
    fd = bpf.map_create(MapKind.ARRAY, 4, 8, 3, name="other")
    bpf.obj_pin(fd, pin_dir / layout.CONFIG.pin)
    os.close(fd)
    with pytest.raises(tables.OtherShape, match=rf"{layout.CONFIG.pin}.* 8-byte values and 3 entries"):
        load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, QUIET))
    assert [path.name for path in pin_dir.iterdir()] == [layout.CONFIG.pin]


def test_a_program_that_the_verifier_refuses_is_named_and_nothing_changes(pin_dir: Path, tmp_path: Path) -> None:
    unchecked = HEAD + (
        "int weft_recvmsg4(struct bpf_sock_addr *ctx)"
        " { __u32 k = 1; struct weft_endpoint *e = weft_lookup(endpoints, &k); return e->flags & 1; }\n"
    )
    load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, QUIET))
    before = program_id(pin_dir / f"prog_{ONE}")
    with pytest.raises(bpf.VerifierError, match=r"(?s)load program recvmsg4.*invalid mem access"):
        load.run(pin_dir, upgrade=True, only=[ONE], kept=None, sources=sources(tmp_path, unchecked))
    assert program_id(pin_dir / f"prog_{ONE}") == before
    assert not [path for path in pin_dir.iterdir() if path.name.startswith("new_")]


def test_the_first_load_that_fails_leaves_no_pin_at_all(pin_dir: Path, tmp_path: Path) -> None:
    looping = HEAD + "int weft_recvmsg4(struct bpf_sock_addr *ctx) { for (;;) { } return 1; }\n"
    with pytest.raises(bpf.VerifierError):
        load.run(pin_dir, only=[ONE], kept=None, sources=sources(tmp_path, looping))
    assert list(pin_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int weft_recvmsg4(void *ctx) { return htons(1); }", "htons"),
        ("int weft_recvmsg4(void *ctx) { return 1 }", "expected ';'"),
        ("#include <no/such.h>\n", "no/such.h"),
    ],
    ids=["an undeclared function", "a syntax error", "a header that is not there"],
)
def test_what_does_not_compile_is_told_in_the_compilers_words(tmp_path: Path, text: str, said: str) -> None:
    folder = sources(tmp_path, HEAD + text)
    with pytest.raises(compiler.CompileError, match=rf"(?s)one\.c.*{said}"):
        compiler.compile_file(folder / "one.c", {})


def test_a_missing_program_is_named(pin_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(load.LoadError, match="weft_recvmsg6"):
        load.run(pin_dir, only=[ONE, "weft_recvmsg6"], kept=None, sources=sources(tmp_path, QUIET))


def test_macros_reach_the_compiler(tmp_path: Path) -> None:
    folder = sources(tmp_path, HEAD + "int weft_recvmsg4(void *ctx) { return ANSWER; }")
    first = compiler.compile_file(folder / "one.c", {"ANSWER": "1"})
    second = compiler.compile_file(folder / "one.c", {"ANSWER": "2"})
    assert first[ONE] != second[ONE]


def test_linking_puts_descriptors_where_maps_were_named(tmp_path: Path) -> None:
    code = compiler.compile_file(sources(tmp_path, QUIET) / "one.c", {})[ONE]
    linked = compiler.link(code, {"config": 77})
    assert len(linked) == len(code)
    assert linked != code
    assert linked.replace((77).to_bytes(4, "little"), code[linked.find((77).to_bytes(4, "little")) :][:4]) == code


def test_kept_programs_are_found_until_a_source_or_header_changes(pin_dir: Path, tmp_path: Path) -> None:
    folder, kept = sources(tmp_path / "src", QUIET), tmp_path / "kept"
    first = load.run(pin_dir, only=[ONE], kept=kept, sources=folder)
    second = load.run(pin_dir, upgrade=True, only=[ONE], kept=kept, sources=folder)
    third = load.run(pin_dir, upgrade=True, only=[ONE], kept=kept, sources=sources(folder, QUIET + "//\n"))
    assert (first.compiled, first.cached) == (["one.c"], [])
    assert (second.compiled, second.cached) == ([], ["one.c"])
    assert (third.compiled, third.cached) == (["one.c"], [])


def test_kept_programs_that_others_could_have_written_are_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    cache.write(tmp_path, "x", {"program": b"code"})
    assert cache.read(tmp_path, "x") == {"program": b"code"}
    (tmp_path / "x").chmod(0o666)
    assert cache.read(tmp_path, "x") is None


def test_the_oldest_kept_programs_make_room(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for at in range(cache.KEPT + 5):
        cache.write(tmp_path, f"{at}", {})
        os.utime(tmp_path / f"{at}", (at, at))
    cache.write(tmp_path, "last", {})
    assert len(list(tmp_path.iterdir())) == cache.KEPT
    assert cache.read(tmp_path, "0") is None
    assert cache.read(tmp_path, "last") == {}


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', '{"a": "zz"}', "[]"])
def test_a_broken_kept_file_is_as_if_it_were_not_there(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    (tmp_path / "x").chmod(0o600)
    assert cache.read(tmp_path, "x") is None


def test_kernel_names_of_programs_differ() -> None:
    names = [load.kernel_name(name)[:15] for name in layout.PROGRAMS]
    assert len(set(names)) == len(names)


def test_programs_use_the_pinned_maps(loaded_datapath: Datapath) -> None:
    maps, programs = loaded_datapath.maps, loaded_datapath.programs
    pinned = {bpf.map_info(maps.config.fd).id, bpf.map_info(maps.events).id}
    for name in ("weft_from_workload", "weft_to_workload"):
        assert pinned <= set(bpf.prog_info(programs[name]).maps)


def test_a_live_link_runs_on_through_an_upgrade_and_takes_the_new_program(pin_dir: Path) -> None:
    namespace = Namespace()
    name, link = "weft_to_workload", pin_dir / "link_x"

    def attach() -> None:
        fd = bpf.obj_get(pin_dir / f"prog_{name}")
        namespace.call(links.attach_tcx, fd, 1, False, link)
        os.close(fd)

    load.run(pin_dir)
    attach()
    first = links.attached(link)
    report = load.run(pin_dir, upgrade=True)
    between = links.attached(link)
    attach()
    last = links.attached(link)
    namespace.close()
    assert first is not None
    assert between == first
    assert last is not None
    assert (last.id, last.prog_id) == (first.id, report.programs[name]["id"])
    assert last.prog_id != first.prog_id


def test_what_a_killed_loader_left_is_cleared_away(pin_dir: Path, tmp_path: Path) -> None:
    folder = sources(tmp_path, QUIET)
    load.run(pin_dir, only=[ONE], kept=None, sources=folder)
    (pin_dir / f"prog_{ONE}").rename(pin_dir / f"new_prog_{ONE}")
    report = load.run(pin_dir, only=[ONE], kept=None, sources=folder)
    assert program_id(pin_dir / f"prog_{ONE}") == report.programs[ONE]["id"]
    assert not (pin_dir / f"new_prog_{ONE}").exists()


def test_three_capabilities_are_enough(pin_dir: Path) -> None:
    """CAP_SYS_ADMIN is not among them: the file system of pins is mounted."""
    pin_dir.mkdir(parents=True)
    only = "-all,+bpf,+net_admin,+perfmon"
    words = ["setpriv", f"--bounding-set={only}", f"--inh-caps={only}", sys.executable, "-m", "weft.bpf.loader"]
    done = subprocess.run([*words, "--pin-dir", str(pin_dir)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_without_capabilities_the_command_fails_with_a_reason_and_pins_nothing(pin_dir: Path) -> None:
    pin_dir.mkdir(parents=True)
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "weft.bpf.loader"]
    done = subprocess.run([*words, "--pin-dir", str(pin_dir)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "bpf: create lpm_trie map ipcache_v1: Operation not permitted" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(pin_dir.iterdir()) == []


def test_a_machine_without_bcc_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(ImportError, match="apt install python3-bpfcc"):
        compiler.compile_file(sources(tmp_path, QUIET) / "one.c", {})


def test_a_machine_without_headers_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "UAPI", tmp_path / "nothing")
    with pytest.raises(headers.MissingHeaders, match="apt install linux-libc-dev"):
        compiler.compile_file(sources(tmp_path, QUIET) / "one.c", {})


def test_the_file_system_of_pins_is_mounted_once(tmp_path: Path) -> None:
    pins.ensure_bpffs(tmp_path)
    pins.ensure_bpffs(tmp_path)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    subprocess.run(["umount", tmp_path], check=True)
    assert mounts.count(str(tmp_path)) == 1
