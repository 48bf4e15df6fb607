"""`weft policy verdict` as a black box: a table of policies and flows against the answers of the specification."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import ROWS
from contract.cluster import CLUSTER, NAMES
from contract.rows import Row
from weft.daemon.cli.main import main

PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMPv4", "icmp6": "ICMPv6"}


def question(probe: str) -> dict[str, Any]:
    flow, *request = probe.replace(" > ", ">", 1).split(" ")
    source, _, rest = flow.partition(">")
    to, _, where = rest.rpartition(":")
    port, _, protocol = where.partition("/")
    asked: dict[str, Any] = {"id": probe, "from": NAMES.get(source, source), "to": NAMES.get(to, to)}
    asked |= {"port": int(port), "protocol": PROTOCOLS[protocol or "tcp"]}
    return asked | {"http": http(*request)} if request else asked


def http(method: str, path: str, *headers: str) -> dict[str, Any]:
    found: dict[str, Any] = {"method": method, "path": path}
    for header in headers:
        name, _, value = header.partition("=")
        if name == "host":
            found["host"] = value
        else:
            found.setdefault("headers", {}).setdefault(name, []).append(value)
    return found


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._capsys, self._monkeypatch, self._folder = capsys, monkeypatch, folder
        (folder / "cluster.yaml").write_text(CLUSTER)

    def run(self, policies: str, probes: list[str], *flags: str) -> tuple[int, list[dict[str, Any]], str]:
        (self._folder / "policies.yaml").write_text(policies)
        self._monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(question(p)) + "\n" for p in probes)))
        code = main(["policy", "verdict", "-f", str(self._folder), "--batch", "-", *flags])
        out, err = self._capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    return Shell(capsys, monkeypatch, tmp_path)


def expected(row: Row) -> Iterator[tuple[str, str, bool]]:
    """(probe, verdict, redirected)"""
    for probe in row.allow:
        yield probe, "ALLOWED", False
    for probe in row.proxy:
        yield probe, "ALLOWED", True
    for probe in row.deny:
        yield probe, "DENIED", False
    for probe in row.forbid:
        yield probe, "DENIED", True


def test_there_are_rows_enough_and_none_is_there_twice() -> None:
    assert len(ROWS) >= 150
    names = [row.id for row in ROWS]
    assert len(set(names)) == len(names)
    assert all(row.refused or row.allow or row.deny or row.proxy or row.forbid for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_verdict_is_the_specifications(row: Row, shell: Shell) -> None:
    wanted = list(expected(row))
    if row.refused:
        code, answers, said = shell.run(row.policies, ["foo > s:80"])
        assert (code, answers) == (2, [])
        for words in ("policies.yaml", *row.refused):
            assert words in said
        code, answers, _ = shell.run(row.policies, ["foo > s:80"], "--keep-going")
        assert (code, [answer["verdict"] for answer in answers]) == (0, ["ALLOWED"])
        return
    code, answers, said = shell.run(row.policies, [probe for probe, _, _ in wanted])
    assert code == 0, said + str([a for a in answers if "error" in a])
    found = [(answer["id"], answer["verdict"], answer["redirected"]) for answer in answers]
    wrong = [
        (want, answer["reason"]) for want, got, answer in zip(wanted, found, answers, strict=True) if want != got
    ]
    assert not wrong
