"""Identity numbers in use: who gives them out, and how many addresses stand on each."""

from __future__ import annotations

from typing import Protocol

from weft.policies.identity import CLUSTER_MAX, CLUSTER_MIN
from weft.policies.labels import Labels


class Exhausted(Exception):
    """No identity number is left."""

    def __init__(self) -> None:
        super().__init__(f"no identity number is left ({CLUSTER_MIN} to {CLUSTER_MAX} are taken)")


class Allocator(Protocol):
    """Numbers for sets of labels. The same labels get the same number as long as they are not released."""

    def allocate(self, labels: Labels) -> int:
        """256 to 65535. Raises Exhausted."""

    def release(self, number: int) -> None: ...


class Numbers:
    """The allocator of those who keep nothing: `policy verdict`, tests. Never uses a number twice."""

    def __init__(self) -> None:
        self._by_labels: dict[Labels, int] = {}
        self._labels: dict[int, Labels] = {}
        self._next = CLUSTER_MIN

    def allocate(self, labels: Labels) -> int:
        number = self._by_labels.get(labels)
        if number is None:
            if self._next > CLUSTER_MAX:
                raise Exhausted
            number, self._next = self._next, self._next + 1
            self._by_labels[labels], self._labels[number] = number, labels
        return number

    def release(self, number: int) -> None:
        del self._by_labels[self._labels.pop(number)]


class Census:
    """Counts the users of each identity. `settle` says which came and which went since it was last asked, and gives
    back the numbers of those that went: a set of labels that leaves one pod and comes to another never flaps."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._numbers: dict[Labels, int] = {}
        self._labels: dict[int, Labels] = {}
        self._users: dict[int, int] = {}
        self._came: set[int] = set()
        self._idle: set[int] = set()

    def acquire(self, labels: Labels) -> int:
        """Raises Exhausted."""
        number = self._numbers.get(labels)
        if number is None:
            number = self._allocator.allocate(labels)
            self._numbers[labels], self._labels[number] = number, labels
            self._came.add(number)
        self._users[number] = self._users.get(number, 0) + 1
        self._idle.discard(number)
        return number

    def release(self, number: int) -> None:
        self._users[number] -= 1
        if not self._users[number]:
            self._idle.add(number)

    def settle(self) -> tuple[dict[int, Labels], set[int]]:
        gone = self._idle - self._came
        came = {number: self._labels[number] for number in sorted(self._came - self._idle)}
        for number in self._idle:
            del self._numbers[self._labels.pop(number)], self._users[number]
            self._allocator.release(number)
        self._came, self._idle = set(), set()
        return came, gone
