"""A real daemon and its proxy's processes, played by a stand-in: they come, come back, outlive the daemon, are
replaced, and what they refuse and count is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import standin_proxy
from daemon_lab import Lab, allow, wait_for
from weft.daemon import main
from weft.daemon.proxy import processes
from weft.policies.wire.pb import node_pb2, node_pb2_grpc

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

A = 300
PROGRAM = ("--proxy-program", f"{sys.executable} {standin_proxy.__file__}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab("wt-proxyproc", tmp_path_factory.mktemp("proxy")) as lab:
        lab.add_pod("a", A)
        lab.start_daemon(*PROGRAM)
        lab.wait_ready("a")
        try:
            yield lab
        finally:
            processes.end_all(run_dir(lab) / "proxy.sock")
            print(lab.log.read_text())


def run_dir(lab: Lab) -> Path:
    return lab.run_dir / lab.node


def told(lab: Lab, **plan: Any) -> None:
    (run_dir(lab) / "standin.json").write_text(json.dumps(plan))


def proxy(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.query("status")["proxy"]
    return found


def serving(lab: Lab, other_than: int = 0) -> int:
    """The pid of the worker, once it serves."""

    def pids() -> list[int]:
        rows = [row for row in proxy(lab)["workers"] if row["state"] == "serving"]
        return [row["pid"] for row in rows if row["pid"] != other_than]

    return int(wait_for(pids, 10)[0])


def test_a_worker_is_started_beside_the_daemon_and_fed(lab: Lab) -> None:
    pid = serving(lab)
    wait_for(lambda: proxy(lab)["workers"][0]["revision"] == lab.operator.snapshot.revision > 0, 5)
    assert Path(f"/proc/{pid}/cgroup").read_text().strip().endswith(f"{lab.name}/{lab.node}/_proxy")
    assert os.getsid(pid) == pid
    assert lab.query("status")["ok"] and proxy(lab)["steering"] == "on"


def test_a_killed_worker_is_back_within_a_second(lab: Lab) -> None:
    pid = serving(lab)
    restarts = proxy(lab)["workers"][0]["restarts"]
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    assert serving(lab, other_than=pid) != pid
    print(f"back after {time.monotonic() - started:.2f} s")
    assert proxy(lab)["workers"][0]["restarts"] == restarts + 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["asked to end", "killed"])
def test_the_worker_outlives_the_daemon_and_the_next_one_adopts_it(lab: Lab, how: signal.Signals) -> None:
    pid = serving(lab)
    lab.stop_daemon(how)
    assert Path(f"/proc/{pid}").exists()
    lab.start_daemon(*PROGRAM)
    assert serving(lab) == pid
    assert [row["restarts"] for row in proxy(lab)["workers"]] == [0]
    lab.set_policies(allow("later", A, {A}, 80))
    wait_for(lambda: proxy(lab)["workers"][0]["revision"] == lab.operator.snapshot.revision, 5)


def test_what_the_worker_refuses_reaches_status_and_operator_and_goes_again(lab: Lab) -> None:
    serving(lab)
    told(lab, refuse={"route orders.default": "destination subset v3: no such subset"})
    try:
        refused = lab.set_policies(allow("web", A, {A}, 80))
        assert refused == {"route orders.default": "destination subset v3: no such subset"}
        status = lab.query("status")
        assert not status["ok"]
        assert status["refused"] == [
            {"resource": "route orders.default", "reason": "destination subset v3: no such subset"}
        ]
    finally:
        told(lab)
    assert lab.set_policies(allow("web", A, {A}, 81)) == {}


def test_refusals_that_come_late_are_told_the_operator_too(lab: Lab) -> None:
    """A worker that is replaced may refuse what its predecessor took."""
    pid = serving(lab)
    told(lab, refuse={"route late": "no"})
    try:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: lab.operator.acks[max(lab.operator.acks)] == {"route late": "no"}, 10)
    finally:
        told(lab)
    lab.set_policies()
    wait_for(lambda: not lab.operator.acks[max(lab.operator.acks)], 5)


def test_a_restart_hands_over_to_a_successor(lab: Lab) -> None:
    pid = serving(lab)
    (done,) = lab.query("proxy", "restart")
    assert done["old_pid"] == pid and done["error"] == ""
    assert serving(lab, other_than=pid) == done["pid"]
    wait_for(lambda: not Path(f"/proc/{pid}/cmdline").exists(), 10)


def test_questions_are_passed_to_the_workers(lab: Lab) -> None:
    serving(lab)
    (answer,) = lab.query("proxy", "routes default/orders --all")
    assert answer["answer"]["what"] == "routes" and answer["answer"]["arg"] == "default/orders --all"


def test_a_scrape_has_what_was_counted_until_then(lab: Lab) -> None:
    def requests() -> float:
        text = lab.in_node("curl", "-s", "http://127.0.0.1:9964/metrics")
        lines = [line for line in text.splitlines() if line.startswith("istio_requests_total{")]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    serving(lab)
    before = requests()
    assert requests() == before + 1, "the stand-in counts one request at each flush"
    families = lab.query("metrics-families", "istio_")
    assert families["istio_requests_total"]["type"] == "counter"


def test_garbage_on_the_feed_harms_nothing(lab: Lab) -> None:
    pid = serving(lab)
    for data in (b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\0", b"\0\0\0\0"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(run_dir(lab) / "proxy.sock"))
            sock.sendall(data)
            sock.settimeout(10)
            while sock.recv(65536):
                pass
    assert serving(lab) == pid and lab.set_policies(allow("web", A, {A}, 80)) == {}
    lab.set_policies()


def test_starts_are_asked_for_while_somebody_looks_on(lab: Lab) -> None:
    log = run_dir(lab) / f"standin-{serving(lab)}.log"

    def taps() -> int:
        return log.read_text().split().count("tap")

    stub: Any = node_pb2_grpc.NodeStub
    with grpc.insecure_channel(f"unix:{run_dir(lab)}/daemon.sock") as channel:
        stream = stub(channel).Tap(node_pb2.TapRequest(destination="default/"))
        wait_for(lambda: taps() == 1, 5)
        stream.cancel()
        wait_for(lambda: taps() == 2, 5)


@pytest.mark.parametrize(
    "more",
    [lambda lab: ["--run-dir", str(run_dir(lab))], lambda lab: []],
    ids=["of its run directory", "of its control group"],
)
def test_removing_ends_the_workers(tmp_path: Path, more: Callable[[Lab], list[str]]) -> None:
    with Lab("wt-proxyproc2", tmp_path) as lab:
        lab.add_pod("a", A)
        lab.start_daemon(*PROGRAM)
        lab.wait_ready("a")
        pid = serving(lab)
        lab.stop_daemon()
        words = ["--remove", "--node", lab.node, "--pin-dir", str(lab.pin_dir), "--cgroup", str(lab.cgroup)]
        assert main.main([*words, *more(lab)]) == 0
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not (lab.cgroup / "_proxy").exists()


# the real one


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if not processes.command():
        pytest.skip("there is no weft-l7proxy yet")
    with Lab("wt-proxyreal", tmp_path_factory.mktemp("real")) as lab:
        lab.add_pod("a", A)
        lab.start_daemon("--proxy-workers", "2")
        lab.wait_ready("a")
        try:
            yield lab
        finally:
            processes.end_all(run_dir(lab) / "proxy.sock")
            print(lab.log.read_text())


def both(lab: Lab, *other_than: int) -> list[int]:
    """The pids of the workers, once both serve."""

    def pids() -> list[int]:
        rows = [row for row in proxy(lab)["workers"] if row["state"] == "serving"]
        found = [row["pid"] for row in sorted(rows, key=lambda row: row["worker"])]
        return found if len(found) == 2 and not {*found} & {*other_than} else []

    found: list[int] = wait_for(pids, 15)
    return found


def listeners(lab: Lab) -> int:
    """Sockets that wait for connections on the proxy's port, of both families."""
    return lab.in_node("ss", "-Hltn", "sport = :15001").count("LISTEN")


def test_the_real_workers_share_the_port_and_have_the_snapshot(real: Lab) -> None:
    both(real)
    assert listeners(real) == 4
    wait_for(lambda: {row["revision"] for row in proxy(real)["workers"]} == {real.operator.snapshot.revision}, 5)
    assert real.query("status")["ok"]
    assert (real.pin_dir / "proxy_counters_v1").exists()


def test_a_real_worker_that_is_killed_is_back_within_a_second_of_its_own_start(real: Lab) -> None:
    one, two = both(real)
    os.kill(one, signal.SIGKILL)
    assert both(real, one)[1] == two, "its neighbour notices nothing"
    assert listeners(real) == 4


def test_the_real_workers_outlive_the_daemon(real: Lab) -> None:
    before = both(real)
    real.stop_daemon(signal.SIGKILL)
    assert listeners(real) == 4
    real.operator.publish(policies={})
    real.start_daemon("--proxy-workers", "2")
    assert both(real) == before
    wait_for(lambda: {row["revision"] for row in proxy(real)["workers"]} == {real.operator.snapshot.revision}, 5)


def test_the_real_workers_hand_over(real: Lab) -> None:
    before = both(real)
    done = real.query("proxy", "restart", timeout=60)
    assert [row["error"] for row in done] == ["", ""]
    both(real, *before)
    assert listeners(real) == 4
    wait_for(lambda: [row["state"] for row in proxy(real)["workers"]] == ["serving"] * 2, 10)


@pytest.mark.parametrize("what", ["status", "routes", "clusters", "endpoints", "config", "connections"])
def test_the_real_workers_answer(real: Lab, what: str) -> None:
    before = both(real)
    for answer in real.query("proxy", what):
        assert "error" not in answer
    assert both(real) == before
