"""Logs: bounded while they are written, and followed over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.daemon.local import logs
from weft.daemon.local.programs import tail


def test_a_log_that_is_too_long_loses_its_head_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "ab", buffering=0) as writer:
        for i in range(1000):
            writer.write(b"%06d\n" % i)
        assert logs.trim(path, most=5000, kept=700)
        writer.write(b"after\n")
    lines = path.read_text().splitlines()
    assert lines[-1] == "after" and lines[-2] == "000999" and lines[0] == "000901" and "\0" not in path.read_text()
    assert not logs.trim(path, most=5000, kept=700)
    assert not logs.trim(tmp_path / "missing")


def test_following_sees_what_comes_and_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one")
    steps = iter(
        [
            lambda: path.write_bytes(b"one two"),
            lambda: (path.rename(tmp_path / "old"), path.write_bytes(b"new run")),
            lambda: None,
        ]
    )

    def lives() -> bool:
        step = next(steps, None)
        if step is None:
            return False
        step()
        return True

    assert b"".join(logs.follow(path, lives)) == b"one twonew run"


def test_the_tail_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{i}\n" for i in range(100)))
    assert tail(path, 3) == ["97", "98", "99"]
    assert tail(tmp_path / "missing", 3) == []


@pytest.mark.parametrize(
    ("text", "count", "shown"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\n", 0, ""),
        ("", 3, ""),
    ],
)
def test_the_last_lines_of_a_log(tmp_path: Path, text: str, count: int, shown: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert b"".join(logs.read(path, logs.last_lines(path, count))).decode() == shown
