"""A real daemon, real programs and real connections between two pods; only the operator is the test's own.

a (300) ---> b (301): echo on 80 and 81
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from daemon_lab import Lab, allow, wait_for
from weft.bpf import links
from weft.daemon import main, node
from weft.policies.model import Direction, Protocol
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem
from weft.policies.wire.pb import node_pb2

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

A, B = 300, 301


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab("wt-daemon", tmp_path_factory.mktemp("daemon")) as lab:
        lab.add_pod("a", A)
        lab.add_pod("b", B)
        lab.start_daemon()
        lab.wait_ready("a", "b")
        for port in (80, 81):
            lab.serve("b", port)
        yield lab
        print(lab.log.read_text())


@pytest.fixture(autouse=True)
def no_policy(lab: Lab) -> Iterator[None]:
    yield
    lab.set_policies()


def pair(lab: Lab, port: int) -> list[str]:
    return [lab.connects("a", lab.ip("b", family), port) for family in (4, 6)]


#: Sends a byte every 10 ms and waits for its echo; tells the longest wait at the end of its input.
KEEPER = """
import socket, sys, threading, time
conn = socket.create_connection(("{address}", {port}), timeout={patience})
print("open")
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
worst, count = 0.0, 0
try:
    while not stop.is_set():
        started = time.monotonic()
        conn.sendall(b"x")
        if conn.recv(1) != b"x":
            print("closed"); sys.exit()
        worst, count = max(worst, time.monotonic() - started), count + 1
        time.sleep(0.01)
except OSError as error:
    print("cut", type(error).__name__, count); sys.exit()
print("kept", round(worst, 3), count)
"""


def keeper(lab: Lab, port: int = 80, patience: float = 3, family: int = 4) -> subprocess.Popen[str]:
    process = lab.python("a", KEEPER.format(address=lab.ip("b", family), port=port, patience=patience))
    assert process.stdout and process.stdout.readline() == "open\n"
    return process


def told(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdin and process.stdout
    if not process.stdin.closed:
        process.stdin.close()
    return process.stdout.readline().split()


def test_with_no_policy_everything_passes(lab: Lab) -> None:
    assert pair(lab, 80) == ["ok", "ok"]
    assert pair(lab, 81) == ["ok", "ok"]


def test_what_a_policy_allows_passes_and_the_rest_does_not(lab: Lab) -> None:
    assert lab.set_policies(allow("web", B, {A}, 80)) == {}
    assert pair(lab, 80) == ["ok", "ok"]
    assert pair(lab, 81) == ["timeout", "timeout"]


def test_the_node_itself_reaches_its_workloads(lab: Lab) -> None:
    lab.set_policies(allow("nobody", B, {999}, 80))
    assert pair(lab, 80) == ["timeout", "timeout"]
    done = lab.in_node(
        "python3", "-c", f"import socket; socket.create_connection(('{lab.ip('b')}', 80), 2); print(1)"
    )
    assert done == "1\n"


def test_egress_is_judged_at_the_sender(lab: Lab) -> None:
    lab.set_policies(allow("out", A, {B}, 81, direction=Direction.EGRESS))
    assert pair(lab, 80) == ["timeout", "timeout"]
    assert pair(lab, 81) == ["ok", "ok"]


def test_a_revoked_policy_cuts_open_connections(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    kept = [keeper(lab, patience=1, family=family) for family in (4, 6)]
    time.sleep(0.2)
    lab.set_policies(allow("web", B, {A}, 81))
    time.sleep(1.5)
    assert [told(process)[:2] for process in kept] == [["cut", "TimeoutError"]] * 2


def test_a_change_that_concerns_others_leaves_open_connections_alone(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    process = keeper(lab)
    for number in range(20):
        lab.set_policies(allow("web", B, {A}, 80), allow(f"other-{number}", B, {400 + number}, 443))
        time.sleep(0.02)
    word, worst, count = told(process)
    assert word == "kept" and float(worst) < 0.15 and int(count) > 10


def test_a_change_is_in_force_within_a_few_milliseconds(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    before = delays(lab)
    for number in range(10):
        lab.set_policies(allow("web", B, {A}, 80 + number % 2))
    after = delays(lab)
    assert (after[0] - before[0]) / (after[1] - before[1]) < 0.02


def delays(lab: Lab) -> tuple[float, float]:
    text = scrape(lab)
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    value = {name: float(number) for name, _, number in lines}
    return value["weft_policy_implementation_delay_sum"], value["weft_policy_implementation_delay_count"]


def scrape(lab: Lab) -> str:
    code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9964/metrics').read().decode())"
    return lab.in_node("python3", "-c", code)


def test_metrics_tell_what_was_forwarded_and_dropped(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    pair(lab, 81)
    text = scrape(lab)
    assert 'weft_drop_count_total{direction="INGRESS",reason="Policy denied"}' in text
    assert 'weft_forward_bytes_total{direction="EGRESS"}' in text
    assert 'weft_endpoint_state{endpoint_state="ready"} 2.0' in text
    assert "weft_upstream_connected 1.0" in text
    assert "hubble_" in text


def test_a_service_address_leads_to_a_backend_and_an_empty_service_refuses(lab: Lab) -> None:
    def service(*backends: BackendItem) -> None:
        port = ServicePortItem("http", Protocol.TCP, 8080, 0, "", backends)
        item = ServiceItem("default", "b", "ClusterIP", ("10.96.0.77", "fd00:10:96::77"), (port,))
        lab.operator.wait(lab.operator.publish(services={item.key: item}))

    service(BackendItem(lab.ip("b"), 80), BackendItem(lab.ip("b", 6), 80))
    assert lab.connects("a", "10.96.0.77", 8080) == "ok"
    assert lab.connects("a", "fd00:10:96::77", 8080) == "ok"
    listed = lab.query("services")
    assert [len(row["backends"]) for row in listed] == [1, 1]
    service()
    assert lab.connects("a", "10.96.0.77", 8080) != "ok"
    lab.operator.wait(lab.operator.publish(services={}))
    assert lab.query("maps")[3]["entries"] == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_daemon_that_goes_and_comes_back_is_not_noticed(lab: Lab, how: signal.Signals) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    ids = {row["name"]: row["id"] for row in lab.query("endpoints")}
    packets = lab.query("metrics")["forwarded_packets"]
    process = keeper(lab)
    lab.stop_daemon(how)
    assert pair(lab, 80) == ["ok", "ok"] and pair(lab, 81) == ["timeout", "timeout"]
    lab.start_daemon()
    assert pair(lab, 80) == ["ok", "ok"] and pair(lab, 81) == ["timeout", "timeout"]
    word, worst, _ = told(process)
    assert word == "kept" and float(worst) < 0.3
    assert {row["name"]: row["id"] for row in lab.query("endpoints")} == ids
    assert lab.query("metrics")["forwarded_packets"] > packets


def test_a_daemon_without_operator_goes_on_with_the_snapshot_on_disk(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    lab.stop_daemon(signal.SIGKILL)
    lab.operator.stop()
    lab.start_daemon()
    status = lab.query("status")
    assert status["revision"]["in_force"] == lab.operator.snapshot.revision and not status["ok"]
    assert pair(lab, 80) == ["ok", "ok"] and pair(lab, 81) == ["timeout", "timeout"]
    lab.operator.start()
    wait_for(lambda: lab.query("status")["ok"], 10)
    assert lab.set_policies(allow("web", B, {A}, 81)) == {}
    assert pair(lab, 80) == ["timeout", "timeout"] and pair(lab, 81) == ["ok", "ok"]


def test_a_new_workload_is_guarded_from_its_first_packet_and_forgotten_when_gone(lab: Lab) -> None:
    lab.set_policies(allow("web", B, {A}, 80))
    lab.add_pod("c", 302)
    lab.wait_ready("c")
    assert lab.connects("c", lab.ip("b"), 80) == "timeout"
    assert lab.query("status")["endpoints"] == {"total": 3, "ready": 3}
    lab.remove_pod("c")
    held = lab.operator.snapshot.own.endpoints
    lab.operator.publish(endpoints={key: item for key, item in held.items() if key != "default/c"})
    wait_for(lambda: lab.query("status")["programs"]["attached"] == 2, 5)
    assert len(list(lab.pin_dir.glob("link_from_*"))) == 2


def test_a_workload_that_the_snapshot_no_longer_names_is_cut_off_not_let_loose(lab: Lab) -> None:
    held = dict(lab.operator.snapshot.own.endpoints)
    revision = lab.operator.publish(endpoints={"default/b": held["default/b"]})
    lab.operator.wait(revision)
    assert pair(lab, 80) == ["timeout", "timeout"]
    lab.operator.wait(lab.operator.publish(endpoints=held))
    assert pair(lab, 80) == ["ok", "ok"]


def test_flows_are_told_on_the_observer_socket(lab: Lab) -> None:
    assert lab.query("status")["flows"]["seen_flows"] > 0
    assert (Path("/run") / lab.name / lab.node / "observer.sock").exists()


def test_a_second_daemon_is_told_that_there_is_one(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="another daemon runs"):
        asyncio.run(node.only_one(lab.run_dir / lab.node, patience=0.1))


def test_a_question_about_what_is_not_there_is_answered_so(lab: Lab) -> None:
    for what, arg in (("weather", ""), ("endpoints", "default/z"), ("policy-table", "")):
        with pytest.raises(grpc.RpcError) as refused:
            lab.query(what, arg)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_waiting_for_what_does_not_come_ends_with_the_callers_patience(lab: Lab) -> None:
    for method, request in (
        ("WaitEndpoint", node_pb2.WaitEndpointRequest(namespace="default", name="z")),
        ("WaitEndpoint", node_pb2.WaitEndpointRequest(namespace="default", name="a", ips=["10.9.9.9"])),
        ("WaitRevision", node_pb2.WaitRevisionRequest(revision=10**6)),
    ):
        with pytest.raises(grpc.RpcError) as late:
            lab.ask(method, request, timeout=0.2)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]


FLOOD = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
until, count = time.monotonic() + 3, 0
while time.monotonic() < until:
    for _ in range(500):
        sock.sendto(b"x", ("{address}", 9))
        count += 1
print(count)
"""


def test_a_flood_of_drops_is_told_or_counted_and_policy_goes_on(lab: Lab) -> None:
    """Each packet that is dropped is a record: more than the observer can take in."""
    lab.set_policies(allow("web", B, {A}, 80))
    before = lab.query("status")
    flood = lab.python("a", FLOOD.format(address=lab.ip("b")))
    time.sleep(0.3)
    waits = []
    for number in range(10):
        started = time.monotonic()
        lab.set_policies(allow("web", B, {A}, 80 + number % 2))
        waits.append(time.monotonic() - started)
    assert flood.stdout
    sent = int(flood.stdout.readline())
    time.sleep(2)
    after = lab.query("status")
    seen = after["flows"]["seen_flows"] - before["flows"]["seen_flows"]
    lost = after["stats"]["event_lost"] - before["stats"]["event_lost"]
    print(f"{sent} sent, {seen} flows, {lost} lost, changes in {sorted(waits)}")
    assert seen + lost >= sent
    assert after["flows"]["lost"]["kernel_ring"] - before["flows"]["lost"]["kernel_ring"] == lost
    assert sorted(waits)[5] < 0.1


def test_removing_leaves_nothing_in_the_kernel(tmp_path: Path) -> None:
    with Lab("wt-daemon2", tmp_path) as lab:
        lab.add_pod("a", A)
        lab.start_daemon()
        lab.wait_ready("a")
        lab.stop_daemon()
        assert lab.pin_dir.is_dir()
        words = ["--remove", "--node", lab.node, "--pin-dir", str(lab.pin_dir), "--cgroup", str(lab.cgroup)]
        assert main.main(words) == 0
        assert not lab.pin_dir.exists()
        assert "weft" not in lab.in_node("tc", "filter", "show", "dev", "wa", "ingress")
        assert main.main(words) == 0, "what is gone is not missed"


CLSACT = """
import socket, sys
from pathlib import Path
from weft.daemon import netlink
from weft.daemon.datapath.programs import Programs
programs, index = Programs(Path("{pins}"), tcx=False), socket.if_nametoindex("wa")
for _ in range(2):
    programs.attach(index)
assert programs.attached() == {{index}}
input()
netlink.detach_clsact_everywhere()
"""


def test_without_tcx_links_the_programs_hang_on_a_clsact_qdisc(tmp_path: Path) -> None:
    """As on kernels before 6.6: made twice it is there once, it judges, and it goes."""
    with Lab("wt-daemon3", tmp_path) as lab:
        lab.add_pod("a", A)
        lab.add_pod("b", B)
        lab.start_daemon()
        lab.wait_ready("a", "b")
        lab.serve("b", 80)
        lab.set_policies(allow("nobody", A, {999}, 80, direction=Direction.EGRESS))
        lab.stop_daemon()
        for pin in lab.pin_dir.glob("link_*"):
            links.detach(pin)
        assert lab.connects("a", lab.ip("b"), 80) == "ok", "nothing judges now"
        words = ("nsenter", f"--net=/run/netns/{lab.netns}", sys.executable, "-c", CLSACT.format(pins=lab.pin_dir))
        process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
        filters = lambda: lab.in_node("tc", "filter", "show", "dev", "wa", "ingress")  # noqa: E731
        wait_for(lambda: "weft_from_workload" in filters(), 5, filters)
        assert filters().count("weft_from_workload") == 1
        assert lab.connects("a", lab.ip("b"), 80) == "timeout"
        process.communicate("\n", timeout=10)
        assert process.returncode == 0 and "weft" not in filters()


def test_the_daemon_is_small(lab: Lab) -> None:
    assert lab.query("status")["memory"]["anonymous"] < 60 << 20
