"""Probes: when answers turn a state, and what a server on a socket makes of them."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import pytest

from weft.daemon.local import namespaces, probes
from weft.daemon.local.manifests import Check, Probe


@pytest.mark.parametrize(
    "successes, failures, start, answers, states",
    [
        pytest.param(1, 3, False, "y", "y", id="one success makes it ready"),
        pytest.param(2, 3, False, "yny y", "nnny", id="as many in a row as it takes"),
        pytest.param(1, 3, True, "nnynnn", "yyyyyn", id="as many failures in a row as it takes"),
        pytest.param(1, 1, True, "nyn", "nyn", id="at once, both ways"),
    ],
)
def test_a_state_turns_after_so_many_in_a_row(
    successes: int, failures: int, start: bool, answers: str, states: str
) -> None:
    judge = probes.Judge(Probe(Check("exec"), successes=successes, failures=failures), start)
    found = [judge.take(answer == "y") for answer in answers.replace(" ", "")]
    assert found == [state == "y" for state in states]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of this namespace stand for those of a node's."""
    monkeypatch.setattr(namespaces, "open_socket", lambda _name, family, kind: socket.socket(family, kind))


async def nobody(_command: tuple[str, ...]) -> int:
    raise AssertionError("no command was asked for")


def ask(check: Callable[[int], Check], reply: bytes | None, *, host: str = "127.0.0.1") -> str:
    """The probe's answer from a server that says `reply` to whatever comes; None: it says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if reply is None:
            await asyncio.sleep(5)
        writer.write(reply or b"")
        writer.close()

    async def run() -> str:
        port = random.randrange(20000, 29000)
        async with await asyncio.start_server(serve, host, port):
            return await probes.ask(Probe(check(port), timeout=0.3), "", host, nobody)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "reply, why",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "", id="OK"),
        pytest.param(b"HTTP/1.0 302 Found\r\n\r\n", "", id="elsewhere"),
        pytest.param(b"HTTP/1.1 503 No\r\n\r\n", "HTTP 503", id="an error"),
        pytest.param(b"SSH-2.0-x\r\n", "not an HTTP answer", id="another protocol"),
        pytest.param(b"\n", "not an HTTP answer", id="an empty line"),
        pytest.param(b"HTTP/1.1 200", "0 bytes|bytes read", id="cut off"),
        pytest.param(b"x" * 100_000, "Separator|limit", id="a line without end"),
        pytest.param(None, "no answer within 0.3 s", id="silence"),
    ],
)
@pytest.mark.usefixtures("here")
def test_an_http_probe(reply: bytes | None, why: str) -> None:
    found = ask(lambda port: Check("httpGet", port), reply)
    assert (found == "") == (why == ""), found
    assert not why or any(part in found for part in why.split("|")), found


@pytest.mark.usefixtures("here")
def test_a_tcp_probe() -> None:
    assert ask(lambda port: Check("tcpSocket", port), b"") == ""
    assert ask(lambda port: Check("tcpSocket", port), b"", host="::1") == ""
    assert "refused" in ask(lambda port: Check("tcpSocket", port + 1), b"").lower()


def test_an_exec_probe_is_its_exit_code() -> None:
    async def seven(_command: tuple[str, ...]) -> int:
        return 7

    probe = Probe(Check("exec", command=("x",)))
    assert asyncio.run(probes.ask(probe, "", "", seven)) == "exit code 7"
