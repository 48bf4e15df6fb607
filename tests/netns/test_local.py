"""A live `weft local` cluster, as a person uses it: manifests in, pods that live, and nothing left at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from weft.daemon import cgroups
from weft.daemon.local import names, state

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME = "wt-local"
WEFT = str(Path(sys.executable).with_name("weft"))
CGROUP = cgroups.mount_point() or Path("/nowhere")


def weft(*words: str, name: str = NAME, **how: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WEFT_RUN_DIR": f"/run/{name}"}
    return subprocess.run([WEFT, *words], env=environment, capture_output=True, text=True, timeout=90, **how)


def in_pod(pod: str, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return weft("local", "exec", *(["-i"] if "input" in how else []), pod, "--", *words, **how)


def pods(name: str = NAME) -> dict[str, Any]:
    return {pod["name"]: pod for pod in json.loads(weft("local", "get", "pods", "-o", "json", name=name).stdout)}


def traces(name: str) -> list[str]:
    """Whatever on this machine has the cluster's name."""
    found = [
        str(p)
        for root in ("/run/netns", "/sys/fs/bpf", CGROUP, "/run", "/var/lib")
        for p in Path(root).glob(f"{name}*")
    ]
    return found + [line for line in commands() if f"/run/{name}" in line]


def commands() -> list[str]:
    return [read(entry / "cmdline").replace("\0", " ") for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def until(what: str, condition: Callable[[], object], seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s: {weft('local', 'status').stdout}"
        time.sleep(0.1)
    return found


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "none", **fields}


def pod(
    name: str, *containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels or {"app": name}}
    spec = {"terminationGracePeriodSeconds": 2, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def deployment(name: str, replicas: int, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": containers},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def service(name: str, ports: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "echo"}, "ports": ports, **spec},
    }


ECHO_PORTS = [
    {"name": "web", "containerPort": 8080},
    {"name": "tcp-echo", "containerPort": 9000},
    {"name": "udp-echo", "containerPort": 9001, "protocol": "UDP"},
]
SLEEP = ["sleep", "1000000"]
MANIFESTS = [
    deployment("echo", 2, container(ports=ECHO_PORTS, readinessProbe={"httpGet": {"port": "web"}})),
    service(
        "echo",
        [{"name": "web", "port": 80, "targetPort": "web"}, {"name": "tcp", "port": 9000, "targetPort": "tcp-echo"}],
    ),
    service("headless", [{"name": "web", "port": 80, "targetPort": "web"}], clusterIP="None"),
    service("fixed", [{"name": "web", "port": 80, "targetPort": 8080}], clusterIP="10.96.77.77"),
    pod("client", container(command=SLEEP)),
]


def yaml_of(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(json.loads(json.dumps(documents)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "all.yaml").write_text(yaml_of(MANIFESTS))
    weft("local", "down")
    try:
        up = weft("local", "up", "-f", str(folder / "all.yaml"), "--timeout", "40")
        assert up.returncode == 0, up.stdout + up.stderr
        yield folder
    finally:
        down = weft("local", "down")
        assert down.returncode == 0, down.stderr
    assert traces(NAME) == []


def apply(*documents: dict[str, Any], wait: bool = True) -> subprocess.CompletedProcess[str]:
    done = weft(
        "local",
        "apply",
        "-f",
        "-",
        "--timeout",
        "20",
        *([] if wait else ["--no-wait"]),
        input=yaml_of(list(documents)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def delete(*documents: dict[str, Any]) -> None:
    done = weft("local", "delete", "-f", "-", input=yaml_of(list(documents)))
    assert done.returncode == 0, done.stderr
    names = {each["metadata"]["name"] for each in documents}
    until("pods gone", lambda: not [p for p in pods().values() if p["workload"].rpartition("/")[2] in names])


# Names and services


@pytest.mark.parametrize(
    "name", ["echo", "echo.default", "echo.default.svc.cluster.local", "headless:8080", "fixed"]
)
@pytest.mark.parametrize("family", ["-4", "-6"])
def test_a_service_answers_by_each_of_its_names(cluster: Path, name: str, family: str) -> None:
    if (name, family) == ("fixed", "-6"):
        pytest.skip("an explicit IPv4 address is the only one")
    answer = in_pod("client", "curl", family, "-sS", "-m5", f"http://{name}/hello?x=1")
    told = json.loads(answer.stdout)
    assert told["pod"].startswith("echo-") and (told["path"], told["namespace"]) == ("/hello?x=1", "default")
    assert told["client"] in pods()["client"]["ips"]


def test_both_pods_of_a_service_on_both_nodes_are_reached(cluster: Path) -> None:
    loop = "for i in $(seq 30); do curl -s -m5 http://echo/; done"
    told = [json.loads(line) for line in in_pod("client", "sh", "-c", loop).stdout.splitlines()]
    assert {each["node"] for each in told} == {"node-1", "node-2"} and len(told) == 30


def test_an_address_that_is_no_service_fails_at_once(cluster: Path) -> None:
    for address in ("10.96.0.99", "[fd00:10:96::99]"):
        began = time.monotonic()
        assert in_pod("client", "curl", "-s", "-m5", f"http://{address}/").returncode == 7
        assert time.monotonic() - began < 2


def test_tcp_and_udp_echo(cluster: Path) -> None:
    (address, *_) = next(p["ips"] for p in pods().values() if p["name"].startswith("echo-"))
    script = (
        "import socket as s;a=s.create_connection(('echo',9000),2);a.send(b'hi');print(a.recv(9));"
        f"u=s.socket(s.AF_INET,s.SOCK_DGRAM);u.settimeout(2);u.sendto(b'ho',('{address}',9001));print(u.recv(9))"
    )
    assert in_pod("client", "python3", "-c", script).stdout.split() == ["b'hi'", "b'ho'"]


# Inside a pod


def test_a_pod_has_its_own_name_files_and_network(cluster: Path) -> None:
    told = in_pod(
        "client", "sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf; ls /sys/class/net; id -u"
    ).stdout
    assert told.split("\n")[:2] == ["client", "client"]
    assert "nameserver 10.96.0.10" in told and "search default.svc.cluster.local" in told and "ndots:5" in told
    assert {"eth0", "lo"} <= set(told.split())
    assert subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip() != "client"


def test_exec_passes_streams_exit_code_and_signals(cluster: Path) -> None:
    assert in_pod("client", "cat", input="to and fro").stdout == "to and fro"
    assert weft("local", "exec", "client", "--", "cat", input="unread").stdout == ""
    done = in_pod("client", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert in_pod("client", "no-such-command").returncode == 127
    process = subprocess.Popen(
        [WEFT, "local", "exec", "client", "--", "sleep", "60"], env={**os.environ, "WEFT_RUN_DIR": f"/run/{NAME}"}
    )
    until("the command", lambda: "sleep\x0060" in read(Path(f"/proc/{process.pid}/cmdline")))
    process.terminate()
    assert process.wait(5) == -15


def test_exec_finds_a_pod_by_its_workload_and_says_what_there_is(cluster: Path) -> None:
    assert in_pod("echo", "hostname").stdout.startswith("echo-")
    missing = in_pod("nobody", "true")
    assert (
        missing.returncode == 1 and "no pod default/nobody" in missing.stderr and "default/client" in missing.stderr
    )


def test_the_environment_of_a_container(cluster: Path) -> None:
    env = [
        {"name": "A", "value": "plain"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "ALL", "value": "$(A)-$(IP)-$$(A)-$(NOBODY)"},
    ]
    one = pod(
        "env",
        container(
            command=["sh", "-c"], args=["echo $ALL $NODE $0; exec sleep 1000", "$(A)"], env=env, workingDir="/usr"
        ),
    )
    apply(one)
    (ip, *_) = pods()["env"]["ips"]
    assert weft("local", "logs", "env").stdout == f"plain-{ip}-$(A)-$(NOBODY) {pods()['env']['node']} plain\n"
    assert in_pod("env", "pwd").stdout == "/usr\n"
    delete(one)


def test_a_process_is_in_its_pods_cgroup_from_its_first_instruction(cluster: Path) -> None:
    one = pod("cgroup", container(command=["sh", "-c", "cat /proc/self/cgroup; exec sleep 1000"]))
    apply(one)
    node = pods()["cgroup"]["node"]
    assert f"0::/{NAME}/{node}/default_cgroup" in weft("local", "logs", "cgroup").stdout
    delete(one)
    assert not (CGROUP / NAME / node / "default_cgroup").exists()


# Living and dying


def test_a_container_that_exits_comes_back_and_its_last_words_are_kept(cluster: Path) -> None:
    one = pod("mortal", container(command=["sh", "-c", "echo life $(date +%N); exec sleep 1000"]))
    apply(one)
    first = weft("local", "logs", "mortal").stdout
    os.kill(pods()["mortal"]["containers"]["main"]["pid"], 9)
    until(
        "a second life",
        lambda: pods()["mortal"]["containers"]["main"]["restarts"] == 1 and pods()["mortal"]["ready"],
    )
    until("a log", lambda: weft("local", "logs", "mortal").stdout)
    assert weft("local", "logs", "mortal", "--previous").stdout == first
    assert weft("local", "logs", "mortal").stdout != first
    delete(one)


def test_a_pod_that_keeps_failing_is_told_with_its_last_lines(cluster: Path) -> None:
    one = pod("broken", container(command=["sh", "-c", "echo the disk is on fire; exit 3"]))
    done = weft("local", "apply", "-f", "-", "--timeout", "3", input=yaml_of([one]))
    assert done.returncode == 1
    assert (
        "pod default/broken" in done.stderr
        and "exit code 3" in done.stderr
        and "the disk is on fire" in done.stderr
    )
    assert weft("local", "status").returncode == 1
    assert pods()["broken"]["phase"] == "Running" and "CrashLoopBackOff" in weft("local", "get", "pods").stdout
    delete(one)
    assert weft("local", "status").returncode == 0


def test_init_containers_run_to_their_end_one_after_the_other_and_first(cluster: Path, tmp_path: Path) -> None:
    note = str(tmp_path / "note")
    init = [
        {"name": "one", "image": "x", "command": ["sh", "-c", f"sleep 0.3; echo one >> {note}"]},
        {"name": "two", "image": "x", "command": ["sh", "-c", f"echo two >> {note}"]},
    ]
    one = pod("init", container(command=["sh", "-c", f"echo main >> {note}; exec sleep 1000"]), initContainers=init)
    apply(one)
    assert Path(note).read_text().split() == ["one", "two", "main"]
    delete(one)


def test_two_containers_share_the_network_and_one_may_restart_alone(cluster: Path) -> None:
    listen = "import socket,time;s=socket.create_server(('127.0.0.1',7000));time.sleep(1000)"
    two = pod(
        "two",
        container(command=["python3", "-c", listen]),
        {"name": "side", "image": "x", "command": SLEEP, "readinessProbe": {"exec": {"command": ["true"]}}},
    )
    apply(two)
    connect = "import socket; socket.create_connection(('127.0.0.1', 7000), 2)"
    assert weft("local", "exec", "two", "-c", "side", "--", "python3", "-c", connect).returncode == 0
    before = pods()["two"]["containers"]
    os.kill(before["side"]["pid"], 9)
    until("side again", lambda: pods()["two"]["containers"]["side"]["restarts"] == 1 and pods()["two"]["ready"])
    assert pods()["two"]["containers"]["main"]["pid"] == before["main"]["pid"]
    delete(two)


def test_readiness_decides_who_stands_behind_a_service(cluster: Path, tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    probe = {"exec": {"command": ["test", "-e", str(flag)]}, "periodSeconds": 1, "failureThreshold": 1}
    one = pod("late", container(ports=[{"containerPort": 8080}], readinessProbe=probe))
    behind = {
        **service("late", [{"port": 80, "targetPort": 8080}]),
        "spec": {"selector": {"app": "late"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    apply(one, behind, wait=False)
    until("runs", lambda: pods().get("late", {}).get("phase") == "Running")
    assert in_pod("client", "curl", "-s", "-m3", "http://late/").returncode != 0
    flag.touch()
    until("ready", lambda: pods()["late"]["ready"])
    until("reached", lambda: in_pod("client", "curl", "-s", "-m3", "http://late/").returncode == 0, 5)
    flag.unlink()
    until("unready", lambda: not pods()["late"]["ready"])
    until("out of the service", lambda: in_pod("client", "curl", "-s", "-m1", "http://late/").returncode != 0, 5)
    assert pods()["late"]["containers"]["main"]["restarts"] == 0
    delete(one, behind)


def test_a_container_that_is_not_alive_is_started_again(cluster: Path, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    probe = {"exec": {"command": ["test", "!", "-e", str(sick)]}, "periodSeconds": 1, "failureThreshold": 1}
    one = pod("alive", container(command=SLEEP, livenessProbe=probe))
    apply(one)
    sick.touch()
    until("restarted", lambda: pods()["alive"]["containers"]["main"]["restarts"] >= 1)
    sick.unlink()
    delete(one)


def test_scaling_and_a_new_template_replace_pods_without_a_gap(cluster: Path) -> None:
    probe = {"httpGet": {"port": 8080}}

    def web(replicas: int, version: str) -> dict[str, Any]:
        env = [{"name": "VERSION", "value": version}]
        return deployment(
            "web", replicas, container(ports=[{"containerPort": 8080}], env=env, readinessProbe=probe)
        )

    behind = {
        **service("web", []),
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    apply(web(1, "1"), behind)
    apply(web(3, "1"))
    mine = {name for name in pods() if name.startswith("web-")}
    assert len(mine) == 3
    loop = "for i in $(seq 80); do curl -s -o /dev/null -m2 -w '%{http_code} ' http://web/; sleep 0.02; done"
    load = subprocess.Popen(
        [WEFT, "local", "exec", "client", "--", "sh", "-c", loop],
        env={**os.environ, "WEFT_RUN_DIR": f"/run/{NAME}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    apply(web(3, "2"))
    new = {name for name in pods() if name.startswith("web-")}
    assert len(new) == 3 and not new & mine
    codes = load.communicate()[0].split()
    assert codes == ["200"] * 80
    apply(web(0, "2"))
    until("none left", lambda: not [name for name in pods() if name.startswith("web-")])
    delete(web(0, "2"), behind)


def test_a_pod_of_the_nodes_network_has_the_nodes_addresses(cluster: Path) -> None:
    ports = [{"name": "web", "containerPort": 8088}]
    one = pod("host", container(ports=ports, readinessProbe={"tcpSocket": {"port": "web"}}), hostNetwork=True)
    apply(one)
    mine = pods()["host"]
    assert mine["ips"][0] == f"172.30.0.{mine['node'][-1]}"
    assert in_pod("client", "curl", "-s", "-m3", f"http://{mine['ips'][0]}:8088/").returncode == 0
    delete(one)
    node = f"/run/netns/{NAME}-{mine['node']}"
    assert Path(node).exists(), "the node's network is not the pod's to remove"


def test_a_job_runs_to_its_end(cluster: Path) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container(command=["echo", "done"])]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec}
    apply(job)
    (one,) = (p for p in pods().values() if p["workload"] == "Job default/once")
    assert one["phase"] == "Succeeded" and weft("local", "logs", "once").stdout == "done\n"
    delete(job)


def test_a_deleted_pod_of_a_deployment_comes_anew(cluster: Path) -> None:
    name = next(name for name in pods() if name.startswith("echo-"))
    pid = pods()[name]["containers"]["main"]["pid"]
    gone = weft("local", "delete", "-f", "-", input=yaml_of([pod(name, container())]))
    assert gone.returncode == 0, gone.stderr
    until(
        "a new one", lambda: pods().get(name, {}).get("ready") and pods()[name]["containers"]["main"]["pid"] != pid
    )


def test_a_pod_nobody_can_place_says_why(cluster: Path) -> None:
    one = pod("lost", container(command=SLEEP), nodeSelector={"disk": "ssd"})
    done = weft("local", "apply", "-f", "-", "--timeout", "1", input=yaml_of([one]))
    assert done.returncode == 1 and 'no node has the labels {"disk": "ssd"}' in done.stderr
    assert weft("local", "delete", "-f", "-", input=yaml_of([one])).returncode == 0
    until("status is well", lambda: weft("local", "status").returncode == 0)


def test_what_is_wrong_in_a_file_is_said_before_anything_is_done(cluster: Path) -> None:
    bad = pod("bad", container(ports=[{"containerPort": 70000}]))
    done = weft("local", "apply", "-f", "-", input=yaml_of([pod("good", container(command=SLEEP)), bad]))
    assert done.returncode != 0 and "containers[0].ports[0].containerPort" in done.stderr
    assert "good" not in pods()


def test_up_over_a_running_cluster_is_refused(cluster: Path) -> None:
    done = weft("local", "up")
    assert done.returncode == 1 and "runs already" in done.stderr


# What dies, and what is left


def alive() -> bool:
    return state.alive(names.Cluster(Path(f"/run/{NAME}")))


def kill_group(*parts: str) -> None:
    for pid in (CGROUP / NAME).joinpath(*parts, "cgroup.procs").read_text().split():
        os.kill(int(pid), 9)


def test_operator_and_daemon_come_back_and_take_changes(cluster: Path) -> None:
    kill_group("_operator")
    kill_group("node-1", "_daemon")
    one = pod("after", container(command=SLEEP), nodeSelector={"kubernetes.io/hostname": "node-1"})
    apply(one)
    assert "2 restarts" not in weft("local", "status").stdout
    delete(one)
    assert in_pod("client", "curl", "-s", "-m5", "http://echo/").returncode == 0


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param(lambda: None, id="nobody"),
        pytest.param(lambda: kill_group("_supervisor"), id="the supervisor"),
        pytest.param(
            lambda: (kill_group("_supervisor"), kill_group("node-1", "_daemon")), id="supervisor and daemon"
        ),
        pytest.param(lambda: Path(f"/run/{NAME}/local/state.json").unlink(), id="the state file"),
    ],
)
def test_down_leaves_nothing_whoever_died(crash: Callable[[], object], tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(yaml_of([deployment("echo", 2, container(ports=ECHO_PORTS))]))
    weft("local", "down")
    up = weft("local", "up", "-q", "-f", str(tmp_path / "m.yaml"), "--timeout", "40")
    assert up.returncode == 0, up.stderr
    assert len(traces(NAME)) > 5
    crash()
    assert weft("local", "down").returncode == 0
    assert traces(NAME) == []
    again = weft("local", "down")
    assert again.returncode == 0 and "nothing was there" in again.stdout


def test_a_start_that_was_cut_off_is_cleaned_and_started_over(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(yaml_of([pod("one", container(command=SLEEP))]))
    weft("local", "down")
    words = ["local", "up", "-q", "-f", str(tmp_path / "m.yaml"), "--timeout", "40"]
    for seconds in (0.3, 0.6, 1.0):
        environment = {**os.environ, "WEFT_RUN_DIR": f"/run/{NAME}"}
        process = subprocess.Popen([WEFT, *words], env=environment, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
        until("the supervisor dead", lambda: not alive() or kill_group("_supervisor"))
    up = weft(*words)
    assert up.returncode == 0, up.stderr
    assert weft("local", "down").returncode == 0
    assert traces(NAME) == []


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone() -> None:
    foreign = Path(f"/var/lib/{NAME}/precious")
    foreign.parent.mkdir()
    foreign.touch()
    try:
        up = weft("local", "up")
        assert up.returncode == 1 and "used by another Weft" in up.stderr
        assert weft("local", "down").returncode == 0 and foreign.exists()
    finally:
        foreign.unlink()
        foreign.parent.rmdir()
