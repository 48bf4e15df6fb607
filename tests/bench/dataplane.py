"""Weft's programs on the lab's two nodes, by the product's own hands: its loader, reconciler and links.

Each node has its pin directory, maps, programs on its pods' veths and on its control group. `Plane.on(entries)`
puts a policy of so many entries in force and attaches, `off()` detaches all and leaves the wires bare. While
programs are on, somebody must take records out of the ring as the daemon would; `Plane` throws them away, which
costs next to nothing, or a real daemon reads them (`Plane.watched`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

from tests.bench.lab import ADDRESSES, NODE_OF, NODES, PREFIX, Lab, cgroup, mortal, namespace, veth

from weft.bpf import layout, links
from weft.bpf import sys as bpf
from weft.bpf.ringbuf import Ring
from weft.daemon import loading
from weft.daemon.datapath import programs
from weft.daemon.datapath.conntrack import Sweeper
from weft.daemon.datapath.kernel import Maps, PinnedKernel
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.datapath.rows import packed
from weft.daemon.local import namespaces
from weft.daemon.state import SnapshotFile
from weft.policies.delta import between, between_nodes, full_update
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

PINS = Path("/sys/fs/bpf") / PREFIX
IDENTITIES = {pod: 300 + at for at, pod in enumerate(ADDRESSES)}
STRANGERS = 1000  # the first of the identities that only make tables long
PORTS = (80, 5201)
#: What every enforced table has besides its rules: host in, names (UDP and TCP) out.
BUILT_IN = 3


def cluster(entries: int) -> ClusterPart:
    """The lab's pods, and as many others as make one policy for all pods compile to `entries`; 0: no policy."""
    more = range(STRANGERS, STRANGERS + peers_for(entries))
    pods = {pod: (IDENTITIES[pod], ip, NODE_OF[pod]) for pod, ip in ADDRESSES.items()}
    pods |= {f"other-{at}": (at, str(ip_address("10.245.0.0") + at), "n2") for at in more}
    return ClusterPart(
        {number: IdentityItem(number, Labels.k8s({"app": pod})) for pod, (number, _, _) in pods.items()},
        {ip: AddressItem(ip, number, node, f"default/{pod}") for pod, (number, ip, node) in pods.items()},
        {name: NodeItem(name, (address,)) for name, address in NODES.items()},
        {},
        {item.ref: item for item in ([policy(frozenset(more), entries)] if entries else [])},
    )


def peers_for(entries: int) -> int:
    per_peer = len(PORTS) * len(Direction)
    return max((entries - BUILT_IN) // per_peer - len(IDENTITIES), 0)


def policy(others: frozenset[int], entries: int) -> PolicyItem:
    """Default deny both ways for every pod of the lab, but for all of them and `others` on the lab's ports."""
    ref = ObjectRef("CiliumNetworkPolicy", "default", "bench")
    everybody = frozenset(IDENTITIES.values()) | others
    rules = [rule(ref, direction, everybody, PORTS) for direction in Direction]
    missing = entries - BUILT_IN - len(everybody) * len(PORTS) * len(Direction)
    rules += (
        [rule(ref, Direction.INGRESS, frozenset({STRANGERS}), range(9000, 9000 + missing))] if missing > 0 else []
    )
    return PolicyItem(ref, 1, (), (ResolvedSpec(frozenset(IDENTITIES.values()), True, True, tuple(rules)),))


def rule(
    ref: ObjectRef, direction: Direction, peers: frozenset[int], ports: tuple[int, ...] | range
) -> ResolvedRule:
    tcp = tuple(PortSpec(Protocol.TCP, port, port) for port in ports)
    origin = Origin(ref, f"spec.{direction.name.lower()}[0]")
    return ResolvedRule(origin, direction, Action.ALLOW, ResolvedPeers(identities=peers), tcp)


@dataclass
class NodePlane:
    """One node's maps, programs and reconciler."""

    name: str
    lab: Lab
    pods: dict[str, int] = field(default_factory=dict)  # pod -> ifindex

    def __post_init__(self) -> None:
        self.pins = PINS / self.name
        self.pods = {pod: self.lab.ifindex(pod) for pod, node in NODE_OF.items() if node == self.name}
        asyncio.run(loading.load(self.pins))
        self.maps = Maps(self.pins)
        self.ring = Ring(self.maps[layout.EVENTS])
        self.programs = programs.Programs(self.pins)
        self.take_over()

    def take_over(self) -> None:
        """From whoever wrote the maps before: what is there is read, as a daemon does that starts."""
        self.programs.close()
        self.programs = programs.Programs(self.pins)
        self.kernel = PinnedKernel(self.maps, self.programs)
        self.kernel.configure(audit=False, trace_interval_ms=5000)
        self.reconciler = Reconciler(self.kernel, self.name)
        self.reconciler.take_facts(self.facts())

    def facts(self) -> Facts:
        routes = {packed(ADDRESSES[pod]): ifindex for pod, ifindex in self.pods.items()}
        names = {ifindex: veth(pod) for pod, ifindex in self.pods.items()}
        return Facts(routes, names, frozenset({NODES[self.name]}))

    def own(self) -> NodePart:
        items = [EndpointItem("default", pod, (ADDRESSES[pod],), IDENTITIES[pod]) for pod in self.pods]
        return NodePart({item.key: item for item in items})

    def snapshot(self, entries: int) -> Snapshot:
        held = self.reconciler.snapshot
        return Snapshot(held.revision + 1 if held else 1, self.name, cluster(entries), self.own())

    def on(self, entries: int) -> None:
        held, fresh = self.reconciler.snapshot, self.snapshot(entries)
        changed = between(held.cluster if held else ClusterPart(), fresh.cluster)
        self.reconciler.take_snapshot(fresh, changed, between_nodes(held.own if held else NodePart(), fresh.own))
        namespaces.inside(namespace(self.name), self.reconciler.apply)
        self.attach()

    def attach(self) -> None:
        def there() -> None:
            for ifindex in self.pods.values():
                self.programs.attach(ifindex)

        namespaces.inside(namespace(self.name), there)
        self.programs.attach_cgroup(cgroup(self.name))

    def off(self) -> None:
        for path in self.pins.glob("link_*"):
            links.detach(path)

    def forget_connections(self) -> None:
        """Those of the rounds before: a real node's are swept all the time, and a full map costs evictions."""
        for _ in Sweeper(self.maps[layout.CT], created=lambda: 0).sweep(()):
            pass

    def entries(self) -> int:
        """Of the table in force for its pods."""
        held = next(iter(self.reconciler.writer.have.endpoints.values()))
        return len(self.kernel.table(held.policy_id))

    def runs(self) -> dict[str, tuple[int, int]]:
        """Runs and nanoseconds of each program while kernel.bpf_stats_enabled."""
        told = {}
        for name in layout.PROGRAMS:
            with descriptor(self.pins / f"prog_{name}") as fd:
                info = bpf.prog_info(fd)
            told[name] = (info.run_count, info.run_ns)
        return told

    def keep_snapshot(self, folder: Path) -> None:
        """For a daemon that starts with what is in force here."""
        held = self.reconciler.snapshot
        assert held is not None
        full = convert.to_update(full_update(held, "bench"))
        SnapshotFile(folder / "snapshot.bin").replace(full.SerializeToString())

    def close(self) -> None:
        self.ring.close()
        self.programs.close()
        self.maps.close()


@contextlib.contextmanager
def descriptor(pin: Path) -> Iterator[int]:
    fd = bpf.obj_get(pin)
    try:
        yield fd
    finally:
        os.close(fd)


class Plane:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes: dict[str, NodePlane] = {}
        self.daemons: list[subprocess.Popen[bytes]] = []
        self._stop = threading.Event()
        self._reading = threading.Event()
        self._reader = threading.Thread(target=self._discard, daemon=True)

    def __enter__(self) -> Plane:
        remove()
        try:
            for name in NODES:
                self.nodes[name] = NodePlane(name, self.lab)
        except BaseException:
            self.close()
            raise
        self._reading.set()
        self._reader.start()
        return self

    def on(self, entries: int) -> None:
        for node in self.nodes.values():
            node.on(entries)

    def off(self) -> None:
        for node in self.nodes.values():
            node.off()

    def attach(self) -> None:
        """What was in force before `off` is in force again."""
        for node in self.nodes.values():
            node.attach()

    def forget_connections(self) -> None:
        for node in self.nodes.values():
            node.forget_connections()

    def runs(self) -> dict[str, tuple[int, int]]:
        """Runs and nanoseconds of each program, of both nodes together."""
        told: dict[str, tuple[int, int]] = {}
        for node in self.nodes.values():
            for name, (runs, spent) in node.runs().items():
                before = told.get(name, (0, 0))
                told[name] = before[0] + runs, before[1] + spent
        return told

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """A daemon on each node reads the records and makes flows of them. It would mend what `off` takes away:
        `bare` and `back` are for while it is there."""
        self._reading.clear()
        self.daemons = [self._daemon(node) for node in self.nodes.values()]
        try:
            for node, process in zip(self.nodes.values(), self.daemons, strict=True):
                wait_ready(self._run_dir(node) / "daemon.sock", process)
            yield
        finally:
            for number in (signal.SIGCONT, signal.SIGTERM):
                self._signal(number)
            for process in self.daemons:
                process.wait()
            for node in self.nodes.values():
                node.take_over()
            self._reading.set()

    def bare(self) -> None:
        """No programs, and the daemons stand still."""
        self._signal(signal.SIGSTOP)
        self.off()

    def back(self) -> None:
        self.attach()
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.daemons:
            process.send_signal(number)

    def _run_dir(self, node: NodePlane) -> Path:
        return self.lab.folder / f"daemon-{node.name}"

    def _daemon(self, node: NodePlane) -> subprocess.Popen[bytes]:
        folder = self._run_dir(node)
        folder.mkdir(exist_ok=True)
        node.keep_snapshot(folder)
        words = [
            *("nsenter", f"--net={namespaces.path(namespace(node.name))}"),
            *(sys.executable, "-m", "weft.daemon.main", "--node", node.name, "--log-level", "error"),
            *("--run-dir", str(folder), "--state-dir", str(folder), "--pin-dir", str(node.pins)),
            *("--cgroup", str(cgroup(node.name))),
        ]
        return subprocess.Popen(mortal(words))

    def _discard(self) -> None:
        """Every 20 ms, in which a ring of 4 MiB does not fill. The only reader, so it may take all at once."""
        while not self._stop.wait(0.02):
            if self._reading.is_set():
                for node in self.nodes.values():
                    skip(node.ring)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        if self._reader.is_alive():
            self._reader.join()
        for node in self.nodes.values():
            node.close()
        remove()


def skip(ring: Ring) -> None:
    """Hands back what was written without looking at it: reading would cost more than the programs do."""
    ring._read[0] = ring._written[0]


def wait_ready(sock: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while not sock.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the daemon did not start")
        time.sleep(0.05)


def remove() -> None:
    """What there is of ours in the kernel, also of a bench that was killed."""
    for name in NODES:
        programs.remove(PINS / name)
    with contextlib.suppress(OSError):
        PINS.rmdir()
