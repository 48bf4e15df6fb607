"""What dies comes back, and nobody notices: the daemon, its upgrade, the operator, under load.

foo --- allowed, 80 ---> s        kept connections echo all the time, new ones open all the time
bar --- denied  -------> s        new ones are tried all the time: not one may get through
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from live_cluster import Cluster, Load, running
from truth_cases import FOO_80, cnp
from weft.daemon.cli import client

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("weft-chaos") as cluster:
        cluster.apply(yaml.safe_load_all(cnp(FOO_80)))
        yield cluster


def process(cluster: Cluster, module: str, node: str = "") -> int:
    """The pid of this cluster's daemon (of a node) or operator; 0 if it does not run."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        text = [word.decode(errors="replace") for word in words]
        mine = any(cluster.run_dir.name in word.split("/") for word in text)
        if entry.name.isdigit() and mine and any(module in word for word in text) and (not node or node in text):
            return int(entry.name)
    return 0


def traffic(cluster: Cluster, seconds: float) -> tuple[list[Load], list[Load]]:
    good = [cluster.load(p, seconds, expect="open") for p in cluster.expand("foo > s:80")]
    bad = [cluster.load(p, seconds, expect="shut", timeout=0.3) for p in cluster.expand("bar > s:80")]
    return good, bad


def check(good: list[Load], bad: list[Load]) -> None:
    for load in good:
        told = load.result()
        assert told["wrong"] == [], f"{load.probe}: {told}"
        assert int(str(told["opened"])) > 20 and int(str(told["echoes"])) > 100, told
    for load in bad:
        told = load.result()
        assert told["wrong"] == [], f"{load.probe}: {told}"


def wait_for(what: str, condition: object, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def forwarded(cluster: Cluster) -> int:
    """Packets the node of s has forwarded, from the maps."""
    status = client.query(cluster.run_dir / "node-1" / "daemon.sock", "metrics")
    return int(status["forwarded_packets"])


def answers(cluster: Cluster, node: str) -> bool:
    try:
        client.query(cluster.run_dir / node / "daemon.sock", "status")
    except Exception:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted with an upgrade"])
def test_the_daemon_goes_and_comes_back_and_no_connection_notices(cluster: Cluster, how: signal.Signals) -> None:
    before = forwarded(cluster)
    good, bad = traffic(cluster, 8)
    time.sleep(1.5)
    pid = process(cluster, "weft-daemon", "node-1")
    assert pid
    os.kill(pid, how)
    wait_for("a new daemon", lambda: process(cluster, "weft-daemon", "node-1") not in (0, pid))
    wait_for("an answering daemon", lambda: answers(cluster, "node-1"))
    check(good, bad)
    assert forwarded(cluster) > before, "counters go on, they do not start again"
    assert flows_since(cluster, 3), "flows go on"


def flows_since(cluster: Cluster, seconds: int) -> str:
    done = cluster.weft("observe", "--since", f"{seconds}s", "--last", "50", "-o", "compact")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dead_daemon_leaves_policy_in_force(cluster: Cluster) -> None:
    """Stopped, not killed: nothing of user space helps, the kernel alone carries and refuses."""
    pid = process(cluster, "weft-daemon", "node-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        good, bad = traffic(cluster, 3)
        check(good, bad)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_operator_is_killed_and_nobody_notices(cluster: Cluster) -> None:
    good, bad = traffic(cluster, 6)
    time.sleep(1)
    pid = process(cluster, "weft-operator")
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_for("a new operator", lambda: process(cluster, "weft-operator") not in (0, pid))
    check(good, bad)
    wait_for("both nodes connected", lambda: connected(cluster) == 2)
    # and it takes changes again
    reply = cluster.apply(
        yaml.safe_load_all(cnp("endpointSelector: {matchLabels: {app: foo}}\ningress: [{}]", "late"))
    )
    probes = cluster.expand("bar > foo:80")
    assert "ok" not in cluster.measure(probes, 0.4)
    cluster.delete([outcome.ref for outcome in reply.outcomes])
    assert set(cluster.measure(probes, 5)) == {"ok"}


def connected(cluster: Cluster) -> int:
    try:
        status = client.operator_status(str(cluster.run_dir))
    except Exception:
        return 0
    return sum(1 for node in status.nodes if node.connected) if status else 0


def test_revoking_a_policy_cuts_established_connections(cluster: Cluster) -> None:
    """foo's open connections to s on 445 live by a second policy; with it gone they stop, both ways."""
    spec = FOO_80.replace("'80'", "'445'")
    reply = cluster.apply(yaml.safe_load_all(cnp(spec, "more")))
    loads = [cluster.load(p, 4, expect="open", timeout=1) for p in cluster.expand("foo > s:445")]
    time.sleep(1.5)
    cluster.delete([outcome.ref for outcome in reply.outcomes])
    for load in loads:
        told = load.result()
        wrong = [str(each) for each in told["wrong"]]  # type: ignore[attr-defined]
        assert int(str(told["echoes"])) > 50, told
        assert len([each for each in wrong if each.startswith("kept:")]) == 2, told
        assert [each for each in wrong if each.startswith("open:")], told
