"""Debian's Prometheus as a process of a test. Where it is not installed, its package is fetched by apt and unpacked
beside the virtual environment: nothing is installed, and no service starts.

    with running(netns, {"node-1": "172.30.0.1:9962"}, folder) as prometheus:
        prometheus.query('sum(rate(istio_requests_total[5m]))')
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

FETCHED = Path(sys.prefix) / "cache" / "prometheus"
PORT = 19090
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: weft, static_configs: [{{targets: {targets}}}]}}]
"""


def binary() -> str:
    found = shutil.which("prometheus") or shutil.which("prometheus", path=str(FETCHED / "usr/bin"))
    return found or _fetch()


def _fetch() -> str:
    FETCHED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FETCHED.parent) as folder:
        download = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "prometheus"]
        done = subprocess.run(download, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
            subprocess.run(download, cwd=folder, check=True, capture_output=True)
        (package,) = Path(folder).glob("prometheus_*.deb")
        subprocess.run(["dpkg", "-x", str(package), f"{folder}/whole"], check=True)
        Path(folder, "whole").rename(FETCHED)
    return str(FETCHED / "usr/bin/prometheus")


@dataclass
class Prometheus:
    netns: str

    def _get(self, path: str, **arguments: str) -> Any:
        url = f"http://127.0.0.1:{PORT}{path}?{urlencode(arguments)}"
        command = ["ip", "netns", "exec", self.netns, "curl", "-s", "-m", "10", url]
        told = subprocess.run(command, capture_output=True, text=True).stdout
        return json.loads(told) if told.startswith("{") else {}  # while it starts it says so in words

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant vector."""
        answer = self._get("/api/v1/query", query=text)
        assert answer.get("status") == "success", answer
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def scraped(self) -> list[dict[str, Any]]:
        """The targets that answered their last scrape."""
        return [each for each in self.targets() if each["health"] == "up"]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/api/v1/targets").get("data", {}).get("activeTargets", [])
        return found

    def wait_for(self, text: str, series: int, seconds: float = 20) -> None:
        """Until a query has so many; AssertionError with what there is."""
        end = time.monotonic() + seconds
        while len(found := self.query(text)) < series:
            assert time.monotonic() < end, (found, [(each["health"], each["lastError"]) for each in self.targets()])
            time.sleep(0.2)


@contextlib.contextmanager
def running(netns: str, targets: list[str], folder: Path) -> Iterator[Prometheus]:
    """Until it is ready, and then until the block ends."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(targets=json.dumps(targets)))
    command = [
        *("ip", "netns", "exec", netns, binary(), f"--config.file={config}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{PORT}"),
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    prometheus = Prometheus(netns)
    try:
        end = time.monotonic() + 20
        while len(prometheus.scraped()) < len(targets):
            assert time.monotonic() < end and process.poll() is None, (folder / "prometheus.log").read_text()[
                -2000:
            ]
            time.sleep(0.2)
        yield prometheus
    finally:
        process.terminate()
        process.wait(10)
