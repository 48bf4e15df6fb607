"""Facts about a real network namespace, also when more happens at once than the socket holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.root
NETNS = "wt-daemon-facts"

STORM = """
import asyncio, subprocess
from weft.daemon.netlink import Watch

async def main():
    watch, ready = Watch(lambda: None), asyncio.Event()
    task = asyncio.create_task(watch.run(ready))
    await ready.wait()
    for words in ("add w1 type veth peer name w2", "set w1 up", "set w2 up"):
        subprocess.run(f"ip link {words}", shell=True, check=True)
    lines = "".join(f"route add 10.77.{i // 250}.{i % 250 + 1}/32 dev w1\\n" for i in range(20000))
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)  # our loop stands still meanwhile
    async with asyncio.timeout(20):
        while len(watch.facts.routes) < 20000:
            await asyncio.sleep(0.05)
    print("resyncs", watch.resyncs)
    subprocess.run("ip link del w1", shell=True, check=True)
    async with asyncio.timeout(20):
        while watch.facts.routes or set(watch.facts.links.values()) & {"w1", "w2"}:
            await asyncio.sleep(0.05)
    task.cancel()

asyncio.run(main())
"""


@pytest.fixture
def netns() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    yield
    subprocess.run(["ip", "netns", "del", NETNS], check=True)


@pytest.mark.usefixtures("netns")
def test_no_route_is_missed_when_messages_are_lost() -> None:
    words = ["nsenter", f"--net=/run/netns/{NETNS}", sys.executable, "-c", STORM]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 0, "the storm was to be more than the socket holds"
