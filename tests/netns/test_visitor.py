"""A cluster as somebody brings it along: manifests as people write them, whatever else is in the folder, and the
command line as Kubernetes, Cilium and Hubble taught them to use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-visitor"
WEFT = str(Path(sys.executable).with_name("weft"))
SIZE = 30_000_000

FOLDER = """\
apiVersion: v1
kind: List
items:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, namespace: shop}
    spec:
      replicas: 2
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          serviceAccountName: web
          containers:
            - name: web
              image: nginx
              ports: [{name: http, containerPort: 8080}]
              env: [{name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}]
              readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
  - apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: shop}
    data: {mode: fast}
  - {apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
  - {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: edge, namespace: shop}, spec: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: alpine, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: files, labels: {app: files}}
spec:
  nodeName: node-2
  containers:
    - {name: c, image: python, workingDir: WORK, command: [python3, -m, http.server, "8000", --bind, "::"]}
---
apiVersion: v1
kind: Pod
metadata: {name: intruder, labels: {app: intruder}}
spec:
  containers:
    - name: c
      image: alpine
      command: [sh, -c, "while :; do curl -s -m 1 -o /dev/null http://web.shop/ && echo PASSED; sleep 0.05; done"]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web-in, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": default}}, {matchLabels: {app: web}}]
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: intruder, "k8s:io.kubernetes.pod.namespace": default}}]}]
"""


def weft(*words: str, name: str = NAME, **how: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WEFT_RUN_DIR": f"/run/{name}"}
    return subprocess.run([WEFT, *words], env=environment, capture_output=True, text=True, timeout=60, **how)


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `up` said."""
    work = tmp_path_factory.mktemp("work")
    (work / "big").write_bytes(os.urandom(SIZE))
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "everything.yml").write_text(FOLDER.replace("WORK", str(work)))
    weft("local", "down")
    try:
        up = weft("local", "up", "-f", str(folder), "--timeout", "40")
        assert up.returncode == 0, up.stdout + up.stderr
        yield up.stdout
    finally:
        assert weft("local", "down").returncode == 0


def get(pod: str, url: str, *flags: str, namespace: str = "default") -> str:
    shown = "%{http_code} %{size_download}"
    words = ("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", shown, *flags, url)
    return weft("local", "exec", "-n", namespace, pod, "--", *words).stdout


def flows(*flags: str) -> list[dict[str, Any]]:
    lines = weft("observe", "-o", "json", *flags).stdout.splitlines()
    return [json.loads(line)["flow"] for line in lines]


def test_up_says_what_it_does_not_do_and_nothing_else_is_in_its_way(brought: str) -> None:
    assert "Ingress shop/edge: warning: ignored" in brought
    assert "Service shop/web: warning: NodePort" in brought
    assert "ServiceAccount" not in brought
    assert "policy is in force" in brought.splitlines()[-1]


def test_no_connection_that_is_denied_ever_passed(brought: str) -> None:
    """The intruder tries from its first moment on, while the others come up."""
    time.sleep(0.5)
    assert get("client", "http://web.shop/").startswith("200")
    assert "PASSED" not in weft("local", "logs", "intruder").stdout
    assert flows("--from-pod", "intruder", "--to-pod", "shop/web", "--verdict", "DROPPED")


def test_what_apply_returned_from_is_in_force(brought: str) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed"},
        "spec": {"podSelector": {"matchLabels": {"app": "files"}}, "policyTypes": ["Ingress"]},
    }
    where = weft("local", "get", "pods", "-n", "default", "-o", "json").stdout
    address = next(pod["ips"][0] for pod in json.loads(where) if pod["name"] == "files")
    for _ in range(3):
        assert get("client", f"http://{address}:8000/").startswith("200")
        weft("local", "apply", "-f", "-", input=json.dumps(policy))
        assert get("client", f"http://{address}:8000/", "-m", "0.3").startswith("000")
        weft("local", "delete", "-f", "-", input=json.dumps(policy))


@pytest.mark.parametrize("host", ["{four}", "[{six}]"])
def test_a_large_body_crosses_between_nodes_whole(brought: str, host: str) -> None:
    where = json.loads(weft("local", "get", "pods", "-n", "default", "-o", "json").stdout)
    four, six = next(pod["ips"] for pod in where if pod["name"] == "files")
    assert get("client", f"http://{host.format(four=four, six=six)}:8000/big") == f"200 {SIZE}"


def test_a_pod_reaches_its_own_service(brought: str) -> None:
    """Whichever of the two the service chooses, itself among them."""
    assert {get("web", "http://web/", namespace="shop")[:3] for _ in range(8)} == {"200"}


def test_names_that_people_type(brought: str) -> None:
    for words in (["-n", "shop", "deploy/web"], ["shop/web"], ["web", "-n", "shop"]):
        done = weft("local", "exec", *words, "--", "printenv", "MODE")
        assert (done.returncode, done.stdout) == (0, "fast\n"), done.stderr
    assert "deployment/web" in weft("local", "get", "deployments").stdout
    assert "shop/web" in weft("bpf", "policy", "list", "web").stdout
    missing = weft("local", "exec", "client", "--", "getent", "hosts", "web")
    assert missing.returncode == 2  # of another namespace, so unknown: not "try again"


def test_a_secret_that_comes_later_lets_its_pod_begin(brought: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "late"},
        "spec": {
            "containers": [
                {"name": "c", "command": ["sleep", "infinity"], "envFrom": [{"secretRef": {"name": "keys"}}]}
            ]
        },
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"TOKEN": "x1"}}
    weft("local", "apply", "--no-wait", "-f", "-", input=json.dumps(pod))
    assert weft("local", "apply", "-f", "-", input=json.dumps(secret)).returncode == 0
    done = weft("local", "apply", "-f", "-", input=json.dumps(pod))
    assert done.returncode == 0, done.stderr
    assert weft("local", "exec", "late", "--", "printenv", "TOKEN").stdout == "x1\n"
    weft("local", "delete", "-f", "-", input=json.dumps(pod))


def test_pods_that_cannot_come_right_are_not_waited_for(brought: str) -> None:
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "command": ["no-such-command"]}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": spec}
    began = time.monotonic()
    done = weft("local", "apply", "-f", "-", input=json.dumps(pod))
    weft("local", "delete", "-f", "-", input=json.dumps(pod))
    assert done.returncode == 1 and time.monotonic() - began < 20
    assert "will not run as they are declared" in done.stderr and "no-such-command" in done.stderr


def test_the_last_flows_are_of_all_nodes_together(brought: str) -> None:
    found = flows("--last", "30")
    assert len(found) == 30
    assert [flow["time"] for flow in found] == sorted(flow["time"] for flow in found)
    assert {flow["node_name"] for flow in flows("--all")} == {"node-1", "node-2"}


def test_a_denial_by_an_explicit_rule_names_its_policy(brought: str) -> None:
    found = flows("--from-pod", "intruder", "-t", "policy-verdict", "--verdict", "DROPPED", "--last", "1")[0]
    assert found["drop_reason_desc"] == "POLICY_DENY" and found["traffic_direction"] == "INGRESS"
    assert found["ingress_denied_by"][0] | {"revision": 0, "labels": []} == {
        "name": "web-in", "namespace": "shop", "kind": "CiliumNetworkPolicy", "revision": 0, "labels": [],
    }  # fmt: skip
    assert found["source"]["pod_name"] == "intruder" and "k8s:app=intruder" in found["source"]["labels"]
    assert found["destination"]["workloads"] == [{"name": "web", "kind": "Deployment"}]
    assert found["l4"]["TCP"]["destination_port"] == 8080 and found["event_type"]["type"] == 5


def test_who_connected_is_the_source_of_a_socket_at_both_ends(brought: str) -> None:
    assert get("client", "http://web.shop/").startswith("200")
    end = time.monotonic() + 5
    points: set[int] = set()
    while len(points) < 2 and time.monotonic() < end:
        told = flows("-t", "trace-sock", "--pod", "shop/web", "--pod", "default/client", "--all")
        told = [f for f in told if "client" in (f["source"].get("pod_name"), f["destination"].get("pod_name"))]
        points = {f["event_type"]["sub_type"] for f in told} & {101, 102}
    assert points == {101, 102}
    assert {f["source"]["pod_name"] for f in told} == {"client"}
    assert {f["l4"]["TCP"]["destination_port"] for f in told if f["event_type"]["sub_type"] > 100} <= {8000, 8080}


def test_an_error_of_the_node_comes_from_the_host(brought: str) -> None:
    ask = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('172.30.0.1', 9)); s.send(b'x')"
    weft("local", "exec", "client", "--", "python3", "-c", ask)
    found = flows("--protocol", "icmp", "--to-pod", "client", "--last", "1")[0]
    assert found["source"]["labels"] == ["reserved:host"] and found["trace_reason"] == "RELATED"


def test_a_supervisor_that_was_killed_is_said_and_up_starts_over(tmp_path: Path) -> None:
    """Under a run directory of its own, beside the other cluster."""
    name, manifest = f"{NAME}-2", tmp_path / "one.yaml"
    manifest.write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, command: [sleep, inf]}]}}"
    )
    try:
        assert weft("local", "up", "-q", "--nodes", "1", "-f", str(manifest), name=name).returncode == 0
        again = weft("local", "up", "-q", "--nodes", "1", "-f", str(manifest), name=name)
        assert again.returncode == 1 and "runs already" in again.stderr
        group = next(Path("/sys/fs/cgroup").glob(f"**/{name}/_supervisor"))
        (group / "cgroup.kill").write_text("1")
        time.sleep(0.2)
        stopped = weft("local", "status", name=name)
        assert stopped.returncode == 1 and "does not run" in stopped.stdout
        assert weft("local", "up", "-q", "--nodes", "1", "-f", str(manifest), name=name).returncode == 0
        assert weft("local", "exec", "a", "--", "true", name=name).returncode == 0
    finally:
        down = weft("local", "down", name=name)
    assert down.returncode == 0
    assert "nothing was there" in weft("local", "down", name=name).stdout
