"""A node with a stand-in proxy: the pods of `daemon_lab`, their data plane by `steered_node`, and a host far away.

pod a, b, ... --- node (Weft, relay) --- uplink ---- far: no Weft, 10.244.2.1, fd00:10:244:2::1
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import proxy_relay
import steered_node
from daemon_lab import Lab, run
from weft.daemon.steering import FIRST_PORT, MARK
from weft.policies.delta import full_update
from weft.policies.labels import Labels
from weft.policies.mesh.model import Dialect, HostRouting, Route
from weft.policies.model import L7, Action, Direction, HttpRule, ObjectRef, Origin, PortSpec, Protocol
from weft.policies.snapshot import (
    AddressItem,
    BackendItem,
    IdentityItem,
    PolicyItem,
    ResolvedPeers,
    ResolvedRule,
    ResolvedSpec,
    ServiceItem,
    ServicePortItem,
)
from weft.policies.wire import convert

FAR: Final = {4: "10.244.2.1", 6: "fd00:10:244:2::1"}
SERVICE: Final = {4: "10.96.0.10", 6: "fd00:10:96::10"}
A, B, FAR_ID = 300, 301, 400


def judged(name: str, subject: int, peer: int, port: int, direction: Direction) -> PolicyItem:
    """`subject` is default deny in the direction, but for HTTP with `peer` on the port."""
    return _policy(name, subject, peer, port, direction, L7((HttpRule(),)))


def plain(name: str, subject: int, peer: int, port: int, direction: Direction) -> PolicyItem:
    return _policy(name, subject, peer, port, direction, None)


def _policy(name: str, subject: int, peer: int, port: int, direction: Direction, l7: L7 | None) -> PolicyItem:
    ref = ObjectRef("CiliumNetworkPolicy", "default", name)
    rule = ResolvedRule(
        Origin(ref, f"spec.{direction.name.lower()}[0]"),
        direction,
        Action.ALLOW,
        ResolvedPeers(identities=frozenset({peer})),
        (PortSpec(Protocol.TCP, port, port),),
        l7,
    )
    spec = ResolvedSpec(
        frozenset({subject}), direction is Direction.INGRESS, direction is Direction.EGRESS, (rule,)
    )
    return PolicyItem(ref, 1, (), (spec,))


def service(name: str, backends: dict[int, str], port: int = 8080) -> ServiceItem:
    """`backends`: address by family."""
    items = tuple(BackendItem(ip, port, pod=f"default/{name}") for ip in backends.values())
    ports = (ServicePortItem("http", Protocol.TCP, 80, 0, "", items),)
    return ServiceItem("default", name, "ClusterIP", tuple(SERVICE.values()), ports)


def routed(item: ServiceItem) -> dict[str, HostRouting]:
    ref = ObjectRef("VirtualService", "default", item.name)
    return {item.host: HostRouting(item.host, item.key, (Route(ref, Dialect.ISTIO, (item.host,)),))}


class SteeringLab(Lab):
    def __init__(self, name: str, tmp: Path) -> None:
        super().__init__(name, tmp)
        self._tmp = tmp
        self._node: subprocess.Popen[str] | None = None
        self._relay: subprocess.Popen[str] | None = None
        self._make_far()

    def _make_far(self) -> None:
        far = f"{self.name}-far"
        run("ip", "netns", "add", far)
        self.in_node("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", far)
        self.in_node("ip", "link", "set", "uplink", "up")
        self.in_node("ip", "addr", "add", "172.31.0.1/24", "dev", "uplink")
        self.in_node("ip", "addr", "add", "fd00:172:31::1/64", "dev", "uplink", "nodad")
        inner = ("nsenter", f"--net=/run/netns/{far}")
        run(*inner, "ip", "link", "set", "lo", "up")
        run(*inner, "ip", "link", "set", "eth0", "up")
        for address in ("172.31.0.2/24", f"{FAR[4]}/32"):
            run(*inner, "ip", "addr", "add", address, "dev", "eth0")
        for address in ("fd00:172:31::2/64", f"{FAR[6]}/128"):
            run(*inner, "ip", "addr", "add", address, "dev", "eth0", "nodad")
        run(*inner, "ip", "route", "add", "10.244.1.0/24", "via", "172.31.0.1", "src", FAR[4])
        run(*inner, "ip", "route", "add", "fd00:10:244:1::/64", "via", "fd00:172:31::1", "src", FAR[6])
        self.in_node("ip", "route", "add", f"{FAR[4]}/32", "via", "172.31.0.2")
        self.in_node("ip", "route", "add", f"{FAR[6]}/128", "via", "fd00:172:31::2")
        (self.cgroup / "default_far").mkdir(exist_ok=True)

    # the node

    def start_node(self) -> None:
        words = ("nsenter", f"--net=/run/netns/{self.netns}", sys.executable, steered_node.__file__)
        self._node = self._spawn(*words, str(self.pin_dir), str(self.cgroup))
        self._said(self._node, "ready")

    def order(self, *words: str) -> Any:
        assert self._node and self._node.stdin and self._node.stdout
        self._node.stdin.write(" ".join(words) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        assert not isinstance(answer, str), answer
        return answer

    def declare(self, *policies: PolicyItem, services: tuple[ServiceItem, ...] = (), routes: bool = True) -> None:
        """In force when it returns. `routes`: the services have some."""
        held = self.operator.snapshot.cluster
        self.operator.publish(
            policies={item.ref: item for item in policies},
            services={item.key: item for item in services},
            routing={host: found for item in services for host, found in routed(item).items()} if routes else {},
            identities={**held.identities, FAR_ID: IdentityItem(FAR_ID, Labels.k8s({"app": "far"}))},
            addresses={
                **held.addresses,
                **{ip: AddressItem(ip, FAR_ID, "node-2", "default/far") for ip in FAR.values()},
            },
        )
        path = self._tmp / "snapshot"
        update = full_update(self.operator.snapshot, self.operator.epoch)
        path.write_bytes(convert.to_update(update).SerializeToString())
        self.order("snapshot", str(path))

    def run_proxy(self, *elsewhere: str) -> None:
        """`elsewhere`: `ADDRESS|PORT=ADDRESS|PORT`, what to connect to instead."""
        words = ("nsenter", f"--net=/run/netns/{self.netns}", sys.executable, proxy_relay.__file__)
        self._relay = self._spawn(*words, hex(MARK), str(FIRST_PORT), *elsewhere)
        self._said(self._relay, "ready")

    def stop_proxy(self) -> list[str]:
        """Killed. What it carried."""
        if self._relay is None:
            return []
        relay, self._relay = self._relay, None
        relay.kill()
        told, _ = relay.communicate(timeout=10)
        return told.splitlines()

    def _spawn(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    @staticmethod
    def _said(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout and process.stdout.readline().strip() == word

    def close(self) -> None:
        if getattr(self, "_node", None):
            from contextlib import suppress

            with suppress(OSError, AssertionError, ValueError):
                self.order("retire")
        super().close()
