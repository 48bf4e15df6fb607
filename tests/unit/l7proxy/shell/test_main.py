"""The command line of a worker."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from weft.l7proxy.main import main
from weft.l7proxy.worker import VERSION

REQUIRED = ["--daemon", "/nowhere/proxy.sock", "--run-dir", "/nowhere"]


def test_help_names_every_option_and_signal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for word in ("--daemon", "--run-dir", "--worker", "--generation", "--takeover", "--counters", "SIGTERM"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--daemon, --run-dir"),
        ([*REQUIRED, "--worker", "x"], "--worker"),
        ([*REQUIRED, "--plain", "127.0.0.1=1.2.3.4:5"], "is not ADDRESS:PORT=ADDRESS:PORT"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
