"""Links on real hooks: idempotent, replaced in place, made anew when what they led to is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.bpf import private_pins
from testkit.netns import Namespace
from weft.bpf import asm, links, testrun
from weft.bpf import sys as bpf
from weft.bpf.abi import Attach, ProgKind

pytestmark = pytest.mark.root


def program(value: int, kind: ProgKind = ProgKind.SCHED_CLS, attach: int = 0) -> int:
    return bpf.prog_load(kind, asm.returning(value), name=f"returns_{value % 100}", attach=attach)


def number(prog_fd: int) -> int:
    return bpf.prog_info(prog_fd).id


@pytest.fixture
def pin() -> Iterator[Path]:
    with private_pins("links") as folder:
        folder.mkdir(parents=True)
        yield folder / "link_x"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    found = Namespace()
    yield found
    found.close()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    root = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    found = root / f"weft-test-{os.getpid()}"
    found.mkdir()
    yield found
    if found.exists():
        found.rmdir()


def test_this_kernel_has_tcx() -> None:
    assert links.tcx_supported()


def test_attaching_pins_a_link_that_leads_to_the_interface(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    fd = program(0)
    namespace.call(links.attach_tcx, fd, first, True, pin)
    found = links.attached(pin)
    assert found is not None
    assert (found.target, found.attach_type, found.prog_id) == (first, Attach.TCX_INGRESS, number(fd))


def test_attaching_twice_changes_nothing(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    fd = program(0)
    namespace.call(links.attach_tcx, fd, first, False, pin)
    before = links.attached(pin)
    namespace.call(links.attach_tcx, fd, first, False, pin)
    assert links.attached(pin) == before


def test_another_program_takes_the_same_links_place(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    namespace.call(links.attach_tcx, program(0), first, True, pin)
    before = links.attached(pin)
    second = program(2)
    namespace.call(links.attach_tcx, second, first, True, pin)
    after = links.attached(pin)
    assert before is not None
    assert after is not None
    assert (after.id, after.prog_id) == (before.id, number(second))


def test_a_link_whose_interface_went_is_made_anew(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    fd = program(0)
    namespace.call(links.attach_tcx, fd, first, True, pin)
    namespace.ip("link", "del", "a0")
    assert links.attached(pin) is None
    again, *_ = namespace.veths(1)
    namespace.call(links.attach_tcx, fd, again, True, pin)
    found = links.attached(pin)
    assert found is not None
    assert found.target == again


def test_a_pin_that_leads_elsewhere_is_turned_round(pin: Path, namespace: Namespace) -> None:
    first, second = namespace.veths(1)
    fd = program(0)
    namespace.call(links.attach_tcx, fd, first, True, pin)
    namespace.call(links.attach_tcx, fd, second, True, pin)
    found = links.attached(pin)
    assert found is not None
    assert found.target == second


def test_an_interface_that_is_not_there_is_an_error_and_leaves_no_pin(pin: Path) -> None:
    with pytest.raises(OSError, match="No such device"):
        links.attach_tcx(program(0), 0x7FFFFFF0, True, pin)
    assert not pin.exists()


def test_detaching_unpins_and_is_done_once(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    namespace.call(links.attach_tcx, program(0), first, True, pin)
    held = bpf.obj_get(pin)  # somebody else's descriptor does not keep it attached
    assert links.detach(pin)
    assert not pin.exists()
    assert bpf.link_info(held).target == 0
    assert not links.detach(pin)


def test_detaching_what_lost_its_interface_is_no_error(pin: Path, namespace: Namespace) -> None:
    first, *_ = namespace.veths(1)
    namespace.call(links.attach_tcx, program(0), first, True, pin)
    namespace.ip("link", "del", "a0")
    assert links.detach(pin)
    assert not pin.exists()


def test_an_attached_program_drops_packets_and_its_successor_lets_them_pass(
    pin: Path, namespace: Namespace
) -> None:
    """TC_ACT_SHOT, then TCX_NEXT."""
    namespace.ip("link", "set", "lo", "up")
    namespace.call(links.attach_tcx, program(2), 1, True, pin)
    assert not hears_itself(namespace)
    namespace.call(links.attach_tcx, program(-1), 1, True, pin)
    assert hears_itself(namespace)


def hears_itself(namespace: Namespace) -> bool:
    """A datagram to ourselves over `lo`."""

    def once() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(0.3)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x", receiver.getsockname())
            try:
                return receiver.recv(10) == b"x"
            except TimeoutError:
                return False

    return namespace.call(once)


def test_cgroup_links_behave_alike(pin: Path, cgroup: Path) -> None:
    where = Attach.CGROUP_INET4_CONNECT
    first, second = (program(1, ProgKind.CGROUP_SOCK_ADDR, where) for _ in range(2))
    links.attach_cgroup(first, cgroup, where, pin)
    before = links.attached(pin)
    links.attach_cgroup(second, cgroup, where, pin)
    after = links.attached(pin)
    assert before is not None
    assert after is not None
    assert before.target == after.target == cgroup.stat().st_ino
    assert (after.id, after.prog_id) == (before.id, number(second))


def test_a_link_whose_cgroup_went_is_made_anew(pin: Path, cgroup: Path) -> None:
    fd = program(1, ProgKind.SOCK_OPS)
    links.attach_cgroup(fd, cgroup, Attach.CGROUP_SOCK_OPS, pin)
    cgroup.rmdir()
    cgroup.mkdir()
    links.attach_cgroup(fd, cgroup, Attach.CGROUP_SOCK_OPS, pin)
    found = links.attached(pin)
    assert found is not None
    assert found.target == cgroup.stat().st_ino


def test_a_descriptor_of_the_directory_does_too(pin: Path, cgroup: Path) -> None:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    links.attach_cgroup(program(1, ProgKind.SOCK_OPS), fd, Attach.CGROUP_SOCK_OPS, pin)
    os.fstat(fd)  # it is still open: it was the caller's
    os.close(fd)
    assert links.attached(pin) is not None


def test_attaching_without_links_outlives_and_is_taken_off_by_hand(cgroup: Path) -> None:
    where = Attach.CGROUP_INET4_CONNECT
    fd = program(1, ProgKind.CGROUP_SOCK_ADDR, where)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    bpf.prog_attach(fd, directory, where)
    bpf.prog_detach(fd, directory, where)
    with pytest.raises(OSError, match="detach program returns_1"):
        bpf.prog_detach(fd, directory, where)
    os.close(directory)


# test runs


@pytest.mark.parametrize(
    "context",
    [
        testrun.Context(),
        testrun.Context(mark=0xDEADBEEF),
        testrun.Context(priority=7, ingress_ifindex=1, cb=(1, 2, 3, 4, 5)),
    ],
    ids=["nothing", "a mark", "all that may be set"],
)
def test_a_run_hands_its_context_and_packet_back(context: testrun.Context) -> None:
    fd = program(2)
    packet = bytes(range(12)) + b"\x88\xb5" + bytes(100)
    outcome = testrun.run(fd, packet, context)
    assert (outcome.verdict, outcome.context, outcome.packet) == (2, context, packet)
    os.close(fd)


def test_a_run_at_an_interface_that_is_not_there_says_so() -> None:
    with pytest.raises(OSError, match=r"test run of program returns_0.*No such device"):
        testrun.run(program(0), bytes(64), testrun.Context(ifindex=0x7FFFFFF0))


@pytest.mark.parametrize(
    ("ether", "shortest"), [(b"\x08\x00", 34), (b"\x86\xdd", 54), (b"\x08\x06", 14)], ids=["IPv4", "IPv6", "ARP"]
)
def test_frames_have_the_lengths_that_the_kernel_takes(ether: bytes, shortest: int) -> None:
    fd = program(0)
    testrun.run(fd, (bytes(12) + ether).ljust(shortest, b"\0"))
    with pytest.raises(OSError, match="Invalid argument"):
        testrun.run(fd, (bytes(12) + ether).ljust(shortest, b"\0")[: shortest - 1])
    os.close(fd)
