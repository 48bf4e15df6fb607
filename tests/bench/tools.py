"""The load tools, from Debian: nginx serves 100 bytes, wrk asks, iperf3 pushes. One call is one short round."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lab import ADDRESSES, Lab, namespace

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "iperf3": "iperf3"}
SECONDS = 2

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    server {{ listen 80; location / {{ return 200 "{body}"; }} }}
}}
"""


def install() -> None:
    """What is missing, by apt; the one thing `make setup` does not bring, for only benches need it."""
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True, env=env)


def serve(lab: Lab, pod: str, cgroup: Path | None = None) -> None:
    folder = Path(tempfile.mkdtemp(prefix="weft-bench-"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, body="x" * 100))
    lab.spawn(pod, ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], cgroup)
    lab.spawn(pod, ["iperf3", "-s"], cgroup)
    time.sleep(0.5)


@dataclass(frozen=True)
class Round:
    requests: float  # a second
    cpu_us: float  # of the whole machine, a request
    megabits: float  # a second


def cpu_seconds() -> float:
    """user + nice + system + irq + softirq of all CPUs since boot."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def inside(pod: str, words: list[str], cgroup: Path | None) -> str:
    """Runs a client in a pod, and in its cgroup from the first instruction."""
    enter = f"echo $$ > {cgroup}/cgroup.procs; " if cgroup else ""
    shell = ["sh", "-c", enter + 'exec "$@"', "sh", *words]
    done = subprocess.run(
        ["ip", "netns", "exec", namespace(pod), *shell], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def requests(target: str, cgroup: Path | None, *, keep_alive: bool = True) -> tuple[float, float]:
    header = [] if keep_alive else ["-H", "Connection: close"]
    before, url = cpu_seconds(), f"http://{ADDRESSES[target]}/"
    out = inside("client", ["wrk", "-t1", "-c32", f"-d{SECONDS}s", *header, url], cgroup)
    used = cpu_seconds() - before
    found, count = re.search(r"Requests/sec:\s+([\d.]+)", out), re.search(r"(\d+) requests in", out)
    if found is None or count is None:
        raise RuntimeError(f"wrk said: {out}")
    return float(found[1]), used / int(count[1]) * 1e6


def throughput(target: str, cgroup: Path | None) -> float:
    out = inside("client", ["iperf3", "-J", "-t", str(SECONDS), "-c", ADDRESSES[target]], cgroup)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e6


def one_round(target: str, cgroup: Path | None) -> Round:
    rate, cpu = requests(target, cgroup)
    return Round(rate, cpu, throughput(target, cgroup))
