"""A live `weft local` cluster for tests of routing: pods whose server does what it is told, clients that count.

    with running("wt-routes") as mesh:
        mesh.apply(mesh.pod("orders-v1", node=1, app="orders", version="v1"), mesh.service("orders"))
        mesh.apply(text_of_a_virtual_service)
        replies = mesh.get("client", "http://orders/", count=100)
        assert Counter(reply.pod for reply in replies) == {"orders-v1": 100}

`client` is on node-1 and `client-far` on node-2. `apply` returns when the change is in force, in the kernel and in
the proxies.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"
CLIENT = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec: {{nodeName: node-{node}, containers: [{{name: c, command: [sleep, "1000000"]}}]}}
"""


@dataclass
class Reply:
    status: int
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    body: str = ""
    error: str = ""

    @property
    def pod(self) -> str:
        """Who answered; "": not one of our servers."""
        return self.json["pod"] if isinstance(self.json, dict) and "pod" in self.json else ""

    @property
    def seen(self) -> dict[str, str]:
        """The headers that the server saw."""
        headers: dict[str, str] = self.json["headers"]
        return headers


class Mesh:
    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._number = 0

    def weft(self, *words: str, timeout: float = 90) -> str:
        """What it prints; AssertionError with all of it where it fails."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("weft")), *words],
            env={**os.environ, "WEFT_RUN_DIR": f"/run/{self.name}"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"weft {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self, *words: str) -> str:
        """`weft status`, whatever it thinks of the state."""
        command = [str(Path(sys.executable).with_name("weft")), "status", *words]
        environment = {**os.environ, "WEFT_RUN_DIR": f"/run/{self.name}"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30).stdout

    # what there is

    @staticmethod
    def pod(name: str, node: int = 1, port: int = 8080, **labels: str) -> str:
        command = json.dumps([sys.executable, str(HERE / "mesh_server.py"), name, str(port)])
        probe = f"{{tcpSocket: {{port: {port}}}, periodSeconds: 1}}"
        return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {json.dumps(labels)}}}
spec:
  nodeName: node-{node}
  containers: [{{name: c, command: {command}, ports: [{{containerPort: {port}}}], readinessProbe: {probe}}}]
"""

    @staticmethod
    def service(name: str, port_name: str = "http", port: int = 80, target: int = 8080, **selector: str) -> str:
        chosen = json.dumps(selector or {"app": name})
        return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {chosen}, ports: [{{name: {port_name}, port: {port}, targetPort: {target}}}]}}
"""

    @staticmethod
    def example(name: str) -> str:
        return (EXAMPLES / name).read_text()

    def apply(self, *texts: str, namespace: str = "default") -> None:
        self.weft("local", "apply", "-n", namespace, "-f", str(self._file(texts)))

    def delete(self, *texts: str, namespace: str = "default") -> None:
        self.weft("local", "delete", "-n", namespace, "-f", str(self._file(texts)))

    def _file(self, texts: tuple[str, ...]) -> Path:
        self._number += 1
        path = self.folder / f"{self._number}.yaml"
        path.write_text("\n---\n".join(texts))
        return path

    # what it does

    def get(
        self,
        client: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        count: int = 1,
        concurrency: int = 1,
        method: str = "GET",
        body: str | None = None,
        timeout: float = 20,
    ) -> list[Reply]:
        order = {
            "url": url,
            "method": method,
            "headers": dict(headers or {}),
            "body": body,
            "count": count,
            "concurrency": concurrency,
            "timeout": timeout,
        }
        words = ("local", "exec", client, "--", sys.executable, str(HERE / "mesh_client.py"), json.dumps(order))
        told = self.weft(*words, timeout=120)
        return [_reply(json.loads(line)) for line in told.splitlines()]

    def one(self, client: str, url: str, headers: Mapping[str, str] | None = None, **how: Any) -> Reply:
        (reply,) = self.get(client, url, headers, **how)
        return reply

    def count(self, client: str, server: str, key: str, port: int = 8080) -> int:
        """How many requests with that key the pod has seen, asked at its own address."""
        number: int = self.one(client, f"http://{server}:{port}/count?key={key}").json["count"]
        return number

    def metrics(self, node: int) -> str:
        """The daemon's, from inside the node."""
        words = ["ip", "netns", "exec", f"{self.name}-node-{node}"]
        asked = [*words, "curl", "-sf", "-m", "10", f"http://172.30.0.{node}:9962/metrics"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    def total(self, family: str, **labels: str) -> float:
        """The sum of a counter's samples over both nodes, of those series that bear the labels."""
        found = 0.0
        for node in (1, 2):
            for metric in text_string_to_metric_families(self.metrics(node)):
                for sample in metric.samples:
                    if sample.name == family and labels.items() <= sample.labels.items():
                        found += sample.value
        return found

    def flows(self, *filters: str) -> list[dict[str, Any]]:
        told = self.weft("observe", "--last", "200", "-o", "json", *filters)
        return [json.loads(line)["flow"] for line in told.splitlines() if line.startswith("{")]


def _reply(told: dict[str, Any]) -> Reply:
    return Reply(
        told["status"],
        told["seconds"],
        told.get("headers", {}),
        told.get("json"),
        told.get("body", ""),
        told.get("error", ""),
    )


def until(condition: Any, what: str, seconds: float = 10.0) -> Any:
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value


@contextlib.contextmanager
def running(name: str, *texts: str, nodes: int = 2, workers: int = 1) -> Iterator[Mesh]:
    """`workers`: of each node's proxy."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        mesh = Mesh(name, Path(folder))
        mesh.weft("local", "down")
        clients = [CLIENT.format(name="client", node=1), CLIENT.format(name="client-far", node=nodes)]
        path = mesh._file((*clients, *texts))
        try:
            size = ("--nodes", str(nodes), "--proxy-workers", str(workers))
            mesh.weft("local", "up", "-f", str(path), *size, timeout=120)
            yield mesh
        finally:
            mesh.weft("local", "down")
