"""The load tools, from Debian: nginx serves 100 bytes, wrk asks, iperf3 pushes. One call is one short round.

The CPU of a round is what the two pods' control groups used, and ksoftirqd: packets are handled there or in the
context of who sends. So neighbours on the machine do not count, but for what they send meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lab import ADDRESSES, Lab, cgroup, entering, namespace

from weft.daemon.local import namespaces

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "iperf3": "iperf3"}
SECONDS = 2
CONNECTIONS = 32

NGINX = """
worker_processes 1;
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
    lab.spawn(pod, ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
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
class Round:
    """`rate`: requests or megabits a second. `cpu`: seconds that the pods used for `done` requests or megabytes.
    `others`: CPUs that somebody else kept busy meanwhile."""

    rate: float
    done: float
    cpu: float
    others: float

    @property
    def cpu_us(self) -> float:
        return self.cpu / self.done * 1e6


def requests(target: str, keep_alive: bool = True) -> Round:
    header = [] if keep_alive else ["-H", "Connection: close"]
    url = f"http://{ADDRESSES[target]}/"
    out, cpu, others = accounted(target, ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *header, url])
    found, count = re.search(r"Requests/sec:\s+([\d.]+)", out), re.search(r"(\d+) requests in", out)
    errors = re.search(r"Socket errors.*(connect|timeout) [1-9]|Non-2xx", out)
    if found is None or count is None or int(count[1]) == 0 or errors:
        raise RuntimeError(f"wrk said: {out}")
    return Round(float(found[1]), int(count[1]), cpu, others)


def closing(target: str) -> Round:
    """A connection for each request."""
    return requests(target, keep_alive=False)


def throughput(target: str) -> Round:
    out, cpu, others = accounted(target, ["iperf3", "-J", "-t", str(SECONDS), "-c", ADDRESSES[target]])
    end = json.loads(out)["end"]["sum_received"]
    return Round(float(end["bits_per_second"]) / 1e6, float(end["bytes"]) / 1e6, cpu, others)


LOADS: dict[str, Callable[[str], Round]] = {"keep-alive": requests, "close": closing, "throughput": throughput}


def accounted(target: str, words: list[str]) -> tuple[str, float, float]:
    """What the client in pod `client` printed, the pods' CPU seconds, and the CPUs that others used."""
    ours, machine, started = own_seconds(target), machine_seconds(), time.monotonic()
    done = subprocess.run(entering("client", words), capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    cpu = own_seconds(target) - ours
    others = (machine_seconds() - machine - cpu) / (time.monotonic() - started)
    return done.stdout, cpu, max(others, 0.0)


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
