"""The kubelet's eyes: is a container ready, is it alive. Asked from the node's network, as a kubelet does.

A probe is bounded in time by its `timeout` and in memory by HEAD_MAX: of an HTTP answer only the status counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

from weft.daemon.local import namespaces
from weft.daemon.local.manifests import Check, Probe

HEAD_MAX = 16 << 10
Run = Callable[[tuple[str, ...]], Awaitable[int]]  # a command in the container; its exit code


class Judge:
    """Turns answers into a state: it changes after so many of the same kind in a row, not at the first."""

    def __init__(self, probe: Probe, state: bool) -> None:
        self.state = state
        self._probe = probe
        self._row = 0

    def take(self, success: bool) -> bool:
        """The state after one more answer."""
        if success == self.state:
            self._row = 0
            return self.state
        self._row += 1
        if self._row >= (self._probe.successes if success else self._probe.failures):
            self.state, self._row = success, 0
        return self.state


async def ask(probe: Probe, netns: str, ip: str, run: Run) -> str:
    """Why not; "" for yes."""
    check = probe.check
    try:
        async with asyncio.timeout(probe.timeout):
            if check.kind == "exec":
                code = await run(check.command)
                return "" if code == 0 else f"exit code {code}"
            return await _connect(check, netns, check.host or ip)
    except TimeoutError:
        return f"no answer within {probe.timeout:g} s"
    except OSError as error:  # asyncio's own text for it is about its calls
        return os.strerror(error.errno).lower() if error.errno else str(error)
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return str(error) or type(error).__name__


async def _connect(check: Check, netns: str, host: str) -> str:
    loop = asyncio.get_running_loop()
    sock = namespaces.open_socket(netns, socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, check.port))
        if check.kind == "tcpSocket":
            return ""
        context = _anybody() if check.https else None
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=host if context else None, limit=HEAD_MAX
        )
        try:
            return await _get(check, host, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _get(check: Check, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    named = {name.lower(): value for name, value in check.headers}
    where = f"[{host}]:{check.port}" if ":" in host else f"{host}:{check.port}"
    headers = {"host": where, "user-agent": "weft-probe", "accept": "*/*", "connection": "close"} | named
    lines = [f"GET {check.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    status = (await reader.readuntil(b"\n")).split()
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
        return "not an HTTP answer"
    return "" if 200 <= int(status[1]) < 400 else f"HTTP {int(status[1])}"


def _anybody() -> ssl.SSLContext:
    """A kubelet does not verify the certificate of what it probes."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
