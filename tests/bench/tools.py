"""The load tools, from Debian: nginx serves 100 bytes, wrk asks, iperf3 pushes; what they get done is read off the
kernel's counters, so that one run of a tool can be measured stretch by stretch.

The CPU of a stretch is what the two pods' control groups used, and ksoftirqd: packets are handled there or in the
context of who sends. So neighbours on the machine do not count, but for what they send meanwhile.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lab import ADDRESSES, Lab, cgroup, namespace

from weft.daemon.local import namespaces

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "iperf3": "iperf3"}
#: Of a sample, and of a load before the first one.
SECONDS, WARM_UP = 0.4, 0.2
CONNECTIONS = 32

NGINX = """
master_process off;
daemon off;
pid {folder}/pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    server {{ listen 80 backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""


def install() -> None:
    """What is missing, by apt; the one thing `make setup` does not bring, for only benches need it."""
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True, env=env)


def serve(lab: Lab, pod: str) -> None:
    folder = lab.folder / pod
    folder.mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, body="x" * 100))
    lab.servers[pod] = lab.spawn(pod, ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]).pid
    lab.spawn(pod, ["iperf3", "-s"])
    for port in (80, 5201):
        wait_listening(pod, port)


def wait_listening(pod: str, port: int) -> None:
    until = time.monotonic() + 5
    while not namespaces.inside(namespace(pod), lambda: listening(port)):
        if time.monotonic() > until:
            raise RuntimeError(f"nobody listens on port {port} of {pod}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Load:
    """A client's command, which runs until it is ended, and what it gets done, counted in the server's pod."""

    name: str
    unit: str  # of a rate
    words: Callable[[str], list[str]]  # by the server's address
    done: Callable[[int], int]  # by a process of the server's pod; only ever grows
    scale: float = 1.0  # from what is counted in a second to the unit


def wrk(address: str, *more: str) -> list[str]:
    return ["wrk", "-t1", f"-c{CONNECTIONS}", "-d60s", *more, f"http://{address}/"]


def tcp(pid: int, name: str) -> int:
    """One of the TCP counters of the process's network namespace."""
    lines = Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index(name)])


def received(pid: int) -> int:
    """Bytes at the pod's veth."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.strip().startswith("eth0:"))


LOADS = (
    # a response is one segment, which carries the acknowledgement too
    Load("keep-alive", "requests/s", lambda address: wrk(address), lambda pid: tcp(pid, "OutSegs")),
    Load(
        "close",
        "requests/s",
        lambda address: wrk(address, "-H", "Connection: close"),
        lambda pid: tcp(pid, "PassiveOpens"),
    ),
    Load("throughput", "Mbit/s", lambda address: ["iperf3", "-t", "60", "-c", address], received, 8e-6),
)


@dataclass(frozen=True)
class Sample:
    """A stretch of a load. `rate` in the load's unit. `cpu_us`: microseconds that the pods used for a request, or a
    megabyte. `others`: CPUs that somebody else kept busy meanwhile."""

    rate: float
    cpu_us: float
    others: float


@contextmanager
def running(lab: Lab, load: Load, target: str) -> Iterator[None]:
    """The load, under way."""
    process = lab.spawn("client", load.words(ADDRESSES[target]))
    time.sleep(WARM_UP)
    try:
        if process.poll() is not None:
            raise RuntimeError(f"the client of {load.name} ended with {process.returncode}")
        yield
    finally:
        process.kill()
        process.wait()


def sample(lab: Lab, load: Load, target: str) -> Sample:
    server = lab.servers[target]
    before, started = (load.done(server), own_seconds(target), machine_seconds()), time.monotonic()
    time.sleep(SECONDS)
    took = time.monotonic() - started
    after = load.done(server), own_seconds(target), machine_seconds()
    done, cpu, machine = (late - early for early, late in zip(before, after, strict=True))
    if not done:
        raise RuntimeError(f"nothing gets through: {load.name} to {target}")
    pieces = done / 1e6 if load.scale != 1 else done
    return Sample(done * load.scale / took, cpu / pieces * 1e6, max((machine - cpu) / took, 0.0))


def own_seconds(target: str) -> float:
    microseconds = 0
    for pod in ("client", target):
        stat = dict(line.split() for line in (cgroup(pod) / "cpu.stat").read_text().splitlines())
        microseconds += int(stat["usage_usec"])
    return microseconds / 1e6 + sum(ksoftirqd_seconds(pid) for pid in ksoftirqds())


def ksoftirqd_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def ksoftirqds() -> list[int]:
    """Where the machine shows its kernel threads at all."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
        except OSError:  # it ended
            continue
    return found


def machine_seconds() -> float:
    """user + nice + system + irq + softirq of all CPUs since boot."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")
