"""A folder as it is, whatever is in it: every file that counts, none that does not, and nothing hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from weft.operator import files
from weft.operator.files import Folder, Sweep
from weft.policies.errors import Invalid


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    root = tmp_path / "w"
    root.mkdir()
    return Folder(root)


def changed(sweep: Sweep, folder: Folder) -> dict[str, str | Invalid]:
    return {os.path.relpath(path, folder.root): text for path, text in sweep.changed.items()}


def test_a_file_is_read_when_it_comes_and_when_it_changes(folder: Folder) -> None:
    path = folder.root / "a.yaml"
    path.write_text("a")
    assert changed(folder.sweep(), folder) == {"a.yaml": "a"}
    assert not folder.sweep().changed
    path.write_text("b")
    assert changed(folder.sweep(), folder) == {"a.yaml": "b"}
    path.touch()
    assert not folder.sweep().changed, "the same content is no change"
    path.unlink()
    assert folder.sweep().gone == [str(path)]
    assert folder.sweep().gone == []


def test_a_change_of_the_same_size_in_the_same_tick_is_seen(folder: Folder) -> None:
    path = folder.root / "a.yaml"
    path.write_text("a")
    moment = time.time_ns()
    os.utime(path, ns=(moment, moment))
    assert folder.sweep().racy
    path.write_text("b")
    os.utime(path, ns=(moment, moment))
    assert changed(folder.sweep(), folder) == {"a.yaml": "b"}


def test_a_file_that_was_replaced_by_rename_is_seen(folder: Folder) -> None:
    path = folder.root / "a.yaml"
    path.write_text("a")
    folder.sweep()
    (folder.root / ".a.yaml.swp").write_text("b")
    assert not folder.sweep().changed
    (folder.root / ".a.yaml.swp").rename(path)
    sweep = folder.sweep()
    assert changed(sweep, folder) == {"a.yaml": "b"} and not sweep.gone


def test_only_manifests_count(folder: Folder) -> None:
    wanted = ["a.yaml", "b.yml", "c.json", "sub/d.yaml", "sub/deeper/e.yaml"]
    unwanted = [
        "a.yaml~",
        "#a.yaml#",
        ".a.yaml.swp",
        ".hidden.yaml",
        "4913",
        "README.md",
        "a.yaml.tmp",
        ".git/x.yaml",
    ]
    for name in wanted + unwanted:
        path = folder.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert sorted(changed(folder.sweep(), folder)) == sorted(wanted)


def test_links_are_followed_but_not_in_circles(folder: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real.yaml").write_text("x")
    (folder.root / "a.yaml").symlink_to(elsewhere / "real.yaml")
    (folder.root / "sub").symlink_to(elsewhere)
    (folder.root / "loop").symlink_to(folder.root)
    (folder.root / "nowhere.yaml").symlink_to("/nowhere")
    (folder.root / "self.yaml").symlink_to("self.yaml")
    assert sorted(changed(folder.sweep(), folder)) == ["a.yaml", "sub/real.yaml"]


def test_a_mounted_config_map_is_swapped_in_one_go(folder: Folder) -> None:
    for version in ("..v1", "..v2"):
        (folder.root / version).mkdir()
        (folder.root / version / "a.yaml").write_text(version)
    (folder.root / "..data").symlink_to("..v1")
    (folder.root / "a.yaml").symlink_to("..data/a.yaml")
    assert changed(folder.sweep(), folder) == {"a.yaml": "..v1"}
    (folder.root / "..new").symlink_to("..v2")
    (folder.root / "..new").rename(folder.root / "..data")
    sweep = folder.sweep()
    assert changed(sweep, folder) == {"a.yaml": "..v2"} and not sweep.gone


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: \xff\xfe", "is not UTF-8: byte 0xff"),
        (b"ok: 1\nbad: \xc3\x28", "is not UTF-8: byte 0xc3"),
        (b"x" * (files.MAX_BYTES + 1), "larger than 8 MiB"),
    ],
    ids=["not text", "not text in line 2", "huge"],
)
def test_content_that_is_no_text_is_told_with_its_file(folder: Folder, content: bytes, reason: str) -> None:
    path = folder.root / "a.yaml"
    path.write_bytes(content)
    found = folder.sweep().changed[str(path)]
    assert isinstance(found, Invalid)
    assert (found.where.file, found.reason) == (str(path), reason)
    assert not folder.sweep().changed, "told once"


def test_a_byte_order_mark_is_no_content(folder: Folder) -> None:
    (folder.root / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert changed(folder.sweep(), folder) == {"a.yaml": "a: 1"}


def test_what_is_no_regular_file_is_passed_by(folder: Folder) -> None:
    os.mkfifo(folder.root / "pipe.yaml")
    (folder.root / "folder.yaml").mkdir()
    (folder.root / "zero.yaml").symlink_to("/dev/zero")
    assert not folder.sweep().changed


def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(folder: Folder) -> None:
    path = folder.root / "a.yaml"
    os.mkfifo(path)
    assert files._read(str(path)) == ""


def test_a_root_that_is_gone_says_nothing_about_its_files(folder: Folder) -> None:
    path = folder.root / "a.yaml"
    path.write_text("a")
    folder.sweep()
    away = folder.root.rename(folder.root.with_name("away"))
    sweep = folder.sweep()
    assert not sweep.gone and not sweep.changed
    assert "the folder is gone" in folder.notices[0].reason
    away.rename(folder.root)
    assert not folder.sweep().gone and not folder.notices


def test_a_root_that_is_a_file_is_a_root_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("x")
    folder = Folder(tmp_path / "w")
    assert not folder.sweep().changed and folder.notices


def test_a_folder_that_cannot_be_listed_keeps_its_files(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    sub = folder.root / "sub"
    sub.mkdir()
    (sub / "a.yaml").write_text("a")
    (folder.root / "b.yaml").write_text("b")
    folder.sweep()
    (folder.root / "b.yaml").unlink()
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path == str(sub):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert folder.sweep().gone == [str(folder.root / "b.yaml")]
    assert folder.notices[0].reason == "Permission denied"


def test_too_many_files_are_told_and_none_is_taken_for_gone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 2)
    for name in "bcd":
        (folder.root / f"{name}.yaml").write_text("x")
    assert sorted(changed(folder.sweep(), folder)) == ["b.yaml", "c.yaml"]
    (folder.root / "a.yaml").write_text("x")
    sweep = folder.sweep()
    assert sorted(changed(sweep, folder)) == ["a.yaml"] and not sweep.gone
    assert "more than 2 files" in folder.notices[0].reason


def test_a_file_of_an_earlier_life_that_is_gone_is_noticed(folder: Folder) -> None:
    path = str(folder.root / "a.yaml")
    folder.expect({path})
    assert folder.sweep().gone == [path]


def test_a_settled_folder_is_not_read_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.root / "a.yaml").write_text("a")
    folder.sweep()
    monkeypatch.setattr(files, "RACY", -1.0)  # as if the file were old
    monkeypatch.setattr(files, "_read", lambda path: pytest.fail("read again"))
    assert not folder.sweep().changed
