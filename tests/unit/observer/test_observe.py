"""`weft observe`, `list` and `monitor` against observers on real sockets, several nodes at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flow_records import Cluster, record
from weft.bpf.layout import CtState, EventType
from weft.daemon.cli.main import main
from weft.daemon.observer.service import Observer

BASE = 1_700_000_000_000_000_000


class Servers:
    """Observers in a loop of their own; `feed` may be called from the test's thread."""

    def __init__(self, run_dir: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.run_dir, self.loop = run_dir, loop
        self.nodes: dict[str, Observer] = {}

    def call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def start(self, *names: str) -> None:
        for name in names:
            clocks = lambda: (BASE + 10**12, 10**12)  # noqa: E731 (the same for all: times in tests are what they feed)
            self.nodes[name] = Observer(name, Cluster(), version="0.1.0", clocks=clocks)
            self.call(self.nodes[name].serve(f"unix:{self.run_dir}/{name}/observer.sock"))

    def feed(self, node: str, kind: EventType = EventType.TRACE, **fields: Any) -> None:
        async def one() -> None:
            self.nodes[node].feed(record(kind, **fields))

        self.call(one())


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    monkeypatch.setenv("WEFT_RUN_DIR", str(tmp_path))
    for name in ("WEFT_SERVER", "HUBBLE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = Servers(tmp_path, loop)
    yield running
    for observer in running.nodes.values():
        running.call(observer.stop(0))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


def ports(text: str) -> list[int]:
    return [json.loads(line)["flow"]["l4"]["TCP"]["source_port"] for line in text.splitlines()]


def test_flows_of_two_nodes_come_in_order_of_time(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.start("node-1", "node-2")
    for number in range(1, 9):
        servers.feed(f"node-{1 + number % 2}", ports=(number, 80), time_ns=number * 1000)
    assert main(["observe", "-o", "json"]) == 0
    assert ports(capsys.readouterr().out) == list(range(1, 9))
    assert main(["observe", "--print-node-name", "--last", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0].split("[")[1] for line in lines] == ["node-1"]
    main(["observe", "-o", "json", "--last", "3"])
    assert ports(capsys.readouterr().out) == [6, 7, 8]
    main(["observe", "-o", "json", "--first", "3"])
    assert ports(capsys.readouterr().out) == [1, 2, 3]


def test_without_a_number_twenty_flows_are_shown_and_all_with_all(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.start("node-1")
    for number in range(1, 51):
        servers.feed("node-1", ports=(number, 80))
    main(["observe", "-o", "json"])
    assert ports(capsys.readouterr().out) == list(range(31, 51))
    main(["observe", "-o", "json", "--all"])
    assert ports(capsys.readouterr().out) == list(range(1, 51))
    main(["observe", "-o", "json", "--first", "2"])
    assert ports(capsys.readouterr().out) == [1, 2]


def test_filters_are_the_servers(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.start("node-1")
    servers.feed("node-1", ports=(1, 80))
    servers.feed("node-1", EventType.DROP, ports=(2, 80), reason=133)
    main(["observe", "-o", "json", "--not", "--verdict", "DROPPED"])
    assert ports(capsys.readouterr().out) == [1]
    main(["observe", "--verdict", "DROPPED", "-n", "shop"])
    assert "shop/orders-1:80 (ID:1002) Policy denied DROPPED (TCP Flags: SYN)" in capsys.readouterr().out


def test_a_server_that_refuses_says_why(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.start("node-1")
    assert main(["observe", "--cel-expression", "true"]) == 1
    assert "CEL expressions are not supported" in capsys.readouterr().err


def test_a_node_that_does_not_answer_is_told_and_the_others_go_on(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.start("node-1")
    servers.feed("node-1", ports=(1, 80))
    (servers.run_dir / "node-2").mkdir()
    (servers.run_dir / "node-2" / "observer.sock").touch()
    assert main(["observe", "-o", "compact"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "on 1 nodes: node-2" in err
    assert main(["list", "nodes"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["node-1", "Connected"],
        ["node-2", "Unavailable"],
    ]


def test_nobody_there_is_a_failure_that_names_the_run_directory(
    servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    (servers.run_dir / "node-2").mkdir()
    (servers.run_dir / "node-2" / "observer.sock").touch()
    assert main(["observe"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("weft: failed to connect to node-2") and str(servers.run_dir) in err


@pytest.mark.parametrize("how", ["--server unix:///", "WEFT_SERVER unix:///", "HUBBLE_SERVER unix:"])
def test_a_named_server_is_the_only_one(
    how: str, servers: Servers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.start("node-1", "node-2")
    servers.feed("node-1", ports=(1, 80))
    servers.feed("node-2", ports=(2, 80))
    where, prefix = how.split()
    address = f"{prefix}{str(servers.run_dir).lstrip('/')}/node-2/observer.sock"
    if where == "--server":
        main(["observe", "-o", "json", "--server", address])
    else:
        monkeypatch.setenv(where, address)
        main(["observe", "-o", "json"])
    assert ports(capsys.readouterr().out) == [2]


def test_what_json_wrote_can_be_replayed_with_other_filters(
    servers: Servers, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    servers.start("node-1")
    for number in range(1, 6):
        servers.feed("node-1", ports=(number, 80))
    main(["observe", "-o", "json"])
    file = tmp_path / "flows.json"
    lines = capsys.readouterr().out.replace('{"flow":{', '{"flow":{"no_such_field":1,', 1)
    file.write_text(f"{lines}\nno flow\n\n")
    for flags, expected in (
        ([], [1, 2, 3, 4, 5]),
        (["--last", "2"], [4, 5]),
        (["--first", "2"], [1, 2]),
        (["--from-port", "3"], [3]),
        (["--not", "--from-port", "3", "--last", "3"], [2, 4, 5]),
        (["--since", "2020-01-01", "--until", "2020-01-02"], []),
    ):
        assert main(["observe", "-o", "json", "--input-file", str(file), *flags]) == 0
        out, err = capsys.readouterr()
        assert ports(out) == expected, flags
        assert ("skipped a line that is no flow" in err) == ("--first" not in flags)  # which has enough before it
    assert main(["observe", "--input-file", str(tmp_path / "missing")]) == 1


def test_namespaces_and_nodes(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.start("node-1", "node-2")
    servers.feed("node-1", time_ns=10**12)
    main(["list", "namespaces"])
    assert capsys.readouterr().out == "NAMESPACE\ndefault\nshop\n"
    main(["list", "namespaces", "-o", "json"])
    assert json.loads(capsys.readouterr().out) == [
        {"cluster": "default", "namespace": "default"},
        {"cluster": "default", "namespace": "shop"},
    ]
    main(["list", "nodes", "-o", "wide"])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS", "VERSION", "ADDRESS", "TLS"]
    assert first.split()[:2] == ["node-1", "Connected"] and second.split()[:2] == ["node-2", "Connected"]
    assert first.endswith("Disabled") and "1/4095" in first


def interruptible() -> None:
    """As at a terminal: in the background of a shell Ctrl-C is turned off for whatever is started there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(servers: Servers, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    code = "from weft.daemon.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *arguments],
        env={**os.environ, "WEFT_RUN_DIR": str(servers.run_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(servers: Servers, process: subprocess.Popen[str], feed: Callable[[], None]) -> str:
    """The first line that comes while flows are fed."""
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    deadline = time.monotonic() + 20
    while not lines and time.monotonic() < deadline:
        feed()
        reader.join(0.1)
    assert lines, process.stderr.read() if process.poll() is not None and process.stderr else "no line"
    return lines[0]


def test_following_prints_at_once_and_ctrl_c_ends_it_cleanly(servers: Servers) -> None:
    servers.start("node-1", "node-2")
    with running(servers, "observe", "-f", "--to-pod", "shop/orders") as process:
        line = eventually(servers, process, lambda: servers.feed("node-2", time_ns=10**12))
        assert "default/frontend-1:40000 (ID:1001) -> shop/orders-1:8080 (ID:1002) to-endpoint FORWARDED" in line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (0, "")


def test_a_reader_that_leaves_ends_it_cleanly(servers: Servers) -> None:
    servers.start("node-1")
    with running(servers, "observe", "-f") as process:
        eventually(servers, process, lambda: servers.feed("node-1"))
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            servers.feed("node-1")
            time.sleep(0.05)
        assert (process.poll(), process.stderr.read()) == (0, "")


MONITORED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "a drop, by default": (
        [],
        {"kind": EventType.DROP, "reason": 133, "ifindex": 4, "dst_identity": 264, "src_identity": 261},
        "xx drop (Policy denied) flow {flow} to endpoint 12, ifindex 4, identity 261->264: "
        "10.244.1.5:40000 -> 10.244.2.7:8080 tcp SYN",
    ),
    "a trace": (
        ["-t", "trace"],
        {"ct_state": CtState.ESTABLISHED, "ifindex": 7, "flags": 0x10},
        "-> endpoint 12 flow {flow} , identity 1001->1002 state established ifindex lxc7 orig-ip 0.0.0.0: "
        "10.244.1.5:40000 -> 10.244.2.7:8080 tcp ACK",
    ),
    "a verdict": (
        ["-t", "policy-verdict"],
        {"kind": EventType.VERDICT, "verdict": 1, "match": 2},
        "Policy verdict log: flow {flow} local EP ID 12, remote ID 1001, proto 6, ingress, action allow, "
        "auth: disabled, match L3-L4, 10.244.1.5:40000 -> 10.244.2.7:8080 tcp SYN",
    ),
    "a verdict about somebody reserved": (
        ["-t", "all", "--related-to", "12"],
        {"kind": EventType.VERDICT, "source": "203.0.113.10", "src_identity": 9, "reason": 133, "protocol": "icmp",
         "flags": 8},
        "Policy verdict log: flow {flow} local EP ID 12, remote ID world-ipv4, proto 1, ingress, action deny, "
        "auth: disabled, match none, 203.0.113.10 -> 10.244.2.7 icmp EchoRequest",
    ),
    "in numbers": (
        ["-n", "-t", "drop"],
        {"kind": EventType.DROP, "reason": 132, "source": "2001:db8::1", "destination": "fd00:10:244:2::7",
         "src_identity": 10},
        "xx drop (Invalid source ip) flow {flow} to endpoint 12, ifindex 0, identity 10->1002: "
        "[2001:db8::1]:40000 -> [fd00:10:244:2::7]:8080 tcp SYN",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "fields", "line"), MONITORED.values(), ids=MONITORED.keys())
def test_monitor(servers: Servers, flags: list[str], fields: dict[str, Any], line: str) -> None:
    from weft.daemon.cli import monitor
    from weft.policies.wire.pb import observer_pb2

    observer = Observer("node-1", Cluster())
    observer.feed(record(**fields))
    flow = observer.flows.of(observer.ring[0])  # type: ignore[arg-type]
    text = monitor.line_of(observer_pb2.GetFlowsResponse(flow=flow), numeric="-n" in flags)
    assert text == line.format(flow=monitor.flow_number(flow))


def test_monitor_follows_drops_and_leaves_the_rest(servers: Servers) -> None:
    servers.start("node-1")

    def feed() -> None:
        servers.feed("node-1", EventType.TRACE)
        servers.feed("node-1", EventType.DROP, reason=133)

    with running(servers, "monitor", "--to", "12") as process:
        assert eventually(servers, process, feed).startswith("xx drop (Policy denied) flow 0x")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 0 and err.startswith("Listening for events of node-1.")


def test_both_ways_of_a_flow_share_its_number(servers: Servers) -> None:
    from weft.daemon.cli import monitor

    observer = Observer("node-1", Cluster())
    observer.feed(record())
    observer.feed(record(source="10.244.2.7", destination="10.244.1.5", ports=(8080, 40000)))
    observer.feed(record(ports=(40001, 8080)))
    first, answer, other = (
        monitor.flow_number(observer.flows.of(observer.ring[n]))  # type: ignore[arg-type]
        for n in range(3)
    )
    assert first == answer != other
