"""The L7 proxy against Envoy: same routes, one worker each, taking turns under the same load.

Both listen on loopback; clients and servers are the same programs: wrk and nginx for HTTP/1.1, h2load and nghttpd
for HTTP/2, and gRPC's shape of it (a POST with `te: trailers`, a body of 50 bytes). CPU is what the proxy's own
process used, for each request: trust it over rates, for load generator, server and proxy share two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import envoy, report
from tests.bench.quiet import Patience
from tests.support.proxy_lab import ProxyLab

from weft.policies.mesh.model import (
    Destination,
    DestinationPolicy,
    Dialect,
    HostRouting,
    How,
    Matcher,
    Named,
    Origin,
    RequestMatch,
    Route,
    Rule,
    Subset,
)
from weft.policies.model import ObjectRef

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "h2load": "nghttp2-client", "nghttpd": "nghttp2-server"}
SECONDS = 2
SMALL, LARGE = 100, 1 << 20
HEADERS = (
    "accept: text/html,application/json;q=0.9",
    "accept-language: en-US,en;q=0.5",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) bench",
    "cache-control: no-cache",
    "x-tenant: acme-corporation",
    "x-trace: 7f3b9a2e-11aa-4c4e-9a7e-2f1d6c0b5a4d",
)
NGINX = """
master_process off;
daemon off;
pid {folder}/pid;
error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    server {{
        {listens}
        location / {{ return 200 "{body}"; }}
        location /large {{ root {folder}/files; }}
    }}
}}
"""


@dataclass(frozen=True)
class Scene:
    name: str
    words: Callable[[int], list[str]]  # by the proxy's port
    http2: bool = False


@dataclass(frozen=True)
class Sample:
    """`cpu_us`: of the proxy, a request. `p50`, `p99`: milliseconds. `errors`: requests that failed."""

    rate: float
    cpu_us: float
    p50: float
    p99: float
    errors: int


def wrk(connections: int, path: str = "/", *more: str) -> Callable[[int], list[str]]:
    headers = [word for header in HEADERS for word in ("-H", header)]

    def words(port: int) -> list[str]:
        load = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", *headers, *more]
        return [*load, f"http://127.0.0.1:{port}{path}"]

    return words


def h2load(connections: int, streams: int, path: str = "/small", *more: str) -> Callable[[int], list[str]]:
    headers = [word for header in HEADERS for word in ("-H", header)]

    def words(port: int) -> list[str]:
        load = ["h2load", f"-c{connections}", f"-m{streams}", f"-D{SECONDS}", *headers, *more]
        return [*load, f"http://127.0.0.1:{port}{path}"]

    return words


def scenes(folder: Path) -> list[Scene]:
    message = folder / "message"
    message.write_bytes(b"\x00\x00\x00\x00\x2d" + b"m" * 45)
    grpc = ("-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers")
    return [
        Scene("HTTP/1.1, 1 connection", wrk(1)),
        Scene("HTTP/1.1, 32 connections", wrk(32)),
        Scene("HTTP/1.1, 256 connections", wrk(256)),
        Scene("HTTP/1.1, one request each", wrk(32, "/", "-H", "Connection: close")),
        Scene("HTTP/1.1, 1 MB answers", wrk(8, "/large")),
        Scene("HTTP/2, 1 connection x 32", h2load(1, 32), True),
        Scene("HTTP/2, 16 x 10", h2load(16, 10), True),
        Scene("HTTP/2, 1 MB answers, 1 x 4", h2load(1, 4, "/large"), True),
        Scene("gRPC's shape, 1 x 32", h2load(1, 32, "/small", *grpc), True),
        Scene("gRPC's shape, 16 x 10", h2load(16, 10, "/small", *grpc), True),
    ]


# what is measured


def measure(scene: Scene, port: int, process: int) -> Sample:
    before = cpu_seconds(process)
    done = subprocess.run(scene.words(port), capture_output=True, text=True, timeout=60)
    used = cpu_seconds(process) - before
    read = read_h2load if scene.http2 else read_wrk
    requests, rate, p50, p99, errors = read(done.stdout)
    if not requests:
        raise RuntimeError(f"{scene.name}: nothing gets through\n{done.stdout}{done.stderr}")
    return Sample(rate, used / requests * 1e6, p50, p99, errors)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


_SCALE = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def milliseconds(text: str) -> float:
    found = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", text)
    return float(found[1]) * _SCALE[found[2]] if found else 0.0


def read_wrk(text: str) -> tuple[int, float, float, float, int]:
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    p50, p99 = (re.search(rf"\s{percent}%\s+(\S+)", text) for percent in (50, 99))
    socket_errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = sum(map(int, socket_errors.groups())) if socket_errors else 0
    return (
        int(requests[1]) if requests else 0,
        float(rate[1]) if rate else 0.0,
        milliseconds(p50[1]) if p50 else 0.0,
        milliseconds(p99[1]) if p99 else 0.0,
        errors + (int(other[1]) if other else 0),
    )


def read_h2load(text: str) -> tuple[int, float, float, float, int]:
    """h2load tells minimum, maximum, mean and deviation alone, so the mean stands for p50, the maximum for p99."""
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", text)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    times = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", text)
    done, failed, errored, late = map(int, counts.groups()) if counts else (0, 0, 0, 0)
    return (
        done,
        float(rate[1]) if rate else 0.0,
        milliseconds(times[3]) if times else 0.0,
        milliseconds(times[2]) if times else 0.0,
        failed + errored + late,
    )


# the two proxies, and what is behind them


@contextmanager
def servers(folder: Path, http1: list[tuple[str, int]], http2: list[tuple[str, int]]) -> Iterator[None]:
    (folder / "files").mkdir()
    for name, size in (("small", SMALL), ("large", LARGE)):
        (folder / "files" / name).write_bytes(b"x" * size)
    listens = " ".join(f"listen {ip}:{port} backlog=4096;" for ip, port in http1)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, listens=listens, body="x" * SMALL))
    commands = [["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]]
    commands += [
        [
            "nghttpd",
            "--no-tls",
            "-a",
            ip,
            "-d",
            str(folder / "files"),
            "-n",
            "1",
            "--max-concurrent-streams=1000",
            str(port),
        ]
        for ip, port in http2
    ]
    processes = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for words in commands
    ]
    try:
        for ip, port in (*http1, *http2):
            wait_listening(ip, port)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


def wait_listening(ip: str, port: int) -> None:
    until = time.monotonic() + 10
    while True:
        with socket.socket() as sock:
            if sock.connect_ex((ip, port)) == 0:
                return
        if time.monotonic() > until:
            raise RuntimeError(f"nobody listens on {ip}:{port}")
        time.sleep(0.05)


def routing(host: str) -> HostRouting:
    """What Envoy is given too: a header decides, else 90 to 10."""
    ref = ObjectRef("VirtualService", "default", "bench")
    canary = RequestMatch(headers=(Named("x-canary", Matcher(How.EXACT, "true")),))
    v1, v2 = (Destination(host, subset=name, weight=weight) for name, weight in (("v1", 90), ("v2", 10)))
    rules = (
        Rule(Origin("VirtualService", "default", "bench", "spec.http[0]"), matches=(canary,), destinations=(v2,)),
        Rule(Origin("VirtualService", "default", "bench", "spec.http[1]"), destinations=(v1, v2)),
    )
    subsets = tuple(Subset(name, (("version", name),)) for name in ("v1", "v2"))
    policy = DestinationPolicy(ObjectRef("DestinationRule", "default", "bench"), host, subsets=subsets)
    service = "default/" + host.partition(".")[0]
    return HostRouting(host, service, (Route(ref, Dialect.ISTIO, (host,), rules),), (policy,))


def install() -> None:
    missing = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True, env=env)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def bench(told: report.Report, rounds: int, patience: float) -> None:
    install()
    rounds = max(1, min(rounds, 5))
    waiting = Patience(patience)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        lab = stack.enter_context(ProxyLab(folder))
        backends: dict[str, dict[str, tuple[str, int]]] = {}
        for protocol, port_name, port in (("h1", "http", 8081), ("h2", "http2", 8082)):
            pods = [
                lab.server(f"{protocol}-{v}", port=port, serve=False, app=protocol, version=v) for v in ("v1", "v2")
            ]
            lab.service(protocol, *pods, port_name=port_name)
            lab.routing(routing(lab.host(protocol)))
            backends[protocol] = {v: (pod.ip, pod.port) for v, pod in zip(("v1", "v2"), pods, strict=True)}
        stack.enter_context(servers(folder, [*backends["h1"].values()], [*backends["h2"].values()]))
        lab.start()
        assert lab.process is not None
        peers = {}
        for protocol in ("h1", "h2"):
            port = free_port()
            process = stack.enter_context(envoy.running(folder, port, backends[protocol], protocol == "h2"))
            wait_listening("127.0.0.1", port)
            peers[protocol] = (port, process.pid)
        rows = []
        before = report.load()
        for scene in scenes(folder):
            protocol = "h2" if scene.http2 else "h1"
            ways = {"weft": (lab.listeners[protocol][1], lab.process.pid), "envoy": peers[protocol]}
            samples = compare(scene, ways, rounds, waiting)
            rows += [line(scene, way, samples) for way in ways]
        memory = f"{resident(lab.process.pid):.0f} MB against {resident(peers['h1'][1]):.0f} MB"
    text = (__doc__ or "").partition("\n\n")[2].replace("\n", " ").strip()
    how = (
        f"{rounds} rounds of {SECONDS} s each way, taking turns; medians. Ratios are of the same round, weft to"
        " envoy. h2load tells the mean and the maximum, which stand where p50 and p99 do."
        f" Resident memory after all of it: {memory}. {before}."
    )
    header = ("load", "way", "requests/s", "of envoy", "CPU us", "of envoy", "p50 ms", "p99 ms", "failed")
    told.add(report.Section("The L7 proxy beside Envoy", f"{text} {how}", header, rows))


def compare(
    scene: Scene, ways: dict[str, tuple[int, int]], rounds: int, patience: Patience
) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {way: [] for way in ways}
    for number in range(rounds):
        patience.wait()
        order = list(ways) if number % 2 else list(ways)[::-1]
        for way in order:
            found[way].append(measure(scene, *ways[way]))
    return found


def line(scene: Scene, way: str, samples: dict[str, list[Sample]]) -> tuple[str, ...]:
    own = samples[way]
    pairs = list(zip(own, samples["envoy"], strict=True))
    median = statistics.median
    ours = way != "envoy"
    return (
        scene.name,
        way,
        f"{median(s.rate for s in own):,.0f}",
        f"{median(s.rate / e.rate for s, e in pairs):.2f}" if ours else "",
        f"{median(s.cpu_us for s in own):.1f}",
        f"{median(s.cpu_us / e.cpu_us for s, e in pairs):.2f}" if ours else "",
        f"{median(s.p50 for s in own):.2f}",
        f"{median(s.p99 for s in own):.2f}",
        str(sum(s.errors for s in own)),
    )
