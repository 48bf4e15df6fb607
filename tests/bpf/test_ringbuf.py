"""The ring: filled by a real program, and laid out by hand for what no program can be made to do."""

from __future__ import annotations

import mmap
import os
import random
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from weft.bpf import asm, testrun
from weft.bpf import sys as bpf
from weft.bpf.abi import MapKind, ProgKind
from weft.bpf.asm import FRAME, R0, R1, R2, R3, R4
from weft.bpf.ringbuf import BUSY, DISCARD, Barrier, Ring

SIZE = 4096
HELPER_LOAD_BYTES, HELPER_OUTPUT, HELPER_RESERVE, HELPER_DISCARD = 26, 130, 131, 133
PACKET = bytes(12) + b"\x88\xb5" + bytes(50)


# a real one


@pytest.fixture
def ring_fd() -> Iterator[int]:
    fd = bpf.map_create(MapKind.RINGBUF, 0, 0, SIZE, name="ring")
    yield fd
    os.close(fd)


def writer(ring_fd: int, length: int) -> int:
    """A program that writes the first `length` bytes of the packet as a record, and returns the helper's answer."""
    code = (
        asm.mov(R2, 0)
        + asm.copy(R3, FRAME)
        + asm.add(R3, -length)
        + asm.mov(R4, length)
        + asm.call(HELPER_LOAD_BYTES)
        + asm.load_map(R1, ring_fd)
        + asm.copy(R2, FRAME)
        + asm.add(R2, -length)
        + asm.mov(R3, length)
        + asm.mov(R4, 0)
        + asm.call(HELPER_OUTPUT)
        + asm.EXIT
    )
    return bpf.prog_load(ProgKind.SCHED_CLS, code, name="writer")


def discarder(ring_fd: int) -> int:
    """A program that reserves a record of 16 bytes and gives it up."""
    code = (
        asm.load_map(R1, ring_fd)
        + asm.mov(R2, 16)
        + asm.mov(R3, 0)
        + asm.call(HELPER_RESERVE)
        + asm.skip_unless_zero(R0, 2)
        + asm.returning(1)
        + asm.copy(R1, R0)
        + asm.mov(R2, 0)
        + asm.call(HELPER_DISCARD)
        + asm.returning(0)
    )
    return bpf.prog_load(ProgKind.SCHED_CLS, code, name="discarder")


def packet(at: int) -> bytes:
    return struct.pack("=Q", at) + PACKET[8:]


@pytest.mark.root
def test_records_arrive_whole_and_in_order(ring_fd: int) -> None:
    program = writer(ring_fd, 24)
    with Ring(ring_fd) as ring:
        for at in range(5):
            assert testrun.run(program, packet(at)).verdict == 0
        assert ring.pending == 5 * 32
        assert ring.drain() == [packet(at)[:24] for at in range(5)]
        assert ring.drain() == []
        assert ring.pending == 0
    os.close(program)


@pytest.mark.root
def test_a_thousand_records_go_round_the_ring_many_times(ring_fd: int) -> None:
    programs = [writer(ring_fd, length) for length in (8, 24, 33, 64)]
    sent, got = [], []
    with Ring(ring_fd) as ring:
        for at in range(1000):
            length = (8, 24, 33, 64)[at % 4]
            assert testrun.run(programs[at % 4], packet(at)).verdict == 0
            sent.append(packet(at)[:length])
            if at % 7 == 0:
                got += ring.drain()
        got += ring.drain()
    assert got == sent
    for fd in programs:
        os.close(fd)


@pytest.mark.root
def test_a_full_ring_refuses_and_takes_again_after_draining(ring_fd: int) -> None:
    program = writer(ring_fd, 56)
    with Ring(ring_fd) as ring:
        answers = [testrun.run(program, packet(at)).verdict for at in range(70)]
        accepted = answers.index(0xFFFFFFF5)  # -EAGAIN
        assert accepted == SIZE // 64 - 1  # one is kept free
        assert ring.drain() == [packet(at)[:56] for at in range(accepted)]
        assert testrun.run(program, packet(99)).verdict == 0
        assert ring.drain() == [packet(99)[:56]]
    os.close(program)


@pytest.mark.root
def test_discarded_records_are_passed_over(ring_fd: int) -> None:
    write, discard = writer(ring_fd, 8), discarder(ring_fd)
    with Ring(ring_fd) as ring:
        for program in (discard, write, discard, write, discard):
            assert testrun.run(program, packet(4)).verdict == 0
        assert ring.drain() == [packet(4)[:8]] * 2
        assert ring.pending == 0
    for fd in (write, discard):
        os.close(fd)


@pytest.mark.root
def test_it_is_readable_exactly_while_there_are_records(ring_fd: int) -> None:
    program = writer(ring_fd, 8)
    poll = select.epoll()
    with Ring(ring_fd) as ring:
        poll.register(ring.fileno(), select.EPOLLIN)
        assert poll.poll(0) == []
        testrun.run(program, packet(1))
        assert poll.poll(1) == [(ring.fileno(), select.EPOLLIN)]
        ring.drain()
        assert poll.poll(0) == []
    poll.close()
    os.close(program)


@pytest.mark.root
def test_a_consumer_that_comes_later_goes_on_where_the_last_one_stopped(ring_fd: int) -> None:
    program = writer(ring_fd, 8)
    for at in range(4):
        testrun.run(program, packet(at))
    with Ring(ring_fd) as first:
        assert first.drain(limit=3) == [packet(at)[:8] for at in range(3)]
    with Ring(ring_fd) as second:
        assert second.drain() == [packet(3)[:8]]
    os.close(program)


# one made by hand: the pages of a file, the data twice


@dataclass
class Pages:
    """A ring's memory, and a producer that may stop where it likes."""

    fd: int = field(default_factory=lambda: os.memfd_create("ring"))
    start: int = 0

    def __post_init__(self) -> None:
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * SIZE)
        self.memory = mmap.mmap(self.fd, 0)
        self.position = self.start
        struct.pack_into("=Q", self.memory, 0, self.start)
        self.publish()

    def publish(self) -> None:
        struct.pack_into("=Q", self.memory, mmap.PAGESIZE, self.position % (1 << 64))

    def put(self, record: bytes, flags: int = 0) -> int:
        """Where its header is."""
        at = self.position % SIZE
        raw = struct.pack("=II", len(record) | flags, 0) + record
        for offset, byte in enumerate(raw):
            for copy in (0, SIZE):
                self.memory[2 * mmap.PAGESIZE + copy + (at + offset) % SIZE] = byte
        self.position += 8 + (len(record) + 7) // 8 * 8
        self.publish()
        return at

    def finish(self, at: int, record: bytes) -> None:
        for copy in (0, SIZE):
            struct.pack_into("=I", self.memory, 2 * mmap.PAGESIZE + copy + at, len(record))

    def consumed(self) -> int:
        return int(struct.unpack_from("=Q", self.memory, 0)[0])


def test_nothing_behind_a_record_that_is_being_written_is_read() -> None:
    pages = Pages()
    ring = Ring(pages.fd, SIZE)
    pages.put(b"first")
    busy = pages.put(b"second", BUSY)
    pages.put(b"third")
    assert ring.drain() == [b"first"]
    assert ring.drain() == []
    assert pages.consumed() == 16
    pages.finish(busy, b"second")
    assert ring.drain() == [b"second", b"third"]


def test_a_record_that_is_busy_and_discarded_is_still_busy() -> None:
    pages = Pages()
    ring = Ring(pages.fd, SIZE)
    pages.put(b"x", BUSY | DISCARD)
    assert ring.drain() == []
    assert pages.consumed() == 0


def test_the_position_moves_over_discarded_records_alone() -> None:
    pages = Pages()
    ring = Ring(pages.fd, SIZE)
    pages.put(bytes(30), DISCARD)
    assert ring.drain() == []
    assert pages.consumed() == pages.position


@pytest.mark.parametrize(
    "start", [SIZE - 8, SIZE - 16, (1 << 32) - 24], ids=["header last", "body split", "32 bits"]
)
def test_a_record_across_the_end_is_one_piece(start: int) -> None:
    pages = Pages(start=start)
    ring = Ring(pages.fd, SIZE)
    pages.put(bytes(range(100)))
    assert ring.drain() == [bytes(range(100))]


def test_empty_records_are_records() -> None:
    pages = Pages()
    ring = Ring(pages.fd, SIZE)
    pages.put(b"")
    pages.put(b"x")
    assert ring.drain() == [b"", b"x"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_put_comes_out_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    pages = Pages(start=chance.randrange(1 << 40) & ~7)
    ring = Ring(pages.fd, SIZE)
    sent: list[bytes] = []
    got: list[bytes] = []
    for _ in range(500):
        while pages.position - pages.consumed() > SIZE - 300:
            got += ring.drain(limit=chance.randint(1, 5))
        record = chance.randbytes(chance.randint(0, 200))
        if chance.random() < 0.2:
            pages.put(record, DISCARD)
        else:
            pages.put(record)
            sent.append(record)
    while found := ring.drain(limit=50):
        got += found
    assert got == sent


def test_the_barrier_of_other_machines_works_here_too() -> None:
    Barrier(needed=True)()
