"""The command line as a whole: errors are one line, on the right stream, with an exit code; help is complete."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from weft.daemon.cli.main import COMMANDS, main, parser


def failed(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str]:
    try:
        code = main(line.split())
    except SystemExit as stop:
        code = int(str(stop.code))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("observe --last=-1", "weft observe: argument --last: invalid number"),
        ("observe --verdict nope", "weft observe:"),
        ("observe --no-such-flag", "weft observe: what is --no-such-flag?"),
        ("local logs x --no-such-flag", "weft local logs: what is --no-such-flag?"),
        ("local status extra", "weft local status: what is extra?"),
        ("local exec x --nope -- ls", "weft local exec: what is --nope?"),
        ("local exec x", "weft: which command?"),
        ("local up --nodes many", "weft local up: argument --nodes: invalid int value"),
        ("local up -f /nowhere", "weft: /nowhere: No such file"),
        ("local apply", "weft local apply: the following arguments are required: -f/--file"),
        ("local", "weft local: the following arguments are required: ACTION"),
        ("bpf policy", "weft bpf policy: the following arguments are required"),
        ("monitor -t nope", "weft monitor: argument -t/--type: invalid choice"),
        ("nosuch", "weft: argument COMMAND: invalid choice"),
        ("", "weft: the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_word_is_one_line_with_what_to_do(capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    code, error = failed(capsys, line)
    assert code == 2
    assert error.startswith(said) and error.count("\n") == 1


def every(one: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield one
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from every(below)


def test_every_option_of_every_command_has_words() -> None:
    mute = {
        f"{each.prog} {action.option_strings or action.dest}"
        for each in every(parser())
        if not each.prog.startswith("weft policy")
        for action in each._actions
        if action.help is None and not isinstance(action, argparse._SubParsersAction)
    }
    assert mute == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_printed(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: weft {command}" in capsys.readouterr().out
