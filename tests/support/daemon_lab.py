"""A node of two pods or more, a real daemon, and an operator that says what the test wants.

    pod a (netns)          node (netns)                     pod b (netns)
    eth0 10.244.1.1/32 --- wa  169.254.1.1, fe80::1  wb --- eth0 10.244.1.2/32
    fd00:10:244:1::1       172.30.0.1 on lo                 fd00:10:244:1::2

Everything is named after the lab, and `close` leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from weft.policies.delta import ClusterDelta, NodeDelta, Update, between, between_nodes, full_update
from weft.policies.labels import Labels
from weft.policies.model import Action, Direction, ObjectRef, Origin, PortSpec, Protocol
from weft.policies.snapshot import (
    AddressItem,
    ClusterPart,
    EndpointItem,
    IdentityItem,
    NodeItem,
    NodePart,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    Snapshot,
)
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc, node_pb2, node_pb2_grpc

NODE_IP4, NODE_IP6 = "172.30.0.1", "fd00:172:30::1"
SYSCTLS = (
    "ipv4.ip_forward=1",
    "ipv6.conf.all.forwarding=1",
    "ipv4.conf.default.proxy_arp=1",
    "ipv6.conf.default.accept_dad=0",
    "ipv4.conf.default.rp_filter=0",
    "ipv4.conf.all.rp_filter=0",
)
CGROUPS = Path("/sys/fs/cgroup/unified")


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def allow(
    name: str, subject: int, peers: set[int], *ports: int, direction: Direction = Direction.INGRESS
) -> PolicyItem:
    """`subject` is default deny in the direction, but for `peers` on TCP `ports` (none: every port)."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", name)
    rule = ResolvedRule(
        Origin(ref, f"spec.{direction.name.lower()}[0]"),
        direction,
        Action.ALLOW,
        ResolvedPeers(identities=frozenset(peers)),
        tuple(PortSpec(Protocol.TCP, port, port) for port in ports) or None,
    )
    spec = ResolvedSpec(
        frozenset({subject}), direction is Direction.INGRESS, direction is Direction.EGRESS, (rule,)
    )
    return PolicyItem(ref, 1, (), (spec,))


class Operator(control_pb2_grpc.ControlServicer):
    """Speaks the real protocol; `snapshot` is what it holds, `publish` makes the next revision of it."""

    def __init__(self, path: Path, node: str) -> None:
        self.epoch, self.path = f"lab-{time.monotonic_ns()}", path
        self.snapshot = Snapshot(0, node, ClusterPart(), NodePart())
        self.acks: dict[int, dict[str, str]] = {}
        self.hellos: list[pb.Hello] = []
        self._streams: list[queue.Queue[pb.Update | None]] = []
        self._acked = threading.Condition()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        control_pb2_grpc.add_ControlServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
        if self._server:
            for stream in self._streams:
                stream.put(None)
            self._streams.clear()
            self._server.stop(0).wait()
            self._server = None

    def Stream(self, messages: Iterator[pb.NodeMessage], context: Any) -> Iterator[pb.Update]:
        hello = next(messages).hello
        self.hellos.append(hello)
        mine: queue.Queue[pb.Update | None] = queue.Queue()
        if (hello.revision, hello.epoch) != (self.snapshot.revision, self.epoch) and self.snapshot.revision:
            mine.put(convert.to_update(full_update(self.snapshot, self.epoch)))
        self._streams.append(mine)
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()
        while (update := mine.get()) is not None:
            yield update

    def _listen(self, messages: Iterator[pb.NodeMessage]) -> None:
        with contextlib.suppress(grpc.RpcError, Exception):
            for message in messages:
                with self._acked:
                    refusals = {r.resource: r.reason for r in message.ack.refusals}
                    self.acks[message.ack.revision] = refusals
                    self._acked.notify_all()

    def publish(self, **parts: Any) -> int:
        """New content of `cluster` parts or `endpoints`; the rest stays. Returns the revision."""
        before = self.snapshot
        own = NodePart(parts.pop("endpoints", before.own.endpoints))
        cluster = replace(before.cluster, **parts)
        self.snapshot = Snapshot(before.revision + 1, before.node, cluster, own)
        delta: ClusterDelta = between(before.cluster, cluster)
        node: NodeDelta = between_nodes(before.own, own)
        update = convert.to_update(Update(self.snapshot.revision, self.epoch, False, delta, node))
        for stream in self._streams:
            stream.put(update)
        return self.snapshot.revision

    def wait(self, revision: int, timeout: float = 10) -> dict[str, str]:
        """The refusals of the node's acknowledgement."""
        with self._acked:
            assert self._acked.wait_for(lambda: any(r >= revision for r in self.acks), timeout), (
                "no acknowledgement"
            )
            return self.acks[max(self.acks)]


class Lab:
    def __init__(self, name: str, tmp: Path) -> None:
        self.name, self.node = name, "node-1"
        self.run_dir = Path("/run") / name
        self.pin_dir = Path("/sys/fs/bpf") / name / self.node
        self.cgroup = CGROUPS / name / self.node
        self.state_dir = tmp / "state"
        self.log = tmp / "daemon.log"
        self.netns = f"{name}-{self.node}"
        self.pods: dict[str, int] = {}
        self.daemon: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[Any]] = []
        self.close()  # what a run before this one left
        self.run_dir.mkdir(parents=True)
        self.cgroup.mkdir(parents=True)
        self._make_node()
        self.operator = Operator(self.run_dir / "operator.sock", self.node)
        self.operator.start()
        node = NodeItem(self.node, (NODE_IP4, NODE_IP6), ("10.244.1.0/24", "fd00:10:244:1::/64"))
        self.operator.publish(nodes={self.node: node})

    # the node

    def _make_node(self) -> None:
        run("ip", "netns", "add", self.netns)
        self.in_node("ip", "link", "set", "lo", "up")
        self.in_node("ip", "addr", "add", f"{NODE_IP4}/32", "dev", "lo")
        self.in_node("ip", "addr", "add", f"{NODE_IP6}/128", "dev", "lo")
        for key in SYSCTLS:
            self.in_node("sysctl", "-qw", f"net.{key}")

    def in_node(self, *words: str) -> str:
        return run("nsenter", f"--net=/run/netns/{self.netns}", *words)

    def start_daemon(self, *more: str, operator: bool = True) -> None:
        words = [
            *("nsenter", f"--net=/run/netns/{self.netns}", sys.executable, "-m", "weft.daemon.main"),
            *("--node", self.node, "--run-dir", str(self.run_dir / self.node), "--pin-dir", str(self.pin_dir)),
            *("--cgroup", str(self.cgroup), "--state-dir", str(self.state_dir), "--metrics", "127.0.0.1:9964"),
            *(("--operator", f"unix:{self.operator.path}") if operator else ()),
            *more,
        ]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(words, stdout=log, stderr=log)
        wait_for(lambda: self.answers(), 20, lambda: self.log.read_text()[-3000:])

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.daemon:
            self.daemon.send_signal(how)
            self.daemon.wait(10)
            self.daemon = None

    def answers(self) -> bool:
        try:
            self.query("status")
        except grpc.RpcError:
            return False
        return True

    def query(self, what: str, arg: str = "", timeout: float = 10) -> Any:
        import json

        return json.loads(self.ask("Query", node_pb2.QueryRequest(what=what, arg=arg), timeout).json)

    def ask(self, method: str, request: Any, timeout: float = 10) -> Any:
        target = f"unix:{self.run_dir / self.node / 'daemon.sock'}"
        with grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")]) as channel:
            return getattr(node_pb2_grpc.NodeStub(channel), method)(request, timeout=timeout)

    def wait_ready(self, *pods: str) -> None:
        for pod in pods:
            self.ask("WaitEndpoint", node_pb2.WaitEndpointRequest(namespace="default", name=pod))

    # pods

    def add_pod(self, name: str, identity: int) -> None:
        number = len(self.pods) + 1
        self.pods[name] = number
        inside, veth = f"{self.name}-{name}", f"w{name}"
        run("ip", "netns", "add", inside)
        self.in_node("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", inside)
        self.in_node("ip", "link", "set", veth, "addrgenmode", "none")
        self.in_node("ip", "link", "set", veth, "up")
        self.in_node("ip", "addr", "add", "169.254.1.1/32", "dev", veth)
        self.in_node("ip", "-6", "addr", "add", "fe80::1/64", "dev", veth, "nodad")
        inner = ("nsenter", f"--net=/run/netns/{inside}")
        run(*inner, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        run(*inner, "ip", "link", "set", "lo", "up")
        run(*inner, "ip", "link", "set", "eth0", "up")
        run(*inner, "ip", "addr", "add", f"{self.ip(name)}/32", "dev", "eth0")
        run(*inner, "ip", "-6", "addr", "add", f"{self.ip(name, 6)}/128", "dev", "eth0", "nodad")
        run(*inner, "ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        run(*inner, "ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        run(*inner, "ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
        self.in_node("ip", "route", "add", f"{self.ip(name)}/32", "dev", veth)
        self.in_node("ip", "-6", "route", "add", f"{self.ip(name, 6)}/128", "dev", veth)
        (self.cgroup / f"default_{name}").mkdir(exist_ok=True)
        self._declare(name, identity)

    def _declare(self, name: str, identity: int) -> None:
        ips = (self.ip(name), self.ip(name, 6))
        held = self.operator.snapshot
        item = IdentityItem(identity, Labels.k8s({"app": name, "io.kubernetes.pod.namespace": "default"}))
        self.operator.publish(
            identities={**held.cluster.identities, identity: item},
            addresses={
                **held.cluster.addresses,
                **{ip: AddressItem(ip, identity, self.node, f"default/{name}") for ip in ips},
            },
            endpoints={**held.own.endpoints, f"default/{name}": EndpointItem("default", name, ips, identity)},
        )

    def remove_pod(self, name: str) -> None:
        run("ip", "netns", "del", f"{self.name}-{name}")

    def ip(self, name: str, family: int = 4) -> str:
        number = self.pods[name]
        return f"10.244.1.{number}" if family == 4 else f"fd00:10:244:1::{number:x}"

    def set_policies(self, *items: PolicyItem) -> dict[str, str]:
        """Published and acknowledged: in force. Returns what was refused."""
        return self.operator.wait(self.operator.publish(policies={item.ref: item for item in items}))

    def python(self, pod: str, code: str) -> subprocess.Popen[str]:
        """A program in the pod, in its cgroup; its standard input and output are pipes."""
        join = f'echo 0 > {self.cgroup}/default_{pod}/cgroup.procs; exec {sys.executable} -u -c "$0"'
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.name}-{pod}", "sh", "-c", join, code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def serve(self, pod: str, port: int) -> None:
        """An echo server, both families."""
        process = self.python(pod, ECHO_SERVER.replace("PORT", str(port)))
        assert process.stdout and process.stdout.readline() == "ready\n"

    def connects(self, pod: str, address: str, port: int, timeout: float = 0.5) -> str:
        """ "ok", "timeout" or "refused"."""
        process = self.python(pod, CONNECT.format(address=address, port=port, timeout=timeout))
        assert process.stdout
        return process.stdout.readline().strip()

    def close(self) -> None:
        self.stop_daemon(signal.SIGKILL)
        proxies = self.cgroup / "_proxy" / "cgroup.kill"
        if proxies.exists():  # they outlive their daemon
            proxies.write_text("1")
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        if hasattr(self, "operator"):
            self.operator.stop()
        from weft.daemon import cgroups
        from weft.daemon.datapath import programs

        programs.remove(self.pin_dir)
        with contextlib.suppress(OSError):
            self.pin_dir.parent.rmdir()
        for path in Path("/run/netns").glob(f"{self.name}-*"):
            run("ip", "netns", "del", path.name, check=False)
        until = time.monotonic() + 5
        while (CGROUPS / self.name).is_dir() and time.monotonic() < until:
            cgroups.remove(CGROUPS / self.name)
            time.sleep(0.02)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(condition: Callable[[], Any], timeout: float, what: Callable[[], str] = lambda: "") -> Any:
    until = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {timeout} s: {what()}"
        time.sleep(0.02)
    return value


ECHO_SERVER = """
import socket, threading
server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready")
def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""

CONNECT = """
import socket
try:
    with socket.create_connection(("{address}", {port}), timeout={timeout}) as conn:
        conn.sendall(b"ping")
        print("ok" if conn.recv(4) == b"ping" else "closed")
except TimeoutError:
    print("timeout")
except ConnectionRefusedError:
    print("refused")
except OSError as error:
    print(error.strerror)
"""
