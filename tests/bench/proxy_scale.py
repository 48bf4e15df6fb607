"""One worker with a large cluster: 5,000 services on 10,000 pods, 1,000 of them routed, 1,000 policies.

A change is timed from its bytes on the feed to the worker's acknowledgement, which it sends when the change is in
force; requests go on meanwhile, and their latency is told apart by whether a change was near. The worker is a real
process, fed by hand; clients and servers are on loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench import report
from tests.bench.memory import Held, held
from tests.bench.proxy_town import KINDS, POLICIES, REPLICAS, ROUTES, SERVICES, large
from tests.bench.report import Report, Section, spread
from tests.support.proxy_lab import NODE, ProxyLab

from weft.policies import delta
from weft.policies.wire import convert
from weft.policies.wire.pb import proxy_pb2 as pb

CHANGES = 30
AIM, MEMORY_AIM = 50.0, 60.0  # ms, MB
#: Requests that began so long before an acknowledgement, or after the bytes were sent, count as near it.
NEAR = 0.05
PROBE = """
import json, socket, sys, time
address, source, seconds = (sys.argv[1], int(sys.argv[2])), sys.argv[3], float(sys.argv[4])
sock = socket.socket(); sock.bind((source, 0)); sock.connect(address)
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
told, end = [], time.monotonic() + seconds
while (begun := time.monotonic()) < end:
    sock.sendall(b"GET /x HTTP/1.1\\r\\nhost: busy\\r\\n\\r\\n")
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\\r\\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    told.append((begun, time.monotonic() - begun, int(head[9:12])))
    time.sleep(0.001)
print(json.dumps(told))
"""


class Scale:
    """The worker, and the operator's part: what it holds, and what it is told."""

    def __init__(self, lab: ProxyLab) -> None:
        self.lab = lab
        self.snapshot = lab.daemon.held
        self.spans: dict[str, list[tuple[float, float]]] = {}

    def grow(self) -> float:
        """The whole cluster, as a worker gets it that starts or whose daemon restarted. Seconds."""
        whole = large(self.snapshot.cluster)
        self.snapshot = replace(self.snapshot, revision=self.snapshot.revision + 1, cluster=whole)
        return self._told(delta.full_update(self.snapshot, "epoch"))

    def change(self, kind: str, turn: int) -> None:
        difference = KINDS[kind](turn)
        update = delta.Update(self.snapshot.revision + 1, "epoch", False, difference, delta.NodeDelta())
        self.snapshot = delta.apply(self.snapshot, update, NODE)
        begun = time.monotonic()
        took = self._told(update)
        self.spans.setdefault(kind, []).append((begun, took))

    def _told(self, update: delta.Update) -> float:
        message = pb.ToProxy(update=convert.to_update(update))
        begun = time.monotonic()
        self.lab.daemon.tell(message)
        while self.lab.daemon.acked < update.revision:
            time.sleep(0.0002)
            if time.monotonic() - begun > 60:
                raise RuntimeError(f"revision {update.revision} is not acknowledged")
        return time.monotonic() - begun


@contextmanager
def worker() -> Iterator[Scale]:
    with tempfile.TemporaryDirectory() as folder, ProxyLab(Path(folder)) as lab:
        lab.service("busy", lab.server("busy-v1", app="busy", version="v1"))
        lab.pod("client", app="client")
        lab.start()
        yield Scale(lab)


@contextmanager
def probing(lab: ProxyLab, seconds: float) -> Iterator[list[list[float]]]:
    """Requests one after another; [begun, seconds, status] of each is there when it is left."""
    words = [*map(str, lab.listeners["busy"]), lab.pods["client"].ip, str(seconds)]
    process = subprocess.Popen([sys.executable, "-c", PROBE, *words], stdout=subprocess.PIPE, text=True)
    found: list[list[float]] = []
    time.sleep(0.3)
    yield found
    said, _ = process.communicate(timeout=seconds + 30)
    found.extend(json.loads(said))


def percentile(values: list[float], share: float) -> float:
    """Milliseconds."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] * 1e3 if found else 0.0


def near(requests: list[list[float]], spans: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Latencies of those that a change was near, and of the others."""
    close, far = [], []
    for begun, took, _ in requests:
        met = any(begun < at + lasted + NEAR and begun + took > at for at, lasted in spans)
        (close if met else far).append(took)
    return close, far


def row(what: str, took: list[float], requests: list[list[float]], spans: list[tuple[float, float]]) -> list[str]:
    close, _ = near(requests, spans)
    failed = sum(status != 200 for _, _, status in requests)
    worst = max(close, default=0.0) * 1e3
    return [what, spread(took, 1), f"{percentile(close, 0.99):.1f}", f"{worst:.1f}", str(failed)]


def bench(told: Report, rounds: int, patience: float) -> None:
    loaded, rows = report.load(), []
    with worker() as scale:
        assert scale.lab.process is not None
        pid = scale.lab.process.pid
        small = held(pid)
        scale.grow()
        with probing(scale.lab, 2.5) as requests:
            begun = time.monotonic()
            took = scale.grow()
        rows.append(
            row("the whole snapshot anew, as after a daemon's restart", [took * 1e3], requests, [(begun, took)])
        )
        for kind in KINDS:
            with probing(scale.lab, CHANGES * 0.1 + 1.0) as requests:
                for turn in range(CHANGES):
                    scale.change(kind, turn)
                    time.sleep(0.1)
            spans = scale.spans[kind]
            rows.append(row(kind, [lasted * 1e3 for _, lasted in spans], requests, spans))
        quiet = quiet_time(scale.lab)
        big = held(pid)
    rows.append(["nothing, for comparison", "", *(f"{percentile(quiet, share):.1f}" for share in (0.99, 1.0)), "0"])
    told.add(section(rows, small, big, loaded))


def quiet_time(lab: ProxyLab) -> list[float]:
    with probing(lab, 2.0) as requests:
        pass
    return [took for _, took, _ in requests]


def section(rows: list[list[str]], small: Held, big: Held, loaded: str) -> Section:
    text = (
        f"{SERVICES:,} services on {SERVICES * REPLICAS:,} pods, {ROUTES:,} of them with a VirtualService of three"
        f" rules and a DestinationRule, {POLICIES:,} policies by HTTP; {CHANGES} changes of each kind. From the"
        " bytes on the feed to the acknowledgement, milliseconds, median (lowest to highest);"
        f" aim: {AIM:.0f}. Requests: one after another, those within {NEAR * 1e3:.0f} ms of a change. Memory of the"
        f" worker: {small.anonymous:.0f} MB anonymous ({small.resident:.0f} resident; aim: {MEMORY_AIM:.0f}) with"
        f" one service, {big.anonymous:.0f} ({big.resident:.0f}) with all. {loaded}."
    )
    return Section(
        "The L7 proxy in a large cluster", text, ["change", "in force", "p99 of requests", "worst", "failed"], rows
    )


if __name__ == "__main__":
    bench(report.Report(), 1, 0)
