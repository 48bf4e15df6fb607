"""Frames on a real veth, for what a test run cannot make: frames shorter than their headers, and tags that the
device has taken off.

    AF_PACKET on b0 ---> a0 [from_workload]        AF_PACKET on a0 [to_workload] ---> b0
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from testkit.bpf import Datapath
from testkit.packets import Packet, frame, ip, ipv4, ipv6, tcp, vlan
from testkit.stage import EGRESS, INGRESS, PEER, POD, Stage, allow
from weft.bpf import links
from weft.bpf.layout import Reason
from weft.policies.model import Direction

pytestmark = pytest.mark.root

SYN = tcp(1025, 80, "S")
IPV4, IPV6 = 0x0800, 0x86DD


@pytest.fixture
def wire(datapath: Datapath) -> Iterator[Stage]:
    """The workload is behind a0; what is sent at b0 comes from it."""
    namespace = datapath.namespace
    for name in ("a0", "b0"):
        namespace.call(_silence, name)
        namespace.ip("link", "set", name, "up")
    index = namespace.index("a0")
    stage = Stage(datapath, ifindex=index)
    stage.policy(allow(EGRESS), allow(INGRESS))
    pins = {True: datapath.pin_dir / "link_wire_in", False: datapath.pin_dir / "link_wire_out"}
    for ingress, name in ((True, "weft_from_workload"), (False, "weft_to_workload")):
        namespace.call(links.attach_tcx, datapath.programs[name], index, ingress, pins[ingress])
    yield stage
    for pin in pins.values():
        links.detach(pin)
    for name in ("a0", "b0"):
        namespace.ip("link", "set", name, "down")


def _silence(name: str) -> None:
    """No IPv6 of the kernel's own on it: every packet is the test's."""
    with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as switch:
        switch.write("1")


def send(stage: Stage, direction: Direction, raw: bytes) -> dict[tuple[int, int], int]:
    """What was counted when the frame was through."""

    def put() -> None:
        with contextlib.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as out:
            out.bind(("b0" if direction is EGRESS else "a0", 0))
            with contextlib.suppress(OSError):  # ENOBUFS: the sender is told of a drop
                out.send(raw)

    stage.datapath.namespace.call(put)
    deadline = time.monotonic() + 5
    while not (counted := stage.counted()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return counted


CASES = [
    ("IPv4, whole", frame(ipv4(POD[4], PEER[4], SYN)), Reason.OK),
    ("IPv6, whole", frame(ipv6(POD[6], PEER[6], SYN)), Reason.OK),
    ("IPv4 and nothing more", frame(Packet(IPV4, b"")), Reason.INVALID),
    ("IPv6 and nothing more", frame(Packet(IPV6, b"")), Reason.INVALID),
    ("half an IPv4 header", frame(Packet(IPV4, b"\x45" + bytes(9))), Reason.INVALID),
    ("half an IPv6 header", frame(Packet(IPV6, b"\x60" + bytes(30))), Reason.INVALID),
    ("a tag that the device takes off", vlan(ip(POD[4], PEER[4], SYN)), Reason.L3_UNKNOWN),
]


@pytest.mark.parametrize(("raw", "becomes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_out_of_a_workload(wire: Stage, raw: bytes, becomes: Reason) -> None:
    assert send(wire, EGRESS, raw) == {(EGRESS, becomes): 1}


@pytest.mark.parametrize(("raw", "becomes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_into_a_workload(wire: Stage, raw: bytes, becomes: Reason) -> None:
    assert send(wire, INGRESS, raw) == {(INGRESS, becomes): 1}
